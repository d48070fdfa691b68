// Drawing the map, in device pixels.

const DIM = 0.12;

/** Calls place(i, left, top) for those of some sprites that are at least partly in view. */
function eachPlace({ canvas, scene }, indices, place) {
  const { look: { w, h }, positions, ratio } = scene;
  const factor = scene.scale() * ratio;
  const x0 = canvas.width / 2 - scene.x * factor - w / 2;
  const y0 = canvas.height / 2 + scene.y * factor - h / 2;
  for (const i of indices) {
    const left = Math.round(x0 + positions[2 * i] * factor);
    const top = Math.round(y0 - positions[2 * i + 1] * factor);
    if (left > -2 * w && top > -2 * h && left < canvas.width + w && top < canvas.height + h) place(i, left, top);
  }
}

function drawSprites(map, indices) {
  const { atlas: { pages, width, height, columns, perPage }, look: { w, h } } = map.scene;
  eachPlace(map, indices, (i, left, top) => {
    const j = i % perPage;
    const [x, y] = [(j % columns) * width, Math.floor(j / columns) * height];
    map.context.drawImage(pages[(i - j) / perPage], x, y, width, height, left, top, w, h);
  });
}

function drawDots(map, wanted, extra) {
  const side = map.scene.look.w + 2 * extra;
  for (const { style, indices } of map.dots) {
    map.context.fillStyle = style;
    eachPlace(map, wanted ? indices.filter(wanted) : indices, (_, left, top) => {
      map.context.fillRect(left - extra, top - extra, side, side);
    });
  }
}

function drawAll(map) {
  const { context, scene } = map;
  const { lit, look, ratio, visible } = scene;
  const pass = (wanted, extra) => {
    if (look.dots) drawDots(map, wanted, extra);
    else drawSprites(map, wanted ? visible.filter(wanted) : visible);
  };
  if (!lit) return pass(null, 0);
  context.globalAlpha = DIM;
  pass((i) => !lit.has(i), 0);
  context.globalAlpha = 1;
  pass((i) => lit.has(i), Math.round(ratio)); // a few lit dots must stand out
}

function drawSelected(map) {
  const { dots, w, h } = map.scene.look;
  const line = Math.round((dots ? 1 : 2) * map.scene.ratio);
  Object.assign(map.context, { strokeStyle: map.theme.accent, lineWidth: line });
  eachPlace(map, map.selected, (_, left, top) => {
    map.context.strokeRect(left - line / 2, top - line / 2, w + line, h + line);
  });
}

/** Strokes the current path in a colour over a wider line of the paper's, so that it shows on any sprite. */
function strokeTwice({ context, scene: { ratio }, theme }, strokeStyle, dash = []) {
  Object.assign(context, { strokeStyle: theme.paper, lineWidth: 5 * ratio }).stroke();
  context.setLineDash(dash.map((length) => length * ratio));
  Object.assign(context, { strokeStyle, lineWidth: 2 * ratio }).stroke();
  context.setLineDash([]);
}

function drawHovered(map) {
  const { look: { dots, w, h }, ratio } = map.scene;
  if (!dots) drawSprites(map, [map.hovered]); // above those that hide it
  eachPlace(map, [map.hovered], (_, left, top) => {
    map.context.beginPath();
    map.context.rect(left - 2 * ratio, top - 2 * ratio, w + 4 * ratio, h + 4 * ratio);
    strokeTwice(map, map.theme.ink);
  });
}

/** Draws a label beside a ring, on the first side where it is on the canvas and clear of the labels before it. */
function drawLabel({ canvas, context, scene: { ratio }, theme }, text, [x, y, radius], taken) {
  const [w, h] = [context.measureText(text).width + 10 * ratio, 20 * ratio];
  const gap = radius + 4 * ratio;
  const places = [[x + gap, y - h / 2], [x - gap - w, y - h / 2], [x - w / 2, y - gap - h], [x - w / 2, y + gap]];
  const free = ([left, top]) =>
    left >= 0 && top >= 0 && left + w <= canvas.width && top + h <= canvas.height &&
    !taken.some((other) => left < other[0] + other[2] && other[0] < left + w && Math.abs(top - other[1]) < h);
  const [left, top] = (places.find(free) || places[0]).map(Math.round);
  taken.push([left, top, w]);
  Object.assign(context, { fillStyle: theme.paper, strokeStyle: theme.accent, lineWidth: ratio });
  context.fillRect(left, top, w, h);
  context.strokeRect(left, top, w, h);
  context.fillStyle = theme.ink;
  context.fillText(text, left + 5 * ratio, top + h / 2);
}

/** Draws a ring around a point and a picture in it; returns its middle and radius, or null if it is out of view. */
function drawRing(map, { x, y, pixels, approximate }) {
  const { canvas, context, scene, theme } = map;
  const [left, top] = scene.toScreen(x, y).map((value) => value * scene.ratio);
  if (left < 0 || top < 0 || left > canvas.width || top > canvas.height) return null;
  let { w, h } = scene.look;
  if (pixels) {
    // Never below its own size: among dots it is the one picture to be seen.
    [w, h] = scene.drawnBox(pixels, Math.max(pixels.width, pixels.height, scene.spriteSize()));
    context.drawImage(pixels, Math.round(left - w / 2), Math.round(top - h / 2), w, h);
  }
  const radius = Math.hypot(w, h) / 2 + 5 * scene.ratio;
  context.beginPath();
  context.arc(left, top, radius, 0, 2 * Math.PI);
  strokeTwice(map, theme.accent, approximate ? [5, 4] : []);
  return [left, top, radius];
}

function drawRings(map) {
  const drawn = map.rings.map((ring) => drawRing(map, ring));
  const taken = [];
  map.rings.forEach(({ label }, k) => {
    if (drawn[k] && label) drawLabel(map, label, drawn[k], taken); // above all rings
  });
}

function drawLasso(map) {
  const { context, lasso, scene, theme } = map;
  context.beginPath();
  for (const [x, y] of lasso) context.lineTo(...scene.toScreen(x, y).map((value) => value * scene.ratio));
  strokeTwice(map, theme.accent);
  Object.assign(context, { globalAlpha: 0.15, fillStyle: theme.accent }).fill();
  context.globalAlpha = 1;
}

export function draw(map) {
  map.context.clearRect(0, 0, map.canvas.width, map.canvas.height);
  if (map.scene.count()) {
    drawAll(map);
    drawSelected(map);
    drawRings(map);
    if (map.hovered !== null) drawHovered(map);
  }
  if (map.lasso) drawLasso(map);
}
