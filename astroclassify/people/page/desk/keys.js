// Keys and buttons, and the beginning.
const KEYS = [["1\u20139", "answer"], ["0", "unsure"], ["u", "undo the last vote"], ["Enter", "next open source"],
  ["\u2190 \u2192", "previous, next source"], ["t", "note"], ["+ \u2212", "zoom (or wheel, pinch)"],
  ["Shift + arrows", "pan (or drag)"], ["r", "reset the view, load again"], ["w", "wider field"],
  ["v", "one picture alone"], ["q", "coordinate grid"], ["a", "marks"], ["x", "X-ray contours"],
  ["s d", "stretch of X-ray, optical"], ["[ ]", "white level, X-ray"], [", .", "white level, optical"],
  ["( )", "smoothing"], ["m l", "activation map, how it is laid over"], ["p", "copy the position"], ["f", "filter"],
  ["g", "go to a source"], ["e", "export the votes"]];
const MODERATOR_KEYS = [["c", "conflicts, all sources"]];
const PAN = 60;  // screen pixels of a key

function reset() {
  resetView();
  if (!ready()) showPictures();
  placeAll();
}

const ACTIONS = { u: undo, Backspace: undo, Enter: skip, n: skip, e: save, c: toggleMode, m: cycleMap, l: cycleLayer,
  s: () => cycleStretch("xray"), d: () => cycleStretch("optical"), "[": () => shiftWhite("xray", false),
  "]": () => shiftWhite("xray", true), ",": () => shiftWhite("optical", false), ".": () => shiftWhite("optical", true),
  "(": () => setSmoothing(info.smoothing - SMOOTHING_STEP), ")": () => setSmoothing(info.smoothing + SMOOTHING_STEP),
  ArrowLeft: () => move(position - 1), ArrowRight: () => move(position + 1), "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5), "-": () => zoomBy(1 / 1.5), r: reset, w: wider, v: nextSingle, q: () => toggle("grid"),
  a: () => toggle("marks"), x: toggleLines, p: () => copy("degrees"), t: () => byId("note").focus(),
  f: () => byId("filter").focus(), g: () => byId("go").focus() };
const PANS = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };

document.addEventListener("keydown", (event) => {
  if (!voter || !shown || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  // Enter on a button or a link that has the focus presses it.
  if (event.key === "Enter" && event.target.matches("button, a")) return;
  if (event.repeat && !event.key.startsWith("Arrow")) return;
  if (event.shiftKey && Object.hasOwn(PANS, event.key)) panBy(...PANS[event.key]);
  else if (/^[0-9]$/.test(event.key)) vote(event.key);
  else if (Object.hasOwn(ACTIONS, event.key)) ACTIONS[event.key]();
  else return;
  event.preventDefault();
});

// After a click of the mouse keys belong to the page again; who came by the keyboard stays where they are.
document.addEventListener("click", (event) => {
  if (event.detail && event.target.closest("button")) document.activeElement.blur();
});
const CLICKS = { previous: () => move(position - 1), next: () => move(position + 1), skip, undo, export: save,
  mode: toggleMode, leave: () => { sessionStorage.removeItem("voter"); location.reload(); },
  "copy-degrees": () => copy("degrees"), "copy-sexagesimal": () => copy("sexagesimal"),
  "zoom-in": () => zoomBy(1.5), "zoom-out": () => zoomBy(1 / 1.5), reset, wider, grid: () => toggle("grid"),
  marks: () => toggle("marks"), lines: toggleLines };
for (const [name, action] of Object.entries(CLICKS)) byId(name).addEventListener("click", action);
for (const name of ["filter", "class", "sort"]) byId(name).addEventListener("change", relist);
byId("map").addEventListener("change", () => setMap(byId("map").value, mapLayer));
byId("layer").addEventListener("change", () => setMap(mapClass, byId("layer").value));
byId("note").addEventListener("change", keepNote);
byId("note").addEventListener("keydown", (event) => { if (event.key === "Enter") byId("note").blur(); });
byId("go").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  const text = byId("go").value.trim();
  byId("go").value = "";
  byId("go").blur();
  event.stopPropagation();
  if (text) goTo(text);
});
byId("sign").addEventListener("submit", (event) => {
  event.preventDefault();
  alone(() => begin(byId("name").value));
});

async function begin(name) {
  voter = await askJson("/api/voter", { voter_id: name });
  voter.outcomes = new Map(Object.entries(voter.outcomes));
  sessionStorage.setItem("voter", voter.voter_id);
  byId("sign").hidden = true;
  byId("desk").hidden = false;
  byId("keys").replaceChildren(...[...KEYS, ...(voter.moderator ? MODERATOR_KEYS : [])].flatMap(([key, text]) => {
    const term = make("dt");
    term.append(make("kbd", key));
    return [term, make("dd", text)];
  }));
  byId("name").blur();
  await readRows();
  if (!rows.length) throw new Error("The sample has no sources.");
  drawChoices();
  await makeList();
  await show(order[Math.max(0, nextOpen(-1))]);
}

async function start() {
  // The token stays out of the history and of what is copied from the address bar.
  if (location.hash.length > 1) {
    sessionStorage.setItem("token", location.hash.slice(1));
    history.replaceState(null, "", location.pathname);
  }
  token = sessionStorage.getItem("token") || "";
  info = await askJson("/api/start");
  byId("sample").textContent = info.sample.split(/[\\/]/).filter(Boolean).pop() || info.sample;
  byId("sample").title = info.sample;
  byId("notice").textContent = info.notice;
  byId("notice").hidden = !info.notice;
  byId("voters").replaceChildren(...info.voters.map((name) => make("option", undefined, { value: name })));
  makeFigures();
  SLOTS.forEach((slot) => watchFigure(byId(slot)));
  new ResizeObserver(placeAll).observe(byId("pictures"));
  const option = (name) => make("option", name, { value: name });
  byId("maps").hidden = !info.map_classes.length;
  byId("map").append(make("option", "none", { value: "" }), ...info.map_classes.map(option));
  byId("layer").append(...info.layers.map(option));
  [mapLayer] = info.layers;
  drawScales();
  const name = sessionStorage.getItem("voter");
  byId("sign").hidden = Boolean(name);
  if (name) await begin(name); else byId("name").focus();
}

// Another address of the same server, as after a new start of it on the same port.
window.addEventListener("hashchange", () => location.reload());
alone(start);
