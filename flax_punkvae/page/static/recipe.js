// Recipes: MODEL.LATENT.SEED.PAINT, as in trained/recipes.py. Latents are float32; paint is seven bytes a pixel:
// its position (uint32) and its colour.

const PAINTED = 7;

function fromBase64(text) {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}

function toBase64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** { model, z: Float32Array, seed: string, paint: Map from a position to [red, green, blue] } of a recipe's text. */
export function parse(text) {
  const [model, latent, seed, painted] = text.split(".");
  const bytes = fromBase64(painted);
  const view = new DataView(bytes.buffer);
  const paint = new Map();
  for (let i = 0; i < bytes.length; i += PAINTED) {
    paint.set(view.getUint32(i, true), [...bytes.subarray(i + 4, i + PAINTED)]);
  }
  return { model, z: new Float32Array(fromBase64(latent).buffer), seed, paint };
}

export function format({ model, z, seed, paint }) {
  const bytes = new Uint8Array(paint.size * PAINTED);
  const view = new DataView(bytes.buffer);
  let i = 0;
  for (const [position, colour] of [...paint].sort((a, b) => a[0] - b[0])) {
    view.setUint32(i, position, true);
    bytes.set(colour, i + 4);
    i += PAINTED;
  }
  return `${model}.${toBase64(new Uint8Array(z.buffer))}.${seed}.${toBase64(bytes)}`;
}

/** The recipe with one latent changed. Paint belongs to the old picture, so it goes. */
export function withLatent(text, index, value) {
  const recipe = parse(text);
  recipe.z[index] = value;
  recipe.paint.clear();
  return format(recipe);
}

export const looksLike = (text) => /^[0-9a-f]{12}\.[\w-]+\.\d*\.[\w-]*$/.test(text);
