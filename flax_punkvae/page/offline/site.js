// An exported page: page.json says what it shows, model.safetensors holds the model, map/ the images.

import { load as loadCollection } from "./collection.js";
import { fetched } from "./files.js";
import { build } from "./model.js";
import { read } from "./safetensors.js";

/**
 * @returns {Promise<object>} page: page.json; model: a promise; collection: null until the images are there, or if there
 *   are none; progress: what is being loaded, empty at the end; notes: what failed.
 */
export async function open() {
  const page = await (await fetched("page.json")).json();
  const site = { page, collection: null, progress: "loading the model", notes: [] };
  site.model = loadModel(site);
  loadRest(site);
  return site;
}

async function loadModel(site) {
  const response = await fetched("model.safetensors");
  const parts = [];
  let size = 0;
  const reader = response.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    parts.push(next.value);
    size += next.value.length;
    site.progress = `loading the model: ${(size / 1e6).toFixed(0)} of ${(site.page.bytes / 1e6).toFixed(0)} MB`;
  }
  return build(read(await new Blob(parts).arrayBuffer()));
}

async function loadRest(site) {
  try {
    await site.model;
    site.progress = site.page.map ? "loading the images" : "";
    site.collection = site.page.map && (await loadCollection(site.page.map));
  } catch (error) {
    site.notes.push(error.message);
  }
  site.progress = "";
}
