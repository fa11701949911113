// The JavaScript package gives the bytes of the command line: outputs, what is learned, and files with it. Whatever is handed in, it throws and
// never traps. scripts/web.sh --check runs this.

import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { file, got, gotArray, offshoot, publicData, put, putArray, root, skip } from "./command_line.mjs";

const built = process.env.OFFSHOOT_PACKAGE ?? `${root}/target/web/package`;
const { load, OffshootError } = await import(pathToFileURL(`${built}/offshoot.js`));
const full = () => load(pathToFileURL(`${built}/offshoot-files.wasm`));
const runtime = await load();
const data = "runtime/offshoot/examples/data";

/** Splits bytes into samples of so many elements. */
const samples = (bytes, elements) =>
  Array.from({ length: bytes.length / elements }, (_, i) => bytes.subarray(i * elements, (i + 1) * elements));

const equalBytes = (a, b, message) => assert.equal(Buffer.from(a.buffer, a.byteOffset, a.byteLength).compare(Buffer.from(b.buffer, b.byteOffset, b.byteLength)), 0, message);

for (const [model, x] of [
  ["vibration.off", "vibration_x.u8"],
  ["tones.off", "tones_x.u8"],
  ["tones_f32.off", "tones_x.u8"],
]) {
  test(`${model}: a run gives the command line's bytes`, () => {
    const off = file(`${data}/${model}`);
    const network = runtime.open(off);
    const [input] = network.inputs;
    const raw = file(`${data}/${x}`);
    const all = samples(raw, input.elements);
    putArray("x.npy", raw, [all.length, ...input.shape.slice(1)]);
    offshoot("run", put("m.off", off), "--input", "x.npy", "--output", "y.npy");
    const expected = gotArray("y.npy");
    const elements = expected.data.length / all.length;
    for (const [i, sample] of all.entries()) {
      const output = network.run(sample);
      equalBytes(output, expected.data.subarray(i * elements, (i + 1) * elements), `sample ${i}`);
      equalBytes(network.outputView(), output, "in place");
      const real = network.outputReal();
      assert.equal(real.length, output.length);
      assert.equal(network.top1(), real.indexOf(Math.max(...real)));
    }
    network.close();
  });
}

/** A pseudo-random sequence of integers below n. */
function sequence(state) {
  return (n) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % n;
  };
}

/**
 * Runs a file on random samples, here and on the command line; all outputs must be the same bytes. `repeats`: a run gives the same when it is
 * repeated, as those of all files do that an exporter wrote.
 */
function sameBytes(off, count, seed, { repeats = true } = {}) {
  const network = runtime.open(off);
  const random = sequence(seed);
  const arrays = network.inputs.map(({ type, elements, shape }, i) => {
    const Elements = { int8: Int8Array, float32: Float32Array, int32: Int32Array }[type];
    const data = Elements.from({ length: count * elements }, () => (type === "float32" ? (random(2001) - 1000) / 500 : random(256) - 128));
    const extents = shape.length > 1 && shape[0] === 1 ? shape.slice(1) : shape;
    return { data, elements, path: putArray(`x${i}.npy`, data, [count, ...extents]) };
  });
  const outputs = network.outputs.map((_, i) => `y${i}.npy`);
  offshoot("run", put("m.off", off), ...arrays.flatMap(({ path }) => ["--input", path]), ...outputs.flatMap((path) => ["--output", path]));
  const expected = outputs.map((path) => gotArray(path).data);
  for (let n = 0; n < count; n += 1) {
    network.run(arrays.map(({ data, elements }) => data.subarray(n * elements, (n + 1) * elements)));
    expected.forEach((all, i) => {
      const each = all.length / count;
      equalBytes(network.output(i), all.subarray(n * each, (n + 1) * each), `sample ${n}, output ${i}`);
    });
    if (network.info.keepsState || !repeats) continue;
    const before = network.output(0);
    arrays.forEach(({ data, elements }, i) => network.inputView(i).set(data.subarray(n * elements, (n + 1) * elements)));
    equalBytes(network.run(), before, `sample ${n}, written in place`);
  }
  network.close();
}

const fixtures = "tests/fixtures/format/v2";
for (const name of readdirSync(`${root}/${fixtures}`).filter((each) => each.endsWith(".off"))) {
  test(`${name}: random samples give the command line's bytes`, () => sameBytes(file(`${fixtures}/${name}`), 20, 1));
}

