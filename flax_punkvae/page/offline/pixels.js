// The colours of a sprite from its features: each most probable on its own, or one after another, each given those
// before it, as in model/pixels.py.

import { addProduct, dense, layer, relu } from "./network.js";
import { largest, logits, softmax } from "./support.js";

// [rows down, columns right] of each neighbour. The two mirrored ones come after these.
const OFFSETS = [[0, -1], [0, -2], [-1, -1], [-1, 0], [-1, 1], [-2, 0], [-1, 2], [-1, -2]];
// The size of what is multiplied with the colours' embeddings.
const OUTPUT = 16;
// Colours less than this times as probable as the most probable one are not drawn.
const LEAST = 0.05;

/** A function from features to the colours at the open positions: the most probable ones. */
export function independent(tensor, support) {
  const score = logits(tensor, "palette", support);
  return (features) => {
    const size = features.length / support.open.length;
    return support.lists.map((list, number) => {
      return list[largest(score(number, features.subarray(number * size, (number + 1) * size)))];
    });
  };
}

/** The positions of a pixel's neighbours; `outside` where there is none. */
function neighbours(position, { width, height }, outside) {
  const [x, y] = [position % width, Math.floor(position / width)];
  const at = (row, column) => (row >= 0 && column >= 0 && column < width ? row * width + column : outside);
  const mirror = width - 1 - x;
  return [...OFFSETS.map(([down, right]) => at(y + down, x + right)), x > mirror ? at(y, mirror) : outside, at(y - 1, mirror)];
}

/**
 * A function from features, and one number in [0, 1) for each open position or nothing, to the colours at the open
 * positions: with numbers they are drawn from their distributions, otherwise they are the most probable ones.
 */
export function autoregressive(tensor, support) {
  const { colours, height, width, only, open, lists } = support;
  const mixture = mixtures(tensor, colours);
  const score = logits(tensor, "pixels.palette", support);
  const outside = height * width;
  const near = open.map((position) => neighbours(position, support, outside));
  return (features, uniform = null) => {
    const size = features.length / open.length;
    // The last colour is that of the outside.
    const canvas = new Int32Array(outside + 1).fill(colours);
    canvas.set(only);
    return open.map((position, number) => {
      const copied = near[number].map((place) => canvas[place]);
      const [output, weights] = mixture(features.subarray(number * size, (number + 1) * size), copied);
      const masses = Array.from(softmax(score(number, output)), (share) => weights[0] * share);
      canvas[position] = choose(...merged(lists[number], masses, copied, weights), uniform?.[number]);
      return canvas[position];
    });
  };
}

/**
 * A function from a pixel's features and its neighbours' colours to what is multiplied with the colours' embeddings, and
 * the weights of the softmax and of each copy.
 */
function mixtures(tensor, colours) {
  const { values: embedding, shape: [, embedded] } = tensor("params.pixels.embedding");
  const [first, second, third] = [0, 1, 2].map((index) => layer(tensor, `pixels.layers_${index}`));
  const hidden = first.bias.length;
  const parts = new Map();

  /** What a neighbour adds to the first layer depends on its place and colour alone. */
  function part(place, colour, features) {
    const name = place * (colours + 1) + colour;
    if (!parts.has(name)) {
      const sums = new Float64Array(hidden);
      const x = embedding.subarray(colour * embedded, (colour + 1) * embedded);
      addProduct(sums, x, first.kernel, features + place * embedded);
      parts.set(name, sums);
    }
    return parts.get(name);
  }

  return (features, copied) => {
    const sums = new Float64Array(first.bias);
    addProduct(sums, features, first.kernel);
    for (let place = 0; place < copied.length; place++) {
      const added = part(place, copied[place], features.length);
      for (let i = 0; i < hidden; i++) sums[i] += added[i];
    }
    const output = dense(relu(dense(relu(new Float32Array(sums)), second)), third);
    const weights = new Float64Array(output.subarray(OUTPUT));
    // A neighbour outside has no weight.
    copied.forEach((colour, place) => colour === colours && (weights[place + 1] = -Infinity));
    return [output.subarray(0, OUTPUT), softmax(weights)];
  };
}

/** [colours, their probabilities]: those of a position's list, then the neighbours' that are not among them. */
function merged(list, masses, copied, weights) {
  const [candidates, probabilities] = [list.slice(), masses.slice()];
  copied.forEach((colour, place) => {
    const at = candidates.indexOf(colour);
    if (at >= 0) probabilities[at] += weights[place + 1];
    else probabilities[candidates.push(colour) - 1] = weights[place + 1];
  });
  return [candidates, probabilities];
}

/** The most probable colour or, with a number in [0, 1), one that is drawn. */
function choose(candidates, probabilities, uniform) {
  const best = largest(probabilities);
  if (uniform === undefined) return candidates[best];
  const likely = probabilities.map((mass) => (mass >= LEAST * probabilities[best] ? mass : 0));
  const end = uniform * likely.reduce((a, b) => a + b, 0);
  let sum = 0;
  return candidates[likely.findIndex((mass) => (sum += mass) > end && mass > 0)];
}
