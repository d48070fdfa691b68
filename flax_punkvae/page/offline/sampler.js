// Samples from the prior, as trained/samplers.py draws them.

import { RandomState } from "./random.js";

/** Latents and pixel seeds without end, { z, seed }: for a seed the same as Python's, re-encoded `passes` times. */
export function* draws(model, seed, temperature, passes) {
  const [normal, uniform, seeds] = [seed, [seed, 1], [seed, 3]].map((each) => new RandomState(each));
  for (;;) {
    const noise = Float32Array.from({ length: model.latent }, () => temperature * normal.normal());
    // Rounding to float32 must not give 1.
    const shares = Float32Array.from({ length: model.latent }, () => Math.min(uniform.uniform(), 1 - 2 ** -24));
    const drawn = { z: model.fromPrior(noise, shares), seed: seeds.word() };
    for (let pass = 0; pass < passes; pass++) drawn.z = model.encode(model.decode(drawn.z, drawn.seed)).mean;
    yield drawn;
  }
}