// Other forms of convolutions: Winograd, tiles, rows for vectors that multiply bytes, sparse and few bits in the fixtures.
for (const [i, options] of [["--prefer", "speed"], ["--prefer", "flash"], ["--target", "qemu:cortex-m55"], ["--target", "qemu:cortex-m3"]].entries()) {
  test(`glyphs for ${options[1]}: random samples give the command line's bytes`, () => {
    const calibration = `${root}/models/glyphs/calibration_x.npy`;
    offshoot("compile", `${root}/models/glyphs/model.onnx`, "-o", "glyphs.off", "--calib", calibration, ...options);
    sameBytes(got("glyphs.off"), 100, i + 2);
  });
}

for (const name of ["kws", "ic", "ad", "vww", "sww"]) {
  test(`MLPerf Tiny's ${name}: random samples give the command line's bytes`, (t) => {
    const onnx = `${publicData}/mlperf_tiny/${name}_int8.onnx`;
    if (!existsSync(onnx)) return skip(t, "no MLPerf Tiny networks");
    offshoot("compile", onnx, "-o", "public.off");
    sameBytes(got("public.off"), 5, 9);
  });
}

test("learning gives the command line's bytes, files included", async () => {
  const runtime = await full();
  const off = file(`${data}/vibration_learns.off`);
  const raw = file(`${data}/shifted_x.u8`);
  const labels = file(`${data}/shifted_y.u8`);
  const network = runtime.open(off, { learn: true });
  const [input] = network.inputs;
  const all = samples(raw, input.elements);
  putArray("x.npy", raw, [all.length, ...input.shape.slice(1)]);
  putArray("y.npy", labels, [all.length]);
  put("learns.off", off);
  const both = ["x.npy", "y.npy"];
  const outputs = ["--output", "learned.off", "--inference", "alone.off"];
  const report = offshoot("learn", "learns.off", "--train", ...both, "--test", ...both, ...outputs);

  all.forEach((sample, i) => network.learn(sample, labels[i]));
  assert.equal(network.digest(), report.digest);
  assert.ok(report.accuracy_after > report.accuracy_before);
  const hits = all.filter((sample, i) => network.classify(sample) === labels[i]);
  assert.equal(hits.length / all.length, report.accuracy_after);
  equalBytes(network.exportFile(), got("learned.off"), "the file that learns on");
  equalBytes(network.exportFile({ inferenceOnly: true }), got("alone.off"), "the file for inference alone");

  // What was saved goes on with the same bits.
  const saved = network.save();
  const again = runtime.open(off, { learn: true });
  again.restore(saved);
  for (const each of [network, again]) all.slice(0, 20).forEach((sample, i) => each.learn(sample, labels[i]));
  assert.equal(network.digest(), again.digest());
  network.forget();
  assert.notEqual(network.digest(), again.digest());
  assert.throws(() => again.restore(saved.subarray(1)), OffshootError);
});

test("a class is added to a file, and learned", async () => {
  const runtime = await full();
  put("plan.toml", 'layers = []\nhead = "lda"\n');
  const calibration = `${root}/models/glyphs/calibration_x.npy`;
  offshoot("compile", `${root}/models/glyphs/model.onnx`, "-o", "glyphs.off", "--calib", calibration, "--learn", "plan.toml");
  const off = got("glyphs.off");
  const wider = runtime.withNewClasses(off, 3);
  assert.equal(runtime.inspect(off).classes, 10);
  assert.equal(runtime.inspect(wider).classes, 13);
  const network = runtime.open(wider, { learn: true });
  const sample = new Float32Array(256).map((_, i) => (i % 16 === 8 ? 40 : 200));
  assert.equal(network.learn(sample, 12).steps, 1);
  assert.equal(network.classify(sample), 12);
  assert.throws(() => network.learn(sample, 13), { name: "OffshootError", status: 33, detail: 13 });
  assert.throws(() => runtime.withNewClasses(file(`${data}/vibration.off`), 1), OffshootError);
});

test("operators are described, and their times add up", () => {
  const off = file(`${data}/vibration.off`);
  const operators = runtime.operators(off);
  const info = runtime.inspect(off);
  assert.equal(operators.length, info.operators);
  const report = offshoot("inspect", put("m.off", off));
  assert.deepEqual(
    operators.map(({ macs, weights, offset, bytes }) => ({ macs, weights, offset, bytes })),
    report.operators.map(({ macs, weights, offset, bytes }) => ({ macs, weights, offset, bytes })),
  );
  const network = runtime.open(off);
  const x = new Int8Array(network.inputs[0].elements);
  const before = performance.now();
  const times = network.profile(x, { runs: 50 });
  const whole = (performance.now() - before) / 50;
  assert.equal(times.length, operators.length);
  const sum = times.reduce((a, b) => a + b, 0);
  assert.ok(sum > 0 && sum <= whole, `${sum} ms of ${whole} ms`);
});

