// The pixel editor: painted pixels are held, erased ones are unknown, and the model completes the rest.

import { picture, post } from "./api.js";
import { $, complain, guarded, h } from "./dom.js";
import { colourOf, hexOf, isTransparent } from "./pixels.js";
import { format, parse } from "./recipe.js";
import * as store from "./store.js";
import { tile } from "./tiles.js";

const TOOLS = { pencil: "b", fill: "k", pick: "i", erase: "e" };
const LARGEST = 480;
let about = null;
let width = 0;
let height = 0;
let pixels = null;
let pixelsOf = "";
let tool = "pencil";
let colour = [0, 0, 0];
let cursor = 0;
let stroke = null;
let swatches = [];

const scale = () => Math.max(2, Math.floor(Math.min(LARGEST, $("editor").parentElement.clientWidth - 4) / width));
const visible = () => !$("panel-paint").hidden;

/** Load the sprite that is painted on, which may be smaller than the picture. */
async function load() {
  const { recipe } = store.current();
  if (!recipe || !visible() || pixelsOf === recipe) return;
  const { image } = await picture(recipe, true);
  if (recipe !== store.current().recipe) return;
  pixels = image;
  pixelsOf = recipe;
  draw();
}

const colourAt = (position) => [...pixels.data.subarray(4 * position, 4 * position + about.channels)];
const same = (a, b) => a.every((level, channel) => level === b[channel]);
const parsed = (recipe) => parse(recipe, about.channels);

function draw() {
  if (!pixels) return;
  const size = scale();
  const canvas = $("editor");
  canvas.width = width * size;
  canvas.height = height * size;
  const context = canvas.getContext("2d");
  const unknown = stroke?.unknown ?? new Set(store.current().unknown);
  const paint = stroke?.paint ?? parsed(store.current().recipe).paint;
  for (let position = 0; position < width * height; position++) {
    const x = (position % width) * size;
    const y = Math.floor(position / width) * size;
    if (unknown.has(position)) {
      drawUnknown(context, x, y, size);
    } else {
      // The chequers behind a transparent pixel are those of the style sheet.
      context.fillStyle = hexOf(paint.get(position) ?? colourAt(position));
      context.fillRect(x, y, size, size);
    }
  }
  if (size >= 6) drawLines(context, size);
  if (document.activeElement === canvas) drawCursor(context, size);
  const held = width * height - unknown.size;
  $("paint-note").textContent = unknown.size
    ? `${held} pixels are held, ${unknown.size} are unknown`
    : "erase what the model should fill in, or hold only the paint";
}

/** A pixel in halves, from corner to corner: no colour looks so, nor what is transparent. */
function drawUnknown(context, x, y, size) {
  context.fillStyle = "#fff";
  context.fillRect(x, y, size, size);
  context.fillStyle = "#888";
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x + size, y);
  context.lineTo(x, y + size);
  context.fill();
}

function drawLines(context, size) {
  context.fillStyle = "rgb(128 128 128 / 35%)";
  for (let x = 1; x < width; x++) context.fillRect(x * size, 0, 1, height * size);
  for (let y = 1; y < height; y++) context.fillRect(0, y * size, width * size, 1);
}

function drawCursor(context, size) {
  const x = (cursor % width) * size;
  const y = Math.floor(cursor / width) * size;
  context.lineWidth = 2;
  context.strokeStyle = "#fff";
  context.strokeRect(x + 2, y + 2, size - 4, size - 4);
  context.strokeStyle = "#000";
  context.strokeRect(x, y, size, size);
}

function setColour(chosen) {
  colour = chosen;
  const hex = hexOf(chosen);
  // This control has no alpha; models with alpha have a palette instead.
  $("colour").value = hex.slice(0, 7);
  for (const { button, hex: own } of swatches) button.setAttribute("aria-selected", String(own === hex));
}

function setTool(chosen) {
  tool = chosen;
  for (const button of $("paint-tools").children) {
    button.setAttribute("aria-checked", String(button.dataset.tool === chosen));
  }
}

/** All pixels of one colour that are connected with this one. */
function region(start) {
  const wanted = stroke.paint.get(start) ?? colourAt(start);
  const found = new Set([start]);
  const waiting = [start];
  while (waiting.length) {
    const position = waiting.pop();
    const x = position % width;
    const neighbours = [];
    if (x > 0) neighbours.push(position - 1);
    if (x < width - 1) neighbours.push(position + 1);
    if (position >= width) neighbours.push(position - width);
    if (position < width * (height - 1)) neighbours.push(position + width);
    for (const next of neighbours) {
      if (found.has(next) || !same(stroke.paint.get(next) ?? colourAt(next), wanted)) continue;
      found.add(next);
      waiting.push(next);
    }
  }
  return found;
}

function begun() {
  const { recipe, unknown } = store.current();
  stroke = { paint: parsed(recipe).paint, unknown: new Set(unknown) };
}

function touch(...positions) {
  cursor = positions.at(-1);
  if (tool === "pick") {
    if (!stroke.unknown.has(cursor)) setColour(stroke.paint.get(cursor) ?? colourAt(cursor));
  } else if (tool === "erase") {
    for (const each of positions) {
      stroke.unknown.add(each);
      stroke.paint.delete(each);
    }
  } else {
    for (const each of tool === "fill" ? region(cursor) : positions) {
      stroke.paint.set(each, colour);
      stroke.unknown.delete(each);
    }
  }
  draw();
}

