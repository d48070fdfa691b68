// A zoomable map of pixel-art sprites on one canvas: its state, its frames, and what the page can ask of it.

import { draw } from "./map_draw.js";
import { listen } from "./map_input.js";
import { clamp, Scene } from "./map_scene.js";
import { dotsOf, styleDots } from "./map_sprites.js";

const ANIMATION = 400; // milliseconds
const CENTRED = 40; // CSS pixels: the least size of a sprite after centre()

class SpriteMap {
  scene = new Scene();
  theme = {};
  dots = []; // dotsOf()
  selected = new Set();
  rings = [];
  mode = "pan";
  hovered = null;
  pointer = null; // the last pointer event over the canvas, null when the keyboard moved the cursor since
  lasso = null; // world points
  origin = null; // positions where an animation starts
  target = null; // and where it ends
  animationStart = null; // milliseconds, null while nothing moves
  frame = 0;
  viewTimer = 0;
  viewText = "";

  constructor(canvas, handlers) {
    Object.assign(this, { canvas, context: canvas.getContext("2d"), handlers });
    listen(this);
    new ResizeObserver(() => this.measure()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.readTheme());
    this.watchRatio();
  }

  /** Measures now and when the window has moved to a screen of another density, or the page was zoomed. */
  watchRatio() {
    this.measure();
    const same = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    same.addEventListener("change", () => this.watchRatio(), { once: true });
  }

  measure() {
    const { canvas, scene } = this;
    Object.assign(scene, { width: canvas.clientWidth, height: canvas.clientHeight, ratio: devicePixelRatio });
    canvas.width = Math.round(scene.width * scene.ratio);
    canvas.height = Math.round(scene.height * scene.ratio);
    this.readTheme(); // a new size resets the context
    this.changed();
    cancelAnimationFrame(this.frame);
    this.drawFrame(performance.now()); // at once: the new size has emptied the canvas
  }

  readTheme() {
    const style = getComputedStyle(this.canvas);
    const colour = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    this.theme = { ink: colour("--ink", "#222"), paper: colour("--paper", "#fff"), accent: colour("--accent", "#d04") };
    styleDots(this.dots, this.theme);
    const font = `${12 * this.scene.ratio}px ${style.fontFamily}`;
    Object.assign(this.context, { font, textBaseline: "middle", lineJoin: "round", imageSmoothingEnabled: false });
    this.request();
  }

  request() {
    this.frame ||= requestAnimationFrame((now) => this.drawFrame(now));
  }

  drawFrame(now) {
    this.frame = 0;
    if (this.scene.ratio !== devicePixelRatio) return this.measure();
    if (this.scene.width === 0 || this.scene.height === 0) return;
    if (this.animationStart !== null) this.animate(now);
    draw(this);
    if (this.scene.count()) this.reportView();
  }

  animate(now) {
    const { origin, target } = this;
    const time = clamp((now - this.animationStart) / ANIMATION, 0, 1);
    const share = time * time * (3 - 2 * time);
    this.scene.positions = time === 1 ? target : origin.map((from, k) => from + (target[k] - from) * share);
    if (time === 1) this.animationStart = null;
    this.changed();
  }

  reportView() {
    const text = `zoom ${this.scene.zoom.toFixed(1)}, ${this.scene.visible.length} sprites in view`;
    if (text === this.viewText) return;
    this.viewText = text;
    this.viewTimer ||= setTimeout(() => {
      this.viewTimer = 0;
      this.handlers.view(this.viewText);
    }, 250);
  }

  /** Follows a change of the view or the positions. */
  changed() {
    this.scene.update();
    if (this.pointer) this.hoverAtPointer();
    else if (this.hovered !== null) this.setHover(this.hovered);
    this.request();
  }

  setHover(index, [clientX, clientY] = index === null ? [] : this.pointOf(index)) {
    if (index === null && this.hovered === null) return;
    if (index !== this.hovered) this.request();
    this.hovered = index;
    this.handlers.hover(index, clientX, clientY);
  }

