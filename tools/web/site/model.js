// The network of the page: what it is called, what can be drawn for it, and what it was taught.

import { load } from "./runtime/offshoot.js";
import { readNpy } from "./npy.js";

const bytes = async (path) => {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
};

/** The shipped network, its names and its test set. */
export async function shipped() {
  const [off, card, x, y] = await Promise.all(["data/glyphs.off", "data/glyphs.json", "data/test_x.npy", "data/test_y.npy"].map(bytes));
  const { classes, room, paper, ink } = JSON.parse(new TextDecoder().decode(card));
  return { name: "glyphs.off", off, classes, room, colours: { paper, ink }, test: testSet(readNpy(x), readNpy(y)) };
}

function testSet(x, y) {
  const each = x.data.length / y.data.length;
  return Array.from(y.data, (label, i) => ({ label, input: x.data.subarray(i * each, (i + 1) * each) }));
}

/** Loads the runtime that changes files too. */
export const runtime = () => load(new URL("./runtime/offshoot-files.wasm", import.meta.url));

/** The side and channels of the square picture that a tensor takes; null if it takes none. */
function pictureOf(input) {
  const [count, height, width, channels] = input.shape;
  const drawable = input.shape.length === 4 && count === 1 && height === width && height >= 8 && height <= 256;
  return drawable && [1, 3].includes(channels) ? { side: height, channels } : null;
}

/** Numbers for paper and ink of a network that came without any: the ends of what its input can hold. */
function coloursOf({ type, scale, zeroPoint }) {
  if (type !== "int8") return { paper: 1, ink: 0 };
  return { paper: (127 - zeroPoint) * scale, ink: (-128 - zeroPoint) * scale };
}

export class Model {
  #network;
  #runtime;

  /** Opens a file: `{ name, off, classes, room, colours, test }`, where all after `off` may be missing. */
  constructor(runtime, source) {
    this.#runtime = runtime;
    const info = runtime.inspect(source.off);
    const learns = info.learningArenaBytes > 0;
    this.#network = runtime.open(source.off, { learn: learns });
    this.name = source.name;
    this.info = info;
    this.learns = learns;
    this.operators = runtime.operators(source.off);
    this.picture = info.inputs === 1 ? pictureOf(this.#network.inputs[0]) : null;
    this.colours = source.colours ?? coloursOf(this.#network.inputs[0]);
    this.test = source.test ?? null;
    const outputs = this.#network.outputs[0].elements;
    this.room = learns ? info.classes : outputs;
    this.classes = (source.classes ?? Array.from({ length: Math.min(outputs, this.room) }, (_, i) => `class ${i}`)).slice(0, this.room);
    this.known = this.classes.length;
    /** What was taught: `{ label, input, right, values }`, right if the network knew it before. */
    this.taught = [];
    this.before = this.accuracy();
  }

  get inputs() {
    return this.#network.inputs;
  }

  /** The answer for an input: the class, and a share for each named class. */
  answer(input) {
    const best = this.#network.classify(input);
    const head = this.#network.headScores();
    const learned = head !== null && head.some(Number.isFinite);
    // Scores of a head are logarithms up to a constant; a network ends in shares or in logarithms.
    const scores = [...(learned ? head : this.#network.outputReal())].slice(0, Math.max(this.classes.length, best + 1));
    return { best, shares: this.#shares(scores, learned) };
  }

  #shares(scores, logarithms) {
    const sum = scores.reduce((a, b) => a + b, 0);
    if (!logarithms && scores.every((s) => s >= 0) && Math.abs(sum - 1) < 0.1) return scores.map((s) => s / sum);
    const most = Math.max(...scores);
    const powers = scores.map((s) => Math.exp(s - most));
    const all = powers.reduce((a, b) => a + b, 0);
    return powers.map((p) => p / all);
  }

  /** The label of a name; a new name takes the next label. */
  label(name) {
    const known = this.classes.findIndex((each) => each.toLowerCase() === name.toLowerCase());
    if (known >= 0) return known;
    if (this.classes.length >= this.room) {
      throw new Error(`The network has room for ${this.room} classes, and all have names. Download it, or forget all.`);
    }
    this.classes.push(name);
    return this.classes.length - 1;
  }

  /** One train step towards a class. */
  teach(input, name, values) {
    const label = this.label(name);
    const right = this.#network.classify(input) === label;
    const step = this.#network.learn(input, label);
    this.taught.push({ label, input, right, values });
    return { label, right, leftOut: step.leftOut };
  }

  /** Accuracy on the test set; null without one. */
  accuracy() {
    if (this.test === null) return null;
    return this.test.filter(({ input, label }) => this.#network.classify(input) === label).length / this.test.length;
  }

  /** How many of the taught drawings were right before they were taught, and are now; the marks of those that are. */
  lessons() {
    const now = this.taught.map(({ input, label }) => this.#network.classify(input) === label);
    const count = (list) => list.filter(Boolean).length;
    return { of: now.length, before: count(this.taught.map(({ right }) => right)), now: count(now), marks: now };
  }

  forget() {
    this.#network.forget();
    this.taught = [];
    this.classes.length = this.known;
  }

  digest() {
    return this.learns ? this.#network.digest() : null;
  }

  /** The file as it is now. */
  file() {
    return this.learns ? this.#network.exportFile() : this.#network.file;
  }

  /** Milliseconds of each operator, and of a run. */
  times() {
    const input = this.inputs.map((tensor) => new Float32Array(tensor.elements));
    // The browser compiles what runs often once more. Then as many runs as a third of a second has, since clocks are coarse.
    const start = performance.now();
    let warm = 0;
    while (performance.now() - start < 150) {
      this.#network.profile(input, { runs: 1 });
      warm += 1;
    }
    const runs = Math.min(500, Math.max(10, 2 * warm));
    return { each: this.#network.profile(input, { runs }), runs };
  }

  close() {
    this.#network.close();
  }
}
