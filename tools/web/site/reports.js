// The page that compares reports of the command line: `compile --json`, `profile --json`.

import { columns, html, number, stacked } from "./charts.js";

const microseconds = (r) => (r.nanoseconds == null ? null : r.nanoseconds / 1e3);

/** What can be compared: name, unit, the number in a report (none: null), and whether its operators have the number too. */
const METRICS = [
  ["Modelled cycles", "cycles", (r) => r.cycles_modelled, true],
  ["Instructions", "instructions", (r) => r.instructions, true],
  ["Time", "µs", microseconds, true],
  ["Model in flash", "bytes", (r) => r.model_bytes],
  ["Weights", "bytes", (r) => r.weights_bytes],
  ["Arena in RAM", "bytes", (r) => r.arena_bytes],
  ["Arena for learning", "bytes", (r) => r.train_arena_bytes],
  ["Stack", "bytes", (r) => r.stack_bytes],
  ["Multiply-accumulates", "MACs", (r) => r.macs, true],
];

const isNumber = (value) => typeof value === "number" && Number.isFinite(value) && value >= 0;

/** Checks that a file is a report that can be compared, and names it. */
export function readReport(text, name) {
  let report;
  try {
    report = JSON.parse(text);
  } catch {
    throw new Error(`${name} is no JSON`);
  }
  if (report?.error?.message) throw new Error(`${name} is an error: ${report.error.message}`);
  const found = METRICS.filter(([, , of]) => isNumber(of(report ?? {})));
  if (found.length === 0) throw new Error(`${name} is no report of compile or profile`);
  const plain = name.replace(/\.json$/i, "");
  const target = typeof report.target === "string" ? report.target : null;
  return { name: target === null || plain.includes(target) ? plain : `${plain} on ${target}`, report };
}

/** The page: reports in, charts out. */
export class Comparison {
  #reports = [];
  #metric = null;

  constructor(at) {
    this.at = at;
    at.metric.addEventListener("change", () => {
      this.#metric = at.metric.value;
      this.#draw();
    });
  }

  get count() {
    return this.#reports.length;
  }

  /** Adds files; says which are no reports. */
  async add(files) {
    const wrong = [];
    for (const file of files) {
      try {
        this.#reports.push(readReport(await file.text(), file.name));
      } catch (error) {
        wrong.push(error.message);
      }
    }
    this.at.note.textContent = wrong.join(". ");
    this.#draw();
  }

  clear() {
    this.#reports = [];
    this.at.note.textContent = "";
    this.#draw();
  }

  /** Draws anew, in the width that the page has now. */
  draw() {
    this.#draw();
  }

  get #width() {
    return Math.max(280, this.at.chart.clientWidth || 900);
  }

  #draw() {
    const { card, chart, stack, numbers, metric } = this.at;
    card.hidden = this.count === 0;
    if (this.count === 0) return;
    const usable = METRICS.filter(([, , of]) => this.#reports.some(({ report }) => isNumber(of(report))));
    if (!usable.some(([name]) => name === this.#metric)) this.#metric = usable[0][0];
    metric.replaceChildren(...usable.map(([name]) => html("option", name === this.#metric ? { selected: "" } : {}, name)));
    const [, unit, of] = usable.find(([name]) => name === this.#metric);
    const rows = this.#reports.filter(({ report }) => isNumber(of(report))).map(({ name, report }) => ({ name, value: of(report) }));
    chart.replaceChildren(columns(rows, unit, this.#width));
    this.#stack(stack);
    // The unit stands where the name does not say it.
    const title = ([name, unit]) => (name.toLowerCase().endsWith(unit) ? name : `${name}, ${unit}`);
    const head = html("tr", {}, html("th", { scope: "col" }, "report"), ...usable.map((each) => html("th", { scope: "col" }, title(each))));
    const body = this.#reports.map(({ name, report }) =>
      html("tr", {}, html("th", { scope: "row" }, name), ...usable.map(([, , of]) => html("td", {}, isNumber(of(report)) ? number(of(report)) : "–"))),
    );
    numbers.replaceChildren(html("thead", {}, head), html("tbody", {}, ...body));
  }

  /** The chosen number's parts by operator, or multiply-accumulates where operators do not have it. */
  #stack(place) {
    const having = (of) => this.#reports.filter(({ report: { operators } }) => Array.isArray(operators) && operators.length > 0 && operators.every((o) => isNumber(of(o ?? {}))));
    const metrics = [METRICS.find(([name]) => name === this.#metric), METRICS.at(-1)];
    const found = metrics.find(([, , of, parts]) => parts && having(of).length > 0);
    if (found === undefined) {
      place.replaceChildren(html("p", { class: "sub" }, "These reports have no number for their operators."));
      return;
    }
    const [, unit, of] = found;
    const rows = having(of).map(({ name, report }) => ({
      name: `${name}, ${unit}`,
      parts: report.operators.map((o) => ({ name: String(o.kind ?? o.name), value: of(o) })).filter((p) => p.value > 0),
    }));
    place.replaceChildren(...stacked(rows, unit, this.#width));
  }
}
