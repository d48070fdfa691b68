// Recipes of this model, and their pictures: trained/recipes.py.

import { format, looksLike, parse as parsed } from "../static/recipe.js";

const LARGEST_LATENT = 1e6;
const MOST_SEED = 2 ** 32 - 1;

const nameOf = (site) => site.page.about.digest.slice(0, 12);

/** { z, seed: a number or null, paint }. Throws if it is not a recipe of this model. */
export function parse(site, model, text) {
  if (!looksLike(text)) throw new Error(`'${text.slice(0, 40)}' is not a recipe: copy the whole of it from the page`);
  const [name] = text.split(".");
  if (name !== nameOf(site)) {
    throw new Error(`the recipe is for model ${name}, and this is ${nameOf(site)}: open the model that made it`);
  }
  let recipe;
  try {
    recipe = parsed(text, model.channels);
  } catch {
    throw new Error("the recipe is damaged: copy the whole of it from the page");
  }
  recipe.seed = recipe.seed === "" ? null : Number(recipe.seed);
  check(recipe, model);
  return recipe;
}

function check({ z, seed, paint }, { latent, width, height }) {
  if (z.length !== latent) {
    throw new Error(`the recipe has ${z.length} latents, and the model has ${latent}: copy the whole recipe`);
  }
  if (!z.every((value) => Math.abs(value) <= LARGEST_LATENT)) {
    throw new Error("a latent is not a number from -1000000 to 1000000: choose smaller latents");
  }
  if (seed > MOST_SEED) throw new Error(`seed ${seed} is out of range: choose a whole number from 0 to ${MOST_SEED}`);
  if ([...paint.keys()].some((position) => position >= width * height)) {
    throw new Error(`the painted pixels are not pixels of a ${width}x${height} sprite: paint them again`);
  }
}

export function toText(site, model, { z, seed = null, paint = new Map() }) {
  check({ z, seed, paint }, model);
  return format({ model: nameOf(site), z, seed: seed ?? "", paint }, model.channels);
}

/** The sprite: decoded, with the painted pixels in it. */
export function picture(model, { z, seed = null, paint = new Map() }) {
  const pixels = model.decode(z, seed);
  for (const [position, colour] of paint) pixels.set(colour, model.channels * position);
  return pixels;
}

/** The recipe of a sprite's posterior mean; `exactly`, with paint wherever the reconstruction differs from it. */
export function ofSprite(model, sprite, exactly) {
  const { mean } = model.encode(sprite);
  const paint = new Map();
  if (!exactly) return { z: mean, paint };
  for (const position of differing(model.decode(mean), sprite, model.channels)) {
    paint.set(position, [...sprite.subarray(model.channels * position, model.channels * (position + 1))]);
  }
  return { z: mean, paint };
}

/** The positions of the pixels that differ. */
function differing(one, other, channels) {
  const found = new Set();
  one.forEach((value, at) => value !== other[at] && found.add(Math.floor(at / channels)));
  return found;
}
