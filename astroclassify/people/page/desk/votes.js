// Votes, notes, undo. Nothing is shown as voted before the server has confirmed it.
const UNSURE_KEY = "0";
let asked = null;

function openQuestion() {
  const name = asked || shown.question;
  return info.questions.find((question) => question.name === name) || null;
}

// Keys of the answers to a question, in their order.
function keysOf(question) {
  return question.answers.map((answer, number) => (answer.name === info.unsure ? UNSURE_KEY : String(number + 1)));
}

const canAnswer = (answer) => ready() && (pictured.count > 0 || answer.name === info.unsure);

function take(ballot) {
  Object.assign(shown, ballot);
  asked = null;
  noteOutcome(ballot);
}

function noteOutcome(ballot) {
  known.delete(ballot.source_id);
  if (ballot.outcome) voter.outcomes.set(ballot.source_id, ballot.outcome);
  else voter.outcomes.delete(ballot.source_id);
}

const vote = (key) => alone(async () => {
  const question = openQuestion(), number = question ? keysOf(question).indexOf(key) : -1;
  if (number < 0) return;
  const answer = question.answers[number];
  if (!ready()) return tell(`Not taken: the pictures of ${shown.source_id} are still loading.`);
  if (!canAnswer(answer)) return tell(`Not taken: ${shown.source_id} has no picture, only "unsure" can be answered.`);
  take(await askJson("/api/vote", null, { voter_id: voter.voter_id, source_id: shown.source_id,
    question: question.name, answer: answer.name }));
  if (moderating()) await readRows();
  if (shown.outcome) await renewQueue();
  // Where the probabilities were hidden until now, they are to be seen before it goes on.
  const next = shown.outcome && !(info.blind && info.classes.length) ? nextOpen(position) : -1;
  if (next >= 0) return show(order[next]);
  draw();
  if (shown.outcome && mapClass) showPictures();
});

const undo = () => alone(async () => {
  const ballot = await askJson("/api/undo", null, { voter_id: voter.voter_id });
  if (ballot.source_id === null) throw new Error("There is no vote of yours to withdraw.");
  noteOutcome(ballot);
  if (!rows.some((row) => row.source_id === ballot.source_id)) return;
  if (!order.includes(ballot.source_id)) {
    wholeSample();
    await makeList();
  } else if (moderating()) await readRows();
  await show(ballot.source_id);
});

// Beside whatever else is under way: what leaves the field is often a click on the next source.
async function keepNote() {
  const source = shown, note = byId("note").value;
  if (note.trim() === source.note) return;
  try {
    Object.assign(source, await askJson("/api/note", null, { voter_id: voter.voter_id, source_id: source.source_id, note }));
    known.delete(source.source_id);
    tell(source.note ? `The note on ${source.source_id} is kept.` : `The note on ${source.source_id} is removed.`);
  } catch (error) {
    say(`The note on ${source.source_id} is not kept: ${error.message}`);
  }
}

const save = () => alone(async () => {
  const link = make("a", "", { download: `votes-${info.workflow}.ecsv` });
  link.href = URL.createObjectURL(await (await ask("/api/votes.ecsv")).blob());
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