function ended() {
  if (!stroke) return;
  const { paint, unknown } = stroke;
  commit(paint, unknown);
  stroke = null;
}

function commit(paint, unknown) {
  const now = store.current();
  const recipe = format({ ...parsed(store.recipe()), paint }, about.channels);
  const same = recipe === now.recipe && unknown.size === now.unknown.length;
  if (same && now.unknown.every((position) => unknown.has(position))) {
    draw();
    return;
  }
  store.set(recipe, { unknown: [...unknown].sort((a, b) => a - b) });
}

const everywhere = () => Array.from({ length: width * height }, (_, position) => position);

async function complete() {
  const { unknown } = store.current();
  const recipe = store.recipe();
  const digits = new Array(width * height).fill("1");
  for (const position of unknown) digits[position] = "0";
  const seed = $("complete-seed");
  if (!seed.checkValidity() || seed.value === "") throw new Error("seed: choose a whole number from 0 to 2147483647");
  $("complete").disabled = true;
  $("paint-note").textContent = "completing";
  try {
    const found = await post("complete", { recipe, known: digits.join(""), count: 8, seed: Number(seed.value) });
    const different = [...new Set(found.recipes)];
    $("completions").replaceChildren(...different.map((each, i) => tile(each, { name: `completion ${i + 1}` })));
    $("paint-note").textContent = `${found.recipes.length} completions, ${different.length} of them different`;
  } finally {
    $("complete").disabled = false;
  }
}

function at(event) {
  const box = $("editor").getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * height);
  return x >= 0 && x < width && y >= 0 && y < height ? y * width + x : -1;
}

/** The positions on the straight line to a position, without where the stroke is now: a fast pointer leaves no gaps. */
function line(to) {
  const [x0, y0, x1, y1] = [cursor % width, Math.floor(cursor / width), to % width, Math.floor(to / width)];
  const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0));
  return Array.from({ length: steps }, (_, i) => {
    const share = (i + 1) / steps;
    return Math.round(y0 + share * (y1 - y0)) * width + Math.round(x0 + share * (x1 - x0));
  });
}

function follow(event) {
  const to = at(event);
  if (stroke && tool !== "fill" && to >= 0 && to !== cursor) touch(...line(to));
}

function listenToPointer(canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    if (!pixels || event.button !== 0 || at(event) < 0) return;
    canvas.setPointerCapture(event.pointerId);
    begun();
    touch(at(event));
  });
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("pointerup", (event) => {
    follow(event);
    ended();
  });
  canvas.addEventListener("pointercancel", ended);
}

function listenToKeys(canvas) {
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
    if (step) {
      const next = cursor + step;
      const wraps = Math.abs(step) === 1 && Math.floor(next / width) !== Math.floor(cursor / width);
      if (next >= 0 && next < width * height && !wraps) cursor = next;
      draw();
    } else if (event.key === " " && pixels) {
      begun();
      touch(cursor);
      ended();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  });
  canvas.addEventListener("focus", draw);
  canvas.addEventListener("blur", draw);
}

function buildTools() {
  const buttons = Object.entries(TOOLS).map(([name, key]) => {
    const properties = { type: "button", role: "radio", "aria-checked": "false", "data-tool": name };
    const button = h("button", { ...properties, "aria-keyshortcuts": key }, name);
    button.addEventListener("click", () => setTool(name));
    return button;
  });
  $("paint-tools").replaceChildren(...buttons);
  setTool("pencil");
}

function buildPalette() {
  swatches = about.palette.map((hex) => {
    const name = isTransparent(colourOf(hex)) ? "transparent" : hex;
    const button = h("button", { type: "button", role: "option", "aria-selected": "false", "aria-label": name, title: name });
    button.style.setProperty("--colour", hex);
    button.addEventListener("click", () => setColour(colourOf(hex)));
    return { button, hex };
  });
  $("palette").replaceChildren(...swatches.map((swatch) => swatch.button));
  // Images that are not sprites have no palette.
  $("any-colour").hidden = about.palette.length > 0;
  $("colour").addEventListener("input", () => {
    setColour(colourOf($("colour").value));
  });
  setColour(about.palette.map(colourOf).find((each) => !isTransparent(each)) ?? [0, 0, 0]);
}

/** Call when the panel is shown. */
export const refresh = () => load().then(draw).catch(complain);

/** The keys of the tools, for the page's list of keys. */
export const toolKeys = Object.entries(TOOLS).map(([name, key]) => ({ key, name, work: () => setTool(name) }));

export function begin(facts) {
  about = facts;
  [height, width] = about.canvas;
  buildTools();
  buildPalette();
  listenToPointer($("editor"));
  listenToKeys($("editor"));
  store.listen(refresh);
  $("only-paint").addEventListener("click", guarded(() => {
    const { paint } = parsed(store.recipe());
    store.set(store.recipe(), { unknown: everywhere().filter((position) => !paint.has(position)) });
  }));
  $("know-all").addEventListener("click", guarded(() => store.set(store.recipe(), { unknown: [] })));
  $("clear-paint").addEventListener("click", guarded(() => commit(new Map(), new Set())));
  $("project").addEventListener("click", guarded(async () => {
    store.set((await post("project", { recipe: store.recipe() })).recipe);
  }));
  $("complete").addEventListener("click", guarded(complete));
}
