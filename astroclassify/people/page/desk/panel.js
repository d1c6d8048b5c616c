// The panel beside the pictures.
const BANDS = { xray: "X-ray", optical: "Optical" };
const WHITES = [90, 95, 98, 99, 99.5, 99.7, 99.9, 100];
const SMOOTHEST = 20, SMOOTHING_STEP = 1;  // arcsec

function draw() {
  const done = order.filter((name) => voter.outcomes.has(name)).length;
  const place = position < 0 ? `not in this list of ${order.length}` : `${position + 1} of ${order.length}`;
  byId("source").textContent = `${shown.source_id} (${place})`;
  byId("progress").replaceChildren(make("span", `${voter.voter_id}${moderating() ? ", conflicts" : ""}: `
    + `${done} of ${order.length} done`), make("progress", "", { value: done, max: Math.max(1, order.length),
    "aria-label": "sources done" }));
  byId("note").value = shown.note;
  drawBallot();
  drawFacts();
  drawProbabilities();
  drawModeration();
}

function drawBallot() {
  const question = openQuestion(), focused = byId("answers").contains(document.activeElement);
  byId("question").textContent = question ? question.text : "";
  byId("question").hidden = !question;
  const keys = question ? keysOf(question) : [];
  byId("answers").replaceChildren(...(question ? question.answers : []).map((answer, number) => {
    const button = make("button", undefined, { "aria-disabled": String(!canAnswer(answer)),
      "aria-keyshortcuts": keys[number] });
    button.append(make("kbd", keys[number]), make("span", answer.text));
    button.className = shown.answers[question.name] === answer.name ? "mine" : "";
    button.addEventListener("click", () => vote(keys[number]));
    return button;
  }));
  byId("outcome").hidden = !shown.outcome;
  byId("outcome").textContent = shown.outcome ? `Your vote: ${info.outcomes[shown.outcome]}` : "";
  byId("given").replaceChildren(...Object.entries(shown.answers).map(([name, answer]) => {
    const given = info.questions.find((each) => each.name === name);
    const item = make("li"), button = make("button", `${given.text} `, { title: "change this answer" });
    button.append(make("strong", given.answers.find((each) => each.name === answer).text));
    button.addEventListener("click", () => { asked = name; draw(); byId("question").focus(); });
    item.append(button);
    return item;
  }));
  if (focused) (question ? byId("question") : byId("skip")).focus();
}

function drawFacts() {
  const { position: where } = shown, facts = { ...shown.facts };
  const places = where ? { position: `${where.degrees} (${where.sexagesimal})` } : {};
  byId("facts").replaceChildren(...Object.entries({ ...facts, ...places }).flatMap(([name, text]) =>
    [make("dt", name), make("dd", text)]));
  byId("position").hidden = !where;
  byId("links").replaceChildren(...Object.entries(shown.links).map(([name, address]) =>
    make("a", name, { href: address, target: "_blank", rel: "noopener noreferrer" })));
  byId("neighbours").replaceChildren(...shown.neighbours.map((each) =>
    make("li", `${each.catalogue}: ${each.name}, ${each.text}`)));
}

function copy(form) {
  if (!shown.position) return;
  const text = shown.position[form];
  navigator.clipboard.writeText(text).then(() => tell(`Copied ${text}`), () => say(`The browser did not copy ${text}`));
}

function drawProbabilities() {
  const section = byId("probabilities"), box = section.querySelector("div");
  section.hidden = !info.classes.length;
  if (shown.hidden) return box.replaceChildren(make("p", "shown after your vote", { class: "faint" }));
  if (!shown.probabilities) return box.replaceChildren(make("p", "no prediction", { class: "faint" }));
  const table = make("table");
  for (const [name, p] of Object.entries(shown.probabilities)) {
    const row = make("tr"), cell = make("td");
    cell.append(make("meter", "", { value: p === null ? 0 : p, min: 0, max: 1, "aria-label": `probability of ${name}` }));
    row.append(make("th", name, { scope: "row" }), cell, make("td", p === null ? "none" : p.toFixed(3)));
    if (name === shown.predicted) row.style.fontWeight = "600";
    table.append(row);
  }
  box.replaceChildren(table);
}

