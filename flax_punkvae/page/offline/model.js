// A trained model: encode and decode sprites, which are RGB or RGBA bytes row by row.

import { decoder, encoder } from "./network.js";
import { autoregressive, independent } from "./pixels.js";
import { prior } from "./prior.js";
import { hex } from "./sha256.js";
import { support } from "./support.js";
import { uniform } from "./threefry.js";

/** Model from the tensors of `safetensors.read`. */
export function build(tensor) {
  const colours = support(tensor);
  const { open, only, height, width } = colours;
  const { values: palette, shape: [, channels] } = tensor("model.palette");
  const chooses = tensor("params.pixels.embedding") ? autoregressive : independent;
  const [features, choose, posterior] = [decoder(tensor, open), chooses(tensor, colours), encoder(tensor, open)];
  const indexOf = nearest(palette, channels);
  const digests = tensor("model.train_digests").values;

  /** The sprite with the latents z: with a seed, the colours are drawn from their distributions. */
  function decode(z, seed = null) {
    const indices = only.slice();
    const chosen = choose(features(z), seed === null ? null : uniform(seed, open.length));
    open.forEach((position, number) => (indices[position] = chosen[number]));
    return coloured(indices);
  }

  const colour = (pixels, at) => pixels.subarray(channels * at, channels * (at + 1));

  function coloured(indices) {
    const pixels = new Uint8Array(channels * indices.length);
    indices.forEach((index, position) => pixels.set(colour(palette, index), channels * position));
    return pixels;
  }

  const toIndices = (pixels) => Int32Array.from({ length: height * width }, (_, at) => indexOf(colour(pixels, at)));

  return {
    latent: tensor("params.decoder.dense_0.kernel").shape[0],
    height,
    width,
    channels,
    trained: new Set(Array.from({ length: digests.length / 32 }, (_, i) => hex(digests.subarray(32 * i, 32 * i + 32)))),
    fromPrior: prior(tensor),
    decode,
    /** { mean, logvar } of the posterior. */
    encode: (sprite) => posterior(toIndices(sprite)),
    /** The sprite with every colour replaced by the nearest one of the palette. */
    snap: (sprite) => coloured(toIndices(sprite)),
  };
}

/** A function from a colour to the index of the nearest colour of the palette, as in colours.py; ties take the first. */
function nearest(palette, channels) {
  const known = new Map();
  const points = Array.from({ length: palette.length / channels }, (_, at) =>
    point(palette.subarray(channels * at, channels * (at + 1))),
  );
  return (colour) => {
    const name = colour.reduce((number, level) => 256 * number + level, 0);
    if (!known.has(name)) known.set(name, search(points, point(colour)));
    return known.get(name);
  };
}

/** RGB, or RGBA over black and over white. */
function point([red, green, blue, alpha]) {
  if (alpha === undefined) return [red, green, blue];
  const overBlack = [red, green, blue].map((level) => alpha * level);
  return [...overBlack, ...overBlack.map((level) => level + 255 * (255 - alpha))];
}

function search(points, wanted) {
  let [best, least] = [0, Infinity];
  points.forEach((each, index) => {
    const square = each.reduce((sum, value, axis) => sum + (value - wanted[axis]) ** 2, 0);
    if (square < least) [best, least] = [index, square];
  });
  return best;
}
