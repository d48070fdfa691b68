// Edits along the directions of labels.

import { get, post } from "./api.js";
import { $, guarded, h } from "./dom.js";
import * as store from "./store.js";

let edits = null;
let present = null;
let rows = [];

const percent = (share) => `${Math.round(share * 100)} %`;

function words(how, effect) {
  if (!effect) return `${how}: not measured`;
  return `${how}: works for ${percent(effect.succeeds)}, changes ${effect.others_changed.toFixed(1)} others`;
}

/** Without a reader of traits, the first press adds a label and the next one removes it. */
const has = (row) => (present ? present.has(row.name) : row.asked);

async function toggle(row) {
  const removes = has(row);
  const { recipe } = await post("edit", {
    recipe: store.recipe(),
    add: removes ? [] : [row.name],
    remove: removes ? [row.name] : [],
    strength: Number($("strength").value),
  });
  const asked = rows.filter((each) => each.asked && each !== row);
  store.set(recipe);
  // Whatever was asked of this sprite is still asked of the edited one.
  for (const each of asked) each.asked = true;
  row.asked = !removes;
  update();
}

function update() {
  const wanted = $("trait-filter").value.trim().toLowerCase();
  for (const row of rows) {
    const effect = edits.effects[row.name];
    row.button.setAttribute("aria-pressed", String(has(row)));
    row.effect.textContent = effect ? words(has(row) ? "remove" : "add", effect[has(row) ? "remove" : "add"]) : "";
    row.shown.hidden = !row.name.toLowerCase().includes(wanted);
  }
}

function build() {
  rows = edits.labels.map((name) => {
    const button = h("button", { type: "button", "aria-pressed": "false" }, name);
    const effect = h("span", { class: "effect" });
    const row = { name, button, effect, shown: h("li", {}, button, effect), asked: false };
    button.addEventListener("click", guarded(() => toggle(row)));
    return row;
  });
  $("traits").replaceChildren(...rows.map((row) => row.shown));
}

function explain() {
  const measured = Object.keys(edits.effects).length > 0;
  const text = measured
    ? `Measured on held-out sprites, at strength ${edits.strength}: how often it works, and how many other traits change.`
    : edits.measuring ? "Its effect is being measured." : "Its effect is not measured.";
  $("traits-note").textContent = `Press a trait to add or to remove it. ${text}`;
}

export function begin(about) {
  if (!about.labels.length) {
    $("traits-note").textContent = "This set has no labels, so there are no directions to edit along.";
  } else {
    $("traits-note").textContent = "The directions of the traits are estimated from the training images.";
  }
  $("strength").addEventListener("input", () => ($("strength-value").textContent = $("strength").value));
  $("trait-filter").addEventListener("input", () => edits && update());
  store.listen(() => {
    for (const row of rows) row.asked = false;
    if (edits && !present) update();
  });
  document.addEventListener("certified", (event) => {
    present = event.detail.traits ? new Set(event.detail.traits) : null;
    if (edits) update();
  });
}

/** Load the directions and whatever has been measured. */
export async function load() {
  const first = !edits;
  edits = await get("edits");
  if (first) build();
  explain();
  update();
}
