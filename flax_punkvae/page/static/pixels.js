// Pixels and colours of 3 channels, RGB, or of 4, RGBA.

/** The ImageData of pixels, row by row. */
export function imageOf(pixels, width, height) {
  const image = new ImageData(width, height);
  const channels = pixels.length / (width * height);
  image.data.fill(255);
  for (let from = 0, to = 0; from < pixels.length; from += channels, to += 4) {
    for (let channel = 0; channel < channels; channel++) image.data[to + channel] = pixels[from + channel];
  }
  return image;
}

/** The levels of #rrggbb or #rrggbbaa, from 0 to 255. */
export const colourOf = (hex) => hex.match(/[0-9a-f]{2}/gi).map((level) => parseInt(level, 16));

export const hexOf = (colour) => `#${colour.map((level) => level.toString(16).padStart(2, "0")).join("")}`;

export const isTransparent = (colour) => colour.length === 4 && colour[3] === 0;
