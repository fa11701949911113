// Arrays of NumPy's .npy format, as the command line reads and writes them: little-endian, in C order.

const TYPES = {
  "|u1": Uint8Array,
  "|i1": Int8Array,
  "<f4": Float32Array,
  "<f8": Float64Array,
  "<i4": Int32Array,
  "<u2": Uint16Array,
  "<u4": Uint32Array,
  "<i2": Int16Array,
  "<i8": BigInt64Array,
};
const MAGIC = "\x93NUMPY";

/** Reads an array: its shape and its elements in order. */
export function readNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || String.fromCharCode(...bytes.subarray(0, 6)) !== MAGIC) throw new Error("this is no .npy file");
  const wide = bytes[6] > 1;
  const start = wide ? 12 : 10;
  const end = start + (wide ? view.getUint32(8, true) : view.getUint16(8, true));
  if (end > bytes.length) throw new Error("the .npy file ends in its header");
  const header = new TextDecoder("latin1").decode(bytes.subarray(start, end));
  const type = /'descr':\s*'([^']+)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1];
  const Elements = TYPES[type];
  if (Elements === undefined || shape === undefined || !/'fortran_order':\s*False/.test(header)) {
    throw new Error(`the .npy file has type ${type ?? "unknown"}, or another order than C's`);
  }
  const extents = shape.split(",").filter((extent) => extent.trim() !== "").map(Number);
  const count = extents.reduce((product, extent) => product * extent, 1);
  const length = count * Elements.BYTES_PER_ELEMENT;
  if (!Number.isSafeInteger(count) || end + length > bytes.length) throw new Error("the .npy file ends in its elements");
  // A copy, because elements of several bytes must be aligned.
  return { shape: extents, data: new Elements(bytes.slice(end, end + length).buffer) };
}

/** Writes an array of uint8, int8, int32 or float32. */
export function writeNpy(data, shape) {
  const type = Object.keys(TYPES).find((name) => data instanceof TYPES[name]);
  const extents = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${extents}), }`;
  const header = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const bytes = new Uint8Array(10 + header.length + data.byteLength);
  bytes.set([...MAGIC].map((c) => c.charCodeAt(0)));
  bytes.set([1, 0, header.length & 255, header.length >> 8], 6);
  bytes.set(new TextEncoder().encode(header), 10);
  bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), 10 + header.length);
  return bytes;
}
