// The sprite in an image file that a person has opened.

import { colourOf } from "../static/pixels.js";

const LARGEST_FILE = 2 ** 23;

/**
 * The bytes of a sprite of the model; the image may be enlarged by a whole factor. To a model of RGB, it lies over the
 * background where it is transparent.
 */
export async function spriteIn(file, { width, height, channels }, background) {
  if (file.size > LARGEST_FILE) throw new Error(`the file is too large: open one of at most ${LARGEST_FILE} bytes`);
  const image = await createImageBitmap(file, { premultiplyAlpha: "none", colorSpaceConversion: "none" }).catch(() => {
    throw new Error("the file cannot be read: choose a PNG, JPEG, WebP, GIF or BMP image");
  });
  const scale = Math.max(Math.floor(image.height / height), 1);
  if (image.height !== height * scale || image.width !== width * scale) {
    throw new Error(
      `expected an image of ${width}x${height} pixels, or a whole multiple of it, got ${image.width}x${image.height}`,
    );
  }
  const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, image.width, image.height);
  const behind = colourOf(background);
  const middle = Math.floor(scale / 2);
  const sprite = new Uint8Array(channels * width * height);
  for (let position = 0; position < width * height; position++) {
    const [x, y] = [(position % width) * scale + middle, Math.floor(position / width) * scale + middle];
    const at = 4 * (y * image.width + x);
    const pixel = data.subarray(at, at + 4);
    sprite.set(channels === 4 ? pixel : over(pixel, behind), channels * position);
  }
  return sprite;
}

const over = ([red, green, blue, alpha], behind) =>
  [red, green, blue].map((level, channel) => Math.floor((alpha * level + (255 - alpha) * behind[channel]) / 255 + 0.5));
