// The scene: the sprites, where they are, which part of the world is in view, and which sprite is where.

export const MARGIN = 24; // CSS pixels left free around the world at fit
const GROWTH = 0.6; // a sprite grows with zoom ** GROWTH, slower than the distances, so that neighbours come apart
const DOTS_BELOW = 6; // CSS pixels: smaller sprites are drawn as dots
const CROWD = 2500; // more sprites than this in view are dots too: software rendering takes over 16 ms for more images
const LARGEST = 200; // CSS pixels: the size of a sprite at the greatest zoom
const DOT_REACH = 8; // CSS pixels from a dot to a pointer that is still over it

export const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** Whether a point is inside a polygon [[x, y], ...] (even-odd rule). */
function inside(polygon, x, y) {
  let odd = false;
  let [px, py] = polygon[polygon.length - 1];
  for (const [qx, qy] of polygon) {
    if (py > y !== qy > y && x < ((px - qx) * (y - qy)) / (py - qy) + qx) odd = !odd;
    [px, py] = [qx, qy];
  }
  return odd;
}

/**
 * Three kinds of coordinates are used: world (positions, [-1, 1] with y upwards), CSS pixels from the canvas's top left
 * corner with y downwards (pointers), and device pixels (drawing, so that sprite pixels fall on screen pixels).
 */
export class Scene {
  x = 0; // the point of the world in the middle of the canvas
  y = 0;
  zoom = 1;
  width = 0; // of the canvas, in CSS pixels
  height = 0;
  ratio = 1; // device pixels per CSS pixel
  atlas = null;
  positions = new Float32Array(0); // as drawn
  lit = null; // a Set, or null if all are
  visible = []; // sprites at least partly in view, in order, so that overlaps do not change while panning
  look = { dots: true, w: 0, h: 0 }; // how sprites are drawn in this view, and their size in device pixels

  count = () => (this.atlas ? Math.min(this.atlas.count, this.positions.length / 2) : 0);
  fitScale = () => Math.max(1, Math.min(this.width, this.height) / 2 - MARGIN);
  scale = () => this.fitScale() * this.zoom; // CSS pixels per unit of the world
  toScreen = (x, y) => [(x - this.x) * this.scale() + this.width / 2, (this.y - y) * this.scale() + this.height / 2];
  toWorld = (x, y) => [(x - this.width / 2) / this.scale() + this.x, this.y - (y - this.height / 2) / this.scale()];
  worldOf = (i) => [this.positions[2 * i], this.positions[2 * i + 1]];
  screenOf = (i) => this.toScreen(...this.worldOf(i));

  /** Size of a sprite at fit: somewhat less than its share of the square if all were spread evenly. */
  firstSize = () => clamp((1.5 * this.fitScale()) / Math.sqrt(this.count() || 1), 3, 40);
  spriteSize = () => this.firstSize() * this.zoom ** GROWTH;
  zoomFor = (size) => Math.max(1, (size / this.firstSize()) ** (1 / GROWTH));
  limit = (zoom) => clamp(zoom, 1, this.zoomFor(LARGEST));

  /** Width and height in device pixels of an image of this size drawn as a sprite of `size` CSS pixels. */
  drawnBox(image, size) {
    const times = (size * this.ratio) / Math.max(image.width, image.height);
    const whole = times < 1 ? times : Math.round(times); // enlarged pixels are all equally large
    return [image.width, image.height].map((side) => Math.max(1, Math.round(side * whole)));
  }

  /** Follows a change: keeps the view within bounds, and finds what is in it and how it is drawn. */
  update() {
    Object.assign(this, { x: clamp(this.x, -1, 1), y: clamp(this.y, -1, 1), zoom: this.limit(this.zoom) });
    const size = this.spriteSize();
    this.visible = this.within(-size, -size, this.width + size, this.height + size);
    const dots = !this.atlas || size < DOTS_BELOW || this.visible.length > CROWD;
    const side = Math.round(Math.max(2, 0.8 * size) * this.ratio);
    const [w, h] = dots ? [side, side] : this.drawnBox(this.atlas, size);
    this.look = { dots, w, h };
  }

  /** The sprites, in order, with their middles in a rectangle of CSS pixels. */
  within(left, top, right, bottom) {
    const { positions } = this;
    const [count, [west, north], [east, south]] = [this.count(), this.toWorld(left, top), this.toWorld(right, bottom)];
    const found = [];
    for (let i = 0; i < count; i++) {
      const [x, y] = [positions[2 * i], positions[2 * i + 1]];
      if (x >= west && x <= east && y >= south && y <= north) found.push(i);
    }
    return found;
  }

  /** The sprites, in order, with their middles in a polygon of world points. */
  enclosed(polygon) {
    return [...Array(this.count()).keys()].filter((i) => inside(polygon, ...this.worldOf(i)));
  }

  /** The topmost sprite (or the nearest dot) at a point of the canvas, or null. */
  spriteAt(x, y) {
    const { dots, w, h } = this.look;
    const [dx, dy] = dots ? [DOT_REACH, DOT_REACH] : [w / 2 / this.ratio, h / 2 / this.ratio];
    let [best, bestRank] = [null, -Infinity];
    for (const i of this.within(x - dx, y - dy, x + dx, y + dy)) {
      const [sx, sy] = this.screenOf(i);
      const distance = Math.hypot(sx - x, sy - y);
      const rank = (dots ? -distance : i) + (this.lit?.has(i) ? this.count() : 0); // lit ones are drawn last
      if (rank > bestRank && !(dots && distance > DOT_REACH)) [best, bestRank] = [i, rank];
    }
    return best;
  }

  /** The sprite nearest to one in a direction; to the middle of the view from null; or null. */
  next(from, [right, down]) {
    const [x, y] = from === null ? [this.x, this.y] : this.worldOf(from);
    let [best, least] = [null, Infinity];
    for (let i = 0; i < this.count(); i++) {
      const [dx, dy] = [this.positions[2 * i] - x, this.positions[2 * i + 1] - y];
      const [along, distance] = [dx * right - dy * down, dx * dx + dy * dy];
      const ahead = from === null || (along > 0 && distance <= 2 * along * along); // within 45 degrees
      if (ahead && distance < least) [best, least] = [i, distance];
    }
    return best;
  }
}
