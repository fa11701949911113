// node tools/web/tests/speed.mjs MODEL.off MODEL.onnx: milliseconds of a run in Chromium, beside onnxruntime-web in the same browser, one thread
// each, in turns. Prints the least and the median of the rounds. scripts/web.sh --speed runs it.

import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, serve } from "./browser.mjs";

const ROUNDS = 40;
const RUNS = 10;
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
  const times = await page.evaluate(measure, { rounds: ROUNDS, runs: RUNS });
  for (const [name, list] of Object.entries(times)) {
    list.sort((a, b) => a - b);
    console.log(`${name}: least ${list[0].toFixed(3)} ms, median ${list[list.length >> 1].toFixed(3)} ms`);
  }
} finally {
  await browser.close();
  await server.stop();
  rmSync(work, { recursive: true });
}

/** In the page. */
async function measure({ rounds, runs }) {
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
  const ours = () => network.run(values);
  const theirs = () => session.run({ [session.inputNames[0]]: tensor });
  const times = { offshoot: [], "onnxruntime-web": [] };
  for (let i = 0; i < 50; i += 1) {
    ours();
    await theirs();
  }
  for (let round = 0; round < rounds; round += 1) {
    let start = performance.now();
    for (let i = 0; i < runs; i += 1) ours();
    times.offshoot.push((performance.now() - start) / runs);
    start = performance.now();
    for (let i = 0; i < runs; i += 1) await theirs();
    times["onnxruntime-web"].push((performance.now() - start) / runs);
  }
  return times;
}
