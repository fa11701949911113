// Charts as SVG and HTML. Every number that a bar stands for is in the page as text too.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes, and text or children. */
export function html(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function svg(tag, attributes = {}, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A number with thousands apart. */
export const number = (value, digits = 0) => value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: digits });

/** A number as short as an axis wants it: 1.5 M. */
export function short(value) {
  for (const [size, name] of [[1e9, " G"], [1e6, " M"], [1e3, " k"]]) {
    if (value >= size) return `${Number((value / size).toPrecision(3))}${name}`;
  }
  return `${Number(value.toPrecision(3))}`;
}

/** Round numbers from 0 to above `most`: four to six of them. */
export function ticks(most) {
  if (!(most > 0)) return [0, 1];
  const power = 10 ** Math.floor(Math.log10(most / 4));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((s) => most / s <= 5);
  return Array.from({ length: Math.ceil(most / step - 1e-9) + 1 }, (_, i) => i * step);
}

/** Horizontal bars in HTML: `{ name, value, text }`. */
export function bars(rows) {
  const most = Math.max(...rows.map((row) => row.value), Number.MIN_VALUE);
  const list = html("div", { class: "bars" });
  for (const { name, value, text } of rows) {
    const fill = html("div", { class: "fill", style: `width:${(100 * value) / most}%` });
    list.append(html("div", {}, html("span", { class: "name", title: name }, name), html("div", {}, fill), html("span", { class: "value" }, text)));
  }
  return list;
}

/** An axis of bytes along the bottom, from `left` to `right`. */
function axis(plot, most, left, right, bottom) {
  const at = (value) => left + ((right - left) * value) / most;
  // Every other number where they would touch.
  const all = ticks(most).filter((value) => value <= most);
  const step = (right - left) / all.length < 44 ? 2 : 1;
  for (const tick of all.filter((_, i) => i % step === 0)) {
    plot.append(svg("line", { class: "grid", x1: at(tick), x2: at(tick), y1: 4, y2: bottom }));
    plot.append(svg("text", { class: "tick", x: at(tick), y: bottom + 16, "text-anchor": "middle" }, short(tick)));
  }
  return at;
}

/** Where in the arena each operator writes: a row an operator, bytes along the row. `width` is that of the place, in pixels. */
export function arena(operators, arenaBytes, width) {
  const [row, left, right] = [19, 28, width - 16];
  const bottom = 8 + row * operators.length;
  const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${bottom + 24}`, role: "img" });
  plot.append(svg("title", {}, `Outputs of ${operators.length} operators in an arena of ${number(arenaBytes)} bytes`));
  const at = axis(plot, arenaBytes, left, right, bottom);
  operators.forEach(({ kind, offset, bytes }, i) => {
    const y = 6 + row * i;
    plot.append(svg("text", { class: "tick", x: 22, y: y + 12, "text-anchor": "end" }, `${i}`));
    const length = Math.max(1.5, at(offset + bytes) - at(offset));
    const rect = svg("rect", { class: "out", x: at(offset), y, width: length, height: row - 4, rx: 3 });
    rect.append(svg("title", {}, `${i} ${kind}: ${number(bytes)} bytes from ${number(offset)}`));
    plot.append(rect);
  });
  return plot;
}

/** One bar of parts that are a whole, with its legend: `{ name, value }`. */
export function whole(parts, unit) {
  const sum = parts.reduce((all, part) => all + part.value, 0);
  const bar = html("div", { class: "whole", "aria-hidden": "true" });
  const legend = html("p", { class: "legend" });
  parts.forEach(({ name, value }, i) => {
    bar.append(html("i", { style: `width:${(100 * value) / sum}%;background:${colour(i)}` }));
    legend.append(html("span", {}, html("i", { style: `background:${colour(i)}` }), `${name}: ${number(value)} ${unit}`));
  });
  return [bar, legend];
}

/** Bars of `{ name, value }` with an axis of round numbers, in a place `width` pixels wide. */
export function columns(rows, unit, width) {
  const most = ticks(Math.max(...rows.map((row) => row.value), 0)).at(-1);
  const [row, left, right] = [46, 4, width - 70];
  const bottom = row * rows.length + 6;
  const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${bottom + 40}`, role: "img" });
  plot.append(svg("title", {}, rows.map(({ name, value }) => `${name}: ${number(value)} ${unit}`).join("; ")));
  const at = axis(plot, most, left, right, bottom);
  rows.forEach(({ name, value }, i) => {
    const y = row * i + 4;
    plot.append(svg("text", { class: "label", x: left, y: y + 14 }, name));
    plot.append(svg("rect", { class: "column", x: left, y: y + 20, width: Math.max(1, at(value) - left), height: 17, rx: 4 }));
    plot.append(svg("text", { x: at(value) + 8, y: y + 33 }, short(value)));
  });
  plot.append(svg("text", { x: right, y: bottom + 34, "text-anchor": "end" }, unit));
  return plot;
}

const HUES = [152, 28, 205, 48, 262, 342, 180, 95, 230, 8];

/** The colour of a part, the same in all bars. */
const colour = (i) => `hsl(${HUES[i % HUES.length]} ${i >= HUES.length ? 30 : 48}% ${i >= HUES.length ? 62 : 52}%)`;

/** A bar for each row, made of parts: `{ name, parts: [{ name, value }] }`; parts of one name share a colour. `width` as for `columns`. */
export function stacked(rows, unit, width) {
  const names = [...new Set(rows.flatMap((row) => row.parts.map((part) => part.name)))];
  const most = Math.max(...rows.map((row) => row.parts.reduce((sum, part) => sum + part.value, 0)), Number.MIN_VALUE);
  const [row, left, right] = [46, 4, width - 4];
  const plot = svg("svg", { class: "plot", viewBox: `0 0 ${width} ${row * rows.length + 4}`, role: "img" });
  plot.append(svg("title", {}, `${unit} by operator`));
  rows.forEach(({ name, parts }, i) => {
    const y = row * i + 4;
    plot.append(svg("text", { class: "label", x: left, y: y + 14 }, name));
    let x = left;
    for (const part of parts) {
      const length = ((right - left) * part.value) / most;
      const rect = svg("rect", { x, y: y + 20, width: Math.max(0, length - 1), height: 17, rx: 2, fill: colour(names.indexOf(part.name)) });
      rect.append(svg("title", {}, `${part.name}: ${number(part.value)} ${unit}`));
      plot.append(rect);
      x += length;
    }
  });
  const legend = html("p", { class: "legend" });
  names.forEach((name, i) => legend.append(html("span", {}, html("i", { style: `background:${colour(i)}` }), name)));
  return [plot, legend];
}
