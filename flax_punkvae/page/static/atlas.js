// The images of the set: facts about each, and their tiles.

import { atlasAddress, get } from "./api.js";
import { h } from "./dom.js";

const PARTS = { t: "trained on", v: "validation", h: "held out", s: "sample" };

function loaded(page) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("a page of the atlas could not be loaded: reload the page"));
    image.src = atlasAddress(page);
  });
}

/** The set: what `describe_map` in page/explorer.py says, the pages of the atlas, and the labels of each image. */
export async function load() {
  const set = await get("map");
  set.pages = await Promise.all(Array.from({ length: set.atlas.pages }, (_, page) => loaded(page)));
  set.rowOf = new Map(set.ids.map((id, row) => [id, row]));
  set.traits = Array.from({ length: set.count }, () => []);
  for (const [name, rows] of Object.entries(set.labels)) for (const row of rows) set.traits[row].push(name);
  return set;
}

/** A canvas of one image. */
export function tileCanvas(set, row) {
  const { width, height, columns, per_page: perPage } = set.atlas;
  const place = row % perPage;
  const canvas = h("canvas", { width, height });
  const page = set.pages[Math.floor(row / perPage)];
  canvas.getContext("2d").drawImage(
    page, (place % columns) * width, Math.floor(place / columns) * height, width, height, 0, 0, width, height,
  );
  return canvas;
}

/** One line about an image. */
export function describe(set, row) {
  const name = set.names.length ? ` ${set.names[row]}` : "";
  const traits = set.traits[row].length ? `: ${set.traits[row].join(", ")}` : "";
  return `${set.parts[row] === "s" ? "sample " : "#"}${set.ids[row]}${name}, ${PARTS[set.parts[row]]}${traits}`;
}

/** The rows that a search finds: a number, a part of a file name, or one or more traits, all of which must be there. */
export function search(set, text) {
  const words = text.toLowerCase().split(/[\s,]+/).filter(Boolean);
  const rows = [];
  if (!words.length) return rows;
  const traits = Object.keys(set.labels).map((name) => [name, name.toLowerCase()]);
  for (let row = 0; row < set.count; row++) {
    const name = (set.names[row] ?? "").toLowerCase();
    const fits = (word) =>
      String(set.ids[row]) === word.replace(/^#/, "") ||
      (name && name.includes(word)) ||
      set.traits[row].some((trait) => trait.toLowerCase().includes(word));
    if (words.every(fits)) rows.push(row);
  }
  // A trait's whole name means that trait only: "male" is not "female".
  const exact = words.map((word) => traits.find(([, lower]) => lower === word)?.[0]);
  if (!exact.some(Boolean)) return rows;
  return rows.filter((row) => exact.every((name) => !name || set.traits[row].includes(name)));
}

/** The rows as a table of comma-separated values. */
export function table(set, rows) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = rows.map((row) =>
    [set.ids[row], set.names[row] ?? "", PARTS[set.parts[row]], set.traits[row].join(" ")].map(String).map(quoted),
  );
  return [["number", "file", "part", "traits"], ...lines].map((line) => `${line.join(",")}\n`).join("");
}
