// Recipes: MODEL.LATENT.SEED.PAINT, as in trained/recipes.py. Latents are float32; paint is, for each pixel, its position
// (uint32) and the bytes of its colour, one for each channel of the model.

const POSITION = 4;

function fromBase64(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function toBase64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** The latents of a recipe's text, a Float32Array. */
export const latentsOf = (text) => new Float32Array(fromBase64(text.split(".")[1]).buffer);

/** { model, z: Float32Array, seed: string, paint: Map from a position to a colour } of a recipe's text. */
export function parse(text, channels) {
  const [model, , seed, painted] = text.split(".");
  const bytes = fromBase64(painted);
  const view = new DataView(bytes.buffer);
  const paint = new Map();
  for (let i = 0; i < bytes.length; i += POSITION + channels) {
    paint.set(view.getUint32(i, true), [...bytes.subarray(i + POSITION, i + POSITION + channels)]);
  }
  return { model, z: latentsOf(text), seed, paint };
}

export function format({ model, z, seed, paint }, channels) {
  const bytes = new Uint8Array(paint.size * (POSITION + channels));
  const view = new DataView(bytes.buffer);
  let i = 0;
  for (const [position, colour] of [...paint].sort((a, b) => a[0] - b[0])) {
    view.setUint32(i, position, true);
    bytes.set(colour, i + POSITION);
    i += POSITION + channels;
  }
  return `${model}.${latentText(z)}.${seed}.${toBase64(bytes)}`;
}

const latentText = (z) => toBase64(new Uint8Array(z.buffer));

/** The recipe with one latent changed. Paint belongs to the old picture, so it goes. */
export function withLatent(text, index, value) {
  const [model, , seed] = text.split(".");
  const z = latentsOf(text);
  z[index] = value;
  return `${model}.${latentText(z)}.${seed}.`;
}

export const looksLike = (text) => /^[0-9a-f]{12}\.[\w-]+\.\d*\.[\w-]*$/.test(text);
