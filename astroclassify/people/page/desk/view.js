// Zoom, pan, and what is drawn over the pictures: one view for all of them.
// The name space of SVG, which is an address, is taken from an element that has it.
const SVG = document.querySelector("svg").namespaceURI;
const USUAL_FIELD = 420;  // arcsec, of larger images the middle is shown first
const BARS = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 3600];  // arcsec
const LARGEST_ZOOM = 40;
const NAMED_WIDTH = 260;  // screen pixels
const view = { zoom: 1, x: null, y: null, grid: false, marks: true };
const pointers = new Map();

const geometry = () => shown && shown.view;

// Zoom at which the usual field fills a picture; 1 is the whole image.
function usualZoom() {
  const { width, height, pixel } = geometry() || {};
  return pixel ? Math.max(1, Math.max(width, height) * pixel / USUAL_FIELD) : 1;
}

function resetView() {
  Object.assign(view, { zoom: usualZoom(), x: null, y: null });
}

// Scale [screen pixels per image pixel] and the image pixel in the middle of a figure; never beyond the image.
function frame(figure) {
  const { width, height, x, y } = geometry(), box = [figure.clientWidth, figure.clientHeight];
  const scale = Math.min(box[0] / width, box[1] / height) * view.zoom;
  const wanted = [view.x ?? x ?? (width - 1) / 2, view.y ?? y ?? (height - 1) / 2];
  const middle = [width, height].map((length, axis) => {
    const half = box[axis] / 2 / scale;
    return 2 * half >= length ? (length - 1) / 2 : Math.min(Math.max(wanted[axis], half - 0.5), length - 0.5 - half);
  });
  const onScreen = (px, py) => [box[0] / 2 + (px - middle[0]) * scale, box[1] / 2 - (py - middle[1]) * scale];
  return { scale, middle, onScreen, box };
}

function place(figure) {
  const marks = figure.querySelector("svg"), image = figure.querySelector("img");
  if (!geometry() || !figure.clientWidth || !figure.clientHeight) return marks.replaceChildren();
  const { width, height } = geometry(), at = frame(figure);
  figure.classList.toggle("zoomed", view.zoom > 1);
  if (image) {
    const [left, top] = at.onScreen(-0.5, height - 0.5);
    image.style.transform = `translate(${left}px, ${top}px) scale(${at.scale * width / image.naturalWidth})`;
    image.style.imageRendering = at.scale > 4 ? "pixelated" : "auto";
  }
  marks.replaceChildren(...(image ? marksOf(at) : []));
}

function placeAll() {
  SLOTS.forEach((slot) => place(byId(slot)));
}

