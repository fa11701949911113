// The page that compares reports of the command line: `compile --json`, `profile --json`.

import { columns, html, number, stacked } from "./charts.js";

/** What can be compared: name, unit, and the number in a report; null where it has none. */
const METRICS = [
  ["Cycles, modelled", "cycles", (r) => r.cycles_modelled],
  ["Instructions", "instructions", (r) => r.instructions],
  ["Time", "µs", (r) => (r.nanoseconds == null ? null : r.nanoseconds / 1e3)],
  ["Model in flash", "bytes", (r) => r.model_bytes],
  ["Weights", "bytes", (r) => r.weights_bytes],
  ["Arena in RAM", "bytes", (r) => r.arena_bytes],
  ["Arena for learning", "bytes", (r) => r.train_arena_bytes],
  ["Stack", "bytes", (r) => r.stack_bytes],
  ["Multiply-accumulates", "MACs", (r) => r.macs],
];

/** What an operator's part of a bar is, the first that a report has. */
const PARTS = [
  ["cycles", "cycles_modelled"],
  ["instructions", "instructions"],
  ["ns", "nanoseconds"],
  ["MACs", "macs"],
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
    const head = html("tr", {}, html("th", { scope: "col" }, "report"), ...usable.map(([name, unit]) => html("th", { scope: "col" }, `${name}, ${unit}`)));
    const body = this.#reports.map(({ name, report }) =>
      html("tr", {}, html("th", { scope: "row" }, name), ...usable.map(([, , of]) => html("td", {}, isNumber(of(report)) ? number(of(report)) : "–"))),
    );
    numbers.replaceChildren(html("thead", {}, head), html("tbody", {}, ...body));
  }

  /** Parts of the unit that all reports with operators have. */
  #stack(place) {
    const withOperators = this.#reports.filter(({ report }) => Array.isArray(report.operators) && report.operators.length > 0);
    const part = PARTS.find(([, field]) => withOperators.every(({ report }) => report.operators.every((o) => isNumber(o?.[field]))));
    if (withOperators.length === 0 || part === undefined) {
      place.replaceChildren(html("p", { class: "sub" }, "These reports have no number in common for their operators."));
      return;
    }
    const [unit, field] = part;
    const rows = withOperators.map(({ name, report }) => ({
      name: `${name}, ${unit}`,
      parts: report.operators.map((o) => ({ name: String(o.kind ?? o.name), value: o[field] })).filter((p) => p.value > 0),
    }));
    place.replaceChildren(...stacked(rows, unit, this.#width));
  }
}
