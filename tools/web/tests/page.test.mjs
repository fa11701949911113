// The page in Chromium: what a person does with mouse and keyboard, and the files that come out, as the command line reads them.
// OFFSHOOT_SCREENSHOTS names a folder for pictures of the page.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium, serve } from "./browser.mjs";
import { offshoot, put, root } from "./command_line.mjs";

const built = process.env.OFFSHOOT_PAGE ?? `${root}/target/web/page`;
let server;
let browser;

before(async () => {
  server = await serve({ "/": built });
  browser = await chromium();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Opens the page; what goes wrong in it fails the test. */
async function opened(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, acceptDownloads: true, ...options });
  const page = await context.newPage();
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));
  page.on("request", (request) => request.url().startsWith(server.url) || request.url().startsWith("blob:") || wrong.push(`asks ${request.url()}`));
  await page.goto(server.url);
  await page.waitForSelector("html[data-ready]");
  return { page, context, wrong };
}

/** Symbols in the unit square, y down: lists of strokes. */
const arc = (from, to, radius) => Array.from({ length: 25 }, (_, i) => {
  const angle = from + ((to - from) * i) / 24;
  return [0.5 + radius * Math.cos(angle), 0.5 + radius * Math.sin(angle)];
});
const SYMBOLS = {
  ring: [arc(0, 2 * Math.PI, 0.42)],
  plus: [[[0.5, 0.06], [0.5, 0.94]], [[0.06, 0.5], [0.94, 0.5]]],
  triangle: [[[0.5, 0.08], [0.94, 0.88], [0.06, 0.88], [0.5, 0.08]]],
  square: [[[0.12, 0.12], [0.88, 0.12], [0.88, 0.88], [0.12, 0.88], [0.12, 0.12]]],
  arrow: [[[0.5, 0.95], [0.5, 0.06]], [[0.2, 0.4], [0.5, 0.06], [0.8, 0.4]]],
  zed: [[[0.12, 0.12], [0.88, 0.12], [0.12, 0.88], [0.88, 0.88]]],
  tee: [[[0.08, 0.1], [0.92, 0.1]], [[0.5, 0.1], [0.5, 0.94]]],
  corner: [[[0.18, 0.06], [0.18, 0.9], [0.88, 0.9]]],
  equals: [[[0.1, 0.28], [0.9, 0.28]], [[0.1, 0.72], [0.9, 0.72]]],
  cup: [[[0.12, 0.08], ...arc(Math.PI, 0, 0.38), [0.88, 0.08]]],
};
const HEART = [[[0.5, 0.92], [0.14, 0.52], [0.08, 0.28], [0.26, 0.1], [0.44, 0.18], [0.5, 0.34], [0.56, 0.18], [0.74, 0.1], [0.92, 0.28], [0.86, 0.52], [0.5, 0.92]]];
const STAR = [[0, 2, 4, 1, 3, 0].map((i) => [0.5 + 0.46 * Math.sin((i * 4 * Math.PI) / 10), 0.5 - 0.46 * Math.cos((i * 4 * Math.PI) / 10)])];

/** The same symbol by another hand: turned, stretched and moved a little, by a seed. */
function varied(strokes, seed) {
  let state = seed + 1;
  const random = (width) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 32 - 0.5) * width;
  };
  const [angle, wide, high] = [random(0.3), 0.7 + random(0.3), 0.7 + random(0.3)];
  return strokes.map((stroke) => stroke.map(([x, y]) => {
    const [u, v] = [(x - 0.5) * wide + random(0.03), (y - 0.5) * high + random(0.03)];
    return [0.5 + u * Math.cos(angle) - v * Math.sin(angle), 0.5 + u * Math.sin(angle) + v * Math.cos(angle)];
  }));
}

/** Draws with the mouse. */
async function draw(page, strokes) {
  await page.click("#clear:not(:disabled)", { timeout: 200 }).catch(() => {});
  await page.locator("#paper").scrollIntoViewIfNeeded();
  const box = await page.locator("#paper").boundingBox();
  const at = ([x, y]) => [box.x + x * box.width, box.y + y * box.height];
  for (const [first, ...rest] of strokes) {
    await page.mouse.move(...at(first));
    await page.mouse.down();
    for (const point of rest) await page.mouse.move(...at(point), { steps: 3 });
    await page.mouse.up();
  }
}

const answer = (page) => page.textContent("#answer");

async function teach(page, name, strokes) {
  await draw(page, strokes);
  await page.fill("#name", name);
  await page.click("#learn");
}

