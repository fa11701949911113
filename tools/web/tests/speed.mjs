// node tools/web/tests/speed.mjs MODEL.off MODEL.onnx: milliseconds of a run in Chromium, beside onnxruntime-web in the same page, one thread
// each, in turns: processor time of the page's thread, so that other programs count little, and time on the clock. scripts/web.sh --speed runs
// it.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, serve } from "./browser.mjs";

const ROUNDS = 40;
const RUNS = 25;
const ENGINES = ["offshoot", "onnxruntime-web"];
const [off, onnx] = process.argv.slice(2);
const work = mkdtempSync(join(tmpdir(), "offshoot-speed-"));
writeFileSync(join(work, "index.html"), "<!doctype html><title>speed</title>");
cpSync(off, join(work, "model.off"));
cpSync(onnx, join(work, "model.onnx"));
const server = await serve({ "/runtime/": join(process.env.OFFSHOOT_PAGE, "runtime"), "/ort/": join(process.env.OFFSHOOT_NPM, "onnxruntime-web/dist"), "/": work });
const browser = await chromium();
try {
  const page = await browser.newPage();
  await page.goto(server.url);
  await page.evaluate(prepare);
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => (await session.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
  const times = Object.fromEntries(ENGINES.map((name) => [name, { processor: [], clock: [] }]));
  // The first round lets the browser compile what runs often.
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const name of ENGINES) {
      const before = await busy();
      const clock = await page.evaluate(([name, runs]) => globalThis.rounds[name](runs), [name, RUNS]);
      const processor = 1e3 * ((await busy()) - before);
      if (round > 0) {
        times[name].processor.push(processor / RUNS);
        times[name].clock.push(clock / RUNS);
      }
    }
  }
  for (const [name, kinds] of Object.entries(times)) {
    for (const [kind, list] of Object.entries(kinds)) {
      list.sort((a, b) => a - b);
      console.log(`${name}, ${kind}: median ${list[list.length >> 1].toFixed(2)} ms (least ${list[0].toFixed(2)}, most ${list.at(-1).toFixed(2)})`);
    }
  }
} finally {
  await browser.close();
  await server.stop();
  rmSync(work, { recursive: true });
}

/** In the page: opens the network in both engines; `rounds` then holds a function for each, which runs it so often and returns the time. */
async function prepare() {
  const { load } = await import("/runtime/offshoot.js");
  const ort = await import("/ort/ort.wasm.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  const bytes = async (path) => (await fetch(path)).arrayBuffer();
  const network = (await load("/runtime/offshoot-files.wasm")).open(await bytes("/model.off"));
  const [input] = network.inputs;
  const bytesIn = Int8Array.from({ length: input.elements }, (_, i) => i * 37);
  const session = await ort.InferenceSession.create(await bytes("/model.onnx"));
  const metadata = session.inputMetadata[0];
  const shape = metadata.shape.map((extent) => (typeof extent === "number" && extent > 0 ? extent : 1));
  // Each takes its input as it is: nothing is quantised for one and not for the other.
  const tensor = metadata.type === "int8" ? new ort.Tensor("int8", bytesIn, shape) : new ort.Tensor("float32", Float32Array.from(bytesIn), shape);
  const values = input.type === "int8" ? bytesIn : Float32Array.from(bytesIn);
  globalThis.rounds = {
    offshoot: (runs) => {
      const start = performance.now();
      for (let i = 0; i < runs; i += 1) network.run(values);
      return performance.now() - start;
    },
    "onnxruntime-web": async (runs) => {
      const start = performance.now();
      for (let i = 0; i < runs; i += 1) await session.run({ [session.inputNames[0]]: tensor });
      return performance.now() - start;
    },
  };
}
