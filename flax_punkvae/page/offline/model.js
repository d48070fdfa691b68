// A trained model: encode and decode sprites, which are RGB bytes row by row.

import { decoder, encoder } from "./network.js";
import { autoregressive, independent } from "./pixels.js";
import { prior } from "./prior.js";
import { hex } from "./sha256.js";
import { support } from "./support.js";
import { uniform } from "./threefry.js";

const packed = (rgb, at) => (rgb[at] << 16) | (rgb[at + 1] << 8) | rgb[at + 2];

/** Model from the tensors of `safetensors.read`. */
export function build(tensor) {
  const colours = support(tensor);
  const { open, only, height, width } = colours;
  const palette = tensor("model.palette").values;
  const chooses = tensor("params.pixels.embedding") ? autoregressive : independent;
  const [features, choose, posterior] = [decoder(tensor, open), chooses(tensor, colours), encoder(tensor)];
  const indexOf = nearest(palette);
  const digests = tensor("model.train_digests").values;

  /** The sprite with the latents z: with a seed, the colours are drawn from their distributions. */
  function decode(z, seed = null) {
    const indices = only.slice();
    const chosen = choose(features(z), seed === null ? null : uniform(seed, open.length));
    open.forEach((position, number) => (indices[position] = chosen[number]));
    return rgbOf(indices);
  }

  function rgbOf(indices) {
    const rgb = new Uint8Array(3 * indices.length);
    indices.forEach((index, position) => rgb.set(palette.subarray(3 * index, 3 * index + 3), 3 * position));
    return rgb;
  }

  const toIndices = (rgb) => Int32Array.from({ length: height * width }, (_, at) => indexOf(packed(rgb, 3 * at)));

  return {
    latent: tensor("params.decoder.dense_0.kernel").shape[0],
    height,
    width,
    trained: new Set(Array.from({ length: digests.length / 32 }, (_, i) => hex(digests.subarray(32 * i, 32 * i + 32)))),
    fromPrior: prior(tensor),
    decode,
    /** { mean, logvar } of the posterior. */
    encode: (rgb) => posterior(toIndices(rgb)),
    /** The sprite with every colour replaced by the nearest one of the palette. */
    snap: (rgb) => rgbOf(toIndices(rgb)),
  };
}

/** A function from a colour in one number to the index of the nearest colour of the palette; ties take the first. */
function nearest(palette) {
  const known = new Map();
  return (colour) => {
    if (!known.has(colour)) known.set(colour, search(palette, colour));
    return known.get(colour);
  };
}

function search(palette, colour) {
  let [best, least] = [0, Infinity];
  for (let i = 0; i < palette.length; i += 3) {
    const [red, green, blue] = [16, 8, 0].map((shift, channel) => palette[i + channel] - ((colour >> shift) & 255));
    const square = red * red + green * green + blue * blue;
    if (square < least) [best, least] = [i / 3, square];
  }
  return best;
}
