// The current sprite, large, and its certificate.

import { picture, post } from "./api.js";
import { $, complain, h } from "./dom.js";
import * as store from "./store.js";
import { latest, settled } from "./timing.js";

const LARGEST = 384;
const MOST_TIMES = 200;
const times = [];
let shown = null;
let tileOf = () => null;

/** The ImageData on the stage, and the recipe that it is of. */
export const onStage = () => shown;

/** A whole number of screen pixels for each pixel of the picture. */
function fit(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const room = Math.min(canvas.parentElement.clientWidth - 2, LARGEST) * ratio;
  const scale = Math.max(1, Math.floor(room / Math.max(width, height)));
  canvas.style.width = `${(width * scale) / ratio}px`;
  canvas.style.height = `${(height * scale) / ratio}px`;
}

function draw(image) {
  const canvas = $("stage");
  if (canvas.width !== image.width || canvas.height !== image.height) {
    canvas.width = image.width;
    canvas.height = image.height;
  }
  fit(canvas, image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function note(begun, serverTime) {
  // In the frame after the one that shows the picture.
  requestAnimationFrame(() => {
    const time = performance.now() - begun;
    performance.measure("drag", { start: begun, end: begun + time });
    if (performance.getEntriesByName("drag").length > 5000) performance.clearMeasures("drag");
    times.push(time);
    if (times.length > MOST_TIMES) times.shift();
    const sorted = [...times].sort((a, b) => a - b);
    const middle = sorted[Math.floor(sorted.length / 2)];
    $("latency").textContent =
      `decoded in ${serverTime.toFixed(1)} ms; on the screen after ${time.toFixed(0)} ms (median ${middle.toFixed(0)} ms)`;
  });
}

const show = latest(async ({ recipe, begun }) => {
  try {
    const { image, milliseconds } = await picture(recipe);
    shown = { image, recipe };
    draw(image);
    note(begun, milliseconds);
    document.dispatchEvent(new CustomEvent("drawn"));
  } catch (error) {
    complain(error);
  }
});

const STATUS = {
  new: "new: not a sprite of the set",
  training: "a training sprite",
  "held-out": "a held-out sprite, which the model has not seen",
};

function figure(canvas, caption) {
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", caption);
  return h("figure", {}, canvas, h("figcaption", {}, caption));
}

/** A copy of the canvas in grey, with these pixels marked. */
export function marked(source, positions) {
  const canvas = h("canvas", { width: source.width, height: source.height });
  const context = canvas.getContext("2d");
  context.globalAlpha = 0.35;
  context.drawImage(source, 0, 0);
  context.globalAlpha = 1;
  context.fillStyle = "#e0218a";
  for (const position of positions) {
    context.fillRect(position % source.width, Math.floor(position / source.width), 1, 1);
  }
  return canvas;
}

/** How far it is from the nearest training image. */
export function nearestText(facts) {
  if (facts.equals !== undefined) return `equals #${facts.equals}`;
  if (facts.nearest === undefined) return "";
  if (facts.pixels_differ === 0) return `equals #${facts.nearest}`;
  if (facts.pixels_differ > 0) return `${facts.pixels_differ} pixels from #${facts.nearest}`;
  return `RMS distance ${facts.rms_distance.toFixed(1)} from #${facts.nearest}`;
}

const certify = settled(180, async (recipe) => {
  try {
    const facts = await post("certificate", { recipe });
    if (recipe !== store.current().recipe) return;
    // Without the images, a held-out sprite is not known.
    const status = facts.status === "new" && facts.nearest === undefined ? "new: not a training sprite" : STATUS[facts.status];
    const lines = [h("p", { class: "status", "data-status": facts.status }, status)];
    const nearest = nearestText(facts);
    if (nearest) lines.push(h("p", {}, facts.equals === undefined && facts.pixels_differ !== 0 ? `nearest: ${nearest}` : nearest));
    if (facts.traits) lines.push(h("p", {}, `traits: ${facts.traits.join(", ") || "none"}`));
    const parts = [h("div", { class: "facts" }, ...lines)];
    const tile = facts.nearest === undefined ? null : tileOf(facts.nearest);
    if (tile) parts.push(figure(tile, `#${facts.nearest}`));
    if (facts.differing?.length && tile) parts.push(figure(marked(tile, facts.differing), "differs"));
    $("certificate").replaceChildren(...parts);
    document.dispatchEvent(new CustomEvent("certified", { detail: facts }));
  } catch (error) {
    complain(error);
  }
});

/** `tile(number)` gives a canvas of the image with this number, or null. */
export function begin(tile) {
  tileOf = tile;
  store.listen((entry) => {
    show({ recipe: entry.recipe, begun: performance.now() });
    certify(entry.recipe);
  });
  new ResizeObserver(() => shown && fit($("stage"), shown.image.width, shown.image.height)).observe(
    $("stage").parentElement,
  );
  $("stage").addEventListener("dragstart", (event) => event.dataTransfer.setData("text/plain", store.current().recipe));
}

/** Ask again, after the images have been loaded. */
export const certifyAgain = () => store.current().recipe && certify(store.current().recipe);
