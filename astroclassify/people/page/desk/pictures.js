// Pictures: which ones, fetched ahead, and shown only when they are there. A vote waits for them.
const CAPTIONS = { xray: "X-ray", filtered: "X-ray, wavelet-filtered", optical: "optical",
  optical_contours: "optical, X-ray contours" };
const SLOTS = Object.keys(CAPTIONS);
const KEPT_PICTURES = 60, AHEAD = 3;
// 422: there is no such picture, and asking again will not change that.
const NO_PICTURE = 422;
const pictures = new Map();  // what was asked for -> promise of a decoded image
const known = new Map();  // source -> promise of what the server knows of it
let showings = 0, pictured = { source: null, ready: false, count: 0 };
let mapClass = "", mapLayer = "", contoured = false;

function slotsOf(source) {
  const xray = source.bands.includes("xray"), optical = source.bands.some((band) => band !== "xray");
  return SLOTS.filter((slot) => (xray || slot === "optical") && (optical || !slot.startsWith("optical")));
}

const nameOf = (slot) => (slot === "xray" && contoured ? "xray_contours" : slot);

function parametersOf(source, slot) {
  const name = nameOf(slot), scale = info.scales[slot.startsWith("optical") ? "optical" : "xray"];
  const parameters = { voter_id: voter.voter_id, source_id: source, picture: name, ...scale,
    smoothing: info.smoothing };
  const hidden = info.blind && !voter.outcomes.has(source);
  if (mapClass && !hidden && !name.endsWith("_contours")) Object.assign(parameters, { class_name: mapClass, layer: mapLayer });
  return parameters;
}

async function load(parameters) {
  const image = new Image();
  image.src = URL.createObjectURL(await (await ask("/api/picture", parameters)).blob());
  image.draggable = false;
  await image.decode();
  return image;
}

function pictureOf(source, slot) {
  const parameters = parametersOf(source, slot), key = JSON.stringify(parameters);
  const loading = pictures.get(key) || load(parameters);
  pictures.delete(key);  // and to the end, so that the first one is the one that was not wanted for longest
  pictures.set(key, loading);
  loading.catch((error) => { if (error.status !== NO_PICTURE) pictures.delete(key); });
  if (pictures.size > KEPT_PICTURES) {
    const oldest = pictures.keys().next().value;
    pictures.get(oldest).then((image) => URL.revokeObjectURL(image.src)).catch(() => {});
    pictures.delete(oldest);
  }
  return loading;
}

function askSource(source) {
  return askJson("/api/source", { voter_id: voter.voter_id, source_id: source });
}

// What is known of a source, perhaps fetched ahead; used once, since votes change it. A moderator sees what the others
// have said by now.
async function takeSource(source) {
  const early = moderating() ? null : known.get(source);
  known.delete(source);
  return (early && await early) || askSource(source);
}

// Whether the pictures of the source that is shown are on the screen.
const ready = () => pictured.ready && pictured.source === shown.source_id;

function makeFigures() {
  byId("pictures").replaceChildren(...SLOTS.map((slot) => {
    const figure = make("figure", undefined, { id: slot }), caption = make("figcaption");
    const button = make("button", CAPTIONS[slot], { "aria-pressed": "false", title: "this picture alone" });
    button.addEventListener("click", () => single(slot));
    caption.append(button);
    const stage = make("div");
    stage.className = "stage";
    const marks = document.createElementNS(SVG, "svg");
    marks.setAttribute("aria-hidden", "true");
    figure.append(stage, marks, make("p"), caption);
    return figure;
  }));
}

async function showPicture(slot, turn) {
  const figure = byId(slot), note = figure.querySelector("p"), source = shown.source_id;
  try {
    const image = await pictureOf(source, slot);
    if (turn !== showings) return "late";
    image.alt = `${CAPTIONS[slot]} image of ${source}`;
    figure.querySelector(".stage").replaceChildren(image);
    note.textContent = "";
    place(figure);
    return "shown";
  } catch (error) {
    if (turn !== showings) return "late";
    figure.querySelector(".stage").replaceChildren();
    note.textContent = error.message;
    return error.status === NO_PICTURE ? "none" : "failed";
  }
}

// Two frames: what was put into the page before the first is painted by the second.
const painted = () => new Promise((done) => { requestAnimationFrame(() => requestAnimationFrame(done)); });

async function showPictures() {
  showings += 1;
  const turn = showings, source = shown.source_id, slots = slotsOf(shown);
  if (pictured.source !== source) {
    pictured = { source, ready: false, count: 0 };
    SLOTS.forEach((slot) => byId(slot).querySelector(".stage").replaceChildren());
    slots.forEach((slot) => { byId(slot).querySelector("p").textContent = "loading \u2026"; });
    tell(`Loading the pictures of ${source} \u2026`);
  }
  SLOTS.forEach((slot) => { byId(slot).hidden = !slots.includes(slot); });
  byId("pictures").setAttribute("aria-busy", "true");
  drawLegend();
  placeAll();
  const results = await Promise.all(slots.map((slot) => showPicture(slot, turn)));
  if (turn !== showings) return;
  await painted();
  if (turn !== showings) return;
  if (results.includes("failed")) {
    tell(`Some pictures of ${source} could not be loaded; r tries again.`);
    return;
  }
  pictured = { source, ready: true, count: results.filter((result) => result === "shown").length };
  byId("pictures").setAttribute("aria-busy", "false");
  tell(pictured.count ? "" : `${source} has no picture, only "unsure" can be answered: ${shown.facts.image || ""}`);
  drawBallot();
  fetchAhead(turn);
}

// The next sources, one after the other, so that they are there when they are wanted.
async function fetchAhead(turn) {
  for (const source of nextOpenOnes(AHEAD)) {
    if (turn !== showings) return;
    if (!known.has(source)) known.set(source, askSource(source).catch(() => null));
    const next = await known.get(source);
    if (!next) return;
    await Promise.all(slotsOf(next).map((slot) => pictureOf(source, slot).catch(() => {})));
  }
}

function drawLegend() {
  const hidden = shown && shown.hidden;
  byId("legend").hidden = !mapClass;
  byId("legend").textContent = hidden ? "the activation map is shown after your vote"
    : mapLayer === "contours" ? "green encloses what speaks for the class, blue what speaks against it"
      : "red speaks for the class, blue against it";
}
