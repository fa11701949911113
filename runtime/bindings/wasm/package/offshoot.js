// The runtime of Offshoot in browsers and Node: runs networks in .off files with the bits of the microcontroller, and lets them learn.
// Types and explanations are in offshoot.d.ts, the guide is docs/src/web.md.

import { Module, OffshootError, STATUS, bytesOf } from "./module.js";
import { Network, changedFile } from "./network.js";

export { Network, OffshootError };

const INFO_BYTES = 36;
const OPERATOR_BYTES = 40;

/** Loads the module: without `source`, the one beside this file. `offshoot-files.wasm` changes files too. */
export async function load(source = new URL("./offshoot.wasm", import.meta.url)) {
  return new Runtime(await Module.load(source));
}

export class Runtime {
  #module;

  /** For `load`. */
  constructor(module) {
    this.#module = module;
    this.version = module.text(module.value("offshoot_version"));
    this.formatVersion = module.value("offshoot_format_version");
    this.changesFiles = module.has("offshoot_going_on");
  }

  inspect(file) {
    const module = this.#module;
    return module.withCopy(bytesOf(file), (model, bytes) =>
      module.with(INFO_BYTES, (at) => {
        module.check("offshoot_inspect", model, bytes, at);
        const operators = this.#operatorCount(model, bytes);
        const word = (i) => module.view.getUint32(at + 4 * i, true);
        return {
          fileBytes: word(0),
          arenaBytes: word(1),
          learningArenaBytes: word(2),
          learnedBytes: word(3),
          classes: word(4),
          inputs: word(5),
          outputs: word(6),
          networks: word(7),
          keepsState: word(8) !== 0,
          operators,
        };
      }),
    );
  }

  operators(file) {
    const module = this.#module;
    return module.withCopy(bytesOf(file), (model, bytes) => {
      module.with(INFO_BYTES, (at) => module.check("offshoot_inspect", model, bytes, at));
      const count = this.#operatorCount(model, bytes);
      return module.with(OPERATOR_BYTES * count, (at) => {
        module.check("offshoot_operators", model, bytes, at, count, 0);
        return Array.from({ length: count }, (_, i) => this.#operatorAt(at + OPERATOR_BYTES * i));
      });
    });
  }

  /** Of a file that was inspected. */
  #operatorCount(model, bytes) {
    const module = this.#module;
    return module.with(4, (at) => {
      const status = module.value("offshoot_operators", model, bytes, 0, 0, at);
      if (status !== STATUS.OK && status !== STATUS.BUFFER_TOO_SMALL) throw module.failure(status);
      return module.view.getUint32(at, true);
    });
  }

  #operatorAt(at) {
    const { view, bytes } = this.#module;
    const word = (offset) => view.getUint32(at + offset, true);
    const kind = word(16);
    return {
      kind: new TextDecoder().decode(bytes.subarray(kind, kind + word(20))),
      macs: view.getFloat64(at, true),
      weights: view.getFloat64(at + 8, true),
      offset: word(24),
      bytes: word(28),
      scratchBytes: word(32),
    };
  }

  open(file, { learn = false } = {}) {
    return new Network(this.#module, file, this.inspect(file), learn);
  }

  crc32(data) {
    const module = this.#module;
    return module.withCopy(bytesOf(data), (at, bytes) =>
      module.with(4, (crc) => {
        module.check("offshoot_crc32", at, bytes, crc);
        return module.view.getUint32(crc, true);
      }),
    );
  }

  withNewClasses(file, classes) {
    const name = "offshoot_with_new_classes";
    return changedFile(this.#module, name, bytesOf(file), (model, bytes, result) =>
      this.#module.value(name, model, bytes, classes, result),
    );
  }
}
