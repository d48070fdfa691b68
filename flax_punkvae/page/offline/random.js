// NumPy's legacy random numbers: the streams of numpy.random.RandomState, which NumPy guarantees across versions.
//
// Source: Matsumoto & Nishimura 1998, "Mersenne Twister: A 623-dimensionally equidistributed uniform pseudo-random
// number generator", with their initialisation of 2002.

const WORDS = 624;
const MIDDLE = 397;

function seeded(seed) {
  const state = new Uint32Array(WORDS);
  state[0] = seed;
  for (let i = 1; i < WORDS; i++) state[i] = Math.imul(1812433253, state[i - 1] ^ (state[i - 1] >>> 30)) + i;
  return state;
}

function seededByList(seeds) {
  const state = seeded(19650218);
  let [i, j] = [1, 0];
  const next = (factor, added) => {
    state[i] = (state[i] ^ Math.imul(state[i - 1] ^ (state[i - 1] >>> 30), factor)) + added;
    i += 1;
    if (i < WORDS) return;
    state[0] = state[WORDS - 1];
    i = 1;
  };
  for (let k = Math.max(WORDS, seeds.length); k > 0; k--) {
    next(1664525, seeds[j] + j);
    j = (j + 1) % seeds.length;
  }
  for (let k = WORDS - 1; k > 0; k--) next(1566083941, -i);
  state[0] = 0x80000000;
  return state;
}

export class RandomState {
  #state;
  #place = WORDS;
  #kept = null;

  /** @param {number | number[]} seed a whole number from 0 to 2^32 - 1, or several */
  constructor(seed) {
    this.#state = Array.isArray(seed) ? seededByList(seed) : seeded(seed);
  }

  /** A whole number from 0 to 2^32 - 1: randint(0, 2**32, dtype=uint32). */
  word() {
    if (this.#place === WORDS) this.#advance();
    let y = this.#state[this.#place++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  /** A number in [0, 1), of 53 random bits: random_sample(). */
  uniform() {
    const high = this.word() >>> 5;
    return (high * 67108864 + (this.word() >>> 6)) / 9007199254740992;
  }

  /** A draw from N(0, 1): standard_normal(), by the polar method (Marsaglia & Bray 1964), which makes two at a time. */
  normal() {
    if (this.#kept !== null) {
      const kept = this.#kept;
      this.#kept = null;
      return kept;
    }
    let x, y, square;
    do {
      x = 2 * this.uniform() - 1;
      y = 2 * this.uniform() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square === 0);
    const factor = Math.sqrt((-2 * Math.log(square)) / square);
    this.#kept = factor * x;
    return factor * y;
  }

  #advance() {
    const state = this.#state;
    for (let i = 0; i < WORDS; i++) {
      const y = (state[i] & 0x80000000) | (state[(i + 1) % WORDS] & 0x7fffffff);
      state[i] = state[(i + MIDDLE) % WORDS] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.#place = 0;
  }
}
