// SHA-256 (FIPS 180-4). Browsers offer it only to pages from https and localhost, and this page may lie on any host.

/** The first bits of the fractional parts of the square or cube roots of the first primes. */
function fractions(count, root) {
  const found = [];
  for (let number = 2; found.length < count; number++) {
    let divisor = 2;
    while (divisor * divisor <= number && number % divisor) divisor += 1;
    if (divisor * divisor > number) found.push(((root(number) % 1) * 2 ** 32) | 0);
  }
  return found;
}

const START = fractions(8, Math.sqrt);
const ROUNDS = fractions(64, Math.cbrt);

const rotated = (x, by) => (x >>> by) | (x << (32 - by));

function padded(bytes) {
  const view = new DataView(new ArrayBuffer(Math.ceil((bytes.length + 9) / 64) * 64));
  new Uint8Array(view.buffer).set(bytes);
  view.setUint8(bytes.length, 0x80);
  view.setBigUint64(view.byteLength - 8, BigInt(bytes.length) * 8n);
  return view;
}

function schedule(view, start) {
  const words = new Int32Array(64);
  for (let i = 0; i < 16; i++) words[i] = view.getInt32(start + 4 * i);
  for (let i = 16; i < 64; i++) {
    const [a, b] = [words[i - 15], words[i - 2]];
    const small0 = rotated(a, 7) ^ rotated(a, 18) ^ (a >>> 3);
    const small1 = rotated(b, 17) ^ rotated(b, 19) ^ (b >>> 10);
    words[i] = words[i - 16] + small0 + words[i - 7] + small1;
  }
  return words;
}

/** The digest in hexadecimal. */
export function sha256(bytes) {
  const view = padded(bytes);
  const state = Int32Array.from(START);
  for (let start = 0; start < view.byteLength; start += 64) {
    const words = schedule(view, start);
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const large1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
      const one = (h + large1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + words[i]) | 0;
      const large0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
      const two = (large0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(one + two) | 0, a, b, c, (d + one) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((value, i) => (state[i] += value));
  }
  return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

/** Bytes in hexadecimal, as digests are given. */
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
