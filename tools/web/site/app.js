// The page: connects the drawing, the network and the charts.

import { arena, bars, html, number, whole } from "./charts.js";
import { Drawing } from "./drawing.js";
import { Model, runtime as loadRuntime, shipped } from "./model.js";
import { ink, inputOf, show } from "./picture.js";
import { Comparison } from "./reports.js";

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let runtime;
let model;
const drawing = new Drawing($("paper"));
const comparison = new Comparison({ card: $("chart-card"), chart: $("chart"), stack: $("stack"), numbers: $("numbers"), metric: $("metric"), note: $("reports-note") });

/** Says what went wrong, until the next thing goes right. */
function problem(error) {
  const box = $("problem");
  box.hidden = error === null;
  if (error !== null) box.textContent = error.message;
}

/** Does the work of an event; what it throws is shown. */
const on = (element, event, work) =>
  element.addEventListener(event, async (e) => {
    try {
      problem(null);
      await work(e);
    } catch (error) {
      problem(error);
    }
  });

// The drawing and its answer.

/** The picture of what is drawn; null if there is none. */
function picture() {
  if (drawing.strokes.length === 0 || model?.picture == null) return null;
  const values = ink(drawing.strokes, model.picture.side);
  return { values, input: inputOf(values, model.picture.channels, model.colours) };
}

function answer() {
  const drawn = drawing.strokes.length > 0;
  $("blank").hidden = drawn;
  $("undo").disabled = $("clear").disabled = !drawn;
  const taken = picture();
  $("learn").disabled = taken === null || !model.learns;
  if (model === undefined) return;
  const side = model.picture?.side ?? 16;
  show($("seen"), taken?.values ?? new Float32Array(side * side), side);
  if (taken === null) {
    $("answer").textContent = "…";
    $("glance").textContent = "";
    $("answer-note").textContent = model.picture === null ? "This network does not take pictures, so nothing can be drawn for it." : "Draw one of these.";
    scores(model.classes.map(() => 0), -1);
    return;
  }
  const { best, shares } = model.answer(taken.input);
  $("answer").textContent = model.classes[best] ?? `class ${best}`;
  const sure = shares[best] ?? 0;
  $("glance").textContent = `${$("answer").textContent}, ${Math.round(100 * sure)} %`;
  $("answer-note").textContent = sure > 0.8 ? "The network is sure." : sure > 0.5 ? "The network thinks so." : "The network is guessing.";
  scores(shares, best);
}

/** A bar for each class. */
function scores(shares, best) {
  const rows = shares.map((share, i) => {
    const name = model.classes[i] ?? `class ${i}`;
    const kinds = [i === best && "first", i >= model.known && "new"].filter(Boolean).join(" ");
    const fill = html("div", { class: "fill", style: `width:${100 * share}%` });
    return html("li", kinds ? { class: kinds } : {}, html("span", { class: "name", title: name }, name), html("div", { class: "track", "aria-hidden": "true" }, fill), html("span", { class: "share" }, best < 0 ? "" : `${Math.round(100 * share)} %`));
  });
  $("scores").replaceChildren(...rows);
}

drawing.addEventListener("change", () => {
  try {
    answer();
  } catch (error) {
    problem(error);
  }
});
on($("undo"), "click", () => drawing.undo());
on($("clear"), "click", () => drawing.clear());

// The lesson.

on($("lesson"), "submit", (event) => {
  event.preventDefault();
  const taken = picture();
  const name = $("name").value.trim();
  if (taken === null || name === "") return;
  const { right, leftOut, label } = model.teach(taken.input, name, taken.values);
  const count = model.taught.filter((sample) => sample.label === label).length;
  const before = right ? "It was known already." : "It was not known.";
  $("lesson-note").textContent = leftOut
    ? `Left out: this drawing is too far from all that the network has seen.`
    : `${before} ${count} ${count === 1 ? "drawing" : "drawings"} of ${name} so far${count < 5 && label >= model.known ? "; draw another" : ""}.`;
  drawing.clear();
  lessons();
  $("paper").focus({ preventScroll: true });
});

on($("forget"), "click", () => {
  model.forget();
  $("lesson-note").textContent = "The network is as it was.";
  lessons();
  answer();
});

