// Elements of the page, and small pictures.

export const $ = (id) => document.getElementById(id);

/** An element with properties (`class`, `aria-*` and `data-*` as attributes) and children. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") element.className = value;
    else if (/^(aria-|data-|role$|for$|list$)/.test(name)) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** A canvas of the pictures' own size; the style sheet enlarges it. */
export function canvasOf(image) {
  const canvas = h("canvas", { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export function say(text) {
  $("progress").textContent = text;
}

/** Show what failed; the rest of the page goes on working. */
export function complain(error) {
  const cancelled = error?.name === "AbortError";
  if (cancelled) return;
  $("problem").hidden = false;
  $("problem").textContent = error?.message ?? String(error);
}

export function forgive() {
  $("problem").hidden = true;
}

/** Run an event's work; what fails is shown. */
export const guarded = (work) => async (...given) => {
  try {
    forgive();
    await work(...given);
  } catch (error) {
    complain(error);
  }
};

export function save(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