function drawModeration() {
  byId("moderation").hidden = !voter.moderator;
  if (!voter.moderator) return;
  byId("mode").replaceChildren(make("span", moderating() ? "All sources " : "Conflicts "), make("kbd", "c"));
  byId("others").replaceChildren(...Object.entries(shown.others || {}).map(([name, outcome]) =>
    make("li", `${name}: ${info.outcomes[outcome]}`)));
  byId("conflicts").hidden = !moderating();
  byId("conflicts").replaceChildren(...conflicts.map((row) => {
    const item = make("li"), button = make("button", `${row.source_id}: `, { title: row.reason });
    const text = row.decision ? `${row.status}, ${row.decision}` : row.status.replace("_", " ");
    button.append(make("span", text, row.decision ? {} : { class: "open" }));
    button.addEventListener("click", () => alone(() => show(row.source_id)));
    item.className = row.source_id === shown.source_id ? "current" : "";
    item.append(button);
    return item;
  }));
}

let redrawing = 0;
// While a slider moves, pictures are asked for when it rests.
function redrawSoon() {
  clearTimeout(redrawing);
  redrawing = setTimeout(() => { if (shown) showPictures(); }, 120);
}

function setScale(band, change) {
  info.scales[band] = { ...info.scales[band], ...change };
  drawScales();
  redrawSoon();
}

function setSmoothing(width) {
  info.smoothing = Math.min(Math.max(width, 0), SMOOTHEST);
  drawScales();
  redrawSoon();
}

function slider(text, title, value, unit, limits, change) {
  const [low, high, step] = limits;
  const input = make("input", undefined, { type: "range", min: low, max: high, step, value, "aria-label": title });
  input.addEventListener("input", () => change(Number(input.value)));
  return [make("span", text), input, make("output", `${value}${unit}`)];
}

function makeScale(band) {
  const box = make("div"), scale = info.scales[band], name = BANDS[band];
  box.className = "scale";
  box.id = `scale-${band}`;
  const select = make("select", undefined, { "aria-label": `stretch, ${name}` });
  select.append(...info.stretches.map((stretch) => make("option", stretch, { value: stretch })));
  select.value = scale.stretch;
  select.addEventListener("change", () => setScale(band, { stretch: select.value }));
  box.append(make("span", name), select, make("span"),
    ...slider("black", `black percentile, ${name}`, scale.low, "%", [0, 99, 1], (low) => setScale(band, { low,
      high: Math.max(info.scales[band].high, low + 0.1) })),
    ...slider("white", `white percentile, ${name}`, scale.high, "%", [80, 100, 0.1], (high) => setScale(band, { high,
      low: Math.min(info.scales[band].low, high - 1) })));
  if (band === "xray") box.append(...slider("smoothing", "smoothing of X-rays in arcsec", info.smoothing, "\u2033",
    [0, SMOOTHEST, 0.5], setSmoothing));
  return box;
}

// Sliders are made once and then follow, so that one keeps the focus while it moves.
function drawScales() {
  for (const band of Object.keys(BANDS)) {
    const fresh = makeScale(band), old = byId(`scale-${band}`);
    if (!old) byId("scales").append(fresh);
    else {
      [...fresh.querySelectorAll("input, select")].forEach((input, number) => {
        old.querySelectorAll("input, select")[number].value = input.value;
      });
      [...fresh.querySelectorAll("output")].forEach((output, number) => {
        old.querySelectorAll("output")[number].textContent = output.textContent;
      });
    }
  }
}

function cycleStretch(band) {
  const names = info.stretches;
  setScale(band, { stretch: names[(names.indexOf(info.scales[band].stretch) + 1) % names.length] });
}

function shiftWhite(band, up) {
  const { low, high } = info.scales[band];
  const levels = up ? WHITES.filter((level) => level > high) : WHITES.filter((level) => level < high && level > low);
  if (levels.length) setScale(band, { high: up ? levels[0] : levels[levels.length - 1] });
}

function setMap(name, layer) {
  [mapClass, mapLayer] = [name, layer];
  byId("map").value = name;
  byId("layer").value = layer;
  if (shown) showPictures();
}

function cycleMap() {
  const names = ["", ...info.map_classes];
  if (info.map_classes.length) setMap(names[(names.indexOf(mapClass) + 1) % names.length], mapLayer);
}

function cycleLayer() {
  setMap(mapClass, info.layers[(info.layers.indexOf(mapLayer) + 1) % info.layers.length]);
}

function toggleLines() {
  contoured = !contoured;
  byId("lines").setAttribute("aria-pressed", String(contoured));
  if (shown) showPictures();
}
