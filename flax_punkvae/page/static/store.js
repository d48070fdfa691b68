// The current sprite and its history: entries { recipe, unknown }, the latter the pixels that are erased (positions).

const MOST_ENTRIES = 300;
const NOTHING = Object.freeze([]);

let entries = [];
let place = -1;
const listeners = [];

export const current = () => entries[place] ?? { recipe: "", unknown: NOTHING };

/** The current recipe, for what a person does with it. Throws if the first sprite has not come yet. */
export function recipe() {
  if (!entries.length) throw new Error("there is no sprite yet: wait a moment");
  return current().recipe;
}

/** Call `listener(entry, how)` after each change; how is "move" while a control is dragged, "set" otherwise. */
export function listen(listener) {
  listeners.push(listener);
}

function tell(how) {
  for (const listener of listeners) listener(current(), how);
}

/** Make this the current sprite; `replace` while a drag goes on, so that a whole drag is undone at once. */
export function set(recipe, { unknown = NOTHING, replace = false } = {}) {
  const now = current();
  if (recipe === now.recipe && unknown === now.unknown) return;
  if (!replace) {
    entries = entries.slice(0, place + 1).slice(-MOST_ENTRIES);
    place = entries.length;
  }
  entries[place] = { recipe, unknown };
  tell(replace ? "move" : "set");
}

/** The end of a drag. */
export const settle = () => tell("set");

export const canUndo = () => place > 0;
export const canRedo = () => place < entries.length - 1;

export function undo() {
  if (!canUndo()) return;
  place -= 1;
  tell("set");
}

export function redo() {
  if (!canRedo()) return;
  place += 1;
  tell("set");
}
