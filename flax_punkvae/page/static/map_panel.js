// The map of the set and its controls.

import { getBinary, post } from "./api.js";
import { describe, search, table } from "./atlas.js";
import { $, canvasOf, complain, guarded, save } from "./dom.js";
import { createMap } from "./map.js";
import * as mix from "./mix.js";
import { onStage } from "./stage.js";
import * as store from "./store.js";
import { settled } from "./timing.js";

let map = null;
let set = null;
let layout = "pca";
let selected = [];
let here = null;
const positions = {};

async function open(row) {
  const { recipe } = await post("of_image", { row });
  if ($("click-does").value === "mix") mix.put(recipe);
  else store.set(recipe);
}

function tip(row, x, y) {
  $("tip").hidden = row === null;
  if (row === null) return;
  $("tip").textContent = describe(set, row);
  const box = $("map").getBoundingClientRect();
  const [left, top] = x === undefined ? map.pointOf(row) : [x, y];
  const right = left - box.left > box.width / 2;
  $("tip").style.left = right ? "auto" : `${left - box.left + 14}px`;
  $("tip").style.right = right ? `${box.right - left + 14}px` : "auto";
  $("tip").style.top = `${Math.min(top - box.top + 14, box.height - 60)}px`;
}

function select(rows) {
  selected = rows;
  map.setSelected(new Set(rows));
  $("selection").hidden = rows.length === 0;
  $("selected").textContent = `${rows.length} selected`;
}

function find() {
  if (!set) return;
  const text = $("search").value.trim();
  const rows = search(set, text);
  map.setLit(text ? new Set(rows) : null);
  $("found").textContent = text ? `${rows.length} found` : "";
  if (rows.length === 1) map.centre(rows[0]);
}

/** Where the current sprite lies: exactly by PCA, near its neighbours by t-SNE. */
const mark = settled(250, async (recipe) => {
  if (!set || !recipe) return;
  try {
    const places = await post("place", { recipes: [recipe] });
    if (recipe !== store.current().recipe || !places[layout]) return;
    const [[x, y]] = places[layout];
    here = { x, y };
    const stage = onStage();
    const pixels = stage && stage.recipe === recipe ? canvasOf(stage.image) : undefined;
    const approximate = layout === "tsne";
    map.setRings([{ x, y, approximate, pixels, label: approximate ? "current, approximate" : "current" }]);
  } catch (error) {
    complain(error);
  }
});

function note() {
  const kept = layout === "pca" ? set.pca_kept : set.tsne_kept;
  const what = set.parts[0] === "s" ? "samples, since the training images are not at hand" : "images";
  $("map-note").textContent =
    `${set.count} ${what}; ${(kept * 100).toFixed(0)} % of the ${set.neighbours} nearest neighbours in latent space ` +
    `are also among the ${set.neighbours} nearest here. Drag to move, wheel or pinch to zoom, ` +
    `shift-drag (or Lasso) to select.`;
}

async function setLayout(name, animate) {
  positions[name] ??= new Float32Array(await getBinary(`map/${name}`));
  layout = name;
  map.setPositions(positions[name], animate);
  if (!animate) map.fit();
  note();
  mark(store.current().recipe);
}

/** Show the set. */
export async function setImages(found) {
  set = found;
  const { width, height, columns, per_page: perPage } = set.atlas;
  map.setSprites({ pages: set.pages, count: set.count, width, height, columns, perPage });
  await setLayout("pca", false);
}

/** The layout by t-SNE is ready. */
export function allowTsne(kept) {
  const [radio] = document.querySelectorAll("input[name=layout][value=tsne]");
  radio.disabled = false;
  set.tsne_kept = kept;
}

export const focus = () => $("map").focus();

export function begin() {
  map = createMap($("map"), {
    hover: (row, x, y) => tip(row, x, y),
    pick: (row) => open(row).catch(complain),
    select,
    view: (text) => ($("map-view").textContent = text),
  });
  $("search").addEventListener("input", find);
  $("search").addEventListener("keydown", (event) => {
    const rows = event.key === "Enter" && set ? search(set, $("search").value.trim()) : [];
    if (rows.length) open(rows[0]).catch(complain);
  });
  for (const radio of document.querySelectorAll("input[name=layout]")) {
    radio.addEventListener("change", guarded(() => setLayout(radio.value, true)));
  }
  $("lasso").addEventListener("click", () => {
    const on = $("lasso").getAttribute("aria-pressed") !== "true";
    $("lasso").setAttribute("aria-pressed", String(on));
    map.setMode(on ? "lasso" : "pan");
  });
  $("zoom-in").addEventListener("click", () => map.zoomBy(1.5));
  $("zoom-out").addEventListener("click", () => map.zoomBy(1 / 1.5));
  $("fit").addEventListener("click", () => map.fit());
  $("to-current").addEventListener("click", () => here && map.centreOn(here.x, here.y));
  $("unselect").addEventListener("click", () => select([]));
  $("export").addEventListener("click", () => save(new Blob([table(set, selected)], { type: "text/csv" }), "selection.csv"));
  store.listen((entry) => mark(entry.recipe));
}
