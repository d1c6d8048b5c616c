"use strict";
// What the page knows, and how it asks the server.
const byId = (id) => document.getElementById(id);
let token = "", info = null, voter = null, shown = null;
let busy = false;

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function say(text) {
  byId("message").hidden = !text;
  byId("message").textContent = text || "";
}

// What is not worth an alert, for eyes and screen readers.
function tell(text) {
  byId("status").textContent = text;
}

async function ask(path, parameters, body) {
  const target = parameters ? `${path}?${new URLSearchParams(parameters)}` : path;
  const options = { headers: { "X-Token": token }, cache: "no-store" };
  if (body) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(target, options);
  } catch {
    throw new Error("The server does not answer. What was not confirmed is not saved: start it again, then open the "
      + "address that it prints.");
  }
  if (answer.ok) return answer;
  let text = answer.statusText;
  try { text = (await answer.json()).error; } catch { /* no JSON: the status says it */ }
  const error = new Error(answer.status === 401 ? `This page is not open any more: ${text}.` : text);
  error.status = answer.status;
  throw error;
}

const askJson = async (...all) => (await ask(...all)).json();

// One thing after the other: a key that is held down or pressed twice must not answer the question that comes next.
async function alone(work) {
  if (busy) return;
  busy = true;
  document.body.dataset.busy = "yes";
  try {
    await work();
    say("");
  } catch (error) {
    say(error.message);
    if (error.status === 409 && shown) await show(shown.source_id).catch(() => {});
  } finally {
    busy = false;
    delete document.body.dataset.busy;
  }
}
