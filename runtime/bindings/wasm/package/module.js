// The module of WebAssembly: where its bytes come from, its memory, and its calls. Not for users of the package: offshoot.js is.

/** A call that failed. `status` is that of offshoot.h, `detail` the number that goes with it. */
export class OffshootError extends Error {
  constructor(message, status = 0, detail = 0) {
    super(message);
    this.name = "OffshootError";
    this.status = status;
    this.detail = detail;
  }
}

/** Statuses of offshoot.h that this package names. */
export const STATUS = { OK: 0, NULL_POINTER: 1, TOO_LONG: 3, NOT_OPEN: 5, BUFFER_TOO_SMALL: 6, BUG: 99 };

/** Version of the interface that this package knows. */
const ABI_VERSION = 1;

/** Compiles a module from an URL, a path that `import.meta.url` gives, a response, bytes, or a module. */
async function compiled(source) {
  if (source instanceof WebAssembly.Module) return source;
  if (source instanceof ArrayBuffer || ArrayBuffer.isView(source)) return WebAssembly.compile(source);
  if (typeof Response !== "undefined" && source instanceof Response) {
    return WebAssembly.compile(await source.arrayBuffer());
  }
  const url = new URL(source, import.meta.url);
  if (url.protocol === "file:" && typeof process !== "undefined") {
    const { readFile } = await import("node:fs/promises");
    return WebAssembly.compile(await readFile(url));
  }
  const response = await fetch(url);
  if (!response.ok) throw new OffshootError(`${url}: ${response.status} ${response.statusText}`);
  // A server that does not know the type of .wasm files is no reason to fail.
  return WebAssembly.compile(await response.arrayBuffer());
}

/** An instance of the module. Views of its memory are made anew whenever the memory has grown. */
export class Module {
  #exports;
  #buffer;
  #bytes;
  #view;
  #broken = false;

  static async load(source) {
    const now = () => performance.now();
    const instance = await WebAssembly.instantiate(await compiled(source), { offshoot: { now } });
    return new Module(instance.exports);
  }

  constructor(exports) {
    this.#exports = exports;
    const version = this.value("offshoot_abi_version");
    if (version !== ABI_VERSION) {
      throw new OffshootError(`the module has version ${version} of the interface, this package knows ${ABI_VERSION}`);
    }
  }

  #memory() {
    if (this.#buffer !== this.#exports.memory.buffer) {
      this.#buffer = this.#exports.memory.buffer;
      this.#bytes = new Uint8Array(this.#buffer);
      this.#view = new DataView(this.#buffer);
    }
  }

  /** All bytes of the memory, until the next call. */
  get bytes() {
    this.#memory();
    return this.#bytes;
  }

  /** The memory for numbers, until the next call. */
  get view() {
    this.#memory();
    return this.#view;
  }

  /** Whether the module has a call. */
  has(name) {
    return typeof this.#exports[name] === "function";
  }

  /** Calls a function that returns a number. */
  value(name, ...args) {
    if (this.#broken) throw new OffshootError("a bug stopped this instance: load the module again", STATUS.BUG);
    if (!this.has(name)) throw new OffshootError(`the module was built without ${name}`);
    try {
      // Pointers are numbers without a sign.
      return this.#exports[name](...args) >>> 0;
    } catch (error) {
      this.#broken = true;
      throw new OffshootError(`a bug in the runtime: ${error.message}`, STATUS.BUG);
    }
  }

  /** Calls a function that returns a status; throws if it is not OK. */
  check(name, ...args) {
    const status = this.value(name, ...args);
    if (status !== STATUS.OK) throw this.failure(status);
  }

  /** The same on an object, whose detail goes with the error. */
  call(name, network, ...args) {
    const status = this.value(name, network, ...args);
    if (status !== STATUS.OK) throw this.failure(status, network);
  }

  /** The error of a status. */
  failure(status, network = 0) {
    const detail = network === 0 ? 0 : this.value("offshoot_detail", network);
    const text = this.text(this.value("offshoot_message", status));
    return new OffshootError(detail === 0 ? text : `${text} (${detail})`, status, detail);
  }

  /** Zeroed memory. */
  allocate(bytes) {
    const at = this.value("offshoot_allocate", bytes);
    if (at === 0) throw new OffshootError(`there is no memory for ${bytes} bytes`, STATUS.TOO_LONG);
    return at;
  }

  free(at, bytes) {
    if (at !== 0 && !this.#broken) this.#exports.offshoot_free(at, bytes);
  }

  /** Does `work` with memory that is freed afterwards: `work(address)`. */
  with(bytes, work) {
    const at = this.allocate(Math.max(bytes, 1));
    try {
      return work(at);
    } finally {
      this.free(at, Math.max(bytes, 1));
    }
  }

  /** Does `work` with a copy of `data` in the memory: `work(address, bytes)`. */
  withCopy(data, work) {
    return this.with(data.byteLength, (at) => {
      this.bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
      return work(at, data.byteLength);
    });
  }

  /** A text that ends with a zero. */
  text(at) {
    const end = this.bytes.indexOf(0, at);
    return new TextDecoder().decode(this.bytes.subarray(at, end));
  }
}

/** The bytes of what a caller hands in as a file. */
export function bytesOf(file) {
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  if (ArrayBuffer.isView(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  throw new TypeError("a file is an ArrayBuffer or a typed array");
}
