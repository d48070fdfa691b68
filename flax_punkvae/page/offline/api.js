// Stands in for static/api.js on an exported page: the answers are computed by a worker instead of a server.

import { imageOf } from "../static/pixels.js";

const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
const waiting = new Map();
let last = 0;

worker.addEventListener("message", ({ data: { id, answer, error } }) => {
  const { resolve, reject } = waiting.get(id) ?? {};
  waiting.delete(id);
  if (error === undefined) resolve?.(answer);
  else reject?.(new Error(error));
});
worker.addEventListener("error", () => {
  for (const { reject } of waiting.values()) reject(new Error("the model could not be started: reload the page"));
  waiting.clear();
});

/** The answer of offline/answers.js. */
export function post(path, fields, signal) {
  const id = (last += 1);
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      waiting.delete(id);
      worker.postMessage({ cancel: id });
      reject(new DOMException("cancelled", "AbortError"));
    });
    worker.postMessage({ id, path, fields });
  });
}

export const get = (path) => post(path, {});

export async function getBinary(path) {
  const response = await fetch(new URL(`../${path}.bin`, import.meta.url));
  if (!response.ok) throw new Error(`${path}.bin is missing: reload the page`);
  return response.arrayBuffer();
}

/** Where a page of the atlas is. */
export const atlasAddress = (page) => new URL(`../map/${page}.png`, import.meta.url).href;

/** A file, as the response of a server would be. */
export const send = async (path, fields) => new Response(await post(path, fields));

export const postFile = (path, file) => post(path, { file });

/** The picture of a recipe as ImageData, and the time of its decoding in milliseconds. */
export async function picture(recipe, snap = false) {
  const { width, height, pixels, milliseconds } = await post("picture", { recipe, snap });
  return { image: imageOf(pixels, width, height), milliseconds };
}