function shape(kind, tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  if (kind) element.setAttribute("class", kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function group(kind, ...parts) {
  const element = shape(kind, "g", {});
  element.append(...parts);
  return element;
}

// Names of marks would cover a small picture.
const named = (at, text, x, y) => (at.box[0] >= NAMED_WIDTH ? [label(text, x, y)] : []);

function label(text, x, y, anchor = "start") {
  const element = shape("", "text", { x, y, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

const line = (x1, y1, x2, y2) => shape("", "line", { x1, y1, x2, y2 });
const inArcmin = (arcsec) => (arcsec < 60 ? `${arcsec}\u2033` : `${arcsec / 60}\u2032`);

function marksOf(at) {
  const here = geometry(), marks = [];
  if (view.grid) marks.push(...(here.grid || []).map((each) => gridLine(each, at)));
  if (!view.marks || here.x === undefined) return marks;
  const [x, y] = at.onScreen(here.x, here.y);
  marks.push(group("centre", line(x - 22, y, x - 9, y), line(x + 9, y, x + 22, y), line(x, y - 22, x, y - 9),
    line(x, y + 9, x, y + 22)));
  for (const [kind, radius, text] of [["ext", here.ext, "EXT"], ["psf", here.psf, "PSF"]]) {
    const r = radius / here.pixel * at.scale;
    if (radius > 0) marks.push(group(kind, shape("", "circle", { cx: x, cy: y, r }),
      ...named(at, text, x + r * 0.71 + 3, kind === "ext" ? y - r * 0.71 : y + r * 0.71 + 8)));
  }
  marks.push(...shown.neighbours.map((each) => {
    const [nx, ny] = at.onScreen(each.x, each.y);
    return group("neighbour", shape("", "rect", { x: nx - 7, y: ny - 7, width: 14, height: 14 }),
      ...named(at, each.name, nx + 10, ny + 4));
  }));
  marks.push(scaleBar(at), compassMark(at));
  return marks;
}

function gridLine(each, at) {
  const points = each.points.map(([px, py]) => at.onScreen(px, py));
  const inside = points.find(([x, y]) => x >= 0 && y >= 24 && x <= at.box[0] - 90 && y <= at.box[1] - 4);
  return group("grid", shape("", "polyline", { points: points.map((point) => point.join(",")).join(" ") }),
    ...(inside ? named(at, each.label, inside[0] + 2, inside[1] - 2) : []));
}

function scaleBar(at) {
  const perArcsec = at.scale / geometry().pixel;
  const length = BARS.filter((bar) => bar * perArcsec < at.box[0] / 3).pop() || BARS[0];
  const right = at.box[0] - 12, y = at.box[1] - 12, left = right - length * perArcsec;
  return group("bar", line(left, y, right, y), line(left, y - 4, left, y + 4), line(right, y - 4, right, y + 4),
    label(inArcmin(length), (left + right) / 2, y - 6, "middle"));
}

function compassMark(at) {
  const here = geometry(), x = at.box[0] - 22, y = 52, parts = [];
  for (const [name, [dx, dy]] of [["N", here.north], ["E", here.east]]) {
    parts.push(line(x, y, x + 24 * dx, y - 24 * dy), label(name, x + 34 * dx, y - 34 * dy + 4, "middle"));
  }
  return group("compass", ...parts);
}

// Zoom about a point of a figure [screen pixels], by default about its middle.
function zoomBy(factor, figure = null, point = null) {
  if (!geometry()) return;
  if (view.zoom <= 1 && factor < 1) return sayWholeField();
  const target = figure || SLOTS.map(byId).find((each) => !each.hidden && each.clientWidth), before = frame(target);
  const offset = point ? [point[0] - before.box[0] / 2, before.box[1] / 2 - point[1]] : [0, 0];
  const fixed = offset.map((value, axis) => before.middle[axis] + value / before.scale);
  view.zoom = Math.min(Math.max(view.zoom * factor, 1), LARGEST_ZOOM);
  const after = frame(target);
  [view.x, view.y] = fixed.map((value, axis) => value - offset[axis] / after.scale);
  placeAll();
}

function panBy(dx, dy, figure = null) {
  if (!geometry()) return;
  const target = figure || SLOTS.map(byId).find((each) => !each.hidden && each.clientWidth), at = frame(target);
  [view.x, view.y] = [at.middle[0] - dx / at.scale, at.middle[1] + dy / at.scale];
  placeAll();
}

function wider() {
  if (!geometry()) return;
  if (view.zoom <= 1) return sayWholeField();
  view.zoom = 1;
  placeAll();
}

function sayWholeField() {
  const { width, height, pixel } = geometry();
  const size = pixel ? `${(Math.max(width, height) * pixel / 60).toPrecision(3)}\u2032 across` : `${width} pixels`;
  tell(`This is the whole image, ${size}: the sample holds no wider field.`);
}

function toggle(name) {
  view[name] = !view[name];
  byId(name).setAttribute("aria-pressed", String(view[name]));
  placeAll();
}

// One picture alone, or all of them again.
function single(slot) {
  const box = byId("pictures"), again = byId(slot).classList.contains("chosen");
  SLOTS.forEach((each) => {
    const chosen = each === slot && !again;
    byId(each).classList.toggle("chosen", chosen);
    byId(each).querySelector("button").setAttribute("aria-pressed", String(chosen));
  });
  box.classList.toggle("single", !again);
  placeAll();
}

function nextSingle() {
  const slots = slotsOf(shown), now = slots.findIndex((slot) => byId(slot).classList.contains("chosen"));
  single(slots[now + 1] || slots[now]);
}

function pointOf(event, figure) {
  const box = figure.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function watchFigure(figure) {
  figure.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 300), figure, pointOf(event, figure));
  }, { passive: false });
  figure.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button")) return;
    pointers.set(event.pointerId, pointOf(event, figure));
    figure.setPointerCapture(event.pointerId);
  });
  figure.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const now = pointOf(event, figure);
    if (pointers.size === 1) panBy(now[0] - before[0], now[1] - before[1], figure);
    else {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const middle = [(now[0] + other[0]) / 2, (now[1] + other[1]) / 2];
      const [was, is] = [before, now].map((point) => Math.hypot(point[0] - other[0], point[1] - other[1]));
      if (was > 0) zoomBy(is / was, figure, middle);
    }
    pointers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    figure.addEventListener(name, (event) => pointers.delete(event.pointerId));
  }
}
