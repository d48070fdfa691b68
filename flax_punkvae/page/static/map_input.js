// What pointers and keys do on the map.

import { clamp, MARGIN } from "./map_scene.js";

const CLICK_MOVE = 4; // CSS pixels a click may move
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** Pressed pointers: one drags the map or draws a lasso, two pinch. */
class Presses {
  points = new Map(); // pointer's id to [x, y]
  start = [0, 0];
  moved = false; // so that it is no click
  forLasso = false;

  constructor(map) {
    this.map = map;
  }

  down(event) {
    if (event.button !== 0 || this.points.size === 2) return;
    const point = this.map.pointIn(event);
    const first = this.points.size === 0;
    const forLasso = first && (this.map.mode === "lasso" || event.shiftKey);
    Object.assign(this, { start: point, moved: !first, forLasso });
    this.points.set(event.pointerId, point);
    this.map.canvas.setPointerCapture(event.pointerId);
    this.map.setLasso(forLasso ? [this.map.scene.toWorld(...point)] : null);
  }

  /** Returns whether the pointer is pressed. */
  move(event) {
    const from = this.points.get(event.pointerId);
    if (!from) return false;
    const to = this.map.pointIn(event);
    if (!this.moved && distance(to, this.start) <= CLICK_MOVE) return true;
    this.moved = true;
    this.points.set(event.pointerId, to);
    const other = [...this.points].find(([id]) => id !== event.pointerId);
    if (other) this.pinch(from, to, other[1]);
    else this.drag(from, to);
    return true;
  }

  drag(from, to) {
    const { lasso, scene } = this.map;
    if (!this.forLasso) this.map.panBy(to[0] - from[0], to[1] - from[1]);
    else if (lasso) this.map.setLasso([...lasso, scene.toWorld(...to)]); // null once Escape has dropped it
  }

  pinch(from, to, other) {
    const factor = Math.max(1, distance(to, other)) / Math.max(1, distance(from, other));
    this.map.panBy((to[0] - from[0]) / 2, (to[1] - from[1]) / 2);
    this.map.zoomAbout(factor, (to[0] + other[0]) / 2, (to[1] + other[1]) / 2);
  }

  /** Forgets a pointer that was let go of, or cancelled. */
  end(event, cancelled) {
    const { handlers, lasso, scene } = this.map;
    if (!this.points.delete(event.pointerId) || !lasso) return;
    this.map.setLasso(null);
    if (this.moved && !cancelled) handlers.select(scene.enclosed(lasso));
  }

  click(event) {
    if (this.moved || event.detail !== 1) return; // the second click of a double click zooms only
    const index = this.map.scene.spriteAt(...this.start);
    if (index !== null) this.map.handlers.pick(index);
  }
}

function wheel(map, event) {
  event.preventDefault();
  const unit = [1, 16, 400][event.deltaMode]; // pixels, lines, pages
  const speed = event.ctrlKey ? 0.01 : 0.002; // a trackpad's pinch comes as ctrl and small steps
  map.pointer = event;
  map.zoomAbout(Math.exp(clamp(-event.deltaY * unit * speed, -0.7, 0.7)), ...map.pointIn(event));
}

function moveCursor(map, direction) {
  const { width, height, screenOf } = map.scene;
  const index = map.scene.next(map.hovered, direction);
  if (index === null) return;
  Object.assign(map, { pointer: null, hovered: index });
  const [x, y] = screenOf(index);
  map.panBy(clamp(x, MARGIN, width - MARGIN) - x, clamp(y, MARGIN, height - MARGIN) - y); // also reports the hover
}

/** Does what a key stands for; false if it stands for nothing here. */
function handleKey(map, { key, shiftKey }) {
  if (key in ARROWS && shiftKey) map.panBy(...ARROWS[key].map((step) => -80 * step));
  else if (key in ARROWS) moveCursor(map, ARROWS[key]);
  else if (key === "+" || key === "=") map.zoomBy(1.5);
  else if (key === "-") map.zoomBy(1 / 1.5);
  else if (key === "0") map.fit();
  else if (key === "Enter" && map.hovered !== null) map.handlers.pick(map.hovered);
  else if (key === "Escape" && (map.lasso || map.hovered !== null)) {
    map.pointer = null;
    map.setLasso(null);
    map.setHover(null);
  } else return false;
  return true;
}

export function listen(map) {
  const presses = new Presses(map);
  const on = (name, work, options) => map.canvas.addEventListener(name, work, options);
  on("pointerdown", (event) => presses.down(event));
  on("pointermove", (event) => {
    map.pointer = event.pointerType === "touch" ? null : event;
    if (!presses.move(event)) map.hoverAtPointer();
  });
  on("pointerup", (event) => presses.end(event, false));
  on("lostpointercapture", (event) => presses.end(event, true)); // follows pointercancel
  on("pointerleave", () => {
    if (map.pointer) map.setHover(null);
    map.pointer = null;
  });
  on("click", (event) => presses.click(event));
  on("dblclick", (event) => map.zoomAbout(2, ...map.pointIn(event)));
  on("wheel", (event) => wheel(map, event), { passive: false });
  on("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !handleKey(map, event)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  on("blur", () => map.pointer || map.setHover(null)); // the keyboard's cursor
}
