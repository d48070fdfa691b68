// Answers the page's questions, away from the thread that draws it.

import { answers, told } from "./answers.js";
import { open } from "./site.js";

// Milliseconds of work between two looks at what the page says meanwhile.
const LOOK = 15;
const cancelled = new Set();
const opened = open();
// The failure is told with each answer.
opened.catch(() => {});

/** A function to call during a search: it lets other answers through, and throws if nobody waits for this one. */
function listener(id) {
  let looked = performance.now();
  return async () => {
    if (performance.now() - looked > LOOK) {
      await new Promise((resolve) => setTimeout(resolve));
      looked = performance.now();
    }
    if (cancelled.has(id)) throw new Error("cancelled");
  };
}

async function answer(id, path, fields) {
  const site = await opened;
  if (path in told) return told[path](site);
  if (path in answers) return answers[path](site, await site.model, fields, listener(id));
  throw new Error(`there is no answer to ${path} without the server`);
}

addEventListener("message", async ({ data: { id, path, fields, cancel } }) => {
  if (cancel !== undefined) {
    cancelled.add(cancel);
    return;
  }
  try {
    postMessage({ id, answer: await answer(id, path, fields) });
  } catch (error) {
    postMessage({ id, error: error.message });
  }
  cancelled.delete(id);
});
