// Fill in the unknown pixels of a sprite: trained/completion.py.

import { RandomState } from "./random.js";
import { draws } from "./sampler.js";

const STEPS = 30;

/** `count` sprites with the known pixels of `sprite`, and the others drawn given those; the same as Python's. */
export async function complete(model, sprite, known, count, seed, passes, heard) {
  const wanted = model.snap(sprite);
  const held = (found) => {
    const { channels } = model;
    known.forEach((holds, at) => holds && found.set(wanted.subarray(channels * at, channels * (at + 1)), channels * at));
    return found;
  };
  const random = new RandomState([seed, 2]);
  const noise = Array.from({ length: STEPS }, () =>
    Array.from({ length: count }, () => Float32Array.from({ length: model.latent }, () => random.normal())),
  );
  const samples = draws(model, seed, 1, passes);
  const completed = [];
  for (let row = 0; row < count; row++) {
    const start = samples.next().value;
    let found = held(model.decode(start.z, start.seed));
    for (const drawn of noise) {
      await heard();
      const { mean, logvar } = model.encode(found);
      const deviation = logvar.map((value) => Math.exp(0.5 * value));
      found = held(model.decode(mean.map((value, i) => value + Math.fround(deviation[i] * drawn[row][i]))));
    }
    completed.push(held(model.decode(model.encode(found).mean)));
  }
  return completed;
}
