// The page: opens the model, wires the panels, and asks for what the server is still computing.

import { get, post } from "./api.js";
import { load as loadSet, tileCanvas } from "./atlas.js";
import { $, complain, guarded, h, say } from "./dom.js";
import * as gallery from "./gallery.js";
import * as keys from "./keys.js";
import * as mapPanel from "./map_panel.js";
import * as mix from "./mix.js";
import * as paint from "./paint.js";
import * as share from "./share.js";
import * as sliders from "./sliders.js";
import * as stage from "./stage.js";
import * as store from "./store.js";
import * as traits from "./traits.js";

const POLL = 700;
const LARGEST_SEED = 2 ** 31 - 1;
const TABS = ["latents", "traits", "mix", "paint", "save"];
let set = null;

const randomSeed = () => Math.floor(Math.random() * LARGEST_SEED);

/** The first sample of a seed, as `sample --count 1 --seed` draws it. */
async function drawSeed() {
  const seed = $("seed");
  if (!seed.checkValidity() || seed.value === "") throw new Error(`seed: choose a whole number from 0 to ${LARGEST_SEED}`);
  const plain = { ...gallery.settings(1, Number(seed.value)), from: "prior", temperature: 1 };
  const { sprites } = await post("sample", { ...plain, new: false, with: [], without: [] });
  store.set(sprites[0].recipe);
}

async function random() {
  $("seed").value = randomSeed();
  await drawSeed();
}

async function nudge() {
  const { recipe } = await post("nudge", { recipe: store.recipe(), seed: randomSeed(), size: 0.3 });
  store.set(recipe);
}

function showTab(name) {
  for (const each of TABS) {
    $(`tab-${each}`).setAttribute("aria-selected", String(each === name));
    $(`tab-${each}`).tabIndex = each === name ? 0 : -1;
    $(`panel-${each}`).hidden = each !== name;
  }
  if (name === "paint") paint.refresh();
}

function listenToTabs() {
  TABS.forEach((name, place) => {
    $(`tab-${name}`).addEventListener("click", () => showTab(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = TABS[(place + step + TABS.length) % TABS.length];
      showTab(next);
      $(`tab-${next}`).focus();
    });
  });
  showTab("latents");
}

function listKeys() {
  const tabKeys = TABS.map((name, i) => ({ key: `${i + 1}`, name: `the panel “${name}”`, work: () => showTab(name) }));
  const tools = paint.toolKeys.map(({ key, name, work }) => ({ key, name: `paint: ${name}`, work }));
  keys.begin([
    { key: "r", name: "random sprite", work: random },
    { key: "n", name: "nudge: a small random step", work: nudge },
    { key: "u", name: "undo (also Ctrl+z)", work: store.undo },
    { key: "U", name: "redo (also Ctrl+Z, Ctrl+y)", work: store.redo },
    { key: "f", name: "keep as a favourite, or no longer", work: gallery.keepCurrent },
    { key: "g", name: "draw a gallery", work: gallery.drawGallery },
    { key: "s", name: "save the PNG", work: share.savePng },
    { key: "c", name: "copy the image", work: share.copyImage },
    { key: "l", name: "copy the link", work: share.copyLink },
    ...tabKeys,
    ...tools,
    { key: "m", name: "to the map: arrows move, Enter opens, + - zoom, 0 fits, Shift+arrows pan", work: mapPanel.focus },
    { key: "/", name: "search the map", work: () => $("search").focus() },
    { key: "0", name: "on a slider: back to the middle of the prior" },
    { key: "Space", name: "in the editor: paint; arrows move" },
    { key: "Escape", name: "leave a field" },
    { key: "?", name: "this list", work: () => $("help").showModal() },
    { key: "Ctrl+z", work: store.undo },
    { key: "Ctrl+Z", work: store.redo },
    { key: "Ctrl+y", work: store.redo },
  ]);
}

/** Ask the server what is ready, and show it, until nothing is missing. */
async function follow() {
  const done = { latents: false, map: false, tsne: false, edits: false, fits: false, images: false };
  let measured = -1;
  for (;;) {
    const now = await get("progress");
    if (now.latents && !done.latents) sliders.setLatents(await get("latents"));
    if (now.map && !done.map) {
      set = await loadSet();
      await mapPanel.setImages(set);
      stage.certifyAgain();
    }
    if (now.tsne && !done.tsne) mapPanel.allowTsne((await get("map")).tsne_kept);
    if (now.fits && !done.fits) gallery.setSamplers(true);
    if (now.edits && (!done.edits || (!now.progress && now.measured !== measured))) {
      await traits.load();
      measured = now.measured;
    }
    Object.assign(done, now);
    say([now.progress, ...now.notes].filter(Boolean).join(" · "));
    if (!now.progress) return;
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
}

function describe(about) {
  document.body.classList.toggle("has-alpha", about.channels === 4);
  document.title = `${about.name}: flax_punkvae`;
  $("title").textContent = about.name;
  const epochs = Math.round(about.epochs * 10) / 10;
  $("about").textContent =
    `${about.trained_on} training images (${about.source}), ${epochs} epochs, ${about.latent} latents, ` +
    `model ${about.digest.slice(0, 12)}`;
}

/** Switch off what this page cannot do, and say why below it. */
function leaveOut(parts) {
  for (const [id, why] of Object.entries(parts)) {
    $(id).inert = true;
    $(id).classList.add("left-out");
    ($(id).closest(".row") ?? $(id)).after(h("p", { class: "quiet" }, why));
  }
}

async function begin() {
  const about = await get("model");
  describe(about);
  leaveOut(about.left_out);
  stage.begin((number) => (set?.rowOf.has(number) ? tileCanvas(set, set.rowOf.get(number)) : null));
  for (const panel of [sliders, traits, mix, paint, share, gallery, mapPanel]) panel.begin(about);
  listenToTabs();
  listKeys();
  $("random").addEventListener("click", guarded(random));
  $("seed").addEventListener("change", guarded(drawSeed));
  $("nudge").addEventListener("click", guarded(nudge));
  $("undo").addEventListener("click", store.undo);
  $("redo").addEventListener("click", store.redo);
  store.listen(() => {
    $("undo").disabled = !store.canUndo();
    $("redo").disabled = !store.canRedo();
  });
  follow().catch(complain);
  const given = share.inAddress();
  if (given) store.set(given);
  else await drawSeed();
}

begin().catch(complain);
