// An open network. Users get one from `Runtime.open` of offshoot.js.

import { OffshootError, STATUS, bytesOf } from "./module.js";

const TYPES = ["int8", "float32", "int32", "int16"];
const ARRAYS = { int8: Int8Array, float32: Float32Array, int32: Int32Array, int16: Int16Array };
const TENSOR_BYTES = 52;
const STEP_BYTES = 12;

// A network that nobody closed frees its memory when it is collected.
const forgotten =
  typeof FinalizationRegistry === "undefined" ? null : new FinalizationRegistry((release) => release());

/** Frees the memory of a network once: by `close`, or when nobody holds the network any more, so that this must not hold it. */
function releaser(module, blocks, released) {
  return () => {
    if (released.done) return;
    released.done = true;
    for (const [at, bytes] of blocks) module.free(at, bytes);
  };
}

/** Reads `offshoot_tensor`. */
function tensorAt(view, at) {
  const word = (i) => view.getUint32(at + 4 * i, true);
  const rank = word(4);
  const type = TYPES[view.getInt32(at + 12, true)];
  const quantised = type === "int8" || type === "int16";
  return {
    data: word(0),
    bytes: word(1),
    elements: word(2),
    type,
    shape: Array.from({ length: rank }, (_, i) => word(5 + i)),
    scale: quantised ? view.getFloat32(at + 44, true) : null,
    zeroPoint: quantised ? view.getInt32(at + 48, true) : null,
  };
}

export class Network {
  #module;
  #object;
  #blocks = [];
  #inputs;
  #outputs;
  #released = { done: false };
  #release;

  /** For `Runtime.open`: the description of the file, and whether to open it for learning. */
  constructor(module, file, info, learn) {
    this.#module = module;
    this.info = info;
    this.learns = learn;
    // The file stays as it is: its bytes are a copy.
    this.file = bytesOf(file).slice();
    const model = this.#block(this.file.byteLength);
    module.bytes.set(this.file, model);
    const arenaBytes = learn ? info.learningArenaBytes : info.arenaBytes;
    const arena = this.#block(Math.max(arenaBytes, 1));
    const objectBytes = module.value("offshoot_size");
    this.#object = this.#block(objectBytes);
    this.#release = releaser(module, this.#blocks, this.#released);
    try {
      const open = learn ? "offshoot_open_learning" : "offshoot_open";
      module.call(open, this.#object, model, this.file.byteLength, arena, arenaBytes);
      this.#inputs = this.#tensors("offshoot_input", info.inputs);
      this.#outputs = this.#tensors("offshoot_output", info.outputs);
    } catch (error) {
      this.#release();
      throw error;
    }
    forgotten?.register(this, this.#release, this);
  }

  #block(bytes) {
    const at = this.#module.allocate(bytes);
    this.#blocks.push([at, bytes]);
    return at;
  }

  #tensors(name, count) {
    return this.#module.with(TENSOR_BYTES, (at) =>
      Array.from({ length: count }, (_, i) => {
        this.#call(name, i, at);
        return tensorAt(this.#module.view, at);
      }),
    );
  }

  #call(name, ...args) {
    if (this.#released.done) throw new OffshootError("the network is closed", STATUS.NOT_OPEN);
    this.#module.call(name, this.#object, ...args);
  }

