// One table of keys: what they do, and the list that `?` shows.

import { $, guarded, h } from "./dom.js";

const typing = (target) => target.matches?.("input:not([type=range]):not([type=checkbox]):not([type=radio]), select, textarea");

/** @param {{ key: string, name?: string, work?: () => void }[]} keys those without a name are not listed, and those
 *   without `work` are only listed. */
export function begin(keys) {
  const listed = keys.filter(({ name }) => name);
  $("keys").replaceChildren(...listed.flatMap(({ key, name }) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, name)]));
  $("help-button").addEventListener("click", () => $("help").showModal());
  document.addEventListener("keydown", (event) => {
    if ($("help").open) return;
    if (event.key === "Escape" && event.target.blur) event.target.blur();
    if (typing(event.target) || event.altKey) return;
    const control = event.ctrlKey || event.metaKey;
    const pressed = `${control ? "Ctrl+" : ""}${event.key.length === 1 && !event.shiftKey ? event.key.toLowerCase() : event.key}`;
    const found = keys.find(({ key, work }) => work && key === pressed);
    if (!found) return;
    event.preventDefault();
    guarded(found.work)();
  });
}
