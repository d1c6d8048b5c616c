// Which sources are gone through, in which order, and the way from one to another.
const FILTERS = { all: "all", open: "not done", done: "done", unsure: "unsure", notes: "with my note" };
const SORTS = { sample: "order of the sample", p: "p, lowest first", ext_like: "EXT_LIKE, highest first",
  det_like: "DET_LIKE, highest first", queue: "most informative vote" };
const RISING = ["p"];
const ALWAYS = ["sample", "queue"];
// Votes after which the queue is asked for again: each changes what the next ones tell.
const VOTES_OF_QUEUE = 10;
let rows = [], order = [], position = 0, conflicts = [], queued = [], votesOfList = 0;

const moderating = () => byId("filter").value === "conflicts";

async function readRows() {
  rows = (await askJson("/api/rows", { voter_id: voter.voter_id })).rows;
  if (voter.moderator) conflicts = (await askJson("/api/conflicts", { voter_id: voter.voter_id })).conflicts;
}

function passes(row) {
  const filter = byId("filter").value, [kind, label] = byId("class").value.split(":");
  if (kind && row[kind] !== label) return false;
  if (filter === "open") return !row.outcome;
  if (filter === "done") return Boolean(row.outcome);
  if (filter === "unsure") return row.outcome === info.unsure;
  if (filter === "notes") return Boolean(row.note);
  return filter !== "conflicts" || conflicts.some((conflict) => conflict.source_id === row.source_id);
}

function sorted(chosen) {
  const name = byId("sort").value;
  if (name === "queue") {  // which leaves out what needs no more votes
    const place = new Map(queued.map((source, number) => [source, number]));
    return chosen.filter((row) => place.has(row.source_id))
      .sort((a, b) => place.get(a.source_id) - place.get(b.source_id));
  }
  const sign = RISING.includes(name) ? 1 : -1;
  // Conflicts come as the server orders them, the undecided ones first.
  const rank = new Map(moderating() ? conflicts.map((row, number) => [row.source_id, number]) : []);
  if (name === "sample") return chosen.sort((a, b) => (rank.get(a.source_id) ?? 0) - (rank.get(b.source_id) ?? 0));
  const value = (row) => (row[name] === null ? Infinity : sign * row[name]);
  return chosen.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
}

// The list as it is now; it stays so while sources are voted on, until it is made again.
async function makeList() {
  await readRows();
  if (byId("sort").value === "queue") queued = (await askJson("/api/queue", { voter_id: voter.voter_id })).queue;
  votesOfList = 0;
  const chosen = sorted(rows.filter(passes)).map((row) => row.source_id);
  if (!chosen.length) {
    const empty = moderating() ? "There is no source on which the others differ." : "There is no such source.";
    wholeSample();
    if (rows.length) await makeList();
    throw new Error(empty);
  }
  order = chosen;
  position = shown ? order.indexOf(shown.source_id) : -1;
}

function wholeSample() {
  byId("filter").value = "all";
  byId("class").value = "";
  byId("sort").value = "sample";
}

function drawChoices() {
  const options = (choices) => Object.entries(choices).map(([value, text]) => make("option", text, { value }));
  const moderated = voter.moderator ? { conflicts: "conflicts of others" } : {};
  byId("filter").replaceChildren(...options({ ...FILTERS, ...moderated }));
  const has = (name) => rows.some((row) => row[name] !== null);
  byId("sort").replaceChildren(...options(Object.fromEntries(Object.entries(SORTS).filter(([name]) =>
    ALWAYS.includes(name) || has(name) || (name === "p" && info.classes.length)))));
  const x = [...new Set(rows.map((row) => row.x_class))].filter(Boolean).sort();
  byId("class").replaceChildren(...options({ "": "any", ...Object.fromEntries(x.map((name) => [`x_class:${name}`, name])),
    ...Object.fromEntries(info.classes.map((name) => [`predicted:${name}`, `predicted ${name}`])) }));
}

const relist = () => alone(async () => {
  try {
    await makeList();
  } finally {
    // All sources in their order: the place is kept; any other list begins with what is open.
    const all = order.length === rows.length && byId("sort").value === "sample";
    await show(order[all ? position : Math.max(0, nextOpen(-1))]);
  }
});

function nextOpen(from) {
  for (let step = 1; step <= order.length; step += 1) {
    const number = (from + step) % order.length;
    if (!voter.outcomes.has(order[number])) return number;
  }
  return -1;
}

// The list again where votes have changed what the next ones tell.
async function renewQueue() {
  votesOfList += 1;
  if (byId("sort").value === "queue" && votesOfList >= VOTES_OF_QUEUE) await makeList();
}

function nextOpenOnes(number) {
  const names = [...order.slice(position + 1), ...order.slice(0, position + 1)];
  return names.filter((name) => !voter.outcomes.has(name)).slice(0, number);
}

async function show(source) {
  const before = shown && shown.source_id;
  shown = await takeSource(source);
  asked = null;
  position = order.indexOf(source);
  if (before !== source) resetView();
  draw();
  showPictures();
}

const move = (number) => alone(async () => {
  if (order.length) await show(order[(number + order.length) % order.length]);
});

const skip = () => alone(async () => {
  const number = nextOpen(position);
  if (number < 0) {
    const all = order.length === rows.length ? "all sources" : moderating() ? "all conflicts" : "all sources of this list";
    throw new Error(`You have voted on ${all}.`);
  }
  await show(order[number]);
});

const toggleMode = () => {
  if (!voter.moderator) return;
  byId("filter").value = moderating() ? "all" : "conflicts";
  byId("class").value = "";
  relist();
};

const goTo = (text) => alone(async () => {
  const number = /^[0-9]+$/.test(text) ? Number(text) - 1 : -1;
  const name = order.includes(text) ? text : order[number];
  if (name === undefined) throw new Error(`There is no source ${text} among the ${order.length}.`);
  await show(name);
});
