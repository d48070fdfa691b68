// Mixtures of two to four sprites, and strips between two.

import { post, postFile, send } from "./api.js";
import { $, complain, guarded, h, save } from "./dom.js";
import { looksLike } from "./recipe.js";
import * as store from "./store.js";
import { tile } from "./tiles.js";
import { latest } from "./timing.js";

const CORNERS = ["top left", "top right", "bottom left", "bottom right"];
const slots = [null, null, null, null];
let frames = [];
let dragging = false;

const filled = () => slots.map((recipe, corner) => ({ recipe, corner })).filter((slot) => slot.recipe);

/** How much of each corner: bilinear, so that in a corner only its own sprite counts. */
function weights(x, y) {
  return [(1 - x) * (1 - y), x * (1 - y), (1 - x) * y, x * y];
}

const blend = latest(async ({ x, y, replace }) => {
  const given = filled();
  if (given.length < 2) return;
  const all = weights(x, y);
  let shares = given.map((slot) => all[slot.corner]);
  if (shares.every((share) => share === 0)) shares = given.map(() => 1);
  try {
    const { recipe } = await post("mix", { recipes: given.map((slot) => slot.recipe), weights: shares });
    store.set(recipe, { replace });
  } catch (error) {
    complain(error);
  }
});

function point() {
  return { x: Number($("mix-x").value), y: Number($("mix-y").value) };
}

function placePoint() {
  const { x, y } = point();
  $("pad-point").style.left = `${x * 100}%`;
  $("pad-point").style.top = `${y * 100}%`;
}

function move(x, y) {
  $("mix-x").value = Math.min(Math.max(x, 0), 1);
  $("mix-y").value = Math.min(Math.max(y, 0), 1);
  moved();
}

function moved() {
  placePoint();
  blend({ ...point(), replace: dragging });
  dragging = true;
}

function ended() {
  dragging = false;
  store.settle();
}

/** Put a recipe into a corner, or into the first free one. */
export function put(recipe, corner = slots.indexOf(null)) {
  slots[corner < 0 ? slots.length - 1 : corner] = recipe;
  showSlots();
}

async function dropped(event, corner) {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  const text = event.dataTransfer.getData("text/plain");
  if (file) put((await postFile("open", file)).recipe, corner);
  else if (looksLike(text)) put(text, corner);
  else throw new Error("drop an image file or one of the sprites of this page");
}

function slot(recipe, corner) {
  const use = h("button", { type: "button", "aria-label": `current sprite to the ${CORNERS[corner]}` }, "Current");
  use.addEventListener("click", guarded(() => put(store.recipe(), corner)));
  const shown = h("div", { class: "slot", "data-corner": corner }, h("span", {}, CORNERS[corner]), use);
  if (recipe) {
    const clear = h("button", { type: "button", "aria-label": `clear ${CORNERS[corner]}` }, "×");
    clear.addEventListener("click", () => {
      slots[corner] = null;
      showSlots();
    });
    shown.prepend(tile(recipe, { name: CORNERS[corner] }));
    shown.append(clear);
  }
  shown.addEventListener("dragover", (event) => {
    event.preventDefault();
    shown.classList.add("over");
  });
  shown.addEventListener("dragleave", () => shown.classList.remove("over"));
  shown.addEventListener("drop", (event) => {
    event.stopPropagation();
    guarded(dropped)(event, corner);
  });
  return shown;
}

function showSlots() {
  $("slots").replaceChildren(...slots.map(slot));
}

async function makeStrip() {
  const given = filled().map((each) => each.recipe).slice(0, 2);
  if (given.length < 2) throw new Error("a strip needs two sprites: put them into two corners");
  const count = $("frames");
  if (!count.checkValidity() || count.value === "") throw new Error("frames: choose a whole number from 2 to 64");
  frames = (await post("strip", { recipes: given, frames: Number(count.value), path: $("path").value })).recipes;
  $("strip").replaceChildren(...frames.map((recipe, i) => tile(recipe, { name: `frame ${i + 1}`, caption: `${i + 1}` })));
  $("save-gif").disabled = $("save-sheet").disabled = false;
}

async function saveStrip(format) {
  const fields = {
    recipes: frames, format, scale: Number($("strip-scale").value), milliseconds: Number($("strip-ms").value),
  };
  const response = await send("strip_file", fields);
  save(await response.blob(), format === "gif" ? "strip.gif" : "strip.png");
}

export function begin() {
  showSlots();
  placePoint();
  const pad = $("pad");
  const follow = (event) => {
    const box = pad.getBoundingClientRect();
    move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    follow(event);
  });
  pad.addEventListener("pointermove", (event) => pad.hasPointerCapture(event.pointerId) && follow(event));
  pad.addEventListener("pointerup", ended);
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, -0.05], ArrowDown: [0, 0.05] }[event.key];
    if (!step) return;
    event.preventDefault();
    const { x, y } = point();
    move(x + step[0], y + step[1]);
  });
  pad.addEventListener("keyup", ended);
  for (const id of ["mix-x", "mix-y"]) {
    $(id).addEventListener("input", moved);
    $(id).addEventListener("change", ended);
  }
  $("make-strip").addEventListener("click", guarded(makeStrip));
  $("save-gif").addEventListener("click", guarded(() => saveStrip("gif")));
  $("save-sheet").addEventListener("click", guarded(() => saveStrip("sheet")));
}