  #tensor(tensors, what, index) {
    const tensor = tensors[index];
    if (tensor === undefined) throw new RangeError(`the network has no ${what} ${index}`);
    return tensor;
  }

  /** A word that a call writes: `work(address)`. */
  #word(work) {
    return this.#module.with(4, (at) => {
      work(at);
      return this.#module.view.getUint32(at, true);
    });
  }

  get inputs() {
    return this.#inputs.map(({ data, ...rest }) => rest);
  }

  get outputs() {
    return this.#outputs.map(({ data, ...rest }) => rest);
  }

  /** A tensor where it lies in the arena. */
  #view(call, tensor, index) {
    // The status of a call that needs an open object, so that no memory of a closed one is seen.
    this.#call(call, index, this.#scratch(TENSOR_BYTES));
    return new ARRAYS[tensor.type](this.#module.bytes.buffer, tensor.data, tensor.elements);
  }

  inputView(index = 0) {
    return this.#view("offshoot_input", this.#tensor(this.#inputs, "input", index), index);
  }

  outputView(index = 0) {
    return this.#view("offshoot_output", this.#tensor(this.#outputs, "output", index), index);
  }

  writeInput(index, values) {
    const tensor = this.#tensor(this.#inputs, "input", index);
    if (values.length !== tensor.elements) {
      throw new RangeError(`input ${index} has ${tensor.elements} elements, not ${values.length}`);
    }
    if (values instanceof ARRAYS[tensor.type]) {
      this.inputView(index).set(values);
      return;
    }
    const real = values instanceof Float32Array ? values : Float32Array.from(values);
    const at = this.#scratch(real.byteLength);
    this.#module.bytes.set(new Uint8Array(real.buffer, real.byteOffset, real.byteLength), at);
    this.#call("offshoot_write_input_f32", index, at, real.length);
  }

  #scratchAt = 0;
  #scratchBytes = 0;

  /** Memory that lives as long as the network and is written anew by every call. */
  #scratch(bytes) {
    if (bytes > this.#scratchBytes) {
      this.#scratchAt = this.#block(bytes);
      this.#scratchBytes = bytes;
    }
    return this.#scratchAt;
  }

  #write(values) {
    if (values === undefined) return;
    const all = Array.isArray(values) && typeof values[0] !== "number" ? values : [values];
    if (all.length !== this.#inputs.length) {
      throw new RangeError(`the network has ${this.#inputs.length} inputs, not ${all.length}`);
    }
    all.forEach((value, i) => this.writeInput(i, value));
  }

  run(values) {
    this.#write(values);
    this.#call("offshoot_run");
    return this.#outputs.length > 0 ? this.output(0) : undefined;
  }

  output(index = 0) {
    return this.outputView(index).slice();
  }

  outputReal(index = 0) {
    const tensor = this.#tensor(this.#outputs, "output", index);
    const at = this.#scratch(4 * tensor.elements);
    this.#call("offshoot_read_output_f32", index, at, tensor.elements);
    return new Float32Array(this.#module.bytes.slice(at, at + 4 * tensor.elements).buffer);
  }

  top1(index = 0) {
    return this.#word((at) => this.#call("offshoot_top1", index, at));
  }

  classify(values) {
    this.#write(values);
    this.#call("offshoot_run");
    return this.#word((at) => this.#call("offshoot_class", at));
  }

  headScores() {
    if (!this.learns) return null;
    return this.#module.with(8, (at) => {
      this.#call("offshoot_scores", at, at + 4);
      const view = this.#module.view;
      const [data, count] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      if (data === 0) return null;
      return new Float32Array(this.#module.bytes.slice(data, data + 4 * count).buffer);
    });
  }

  profile(values, { runs = 100 } = {}) {
    const count = this.info.operators;
    return this.#module.with(8 * count, (at) => {
      for (let i = 0; i < runs; i += 1) {
        this.#write(values);
        this.#call("offshoot_run_timed", at, count);
      }
      const view = this.#module.view;
      return Array.from({ length: count }, (_, i) => view.getFloat64(at + 8 * i, true) / runs);
    });
  }

  learn(values, label) {
    this.#write(values);
    return this.#module.with(STEP_BYTES, (at) => {
      this.#call("offshoot_learn", label, at);
      const view = this.#module.view;
      const guess = view.getInt32(at, true);
      return {
        guess: guess < 0 ? null : guess,
        steps: view.getUint32(at + 4, true),
        leftOut: view.getUint32(at + 8, true) !== 0,
      };
    });
  }

  observe(values) {
    this.#write(values);
    return this.#word((at) => this.#call("offshoot_observe", at)) !== 0;
  }

  setCourse(steps) {
    this.#call("offshoot_set_course", steps);
  }

  restart() {
    this.#call("offshoot_restart");
  }

  select(index) {
    this.#call("offshoot_select", index);
    this.#inputs = this.#tensors("offshoot_input", this.#inputs.length);
    this.#outputs = this.#tensors("offshoot_output", this.#outputs.length);
  }

  save() {
    return this.#module.with(8, (at) => {
      this.#call("offshoot_learned", at, at + 4);
      const view = this.#module.view;
      const [data, bytes] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
      return this.#module.bytes.slice(data, data + bytes);
    });
  }

  restore(learned) {
    this.#module.withCopy(bytesOf(learned), (at, bytes) => this.#call("offshoot_restore", at, bytes));
  }

  forget() {
    this.#call("offshoot_forget");
  }

  digest() {
    return this.#module.withCopy(this.save(), (at, bytes) =>
      this.#word((crc) => this.#module.check("offshoot_crc32", at, bytes, crc)),
    );
  }

  exportFile({ inferenceOnly = false } = {}) {
    const learned = this.save();
    const name = inferenceOnly ? "offshoot_inference_only" : "offshoot_going_on";
    return changedFile(this.#module, name, this.file, (model, bytes, result) =>
      this.#module.withCopy(learned, (at, count) => this.#module.value(name, model, bytes, at, count, result)),
    );
  }

  close() {
    forgotten?.unregister(this);
    this.#release();
  }

  [Symbol.dispose ?? Symbol.for("dispose")]() {
    this.close();
  }
}

/** A changed copy of a file: `work(model, bytes, result)` calls the module and returns its status. */
export function changedFile(module, name, file, work) {
  if (!module.has(name)) {
    throw new OffshootError("this module does not change files: load offshoot-files.wasm instead of offshoot.wasm");
  }
  return module.withCopy(file, (model, bytes) =>
    module.with(8, (result) => {
      const status = work(model, bytes, result);
      const [data, count] = [module.view.getUint32(result, true), module.view.getUint32(result + 4, true)];
      const found = data === 0 ? null : module.bytes.slice(data, data + count);
      module.free(data, count);
      if (status === STATUS.OK && found !== null) return found;
      if (found === null) throw module.failure(status);
      throw new OffshootError(new TextDecoder().decode(found), status);
    }),
  );
}
