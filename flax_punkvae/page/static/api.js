// Requests to the server that this page came from.

import { imageOf } from "./pixels.js";

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

/** Where a page of the atlas is. */
export const atlasAddress = (page) => `/api/atlas/${page}`;

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
  const image = imageOf(new Uint8Array(await response.arrayBuffer()), width, height);
  const timing = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return { image, milliseconds: timing ? Number(timing[1]) : NaN };
}