async function picture(page, name, options = {}) {
  if (process.env.OFFSHOOT_SCREENSHOTS) await page.screenshot({ path: `${process.env.OFFSHOOT_SCREENSHOTS}/${name}.png`, fullPage: true, ...options });
}

/** What the page downloads. */
async function downloaded(page, name) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click("#download")]);
  return put(name, readFileSync(await download.path()));
}

test("symbols drawn with the mouse are recognised", async () => {
  const { page, context, wrong } = await opened();
  const found = {};
  for (const [name, strokes] of Object.entries(SYMBOLS)) {
    await draw(page, varied(strokes, 1));
    found[name] = await answer(page);
  }
  assert.deepEqual(found, Object.fromEntries(Object.keys(SYMBOLS).map((name) => [name, name])));
  await picture(page, "wide-answer");
  assert.deepEqual(wrong, []);
  await context.close();
});

test("a new class is taught with five drawings, and the download opens in the command line", async () => {
  const { page, context, wrong } = await opened();
  await draw(page, varied(HEART, 100));
  assert.notEqual(await answer(page), "heart");
  for (let seed = 0; seed < 5; seed += 1) await teach(page, "heart", varied(HEART, seed));
  const right = [];
  for (let seed = 100; seed < 110; seed += 1) {
    await draw(page, varied(HEART, seed));
    right.push((await answer(page)) === "heart");
  }
  assert.ok(right.filter(Boolean).length >= 9, `${right}`);
  await picture(page, "wide-taught");
  // What it knew before it still knows.
  for (const [name, strokes] of Object.entries(SYMBOLS)) {
    await draw(page, varied(strokes, 1));
    assert.equal(await answer(page), name);
  }
  const accuracy = async (id) => Number.parseFloat(await page.textContent(id));
  const [before, now] = [await accuracy("#set-before"), await accuracy("#set-now")];
  assert.ok(before > 90 && now > before - 5, `${before} % before, ${now} % now`);
  assert.match(await page.textContent("#own-now"), /^5 of 5$/);

  const digest = (await page.textContent("#digest")).match(/[0-9a-f]{8}$/)[0];
  const path = await downloaded(page, "taught.off");
  const report = offshoot("learn", path, "--output", "again.off");
  assert.equal(report.digest.toString(16).padStart(8, "0"), digest);
  // The command line sees the accuracy that the page shows.
  const test = ["x", "y"].map((name) => `${root}/models/glyphs/test_${name}.npy`);
  const evaluated = offshoot("eval", path, "--input", test[0], "--labels", test[1]);
  assert.equal((100 * evaluated.value).toFixed(1), now.toFixed(1));

  // The page opens it again, and forgets nothing.
  await page.setInputFiles("#file", path);
  await page.waitForFunction(() => document.querySelector("#facts").textContent.includes("taught.off"));
  assert.ok((await page.textContent("#digest")).endsWith(digest));
  assert.deepEqual(wrong, []);
  await context.close();
});

test("a second class fits beside the first, and all can be forgotten", async () => {
  const { page, context, wrong } = await opened();
  for (let seed = 0; seed < 5; seed += 1) {
    await teach(page, "heart", varied(HEART, seed));
    await teach(page, "star", varied(STAR, seed));
  }
  await draw(page, varied(HEART, 50));
  assert.equal(await answer(page), "heart");
  await draw(page, varied(STAR, 50));
  assert.equal(await answer(page), "star");
  await page.click("#forget");
  assert.equal(await page.textContent("#own-now"), "–");
  assert.ok(!["heart", "star"].includes(await answer(page)));
  assert.deepEqual(wrong, []);
  await context.close();
});

test("the keyboard draws, teaches and changes tabs", async () => {
  const { page, context, wrong } = await opened();
  await page.focus("#paper");
  const press = async (key, times) => {
    for (let i = 0; i < times; i += 1) await page.keyboard.press(key);
  };
  // A plus: up from the bottom, then across.
  await press("ArrowDown", 8);
  await press(" ", 1);
  await press("ArrowUp", 16);
  await press(" ", 1);
  await press("ArrowDown", 8);
  await press("ArrowLeft", 8);
  await press(" ", 1);
  await press("ArrowRight", 16);
  await press(" ", 1);
  assert.equal(await answer(page), "plus");
  await press("Backspace", 1);
  assert.notEqual(await answer(page), "plus");
  await press("Escape", 1);
  assert.equal(await answer(page), "…");
  await page.focus("#tab-teach");
  await press("ArrowRight", 1);
  assert.ok(await page.isVisible("#compare"));
  assert.equal(await page.getAttribute("#tab-compare", "aria-selected"), "true");
  assert.deepEqual(wrong, []);
  await context.close();
});

