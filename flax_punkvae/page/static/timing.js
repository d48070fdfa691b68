// When work is done: one piece after another, or once a person has paused.

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