on($("download"), "click", () => {
  const link = html("a", { href: URL.createObjectURL(new Blob([model.file()], { type: "application/octet-stream" })), download: model.taught.length > 0 ? "taught.off" : model.name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});

/** Everything that a lesson changes. */
function lessons() {
  const { of, before, now, marks } = model.lessons();
  const figures = model.taught.slice(-24).map(({ label, values }, i) => {
    const mark = marks[Math.max(0, of - 24) + i];
    const canvas = html("canvas", { role: "img", "aria-label": `a drawing of ${model.classes[label]}, ${mark ? "known now" : "not known yet"}` });
    show(canvas, values, model.picture.side);
    return html("figure", mark ? { class: "right" } : {}, canvas, html("figcaption", { title: model.classes[label] }, model.classes[label]));
  });
  $("taught").replaceChildren(...figures);
  $("own-before").textContent = of === 0 ? "–" : `${before} of ${of}`;
  $("own-now").textContent = of === 0 ? "–" : `${now} of ${of}`;
  $("set-name").textContent = model.test === null ? "Test set: none" : `${number(model.test.length)} test pictures`;
  $("set-before").textContent = model.before === null ? "–" : percent(model.before);
  $("set-now").textContent = model.before === null ? "–" : percent(of === 0 ? model.before : model.accuracy());
  $("names").replaceChildren(...model.classes.map((name) => html("option", { value: name })));
  $("forget").disabled = of === 0;
  const digest = model.digest();
  $("digest").textContent = digest === null ? "" : `Digest of what was learned: ${digest.toString(16).padStart(8, "0")}`;
}

// The network.

/** Shows a network: the old one is closed once the new one is open. */
function use(source) {
  const next = new Model(runtime, source);
  model?.close();
  model = next;
  drawing.clear();
  $("ink").hidden = source.colours !== undefined || model.picture === null;
  $("light-ink").checked = false;
  $("seen-size").textContent = model.picture === null ? "no picture" : `${model.picture.side} × ${model.picture.side}, as the network sees it`;
  $("name").disabled = !model.learns || model.picture === null;
  $("lesson-note").textContent = model.learns
    ? "A new name is a new class. Five drawings of it are enough, mostly."
    : "This file has no learning plan, so it cannot be taught.";
  facts();
  lessons();
  answer();
  measure();
}

function facts() {
  const { info } = model;
  const shape = (tensor) => `${tensor.type} [${tensor.shape.join(", ")}]`;
  const rows = [
    ["File", model.name],
    ["Flash", `${number(info.fileBytes)} bytes`],
    ["RAM", `${number(info.arenaBytes)} bytes`],
    ["RAM to learn", model.learns ? `${number(info.learningArenaBytes)} bytes` : "does not learn"],
    ["Input", model.inputs.map(shape).join(", ")],
    ["Work", `${number(model.operators.reduce((sum, o) => sum + o.macs, 0))} MACs`],
    ["Classes", model.room > model.known ? `${model.classes.length} of ${model.room} named` : `${model.room}`],
  ];
  $("facts").replaceChildren(...rows.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)]));
  arenaPicture();
  const rest = info.learningArenaBytes - info.arenaBytes - info.learnedBytes;
  const parts = [["inference", info.arenaBytes], ["what is learned", info.learnedBytes], ["scores and work", rest]];
  $("learning").hidden = !model.learns;
  $("learning-parts").replaceChildren(...(model.learns ? whole(parts.map(([name, value]) => ({ name, value: Math.max(0, value) })), "bytes") : []));
  $("arena-note").textContent = `Where operators 0 to ${model.operators.length - 1} write their outputs, in ${number(info.arenaBytes)} bytes.`;
}

function arenaPicture() {
  $("arena").replaceChildren(arena(model.operators, model.info.arenaBytes, Math.max(260, $("arena").clientWidth)));
}

function measure() {
  const { each, runs } = model.times();
  const rows = each.map((time, i) => ({ name: `${i} ${model.operators[i].kind.replaceAll("_", " ")}`, value: time, text: `${number(1000 * time, 1)} µs` }));
  $("times").replaceChildren(bars(rows));
  $("times-note").textContent = `A run takes ${number(1000 * each.reduce((a, b) => a + b, 0), 0)} µs in this browser: mean of ${runs} runs.`;
}

on($("measure"), "click", measure);
on($("light-ink"), "change", () => {
  const { paper, ink } = model.colours;
  model.colours = { paper: ink, ink: paper };
  answer();
});
on($("open"), "click", () => $("file").click());
on($("file"), "change", async () => {
  const [file] = $("file").files;
  $("file").value = "";
  if (file !== undefined) await openFile(file);
});

async function openFile(file) {
  use({ name: file.name, off: new Uint8Array(await file.arrayBuffer()) });
}

// Reports.

const example = async () => {
  const examples = await (await fetch("data/examples.json")).json();
  return examples.map(({ name, report }) => new File([JSON.stringify(report)], `${name}.json`));
};

async function compareFiles(files) {
  await comparison.add(files);
  $("remove").disabled = comparison.count === 0;
}

on($("pick"), "click", () => $("reports").click());
on($("reports"), "change", async () => {
  const files = [...$("reports").files];
  $("reports").value = "";
  await compareFiles(files);
});
on($("example"), "click", async () => compareFiles(await example()));
on($("remove"), "click", () => {
  comparison.clear();
  $("remove").disabled = true;
});

// Files dropped anywhere: networks to teach, reports to compare.

addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("over");
});
on(window, "drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = [...event.dataTransfer.files];
  const reports = files.filter((file) => file.name.endsWith(".json"));
  const network = files.find((file) => file.name.endsWith(".off"));
  if (reports.length > 0) {
    choose("compare");
    await compareFiles(reports);
  }
  if (network !== undefined) {
    choose("teach");
    await openFile(network);
  }
  if (reports.length === 0 && network === undefined) throw new Error("Drop a network (.off) or reports (.json).");
});

// Tabs and colours.

const tabs = ["teach", "compare"];

function choose(name) {
  for (const each of tabs) {
    const chosen = each === name;
    $(each).hidden = !chosen;
    $(`tab-${each}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${each}`).tabIndex = chosen ? 0 : -1;
  }
  if (name === "compare") comparison.draw();
  else if (model !== undefined) arenaPicture();
}

for (const name of tabs) {
  $(`tab-${name}`).addEventListener("click", () => choose(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const next = tabs[(tabs.indexOf(name) + 1) % tabs.length];
    choose(next);
    $(`tab-${next}`).focus();
  });
}

// Charts are drawn for the width that they have.
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width || model === undefined) return;
  width = innerWidth;
  if (!$("teach").hidden) arenaPicture();
  comparison.draw();
});

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  $("theme").setAttribute("aria-pressed", String(isDark()));
  drawing.paint();
});
$("theme").setAttribute("aria-pressed", String(isDark()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawing.paint());

// The start.

try {
  let source;
  [runtime, source] = await Promise.all([loadRuntime(), shipped()]);
  use(source);
  $("version").textContent = `Runtime ${runtime.version}, format ${runtime.formatVersion}.`;
  if ("serviceWorker" in navigator && isSecureContext) await navigator.serviceWorker.register("sw.js");
} catch (error) {
  problem(error);
}
document.documentElement.dataset.ready = "true";
