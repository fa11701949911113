/** Where the module comes from: an URL (absolute, or relative to the package), a response, its bytes, or a compiled module. */
export type Source = URL | string | Response | ArrayBuffer | ArrayBufferView | WebAssembly.Module;

/** The bytes of a `.off` file, or of what was learned. */
export type Bytes = ArrayBuffer | ArrayBufferView;

/** Numbers of a tensor as they lie in the arena. */
export type Elements = Int8Array | Float32Array | Int32Array | Int16Array;

/**
 * One input's elements, channels last. An array of the tensor's own type is copied as it is; other numbers are real numbers, which an int8
 * input quantises: `round(x / scale) + zeroPoint`, ties away from zero, clamped to -128 to 127.
 */
export type Values = Elements | Float64Array | Uint8Array | readonly number[];

/** Loads the module: without `source`, `offshoot.wasm` beside this file. `offshoot-files.wasm` can change files too. */
export function load(source?: Source): Promise<Runtime>;

/** A call that failed. */
export class OffshootError extends Error {
  /** The status (`offshoot_status` of offshoot.h); 0 if the package found the error itself; 99 is a bug, after which the instance is unusable. */
  readonly status: number;
  /** The number that goes with the status: bytes needed, or the index of the operator at fault; else 0. */
  readonly detail: number;
}

/** What a file is and needs. */
export interface Info {
  /** Bytes of the file. */
  fileBytes: number;
  /** Bytes of arena for inference. */
  arenaBytes: number;
  /** Bytes of arena for learning, inference included; 0 if nothing learns. */
  learningArenaBytes: number;
  /** Bytes of what is learned; 0 if nothing learns. */
  learnedBytes: number;
  /** Number of classes that a label may name; 0 if nothing learns. */
  classes: number;
  /** Number of inputs. */
  inputs: number;
  /** Number of outputs. */
  outputs: number;
  /** Number of networks in the file: 1, and the sub-networks that share its weights. */
  networks: number;
  /** Whether a run depends on earlier runs. */
  keepsState: boolean;
  /** Number of operators of the first network. */
  operators: number;
}

/** An operator of a network. */
export interface Operator {
  /** Its kind. */
  kind: string;
  /** Multiply-accumulates of a run. */
  macs: number;
  /** Number of weights, without biases. */
  weights: number;
  /** Where in the arena the output lies, in bytes. */
  offset: number;
  /** Bytes of the output. */
  bytes: number;
  /** Bytes of arena needed besides input and output. */
  scratchBytes: number;
}

/** An input or output. */
export interface Tensor {
  /** Type of the elements. */
  type: "int8" | "float32" | "int32" | "int16";
  /** Extents, channels last. */
  shape: number[];
  /** Number of elements. */
  elements: number;
  /** Number of bytes. */
  bytes: number;
  /** int8, int16: q stands for `(q - zeroPoint) * scale`; else null. */
  scale: number | null;
  /** See `scale`. */
  zeroPoint: number | null;
}

/** Report of a train step. */
export interface Step {
  /** The class predicted before learning from the sample; null if nothing gives class scores. */
  guess: number | null;
  /** Steps so far, this one included. */
  steps: number;
  /** Whether the sample was left out, because it is not finite or much farther from the others than is usual. */
  leftOut: boolean;
}

/** An instance of the module. Networks of one instance are used by one thread; a worker loads its own. */
export class Runtime {
  private constructor();
  /** Version of the runtime. */
  readonly version: string;
  /** Version of the `.off` format that it reads. */
  readonly formatVersion: number;
  /** Whether the module has `exportFile` and `withNewClasses`. */
  readonly changesFiles: boolean;
  /** Validates a file and says what it needs. */
  inspect(file: Bytes): Info;
  /** The operators of the file's first network, in order. */
  operators(file: Bytes): Operator[];
  /** Opens a file: for inference, or for learning too. The bytes are copied. */
  open(file: Bytes, options?: { learn?: boolean }): Network;
  /** CRC-32 (IEEE): the digest by which the tools tell learned weights apart. */
  crc32(data: Bytes): number;
  /** The file with room for more classes, which its classifier head learns. For a file that has learned nothing. */
  withNewClasses(file: Bytes, classes: number): Uint8Array;
}

/** An open network, with the file and the arena in the module's memory. */
export class Network {
  private constructor();
  /** What the file is and needs. */
  readonly info: Info;
  /** Whether it was opened for learning. */
  readonly learns: boolean;
  /** The bytes of the file. */
  readonly file: Uint8Array;
  /** Its inputs. */
  readonly inputs: Tensor[];
  /** Its outputs. */
  readonly outputs: Tensor[];
  /**
   * An input where it lies in the arena, to write it without a copy. It is valid until the next call of this package: memory that grows
   * detaches views.
   */
  inputView(index?: number): Elements;
  /** An output where it lies in the arena, to read it without a copy. Valid until the next call, and until an input is written. */
  outputView(index?: number): Elements;
  /** Writes an input. A run overwrites it. */
  writeInput(index: number, values: Values): void;
  /** Runs the network, on these inputs if they are given. Returns output 0 as it lies in the arena, copied. */
  run(values?: Values | readonly Values[]): Elements | undefined;
  /** An output as it lies in the arena, copied. */
  output(index?: number): Elements;
  /** An output as real numbers. */
  outputReal(index?: number): Float32Array;
  /** Index of the largest element of an output; ties go to the lowest. */
  top1(index?: number): number;
  /** Runs the network; the class that the classifier head answers if it has learned one, else that of output 0. */
  classify(values?: Values | readonly Values[]): number;
  /** After a run, the scores of the classifier head: minus infinity for classes without samples. Null without a head. */
  headScores(): Float32Array | null;
  /** Milliseconds that each operator takes, mean over `runs` runs (100). Single runs are shorter than the clock's steps. */
  profile(values: Values | readonly Values[], options?: { runs?: number }): number[];
  /** One train step on a sample, towards a class. */
  learn(values: Values | readonly Values[] | undefined, label: number): Step;
  /** A run from which only the input statistics learn. Returns whether the sample was left out. */
  observe(values?: Values | readonly Values[]): boolean;
  /** Stretches or shortens the plan's course to so many steps; 0 goes back to the plan's. */
  setCourse(steps: number): void;
  /** Resets operators that keep their state from run to run. */
  restart(): void;
  /** Switches to another network of the file. */
  select(index: number): void;
  /** What was learned: `restore` takes it, here or on a microcontroller. */
  save(): Uint8Array;
  /** Restores what `save` gave for the same file. */
  restore(learned: Bytes): void;
  /** Goes back to the weights of the file, or to what the file has learned. */
  forget(): void;
  /** CRC-32 of what was learned: `digest` of `offshoot learn --json`. */
  digest(): number;
  /** The file with what was learned, to go on from there; or for inference alone. Needs `offshoot-files.wasm`. */
  exportFile(options?: { inferenceOnly?: boolean }): Uint8Array;
  /** Frees its memory. */
  close(): void;
  [Symbol.dispose](): void;
}
