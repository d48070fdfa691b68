// The colours of a sprite from its features: each most probable on its own, or one after another, each given those
// before it, as in model/pixels.py.

import { dense, layer, relu } from "./network.js";
import { largest, logits, softmax } from "./support.js";

// [rows down, columns right] of each neighbour. The two mirrored ones come after these.
const OFFSETS = [[0, -1], [0, -2], [-1, -1], [-1, 0], [-1, 1], [-2, 0], [-1, 2], [-1, -2]];
const NEIGHBOURS = OFFSETS.length + 2;
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
  const { values: embedding, shape: [, embedded] } = tensor("params.pixels.embedding");
  const layers = [0, 1, 2].map((index) => layer(tensor, `pixels.layers_${index}`));
  const score = logits(tensor, "pixels.palette", support);
  const outside = height * width;
  const near = open.map((position) => neighbours(position, support, outside));

  /** [what is multiplied with the colours' embeddings, the weights of the softmax and of each copy] */
  function mixture(features, copied) {
    const x = new Float32Array(features.length + NEIGHBOURS * embedded);
    x.set(features);
    copied.forEach((colour, i) => {
      x.set(embedding.subarray(colour * embedded, (colour + 1) * embedded), features.length + i * embedded);
    });
    const output = dense(relu(dense(relu(dense(x, layers[0])), layers[1])), layers[2]);
    // A neighbour outside has no weight.
    const weights = Array.from(output.subarray(OUTPUT), (weight, i) => (copied[i - 1] === colours ? -Infinity : weight));
    return [output.subarray(0, OUTPUT), softmax(weights)];
  }

  return (features, uniform = null) => {
    const size = features.length / open.length;
    // The last colour is that of the outside.
    const canvas = Int32Array.of(...only, colours);
    return open.map((position, number) => {
      const copied = near[number].map((place) => canvas[place]);
      const [output, weights] = mixture(features.subarray(number * size, (number + 1) * size), copied);
      const probabilities = new Map();
      softmax(score(number, output)).forEach((share, at) => probabilities.set(lists[number][at], weights[0] * share));
      copied.forEach((colour, i) => probabilities.set(colour, (probabilities.get(colour) ?? 0) + weights[i + 1]));
      canvas[position] = choose(probabilities, uniform?.[number]);
      return canvas[position];
    });
  };
}

/** The most probable colour or, with a number in [0, 1), one that is drawn. `probabilities` are by colour. */
function choose(probabilities, uniform) {
  const [candidates, masses] = [[...probabilities.keys()], [...probabilities.values()]];
  const best = largest(masses);
  if (uniform === undefined) return candidates[best];
  const likely = masses.map((mass) => (mass >= LEAST * masses[best] ? mass : 0));
  const end = uniform * likely.reduce((a, b) => a + b, 0);
  let sum = 0;
  return candidates[likely.findIndex((mass) => (sum += mass) > end && mass > 0)];
}
