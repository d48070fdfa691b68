// Steps and paths through the latent space: trained/latents.py and page/explorer.py. Computed in double precision and
// rounded to float32 at the end.

import { RandomState } from "./random.js";

/** A random step of `size` standard deviations of the prior. */
export function nudged(z, deviation, size, seed) {
  const random = new RandomState(seed);
  return z.map((value, i) => value + size * deviation[i] * random.normal());
}

/** Moved along directions, each with a sign. */
export function edited(z, signed, strength) {
  const shift = new Float32Array(z.length);
  for (const [sign, direction] of signed) direction.forEach((value, i) => (shift[i] += sign * value));
  return z.map((value, i) => value + Math.fround(strength * shift[i]));
}

/** The weighted mean of latents; the weights need not sum to 1. */
export function blended(given, weights) {
  const total = weights.reduce((a, b) => a + b, 0);
  return given[0].map((_, i) => given.reduce((sum, z, k) => sum + (weights[k] / total) * z[i], 0));
}

const shares = (steps) => Array.from({ length: steps }, (_, i) => (i === steps - 1 ? 1 : i * (1 / (steps - 1))));

/** (1 - t) a + t b at equally spaced t from 0 to 1. */
export const linear = (a, b, steps) => shares(steps).map((t) => a.map((value, i) => (1 - t) * value + t * b[i]));

/** Along the arc from a to b (Shoemake 1985); linear if they are parallel or opposite, or one of them is zero. */
export function spherical(a, b, steps) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  const norms = Math.sqrt(dot(a, a)) * Math.sqrt(dot(b, b));
  const angle = norms > 0 ? Math.acos(Math.min(Math.max(dot(a, b) / norms, -1), 1)) : 0;
  const sine = Math.sin(angle);
  if (sine < 1e-6) return linear(a, b, steps);
  return shares(steps).map((t) => {
    const [from, to] = [Math.sin((1 - t) * angle) / sine, Math.sin(t * angle) / sine];
    return a.map((value, i) => from * value + to * b[i]);
  });
}
