// PNG files (ISO/IEC 15948), written and read byte by byte: a browser that resists fingerprinting alters what a canvas
// gives, and any browser alters colours of low alpha.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
// As in trained/recipes.py.
const CHUNK = "flax_punkvae";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = remainder & 1 ? 0xedb88320 ^ (remainder >>> 1) : remainder >>> 1;
  return remainder;
});

function checksum(bytes) {
  let remainder = 0xffffffff;
  for (const byte of bytes) remainder = TABLE[(remainder ^ byte) & 255] ^ (remainder >>> 8);
  return ~remainder >>> 0;
}

const ascii = (text) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));

function chunk(kind, body) {
  const bytes = new Uint8Array(12 + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set(ascii(kind), 4);
  bytes.set(body, 8);
  view.setUint32(8 + body.length, checksum(bytes.subarray(4, 8 + body.length)));
  return bytes;
}

async function compressed(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A file of pixels with 3 or 4 channels, each enlarged `scale` times; with a recipe in its text chunk. */
export async function write({ pixels, width, height, channels }, scale, recipe = "") {
  const line = 1 + width * scale * channels;
  const rows = new Uint8Array(line * height * scale);
  for (let y = 0; y < height; y++) {
    const row = rows.subarray(y * scale * line, (y * scale + 1) * line);
    for (let x = 0; x < width; x++) {
      const pixel = pixels.subarray((y * width + x) * channels, (y * width + x + 1) * channels);
      for (let i = 0; i < scale; i++) row.set(pixel, 1 + (x * scale + i) * channels);
    }
    for (let i = 1; i < scale; i++) rows.set(row, (y * scale + i) * line);
  }
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width * scale);
  view.setUint32(4, height * scale);
  header.set([8, channels === 4 ? 6 : 2], 8);
  const text = recipe ? [chunk("tEXt", ascii(`${CHUNK}\0${recipe}`))] : [];
  const parts = [Uint8Array.from(SIGNATURE), chunk("IHDR", header), ...text];
  parts.push(chunk("IDAT", await compressed(rows)), chunk("IEND", new Uint8Array(0)));
  return new Blob(parts, { type: "image/png" });
}

/** Yields { kind, body } of each chunk of a file; nothing if it is not a PNG file. */
function* chunks(bytes) {
  if (!SIGNATURE.every((byte, i) => bytes[i] === byte)) return;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  for (let place = 8; place + 8 <= bytes.length; place += 12 + view.getUint32(place)) {
    const kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    yield { kind, body: bytes.subarray(place + 8, place + 8 + view.getUint32(place)) };
  }
}

/** The recipe in a file; empty if there is none. */
export function recipeIn(bytes) {
  for (const { kind, body } of chunks(bytes)) {
    const ours = kind === "tEXt" && String.fromCharCode(...body.subarray(0, CHUNK.length + 1)) === `${CHUNK}\0`;
    if (ours) return Array.from(body.subarray(CHUNK.length + 1), (byte) => String.fromCharCode(byte)).join("");
  }
  return "";
}

/** { pixels, width, height, channels } of a file of 8-bit RGB or RGBA, without gaps: exact, also where alpha is low. */
export async function read(bytes) {
  const all = [...chunks(bytes)];
  const { body } = all.find(({ kind }) => kind === "IHDR");
  const view = new DataView(body.buffer, body.byteOffset);
  const [width, height, channels] = [view.getUint32(0), view.getUint32(4), body[9] === 6 ? 4 : 3];
  const parts = all.flatMap(({ kind, body: part }) => (kind === "IDAT" ? [part] : []));
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  const filtered = new Uint8Array(await new Response(stream).arrayBuffer());
  return { pixels: unfiltered(filtered, width * channels, channels), width, height, channels };
}

/** What each filter adds, from the bytes at the left, above, and above at the left. */
const FILTERS = [() => 0, (left) => left, (left, up) => up, (left, up) => (left + up) >> 1, paeth];

function paeth(left, up, corner) {
  const [a, b, c] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

function unfiltered(filtered, line, channels) {
  const height = filtered.length / (line + 1);
  const pixels = new Uint8Array(line * height);
  for (let y = 0; y < height; y++) {
    const [from, to, filter] = [y * (line + 1) + 1, y * line, FILTERS[filtered[y * (line + 1)]]];
    for (let x = 0; x < line; x++) {
      const left = x < channels ? 0 : pixels[to + x - channels];
      const up = y ? pixels[to + x - line] : 0;
      const corner = y && x >= channels ? pixels[to + x - line - channels] : 0;
      pixels[to + x] = filtered[from + x] + filter(left, up, corner);
    }
  }
  return pixels;
}
