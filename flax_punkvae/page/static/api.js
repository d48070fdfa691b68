// Requests to the server that this page came from.

async function checked(response) {
  if (response.ok) return response;
  let text = `the server answered ${response.status}`;
  try {
    text = (await response.json()).error;
  } catch {
    // Not from our server's code: the status must do.
  }
  throw new Error(text);
}

async function request(path, options) {
  let response;
  try {
    response = await fetch(`/api/${path}`, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server does not answer: start it again, then reload this page");
  }
  return checked(response);
}

export const get = async (path) => (await request(path)).json();

export const getBinary = async (path) => (await request(path)).arrayBuffer();

export function send(path, fields, signal) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(fields), signal });
}

export const post = async (path, fields, signal) => (await send(path, fields, signal)).json();

export const postFile = async (path, file) => (await request(path, { method: "POST", body: file })).json();

/** The picture of a recipe, or with `snap` its sprite, as ImageData; and the server's own time for it in milliseconds. */
export async function picture(recipe, snap = false) {
  const response = await send("picture", { recipe, snap });
  const [width, height] = response.headers.get("X-Size").split("x").map(Number);
  const rgb = new Uint8Array(await response.arrayBuffer());
  const image = new ImageData(width, height);
  for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
    image.data[j] = rgb[i];
    image.data[j + 1] = rgb[i + 1];
    image.data[j + 2] = rgb[i + 2];
    image.data[j + 3] = 255;
  }
  const timing = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return { image, milliseconds: timing ? Number(timing[1]) : NaN };
}

const MOST_PICTURES = 400;
const pictures = new Map();

/** `picture(recipe).image`, kept for tiles that are drawn again. */
export async function keptPicture(recipe) {
  if (!pictures.has(recipe)) {
    pictures.set(recipe, (await picture(recipe)).image);
    if (pictures.size > MOST_PICTURES) pictures.delete(pictures.keys().next().value);
  }
  return pictures.get(recipe);
}

/** A function that runs `work` on one argument at a time; of those that come meanwhile, only on the latest. */
export function latest(work) {
  let running = false;
  let waiting = null;
  return async (argument) => {
    waiting = { argument };
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const next = waiting.argument;
        waiting = null;
        await work(next);
      }
    } finally {
      running = false;
    }
  };
}

/** A function that waits until it has not been called for so long. */
export function settled(milliseconds, work) {
  let timer = 0;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), milliseconds);
  };
}
