// The images of a page that was exported with them: which is nearest to a sprite, and where latents lie on the map.

import { fetched } from "./files.js";
import { read } from "./png.js";
import { sha256 } from "./sha256.js";

// As in page/layout.py: a new latent lies at the mean of the t-SNE positions of so many neighbours.
const PLACED_AT = 5;

/** The images of page.json's map; what needs all of the set, at their own size, only if the map is `exact`. */
export async function load(map) {
  const [means, tsne, { sprites, channels }] = await Promise.all([
    floats("map/means.bin"), map.tsne_kept === null ? null : floats("map/tsne.bin"), spritesOf(map),
  ]);
  const size = sprites.length / map.count;
  const of = (row) => sprites.subarray(row * size, (row + 1) * size);
  const rows = (part) => [...map.parts].flatMap((letter, row) => (letter === part ? [row] : []));
  const trained = rows("t");
  const latent = means.length / map.count;
  return {
    meanOf: (row) => means.slice(row * latent, (row + 1) * latent),
    heldOut: map.exact ? new Map(rows("h").map((row) => [sha256(bytesOf(of(row), channels)), map.ids[row]])) : new Map(),
    nearest: map.exact ? (sprite) => nearest(packed(sprite, channels), trained, of, map.ids) : () => ({}),
    pca: (z) => [0, 1].map((axis) => z.reduce((sum, v, i) => sum + (v - map.pca.centre[i]) * map.pca.axes[i][axis], 0)),
    tsne: tsne && ((z) => placed(z, means, tsne)),
  };
}

const floats = async (name) => new Float32Array(await (await fetched(name)).arrayBuffer());

/** Each pixel's colour in one number, sprite after sprite, and the channels of these colours. */
async function spritesOf({ count, atlas: { width, height, columns, per_page: perPage, pages } }) {
  const sprites = new Uint32Array(count * width * height);
  let channels = 3;
  for (let page = 0; page < pages; page++) {
    const image = await read(new Uint8Array(await (await fetched(`map/${page}.png`)).arrayBuffer()));
    const colours = packed(image.pixels, image.channels);
    channels = image.channels;
    for (let row = page * perPage; row < Math.min((page + 1) * perPage, count); row++) {
      const place = row % perPage;
      const corner = Math.floor(place / columns) * height * image.width + (place % columns) * width;
      for (let y = 0; y < height; y++) {
        const from = corner + y * image.width;
        sprites.set(colours.subarray(from, from + width), (row * height + y) * width);
      }
    }
  }
  return { sprites, channels };
}

/** The colour of each pixel in one number: its first channel in the lowest byte. */
function packed(pixels, channels) {
  const colours = new Uint32Array(pixels.length / channels);
  for (let at = 0; at < pixels.length; at++) colours[Math.floor(at / channels)] |= pixels[at] << (8 * (at % channels));
  return colours;
}

const bytesOf = (sprite, channels) =>
  Uint8Array.from({ length: channels * sprite.length }, (_, at) => sprite[Math.floor(at / channels)] >> (8 * (at % channels)));

/** The facts about the training sprite with the fewest differing pixels; of equal ones, the first. */
function nearest(sprite, trained, of, ids) {
  let [best, least] = [null, Infinity];
  for (const row of trained) {
    const other = of(row);
    let count = 0;
    for (let at = 0; at < sprite.length && count < least; at++) if (sprite[at] !== other[at]) count += 1;
    if (count < least) [best, least] = [row, count];
  }
  const other = of(best);
  const differing = [...sprite.keys()].filter((at) => sprite[at] !== other[at]);
  return { nearest: ids[best], pixels_differ: least, of_pixels: sprite.length, differing };
}

function placed(z, means, positions) {
  const distances = Float64Array.from({ length: means.length / z.length }, (_, row) =>
    z.reduce((sum, value, i) => sum + (value - means[row * z.length + i]) ** 2, 0),
  );
  const rows = [...distances.keys()].sort((a, b) => distances[a] - distances[b]).slice(0, PLACED_AT);
  return [0, 1].map((axis) => rows.reduce((sum, row) => sum + positions[2 * row + axis], 0) / rows.length);
}
