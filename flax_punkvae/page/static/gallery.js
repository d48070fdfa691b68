// Many samples at once, each with its certificate; favourites.

import { post } from "./api.js";
import { $, complain, forgive, guarded, h } from "./dom.js";
import { looksLike } from "./recipe.js";
import { nearestText } from "./stage.js";
import * as store from "./store.js";
import { tile } from "./tiles.js";

const MOST_FAVOURITES = 500;
let about = null;
let drawn = [];
let searching = null;
let favourites = [];

const names = (text) => text.split(",").map((name) => name.trim()).filter(Boolean);
const storageKey = () => `flax_punkvae:${about.digest}`;

/** The fields of a request for samples. */
export function settings(count, seed) {
  return {
    count,
    seed,
    from: $("sampler").value,
    temperature: Number($("temperature").value),
    reencode: about.reencode,
    new: $("new").checked,
    with: names($("with").value),
    without: names($("without").value),
  };
}

function show() {
  const mark = $("mark").checked;
  const figures = drawn.map((sprite, place) => {
    const status = sprite.status === "held-out" ? "held out" : sprite.status;
    const caption = [status, nearestText(sprite)].filter(Boolean).join(": ");
    const figure = tile(sprite.recipe, {
      caption,
      name: `sample ${place + 1}, ${caption}`,
      differing: mark ? (sprite.differing ?? null) : null,
    });
    figure.append(keepButton(sprite.recipe));
    if (sprite.traits) figure.title = sprite.traits.join(", ");
    return figure;
  });
  $("gallery").replaceChildren(...figures);
}

async function draw() {
  searching?.abort();
  const mine = new AbortController();
  searching = mine;
  forgive();
  $("stop").hidden = false;
  const begun = performance.now();
  const tick = () => {
    $("gallery-note").textContent = `drawing, ${((performance.now() - begun) / 1000).toFixed(0)} s`;
  };
  tick();
  const clock = setInterval(tick, 1000);
  try {
    const asked = settings(Number($("count").value), Number($("gallery-seed").value));
    const found = await post("sample", asked, mine.signal);
    drawn = found.sprites;
    const fewer = drawn.length < asked.count ? `only ${drawn.length} of ${asked.count}` : `${drawn.length}`;
    const fresh = drawn.filter((sprite) => sprite.status === "new").length;
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    $("gallery-note").textContent =
      `${fewer} ${found.wanted}, of ${found.drawn} drawn, in ${seconds} s; ${fresh} are new`;
    show();
  } catch (error) {
    $("gallery-note").textContent = error.name === "AbortError" ? "stopped" : "";
    complain(error);
  } finally {
    clearInterval(clock);
    if (searching === mine) $("stop").hidden = true;
  }
}

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(storageKey()) ?? "[]");
    favourites = Array.isArray(found) ? found.filter((text) => typeof text === "string" && looksLike(text)) : [];
  } catch {
    favourites = [];
  }
}

function setFavourites(changed) {
  favourites = changed.slice(-MOST_FAVOURITES);
  try {
    localStorage.setItem(storageKey(), JSON.stringify(favourites));
  } catch {
    complain(new Error("this browser does not store favourites: save them as PNG instead"));
  }
  showFavourites();
  if (drawn.length) show();
}

function keepButton(recipe) {
  const kept = favourites.includes(recipe);
  const button = h("button", { type: "button", "aria-pressed": String(kept) }, kept ? "kept" : "keep");
  button.addEventListener("click", () => toggle(recipe));
  return button;
}

function toggle(recipe) {
  setFavourites(favourites.includes(recipe) ? favourites.filter((other) => other !== recipe) : [...favourites, recipe]);
}

function showFavourites() {
  $("favourites-note").textContent = favourites.length
    ? "kept in this browser, for this model"
    : "none yet: Keep on the workbench (key f) or under a sample adds one";
  const figures = favourites.map((recipe, place) => {
    const figure = tile(recipe, { name: `favourite ${place + 1}` });
    figure.append(keepButton(recipe));
    return figure;
  });
  $("favourites").replaceChildren(...figures);
  updateKeep();
}

function updateKeep() {
  const kept = favourites.includes(store.current().recipe);
  $("keep").setAttribute("aria-pressed", String(kept));
  $("keep").textContent = kept ? "Kept" : "Keep";
}

/** Fitted samplers need the training images. */
export function setSamplers(fits) {
  for (const option of $("sampler").options) option.disabled = option.value !== "prior" && !fits;
}

export const keepCurrent = () => toggle(store.recipe());
export const drawGallery = () => $("gallery-form").requestSubmit();

export function begin(facts) {
  about = facts;
  $("sampler").replaceChildren(...about.samplers.map((name) => h("option", {}, name)));
  setSamplers(false);
  $("conditions").hidden = !about.reads_traits;
  $("new-label").hidden = !about.sprites;
  $("label-names").replaceChildren(...about.labels.map((name) => h("option", { value: name })));
  $("gallery-form").addEventListener("submit", (event) => {
    event.preventDefault();
    draw();
  });
  $("stop").addEventListener("click", () => searching?.abort());
  $("mark").addEventListener("change", show);
  $("keep").addEventListener("click", guarded(keepCurrent));
  store.listen(updateKeep);
  load();
  showFavourites();
}
