// Sliders for the latents, those with the highest KL first, in standard deviations of the prior.

import { $, h } from "./dom.js";
import { latentsOf, withLatent } from "./recipe.js";
import * as store from "./store.js";

const WIDEST = 3;
let latents = null;
let rows = [];

const toUnits = (index, z) => (z - latents.centre[index]) / (latents.deviation[index] || 1);
const fromUnits = (index, units) => latents.centre[index] + units * (latents.deviation[index] || 1);

function move(index, units) {
  const first = !rows.dragging;
  rows.dragging = true;
  store.set(withLatent(store.current().recipe, index, fromUnits(index, units)), { replace: !first });
}

function finish() {
  rows.dragging = false;
  store.settle();
}

function row(index, number) {
  const name = `latent ${index}, in standard deviations of the prior`;
  const range = h("input", {
    type: "range", min: -WIDEST, max: WIDEST, step: 0.01, "aria-label": name, "data-latent": index,
  });
  const box = h("input", { type: "number", min: -1000, max: 1000, step: 0.1, "aria-label": `${name}, as a number` });
  range.addEventListener("input", () => move(index, Number(range.value)));
  range.addEventListener("change", finish);
  const reset = () => {
    move(index, 0);
    finish();
  };
  range.addEventListener("dblclick", reset);
  range.addEventListener("keydown", (event) => event.key === "0" && reset());
  box.addEventListener("change", () => {
    if (box.value === "" || !box.checkValidity()) {
      update();
      return;
    }
    move(index, Number(box.value));
    finish();
  });
  const kl = `${latents.kl[index].toFixed(2)} nats`;
  const shown = h("div", { class: "slider" }, h("span", {}, `${number}. z${index}`), range, box, h("span", {}, kl));
  return { index, range, box, shown };
}

function build() {
  const count = Number($("slider-count").value);
  rows = latents.order.slice(0, count).map((index, place) => row(index, place + 1));
  $("sliders").replaceChildren(...rows.map((each) => each.shown));
  const total = latents.kl.reduce((a, b) => a + b, 0);
  const part = rows.reduce((sum, each) => sum + latents.kl[each.index], 0);
  $("sliders-note").textContent =
    `in standard deviations of the prior; double-click (or key 0) resets; ` +
    `${part.toFixed(1)} of ${total.toFixed(1)} nats (KL of ${latents.measured_on})`;
  update();
}

function update() {
  const { recipe } = store.current();
  if (!latents || !recipe) return;
  const z = latentsOf(recipe);
  for (const { index, range, box } of rows) {
    const units = toUnits(index, z[index]);
    if (document.activeElement !== range || !rows.dragging) range.value = units;
    if (document.activeElement !== box) box.value = units.toFixed(2);
  }
}

export function begin() {
  $("slider-count").addEventListener("change", () => latents && build());
  store.listen(update);
}

export function setLatents(found) {
  latents = found;
  build();
}
