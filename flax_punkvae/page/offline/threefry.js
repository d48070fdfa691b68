// JAX's random numbers: jax.random.uniform of a key, as partitionable Threefry gives them.
//
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", Threefry-2x32 of 20 rounds.

const ROTATIONS = [[13, 15, 26, 6], [17, 29, 16, 24]];
const PARITY = 0x1bd11bda;

const rotated = (x, by) => (x << by) | (x >>> (32 - by));

/** The two words that a counter of two words is enciphered to. */
export function threefry([key0, key1], [count0, count1]) {
  const keys = [key0, key1, key0 ^ key1 ^ PARITY];
  let x = (count0 + key0) | 0;
  let y = (count1 + key1) | 0;
  for (let group = 0; group < 5; group++) {
    for (const by of ROTATIONS[group % 2]) {
      x = (x + y) | 0;
      y = rotated(y, by) ^ x;
    }
    x = (x + keys[(group + 1) % 3]) | 0;
    y = (y + keys[(group + 2) % 3] + group + 1) | 0;
  }
  return [x >>> 0, y >>> 0];
}

/** jax.random.uniform(jax.random.key(seed), (count,)): float32 in [0, 1), of 23 random bits each. */
export function uniform(seed, count) {
  return Float32Array.from({ length: count }, (_, i) => {
    const [x, y] = threefry([0, seed], [0, i]);
    return ((x ^ y) >>> 9) / 2 ** 23;
  });
}
