"use strict";
// All texts of the table go into the page as text (textContent), never as HTML.
(() => {
  const byId = (id) => document.getElementById(id);
  const report = JSON.parse(byId("data").textContent);
  const columns = report.columns;
  const valuesOf = (name) => columns.find((column) => column.name === name).values;
  const predicted = valuesOf("label_pred");
  const sources = valuesOf("source_id");
  const collator = new Intl.Collator("en", { numeric: true });
  const isText = (column) => column.kind === "text" || column.kind === "flags";
  const all = Array.from({ length: report.n_rows }, (_, row) => row);
  // Written out in lower case once, to be searched at each key.
  const texts = all.map((row) =>
    columns.filter(isText).map((column) => column.values[row]).join("\n").toLowerCase());
  let pictures = null;
  let order = all, shown = all, page = 0;
  let sorted = { column: null, down: false };
  let enlarged = 0;  // place among the rows that are shown

  function make(name, text, parent) {
    const element = document.createElement(name);
    element.textContent = text;
    if (parent) parent.append(element);
    return element;
  }

  function sort(column) {
    if (sorted.column !== column) sorted = { column, down: false };
    else if (!sorted.down) sorted.down = true;
    else sorted = { column: null, down: false };
    order = all;
    if (sorted.column !== null) {
      const { values, kind } = column;
      const sign = sorted.down ? -1 : 1;
      const number = (one, other) => one - other;
      const ascension = (one, other) => parseFloat(one) - parseFloat(other);
      const compare = isText(column) ? collator.compare : kind === "position" ? ascension : number;
      const blank = (value) => value === null || value === "";
      // Rows without a value come last both ways; equal ones stay in the order of the table.
      order = all.filter((row) => !blank(values[row]))
        .sort((one, other) => sign * compare(values[one], values[other]) || one - other)
        .concat(all.filter((row) => blank(values[row])));
    }
    for (const head of byId("heads").querySelectorAll("th[aria-sort]")) markHead(head);
    filter();
  }

  function probabilities() {
    const name = byId("of").value;
    if (name) return valuesOf(name);
    const columnOf = new Map(report.classes.map((label) => [label, valuesOf("p_" + label)]));
    return all.map((row) => (predicted[row] ? columnOf.get(predicted[row])[row] : null));
  }

  function filter() {
    const words = byId("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    const boxes = [...byId("classes").querySelectorAll("input")];
    const allowed = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const least = Number(byId("least").value) || 0;
    const p = least > 0 ? probabilities() : null;
    shown = order.filter((row) => allowed.has(predicted[row])
      && (!p || (p[row] !== null && p[row] >= least))
      && words.every((word) => texts[row].includes(word)));
    turn(0);
  }

  function lastPage() {
    return Math.max(0, Math.ceil(shown.length / report.rows_per_page) - 1);
  }

  function turn(number) {
    page = Math.min(Math.max(number, 0), lastPage());
    draw();
    // What is new begins at the first row: back to it, where that has gone out of view.
    const hidden = byId("controls").offsetHeight - byId("table").getBoundingClientRect().top;
    if (hidden > 0) window.scrollBy(0, -hidden);
  }

  function draw() {
    const start = page * report.rows_per_page;
    const rows = shown.slice(start, start + report.rows_per_page);
    byId("rows").replaceChildren(...rows.map((row, number) => rowOf(row, start + number)));
    byId("none").hidden = shown.length > 0;
    byId("count").textContent = `${shown.length} of ${report.n_rows} rows`;
    byId("page").textContent = `page ${page + 1} of ${lastPage() + 1}`;
    byId("first").disabled = byId("previous").disabled = page === 0;
    byId("last").disabled = byId("next").disabled = page === lastPage();
  }

  function rowOf(row, place) {
    const line = document.createElement("tr");
    line.append(pictureOf(row, place), ...columns.filter((column) => column.shown).map((column) => cellOf(column, row)));
    return line;
  }

  function pictureOf(row, place) {
    const cell = document.createElement("td");
    cell.className = "picture";
    const found = report.picture[row];
    const button = make("button", typeof found === "string" ? found : "", cell);
    button.type = "button";
    // A picture that is not there leaves its place free.
    const names = typeof found === "string" ? [] : Object.keys(report.pictures);
    button.append(...names.map((name) => imageOf(row, name) || document.createElement("i")));
    button.setAttribute("aria-label", `enlarge ${sources[row]}`);
    button.addEventListener("click", () => enlarge(place));
    return cell;
  }

  // The picture of a row by name, or null.
  function imageOf(row, name) {
    const files = pictures && pictures[report.picture[row]];
    if (!files || !files[name]) return null;
    const image = document.createElement("img");
    image.alt = `${report.pictures[name]} of ${sources[row]}`;
    image.src = "data:image/jpeg;base64," + files[name];
    return image;
  }

  function textOf(column, row) {
    const value = column.values[row];
    if (column.kind === "flags") return flagsOf(value);
    if (value === null || value === "") return column.kind === "number" || column.kind === "probability" ? "\u2013" : "";
    if (column.kind === "probability") return value.toFixed(3);
    return String(value);
  }

  // Flags of a row but for those that nearly all rows have, which it names where it lacks them.
  function flagsOf(text) {
    if (byId("repeated").checked) return text;
    const flags = text.split(", ").filter(Boolean);
    return [
      ...flags.filter((flag) => !report.common.includes(flag)),
      ...report.common.filter((flag) => !flags.includes(flag)).map((flag) => "not " + flag),
    ].join(", ");
  }

  function titleOf(column) {
    return column.name + (column.unit && column.kind !== "position" ? ` [${column.unit}]` : "");
  }

  function cellOf(column, row) {
    const value = column.values[row];
    const cell = document.createElement("td");
    cell.dataset.name = titleOf(column);
    if (column.kind === "position") {
      cell.className = "position";
      if (value) make("div", value, cell).append(document.createElement("br"), ...linksOf(value));
      return cell;
    }
    cell.textContent = textOf(column, row);
    if (isText(column)) {
      if (column.name === "source_id" || column.name === "message") cell.className = "long";
      // A label of another scheme is neither right nor wrong.
      const known = column.name === "label" && report.classes.includes(value);
      if (known && predicted[row] && value !== predicted[row]) cell.className = "wrong";
      return cell;
    }
    cell.className = "number";
    if (column.kind === "probability" && value !== null) {
      const part = (100 * value).toFixed(1) + "%";
      cell.style.background = `linear-gradient(to right, #cfe3f3 ${part}, transparent ${part})`;
    }
    return cell;
  }

  // Links to other services at a position; the page itself asks them nothing.
  function linksOf(position) {
    const [ra, dec] = position.split(" ").map(encodeURIComponent);
    return Object.entries(report.links).map(([name, address]) => {
      const link = make("a", name);
      Object.assign(link, {
        href: address.replaceAll("{ra}", ra).replaceAll("{dec}", dec), target: "_blank", rel: "noopener noreferrer",
      });
      return link;
    });
  }

  // The pictures of a row in large, and all that is known of it.
  function enlarge(place) {
    enlarged = place;
    const row = shown[place];
    byId("name").textContent = sources[row];
    byId("before").disabled = place === 0;
    byId("after").disabled = place === shown.length - 1;
    const found = report.picture[row];
    const names = Object.keys(report.pictures);
    byId("tiles").replaceChildren(
      ...(typeof found === "string" ? [make("p", found)] : names.map((name) => tileOf(row, name))));
    byId("services").replaceChildren();
    const sky = columns.find((column) => column.kind === "position");
    const degrees = sky && sky.values[row];
    if (degrees) byId("services").append(`${degrees} = ${sky.sexagesimal[row]} (ICRS) `, ...linksOf(degrees));
    byId("facts").replaceChildren(...columns.filter((column) => column.kind !== "position").map((column) => {
      const line = document.createElement("div");
      make("dt", titleOf(column), line);
      make("dd", column.kind === "flags" ? column.values[row] : textOf(column, row), line);
      return line;
    }));
    if (!byId("large").open) byId("large").showModal();
  }

  function tileOf(row, name) {
    const tile = document.createElement("figure");
    const image = imageOf(row, name);
    const reason = name === "activation" ? report.no_map[row] : "";
    if (image) tile.append(image);
    else make("p", reason || (pictures ? "not there" : "loading"), tile);
    const of = name === "activation" && predicted[row] ? ` for ${predicted[row]}` : "";
    make("figcaption", report.pictures[name] + of, tile);
    return tile;
  }

  function step(by) {
    const place = enlarged + by;
    if (place < 0 || place >= shown.length) return;
    const wanted = Math.floor(place / report.rows_per_page);
    if (wanted !== page) turn(wanted);
    enlarge(place);
  }

  function markHead(head) {
    const here = sorted.column !== null && head.dataset.name === sorted.column.name;
    head.setAttribute("aria-sort", !here ? "none" : sorted.down ? "descending" : "ascending");
  }

  function heads() {
    byId("heads").replaceChildren();
    const picture = make("th", "", byId("heads"));
    picture.scope = "col";
    make("span", Object.values(report.pictures).join(", ") || "picture", picture);
    for (const column of columns.filter((each) => each.shown)) {
      const head = make("th", "", byId("heads"));
      head.scope = "col";
      head.dataset.name = column.name;
      if (column.kind === "number" || column.kind === "probability") head.className = "number";
      markHead(head);
      const button = make("button", titleOf(column), head);
      button.type = "button";
      button.addEventListener("click", () => sort(column));
    }
  }

  function checkbox(parent, text, settings) {
    const label = make("label", "", parent);
    const box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: true }, settings);
    label.append(box, ` ${text}`);
    return [label, box];
  }

  function controls() {
    const counts = new Map();
    predicted.forEach((label) => counts.set(label, (counts.get(label) || 0) + 1));
    const names = counts.has("") ? [...report.classes, ""] : report.classes;
    names.forEach((name, number) => {
      const text = `${name || "no answer"} (${counts.get(name) || 0})`;
      const [label] = checkbox(byId("classes"), text, { value: name });
      label.title = report.descriptions[number] || "";
    });
    const choices = [["", "the predicted class"], ...report.classes.map((name) => ["p_" + name, name])];
    choices.forEach(([value, text]) => { make("option", text, byId("of")).value = value; });
    for (const id of ["text", "classes", "of", "least"]) byId(id).addEventListener("input", filter);
    for (const column of columns) {
      const [, box] = checkbox(byId("columns"), titleOf(column), { checked: column.shown });
      box.addEventListener("input", () => {
        column.shown = box.checked;
        heads();
        draw();
      });
    }
    byId("repeat").hidden = !report.common.length;
    byId("repeated").addEventListener("input", draw);
    byId("first").addEventListener("click", () => turn(0));
    byId("previous").addEventListener("click", () => turn(page - 1));
    byId("next").addEventListener("click", () => turn(page + 1));
    byId("last").addEventListener("click", () => turn(lastPage()));
    byId("before").addEventListener("click", () => step(-1));
    byId("after").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => byId("large").close());
    byId("large").addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") step(-1);
      if (event.key === "ArrowRight") step(1);
    });
    // What is open goes away with a click elsewhere or Escape.
    document.addEventListener("pointerdown", (event) => {
      if (!byId("choice").contains(event.target)) byId("choice").open = false;
    });
    byId("choice").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      byId("choice").open = false;
      byId("choice").querySelector("summary").focus();
    });
    // On a phone the figures would fill the first screens.
    byId("drawn").open = !matchMedia("(max-width: 640px)").matches;
    // The heads of the columns stay below the controls, however many lines these take.
    const under = () => document.body.style.setProperty("--under-controls", byId("controls").offsetHeight + "px");
    new ResizeObserver(under).observe(byId("controls"));
  }

  heads();
  controls();
  filter();
  // The pictures are the largest part and come last: the table can be used before they are there.
  document.addEventListener("DOMContentLoaded", () => {
    pictures = JSON.parse(byId("pictures").textContent);
    draw();
  });
})();
