// The colours of sprites' dots: found in the atlas, and kept apart from the paper.

const FAINT = 48; // the least difference in lightness, of 255, of a dot from the paper
const INK = 0.25; // share of ink in a dot that would be fainter

/** A colour from 0xAABBGGRR in 16 bits, to count by and to group by: nobody sees the difference in a dot. */
const rough = (c) => ((c >>> 3) & 0x1f) | ((c >>> 6) & 0x3e0) | ((c >>> 9) & 0x7c00) | ((c >>> 16) & 0x8000);
const counts = new Uint16Array(1 << 16);

/** The most frequent colour in a rectangle of pixels, other than its top-left pixel's, and opaque, if it has one. */
function mainColour(pixels, stride, corner, width, height) {
  const ground = rough(pixels[corner]);
  let [best, most] = [pixels[corner], 0];
  counts.fill(0);
  for (let row = corner; row < corner + height * stride; row += stride) {
    for (let at = row; at < row + width; at++) {
      const colour = rough(pixels[at]);
      if (colour === ground || !(colour & 0x8000) || ++counts[colour] <= most) continue;
      most = counts[colour];
      best = pixels[at];
    }
  }
  return best;
}

/** Sprites by colour, as { rgb, indices }: to set the fill colour anew for every dot is slow. */
export function dotsOf({ pages, count, width, height, columns, perPage }) {
  const groups = new Map();
  pages.forEach((page, number) => {
    const [w, h] = [page.naturalWidth || page.width, page.naturalHeight || page.height];
    const context = new OffscreenCanvas(w, h).getContext("2d", { willReadFrequently: true });
    context.drawImage(page, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, w, h).data.buffer);
    const first = number * perPage;
    for (let j = 0; j < Math.min(perPage, count - first); j++) {
      const corner = Math.floor(j / columns) * height * w + (j % columns) * width;
      const colour = mainColour(pixels, w, corner, width, height);
      const rgb = [0, 8, 16].map((shift) => (colour >>> shift) & 255);
      if (!groups.has(rough(colour))) groups.set(rough(colour), { rgb, indices: [] });
      groups.get(rough(colour)).indices.push(first + j);
    }
  });
  return [...groups.values()];
}

/** [red, green, blue] of a CSS colour. */
function parse(colour) {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

/** Sets each group's `style`, the colour to fill dots with: nearer to the ink if they could hardly be seen. */
export function styleDots(dots, theme) {
  const lightness = ([red, green, blue]) => 0.3 * red + 0.59 * green + 0.11 * blue;
  const [ink, paper] = [parse(theme.ink), lightness(parse(theme.paper))];
  for (const dot of dots) {
    const share = Math.abs(lightness(dot.rgb) - paper) < FAINT ? INK : 0;
    dot.style = `rgb(${dot.rgb.map((value, k) => Math.round(value + share * (ink[k] - value))).join(" ")})`;
  }
}
