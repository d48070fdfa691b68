// Small pictures of recipes: buttons that open one, can be dragged, and can be kept.

import { picture } from "./api.js";
import { canvasOf, complain, h } from "./dom.js";
import { marked } from "./stage.js";
import * as store from "./store.js";

const MOST_PICTURES = 400;
const pictures = new Map();

/** `picture(recipe).image`, kept for tiles that are drawn again. */
async function keptPicture(recipe) {
  if (!pictures.has(recipe)) {
    pictures.set(recipe, (await picture(recipe)).image);
    if (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(recipe);
}

/**
 * A figure that opens its recipe on the workbench.
 * @param {string} recipe
 * @param {{ caption?: string, name: string, differing?: number[], open?: () => void }} options `differing` are the
 *   pixels to mark.
 */
export function tile(recipe, { caption = "", name, differing = null, open = () => store.set(recipe) }) {
  const button = h("button", { type: "button", class: "tile", "aria-label": name, draggable: true });
  button.dataset.recipe = recipe;
  button.addEventListener("click", open);
  button.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/plain", recipe));
  keptPicture(recipe)
    .then((image) => {
      const canvas = canvasOf(image);
      button.replaceChildren(differing ? marked(canvas, differing) : canvas);
    })
    .catch(complain);
  const shown = h("figure", {}, button);
  if (caption) shown.append(h("figcaption", {}, caption));
  return shown;
}
