// Taking a sprite along: files, the clipboard, a link, the command that makes the same file.

import { postFile, send } from "./api.js";
import { $, complain, forgive, guarded, save, say } from "./dom.js";
import { looksLike } from "./recipe.js";
import * as store from "./store.js";
import { settled } from "./timing.js";

let about = null;

function scale() {
  const value = Number($("scale").value);
  if (!$("scale").checkValidity() || $("scale").value === "") throw new Error("size: choose a whole number from 1 to 32");
  return value;
}

function fields() {
  return {
    recipe: store.recipe(), scale: scale(), snap: $("snap").checked, transparent: $("transparent").checked,
  };
}

const png = async () => (await send("png", fields())).blob();

function command() {
  const { recipe, scale: times, snap, transparent } = fields();
  const flags = [about.flags, `--scale ${times}`, snap ? "--snap" : "", transparent ? "--transparent" : ""];
  return [about.command, recipe, ...flags, "--output sprite.png"].filter(Boolean).join(" ");
}

function update() {
  const { recipe } = store.current();
  if (!recipe) return;
  try {
    const small = $("snap").checked || $("transparent").checked || recipe.split(".")[3] !== "";
    const [height, width] = small ? about.canvas : about.image;
    $("size").textContent = `${width * scale()} × ${height * scale()} pixels`;
    $("command").textContent = command();
  } catch (error) {
    $("size").textContent = error.message;
  }
}

// Browsers allow only so many changes of the address in a row.
const setAddress = settled(250, (recipe) => history.replaceState(null, "", `#${recipe}`));

export async function savePng() {
  save(await png(), "sprite.png");
}

/** The item holds a promise and is made within the click, since Safari allows nothing else. */
export async function copyImage() {
  if (!navigator.clipboard?.write) throw new Error("this browser cannot copy images: save the PNG instead");
  await navigator.clipboard.write([new ClipboardItem({ "image/png": png() })]);
  say("copied the image");
}

async function copyText(text, what) {
  if (!navigator.clipboard) throw new Error(`this browser cannot copy: mark the ${what} and copy it by hand`);
  await navigator.clipboard.writeText(text);
  say(`copied the ${what}`);
}

export const link = () => `${location.origin}${location.pathname}#${store.recipe()}`;
export const copyLink = () => copyText(link(), "link");

/** Open an image file: a saved PNG restores its sprite. */
export async function open(file) {
  const { recipe, how } = await postFile("open", file);
  store.set(recipe);
  say(`${file.name || "image"}: ${how}`);
}

/** The recipe in the address, or nothing. */
export const inAddress = () => {
  const text = location.hash.slice(1);
  return looksLike(text) ? text : "";
};

export function begin(facts) {
  about = facts;
  $("snap-label").hidden = !about.sprites || about.categorical;
  $("transparent-label").hidden = !about.transparent;
  for (const id of ["scale", "snap", "transparent"]) $(id).addEventListener("input", update);
  store.listen((entry) => {
    update();
    setAddress(entry.recipe);
  });
  $("save-png").addEventListener("click", guarded(savePng));
  $("copy-image").addEventListener("click", guarded(copyImage));
  $("copy-link").addEventListener("click", guarded(copyLink));
  $("copy-command").addEventListener("click", guarded(() => copyText(command(), "command")));
  $("open-file").addEventListener("change", guarded(async () => {
    const [file] = $("open-file").files;
    $("open-file").value = "";
    if (file) await open(file);
  }));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    forgive();
    const [file] = event.dataTransfer.files;
    if (file) open(file).catch(complain);
  });
  window.addEventListener("hashchange", () => inAddress() && store.set(inAddress()));
}
