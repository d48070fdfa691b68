// What the page asks for, by the paths of page/server.py: `told` at once, `answers` when the model is there.

import { colourOf } from "../static/pixels.js";
import { complete } from "./completion.js";
import { spriteIn } from "./image_file.js";
import { blended, edited, linear, nudged, spherical } from "./latents.js";
import * as png from "./png.js";
import { ofSprite, parse, picture, toText } from "./recipes.js";
import { draws } from "./sampler.js";
import { sha256 } from "./sha256.js";

// Of a search for new sprites, as in page/explorer.py.
const MOST_DRAWS = 50_000;
const LARGEST_SCALE = 32;

export const told = {
  model: ({ page }) => page.about,
  latents: ({ page }) => page.latents,
  edits: ({ page }) => page.edits,
  map: ({ page }) => page.map,
  progress: ({ page, collection, progress, notes }) => ({
    progress,
    notes,
    images: collection !== null,
    latents: true,
    map: collection !== null,
    tsne: collection !== null && page.map.tsne_kept !== null,
    edits: page.edits !== null,
    measured: Object.keys(page.edits?.effects ?? {}).length,
    fits: false,
  }),
};

/** Whether a sprite is of the training set, held out or new, and the nearest training sprite if the images are there. */
function certified(model, collection, sprite) {
  const digest = sha256(sprite);
  const isNew = !model.trained.has(digest);
  const equals = collection?.heldOut.get(digest);
  const status = !isNew ? "training" : equals === undefined ? "new" : "held-out";
  return { new: isNew, status, ...(equals === undefined ? {} : { equals }), ...collection?.nearest(sprite) };
}

async function sample(site, model, fields, heard) {
  const { count, seed, temperature, reencode } = fields;
  if (!(temperature >= 0 && temperature <= 100)) throw new Error("temperature: expected a number from 0 to 100");
  const sprites = [];
  const seen = new Set();
  let drawn = 0;
  for (const each of draws(model, seed, temperature, reencode)) {
    await heard();
    drawn += 1;
    const sprite = model.decode(each.z, each.seed);
    const digest = sha256(sprite);
    if (!fields.new || !(model.trained.has(digest) || seen.has(digest))) {
      sprites.push({ recipe: toText(site, model, each), ...certified(model, site.collection, sprite) });
    }
    seen.add(digest);
    if (sprites.length === count || drawn === MOST_DRAWS) break;
  }
  return { sprites, drawn, wanted: fields.new ? "new and distinct sprites" : "sprites", selective: fields.new };
}

const one = (site, model, recipe) => ({ recipe: toText(site, model, recipe) });

function checkedScale(scale) {
  if (Number.isInteger(scale) && scale >= 1 && scale <= LARGEST_SCALE) return scale;
  throw new Error(`scale: expected a whole number from 1 to ${LARGEST_SCALE}`);
}

/** The pixels as RGBA, with those of one colour transparent. */
function withoutBackground(rgb, background) {
  const colour = colourOf(background);
  const rgba = new Uint8Array((rgb.length / 3) * 4);
  for (let at = 0; at < rgb.length / 3; at++) {
    const pixel = rgb.subarray(3 * at, 3 * at + 3);
    rgba.set(pixel, 4 * at);
    rgba[4 * at + 3] = colour.every((value, channel) => value === pixel[channel]) ? 0 : 255;
  }
  return rgba;
}

/** The frames side by side. */
function sideBySide(frames, { width, height, channels }) {
  const line = channels * width;
  const pixels = new Uint8Array(line * height * frames.length);
  frames.forEach((frame, place) => {
    for (let y = 0; y < height; y++) {
      pixels.set(frame.subarray(y * line, (y + 1) * line), (y * frames.length + place) * line);
    }
  });
  return { pixels, width: width * frames.length, height, channels };
}

export const answers = {
  sample,

  certificate(site, model, { recipe }) {
    return certified(model, site.collection, picture(model, parse(site, model, recipe)));
  },

  picture(site, model, { recipe }) {
    const begun = performance.now();
    const pixels = picture(model, parse(site, model, recipe));
    return { width: model.width, height: model.height, pixels, milliseconds: performance.now() - begun };
  },

  nudge(site, model, { recipe, size, seed }) {
    const { z, seed: drawn } = parse(site, model, recipe);
    return one(site, model, { z: nudged(z, site.page.latents.deviation, size, seed), seed: drawn });
  },

  edit(site, model, { recipe, add, remove, strength }) {
    const { z, seed } = parse(site, model, recipe);
    const { labels, directions } = site.page.edits;
    const signed = (names, sign) => names.map((name) => [sign, directions[labels.indexOf(name)]]);
    return one(site, model, { z: edited(z, [...signed(add, 1), ...signed(remove, -1)], strength), seed });
  },

  mix(site, model, { recipes, weights }) {
    return one(site, model, { z: blended(recipes.map((text) => parse(site, model, text).z), weights) });
  },

  strip(site, model, { recipes, frames, path }) {
    const [first, last] = recipes.map((text) => parse(site, model, text).z);
    const walk = path === "linear" ? linear : spherical;
    return { recipes: walk(first, last, frames).map((z) => toText(site, model, { z })) };
  },

  project(site, model, { recipe }) {
    return one(site, model, ofSprite(model, picture(model, parse(site, model, recipe)), false));
  },

  async complete(site, model, { recipe, known, count, seed }, heard) {
    if (!known.includes("0")) {
      throw new Error("complete: every pixel is known, so there is nothing to fill in: leave some out");
    }
    if (!known.includes("1")) throw new Error("complete: no pixel is known: sample new sprites instead");
    const sprite = picture(model, parse(site, model, recipe));
    const holds = Array.from(known, (digit) => digit === "1");
    const found = await complete(model, sprite, holds, count, seed, site.page.about.reencode, heard);
    return { recipes: found.map((each) => toText(site, model, ofSprite(model, each, true))) };
  },

  async open(site, model, { file }) {
    const text = png.recipeIn(new Uint8Array(await file.arrayBuffer()));
    if (text) return { recipe: toText(site, model, parse(site, model, text)), how: "restored from the recipe in the file" };
    const sprite = await spriteIn(file, model, site.page.about.background);
    return { ...one(site, model, ofSprite(model, sprite, false)), how: "encoded from the image" };
  },

  png(site, model, { recipe, scale, transparent }) {
    const sprite = picture(model, parse(site, model, recipe));
    const pixels = transparent ? withoutBackground(sprite, site.page.about.background) : sprite;
    const { width, height } = model;
    return png.write({ pixels, width, height, channels: transparent ? 4 : model.channels }, checkedScale(scale), recipe);
  },

  strip_file(site, model, { recipes, scale }) {
    const frames = recipes.map((text) => {
      const { z, seed } = parse(site, model, text);
      return picture(model, { z, seed });
    });
    return png.write(sideBySide(frames, model), checkedScale(scale));
  },

  of_image(site, model, { row }) {
    return one(site, model, { z: site.collection.meanOf(row) });
  },

  place(site, model, { recipes }) {
    const { pca, tsne } = site.collection;
    const latents = recipes.map((text) => parse(site, model, text).z);
    return { pca: latents.map(pca), tsne: tsne && latents.map(tsne) };
  },
};