  hoverAtPointer() {
    if (!this.pointer || this.animationStart !== null) return; // whatever flies past is not meant
    const index = this.lasso ? null : this.scene.spriteAt(...this.pointIn(this.pointer));
    this.setHover(index, [this.pointer.clientX, this.pointer.clientY]);
  }

  setLasso(points) {
    this.lasso = points;
    if (points?.length > 1) this.setHover(null);
    this.request();
  }

  corner() {
    const { left, top } = this.canvas.getBoundingClientRect();
    return [left + this.canvas.clientLeft, top + this.canvas.clientTop];
  }

  /** An event's place on the canvas. */
  pointIn(event) {
    const [left, top] = this.corner();
    return [event.clientX - left, event.clientY - top];
  }

  /** Where a sprite is, as an event's clientX and clientY. */
  pointOf(index) {
    const [[x, y], [left, top]] = [this.scene.screenOf(index), this.corner()];
    return [x + left, y + top];
  }

  /** Takes { pages, count, width, height, columns, perPage }: pages of `perPage` sprites, in rows of `columns`. */
  setSprites(sprites) {
    this.setHover(null);
    this.scene.atlas = sprites;
    this.dots = dotsOf(sprites);
    styleDots(this.dots, this.theme);
    this.changed();
  }

  /** Takes a Float32Array of x, y by sprite, and whether sprites move there from where they are. */
  setPositions(points, animated) {
    this.setHover(null); // another sprite will be there
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.origin = this.scene.positions;
    this.target = points.slice();
    const moves = animated && !still && points.length === this.origin.length;
    this.animationStart = moves ? performance.now() : null;
    if (!moves) this.scene.positions = this.target;
    this.changed();
  }

  setLit(indices) {
    this.scene.lit = indices && new Set(indices);
    this.request();
  }

  setSelected(indices) {
    this.selected = indices || new Set();
    this.request();
  }

  setRings(rings) {
    this.rings = rings;
    this.request();
  }

  setMode(mode) {
    this.mode = mode;
  }

  show(x, y, zoom) {
    Object.assign(this.scene, { x, y, zoom });
    this.changed();
  }

  fit() {
    this.show(0, 0, 1);
  }

  centre(index) {
    const [x, y] = this.target?.subarray(2 * index) ?? []; // where an animation will take it
    if (index < this.scene.count()) this.centreOn(x, y);
  }

  /** Shows a point of the world in the middle, near enough to tell sprites. */
  centreOn(x, y) {
    this.show(x, y, Math.max(this.scene.zoom, this.scene.zoomFor(CENTRED)));
  }

  zoomAbout(factor, x, y) {
    const { scene } = this;
    const fixed = scene.toWorld(x, y);
    scene.zoom = scene.limit(scene.zoom * factor);
    const [sx, sy] = scene.toScreen(...fixed);
    this.panBy(x - sx, y - sy);
  }

  zoomBy(factor) {
    this.zoomAbout(factor, this.scene.width / 2, this.scene.height / 2);
  }

  /** Moves the picture, as a drag by as many CSS pixels would. */
  panBy(dx, dy) {
    this.show(this.scene.x - dx / this.scene.scale(), this.scene.y + dy / this.scene.scale(), this.scene.zoom);
  }
}

/**
 * Makes a canvas a zoomable map of sprites. The style sheet sets the canvas's size and `touch-action: none`.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {object} handlers
 * @param {(index: ?number, clientX: number, clientY: number) => void} handlers.hover  the pointer or the keyboard's
 *   cursor is over a sprite (called again as it moves there), or has left it (null)
 * @param {(index: number) => void} handlers.pick  click, tap or Enter on a sprite
 * @param {(indices: number[]) => void} handlers.select  a lasso was finished around these sprites, in ascending order
 * @param {(text: string) => void} handlers.view  what is in view, in words; at most four times a second
 * @returns {object} the map. Its positions are [-1, 1] with y upwards, its distances CSS pixels; zoom is 1 at fit.
 */
export function createMap(canvas, handlers) {
  return new SpriteMap(canvas, handlers);
}