test("reports are compared, and other files are refused", async () => {
  const { page, context, wrong } = await opened();
  await page.click("#tab-compare");
  await page.click("#example");
  await page.waitForSelector("#numbers tbody tr");
  assert.equal(await page.locator("#numbers tbody tr").count(), 3);
  const metrics = await page.locator("#metric option").allTextContents();
  assert.ok(metrics.includes("Arena in RAM"), metrics.join());
  await page.selectOption("#metric", "Arena in RAM");
  await picture(page, "wide-compare");
  await page.setInputFiles("#reports", [
    { name: "broken.json", mimeType: "application/json", buffer: Buffer.from("{") },
    { name: "other.json", mimeType: "application/json", buffer: Buffer.from('{"a": 1}') },
    { name: "hostile.json", mimeType: "application/json", buffer: Buffer.from('{"macs": 5, "operators": [null, {"kind": "<b>"}]}') },
  ]);
  await page.waitForFunction(() => document.querySelector("#reports-note").textContent.includes("broken.json is no JSON"));
  assert.equal(await page.locator("#numbers tbody tr").count(), 4);
  // Operators have the number that is chosen, where the report has it for them.
  const profile = { target: "qemu:cortex-m4", cycles_modelled: 30, operators: [{ kind: "conv_tiled", cycles_modelled: 20, macs: 1 }, { kind: "pool", cycles_modelled: 10, macs: 0 }] };
  await page.setInputFiles("#reports", { name: "board.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(profile)) });
  await page.selectOption("#metric", "Modelled cycles");
  assert.equal(await page.textContent("#stack .label"), "board on qemu:cortex-m4, cycles");
  assert.match(await page.textContent("#stack"), /conv_tiled: 20 cycles/);
  await page.click("#tab-teach");
  await page.setInputFiles("#file", { name: "no.off", mimeType: "application/octet-stream", buffer: Buffer.alloc(100) });
  await page.waitForSelector("#problem:not([hidden])");
  // The network that was open still answers.
  await draw(page, SYMBOLS.zed);
  assert.equal(await answer(page), "zed");
  assert.deepEqual(wrong, []);
  await context.close();
});

test("the page has no faults of accessibility that a machine finds, light and dark", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { page, context } = await opened({ colorScheme, bypassCSP: true });
    await page.addScriptTag({ path: `${process.env.OFFSHOOT_NPM}/axe-core/axe.min.js` });
    await teach(page, "heart", varied(HEART, 0));
    await draw(page, varied(SYMBOLS.cup, 1));
    for (const tab of ["teach", "compare"]) {
      await page.click(`#tab-${tab}`);
      if (tab === "compare") {
        await page.click("#example");
        await page.waitForSelector("#numbers tbody tr");
      }
      // Colours are those at the end of a transition.
      await page.waitForTimeout(300);
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${tab}, ${colorScheme}: ${id}: ${nodes.map((node) => node.target).join(" ")}`), []);
    }
    await context.close();
  }
});

test("the page works offline, after one visit", async () => {
  const { page, context, wrong } = await opened();
  await page.waitForFunction(() => navigator.serviceWorker.ready.then((worker) => worker.active?.state === "activated"));
  await context.setOffline(true);
  await page.reload();
  await page.waitForSelector("html[data-ready]");
  await draw(page, SYMBOLS.plus);
  assert.equal(await answer(page), "plus");
  assert.deepEqual(wrong, []);
  await context.close();
});

test("a phone has it all, in one column and with a finger", async () => {
  const { page, context, wrong } = await opened({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: "dark" });
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  const box = await page.locator("#paper").boundingBox();
  const touch = await context.newCDPSession(page);
  const point = ([x, y]) => [{ x: box.x + x * box.width, y: box.y + y * box.height }];
  for (const [first, ...rest] of SYMBOLS.triangle) {
    await touch.send("Input.dispatchTouchEvent", { type: "touchStart", touchPoints: point(first) });
    for (const next of rest) await touch.send("Input.dispatchTouchEvent", { type: "touchMove", touchPoints: point(next) });
    await touch.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
  }
  assert.equal(await answer(page), "triangle");
  await picture(page, "phone-dark");
  await page.click("#tab-compare");
  await page.click("#example");
  await page.waitForSelector("#numbers tbody tr");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), true);
  await picture(page, "phone-compare");
  assert.deepEqual(wrong, []);
  await context.close();
});