test("errors are exceptions", () => {
  assert.throws(() => runtime.open(new Uint8Array(64)), { name: "OffshootError", status: 10 });
  assert.throws(() => runtime.open("model.off"), TypeError);
  const off = file(`${data}/vibration.off`);
  const network = runtime.open(off);
  assert.throws(() => network.run(new Int8Array(3)), RangeError);
  assert.throws(() => network.run([new Int8Array(384), new Int8Array(384)]), RangeError);
  assert.throws(() => network.output(1), RangeError);
  assert.throws(() => network.learn(new Int8Array(384), 0), { name: "OffshootError", status: 31 });
  assert.throws(() => network.save(), { name: "OffshootError", status: 31 });
  assert.throws(() => runtime.open(off, { learn: true }), { name: "OffshootError", status: 31 });
  assert.throws(() => network.exportFile(), OffshootError);
  network.close();
  network.close();
  assert.throws(() => network.run(new Int8Array(384)), { name: "OffshootError", status: 5 });
  assert.throws(() => network.output(), { name: "OffshootError", status: 5 });
});

test("memory that grows moves nothing away from its users", () => {
  const off = file(`${data}/vibration.off`);
  const x = samples(file(`${data}/vibration_x.u8`), 384)[0];
  const first = runtime.open(off);
  const expected = first.run(x);
  // More than the module has at its start.
  const others = Array.from({ length: 400 }, () => runtime.open(off));
  equalBytes(first.run(x), expected, "after growth");
  others.forEach((other) => equalBytes(other.run(x), expected, "another"));
  others.forEach((other) => other.close());
});

test("no damaged file traps", async () => {
  const runtime = await full();
  const off = file(`${data}/vibration_learns.off`);
  const random = sequence(1);
  const x = new Int8Array(384);
  let opened = 0;
  for (let i = 0; i < 2000; i += 1) {
    const damaged = off.slice(0, i % 10 === 0 ? random(off.length) : off.length);
    for (let k = 0; k <= i % 3; k += 1) damaged[random(damaged.length)] ^= 1 << random(8);
    // Half of them with a checksum that fits, so that what lies behind it is reached.
    if (i % 2 === 0 && damaged.length > 16) reseal(runtime, damaged);
    try {
      const network = runtime.open(damaged, { learn: true });
      opened += 1;
      network.run(x);
      network.learn(x, 0);
      network.exportFile();
      network.close();
    } catch (error) {
      assert.ok(error instanceof OffshootError, `${i}: ${error.stack}`);
      assert.notEqual(error.status, 99, `${i}: ${error.message}`);
    }
  }
  assert.ok(opened > 100, `${opened} opened`);
});

test("changed files are refused here and on the command line, or give the same bytes", () => {
  // One sample each: such a file may read what an earlier run left. Multipliers, shifts and zero points that no exporter writes; without float32, whose NaN have no bits of their own in WebAssembly.
  const random = sequence(7);
  let [ran, refused] = [0, 0];
  for (const name of ["glyphs_int8.off", "tones_int8.off", "vibration_int8.off"]) {
    const off = file(`${fixtures}/${name}`);
    for (let i = 0; i < 100; i += 1) {
      // Weights, biases, multipliers and shifts of half of them, which open mostly; a byte of the records of the others.
      const changed = off.slice();
      const blobs = 32 + new DataView(off.buffer, off.byteOffset).getUint32(24, true);
      if (i % 2 === 0) for (let k = 0; k < 8; k += 1) changed[blobs + random(off.length - blobs)] = random(256);
      else changed[32 + random(blobs - 32)] = random(256);
      reseal(runtime, changed);
      let opens = true;
      try {
        runtime.inspect(changed);
      } catch {
        opens = false;
      }
      if (opens) {
        sameBytes(changed, 1, i, { repeats: false });
        ran += 1;
      } else {
        assert.throws(() => offshoot("inspect", put("m.off", changed)), `${name} ${i}`);
        refused += 1;
      }
    }
  }
  assert.ok(ran >= 100 && refused > 0, `${ran} ran, ${refused} were refused`);
});

/** Writes the checksum of a changed file (runtime/FORMAT.md): of the whole file with zeros in its place. */
function reseal(runtime, off) {
  const view = new DataView(off.buffer, off.byteOffset);
  view.setUint32(12, 0, true);
  view.setUint32(12, runtime.crc32(off), true);
}
