#!/usr/bin/env python3
"""Unpacks weights of every form as runtime/FORMAT.md says, and computes int8 convolutions and fully connected layers from them.

    tests/format_weights.py MODEL.off TRACE.json

The trace holds the model's input and the output of each operator, in order. Each operator with weights that this program knows is
computed from its input and compared with its output. Prints the names of the records that were computed; exit code 1 at the first difference.
"""
import json
import operator
import struct
import sys
from pathlib import Path

from format_reader import records


def window_of(fields):
    """Kernel, stride, dilation, padding."""
    form, w = next(iter(fields["window"].items()))
    if form == "Wide":
        return w["kernel"], w["stride"], w["dilation"], w["pad"]
    halves = lambda byte: [byte >> 4, byte & 15]
    return w["kernel"], halves(w["stride"]), halves(w["dilation"]), halves(w["pad"][0]) + halves(w["pad"][1])


class Blob:
    """Arrays one after another."""

    def __init__(self, data, at):
        self.data, self.at = data, at

    def take(self, kind, count):
        values = struct.unpack_from(f"<{count}{kind}", self.data, self.at)
        self.at += struct.calcsize(f"<{count}{kind}")
        return list(values)

    def pad(self, multiple=4):
        self.at = -(-self.at // multiple) * multiple

    def plain(self, channels, scales):
        """Bias, and multiplier and shift of each channel."""
        bias, multiplier, shift = self.take("i", channels), self.take("i", scales), self.take("b", scales)
        self.pad()
        spread = lambda values: values if scales == channels else values * channels
        return bias, spread(multiplier), spread(shift)


# Weights: rows of each output channel, in the order kernel row, kernel column, input channel.


class Undefined(Exception):
    """Weights that pad a kernel row are not zero, or components are of no weights: files made by hand may be so."""


def unpadded(weight, out_c, k_h, segment):
    """Rows without the weights that pad kernel rows; `weight(o, i)` has the padding."""
    padded = -(-segment // 4) * 4
    if any(weight(o, ky * padded + j) for o in range(out_c) for ky in range(k_h) for j in range(segment, padded)):
        raise Undefined
    return [[weight(o, ky * padded + j) for ky in range(k_h) for j in range(segment)] for o in range(out_c)]


def tiled_rows(halves, out_c, k_h, segment):
    """From the halves of 32-bit words, blocks of four channels."""
    k = k_h * -(-segment // 4) * 4

    def weight(o, i):
        half = halves[o // 4 * k * 2 + i // 4 * 8 + (i & 1) * 4 + o % 4 // 2 * 2 + (i >> 1 & 1)]
        low = (half + 128) % 256 - 128
        return low if o % 2 == 0 else (half - low) >> 8

    return unpadded(weight, out_c, k_h, segment)


def wide_rows(halves, out_c, k_h, segment):
    """From int16 weights in the order A0 A2 B0 B2 C0 C2 D0 D2 A1 A3 …"""
    k = k_h * -(-segment // 4) * 4
    weight = lambda o, i: halves[o // 4 * k * 4 + i // 4 * 16 + (i & 1) * 8 + o % 4 * 2 + (i >> 1 & 1)]
    return unpadded(weight, out_c, k_h, segment)


def packed_halves(blob, bits, count):
    levels = blob.take("b", 1 << bits)
    codes = blob.take("B", count * 2 * bits // 8)
    if bits == 2:
        codes = [half for code in codes for half in (code & 15, code >> 4)]
    return [256 * levels[code >> bits] + levels[code & (1 << bits) - 1] for code in codes]


def winograd_rows(blob, out_c, c):
    halves = blob.take("h", -(-out_c // 4) * 4 * 12 * c)
    part = lambda o, m, ky, i: halves[
        o // 4 * 48 * c + (m * 3 + ky) * 4 * c + i // 4 * 16 + (i & 1) * 8 + o % 4 * 2 + (i >> 1 & 1)
    ]
    rows = []
    for o in range(out_c):
        row = []
        for ky in range(3):
            weights = []
            for i in range(c):
                m = [part(o, m, ky, i) for m in range(4)]
                g0, g2 = m[0] // 2, -m[1] // 2
                g1 = m[2] - g0 - g2
                if m != [2 * g0, -2 * g2, g0 + g1 + g2, g0 - g1 + g2]:
                    raise Undefined
                weights.append((g0, g1, g2))
            row += [w[kx] for kx in range(3) for w in weights]
        rows.append(row)
    return rows


def coded_rows(blob, fields):
    lengths, symbols = blob.take("B", 8), blob.take("b", fields["symbols"])
    blob.pad(2)
    stream = blob.take("H", fields["stream"])
    bits = (unit >> i & 1 for unit in stream + [0] * 4 for i in range(16))
    words, code, index = {}, 0, 0
    for length, count in enumerate(lengths, 1):
        for _ in range(count):
            words[length, code] = symbols[index]
            code, index = code + 1, index + 1
        code <<= 1

    def weight():
        length = code = 0
        while (length, code) not in words:
            length, code = length + 1, code << 1 | next(bits)
        if words[length, code] != -128:
            return words[length, code]
        byte = sum(next(bits) << i for i in range(8))
        return byte - 256 if byte > 127 else byte

    return [[weight() for _ in range(fields["in_c"])] for _ in range(fields["out_c"])]


def sparse_rows(blob, matrix, rows, columns):
    width = 4 if matrix["form"] == "Blocks" else 1
    counts = blob.take("H", rows)
    blob.pad()
    weights, steps = blob.take("b", matrix["entries"] * width), blob.take("B", matrix["steps"])
    dense = []
    for count in counts:
        if matrix["form"] == "Nibbles":
            packed, steps = steps[: (count + 1) // 2], steps[(count + 1) // 2 :]
            own, whole = [], count // 8 * 4
            for at in range(0, whole, 4):
                own += [b & 15 for b in packed[at : at + 4]] + [b >> 4 for b in packed[at : at + 4]]
            own = (own + [half for b in packed[whole:] for half in (b & 15, b >> 4)])[:count]
        else:
            own, steps = steps[:count], steps[count:]
        row, position = [0] * columns, 0
        for step in own:
            position += step
            for j in range(width):
                row[position * width + j] += weights.pop(0)
        dense.append(row)
    return dense


# Arithmetic.


def signed(x, bits=32):
    return (x + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


def requantise(x, m, s, zero, low, high):
    product = signed(x << max(s, 0)) * m
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    high_half = abs(nudged) >> 31 if nudged >= 0 else -(-nudged >> 31)
    right = max(-s, 0)
    half = 1 << right >> 1
    value = (abs(high_half) + half) >> right
    return max(low, min(high, (value if high_half >= 0 else -value) + zero))


def columns(x, f, window, fill):
    """The inputs of each output pixel, [k_h, k_w, c]."""
    (k_h, k_w), stride, dilation, pad = window
    n, h, w, c = f["n"], f["h"], f["w"], f["c"]
    extent = lambda size, k, d, s, p: (size + p - d * (k - 1) - 1) // s + 1
    out_h = extent(h, k_h, dilation[0], stride[0], pad[0] + pad[2])
    out_w = extent(w, k_w, dilation[1], stride[1], pad[1] + pad[3])
    for image, y, column in ((i, y, q) for i in range(n) for y in range(out_h) for q in range(out_w)):
        taken = []
        for ky in range(k_h):
            iy = y * stride[0] + ky * dilation[0] - pad[0]
            for kx in range(k_w):
                ix = column * stride[1] + kx * dilation[1] - pad[1]
                at = ((image * h + iy) * w + ix) * c
                taken += x[at : at + c] if 0 <= iy < h and 0 <= ix < w else [fill] * c
        yield taken


def compute(name, f, arena, blobs):
    """The output of a record; None if it is of another kind."""
    if name in ("Spectrum", "FullyConnectedBanded", "MicroFrontend"):
        return None
    blob = Blob(blobs, f.get("blob", 0))
    arith = f.get("arith")
    if isinstance(arith, dict) and "I8" in arith:
        f = {**f, **arith["I8"]}
    elif arith is not None:
        return None
    folded = name not in ("Conv2d", "Depthwise", "FullyConnected")
    depthwise = name in ("Depthwise", "DepthwisePlanar", "DepthwiseSingleMultiply")
    single = name in ("ConvSingleMultiply", "DepthwiseSingleMultiply")
    if "window" in f:
        window = window_of(f)
        k_h, segment = window[0][0], window[0][1] * f.get("c", 0)
    if depthwise:
        channels = f["c"] * (f["multiplier"] if name == "Depthwise" else 1)
    else:
        channels = f.get("out_c")
    one = not f.get("per_channel", True) or f.get("traversal") == "VectorOneScale"
    if name == "DepthwiseSingleMultiply":
        bias, multiplier, shift = blob.take("i", channels), blob.take("i", channels), None
    elif not single and channels is not None:
        bias, multiplier, shift = blob.plain(channels, 1 if one else channels)
    blocks = -(-(channels or 0) // 4)
    if name in ("Conv2d", "FullyConnected"):
        taps = f["in_c"] if name == "FullyConnected" else window[0][0] * segment // f["groups"]
        rows = [blob.take("b", taps) for _ in range(channels)]
    elif depthwise:
        taps = window[0][0] * window[0][1]
        all_weights = blob.take("b", taps * channels)
        rows = [all_weights[o::channels] for o in range(channels)]
    elif name == "ConvRowMajor":
        rows = [blob.take("b", k_h * segment) for _ in range(4 * blocks)][:channels]
    elif name in ("ConvTiled", "ConvPacked"):
        count = blocks * k_h * -(-segment // 4) * 8
        halves = blob.take("h", count) if name == "ConvTiled" else packed_halves(blob, f["bits"], count)
        rows = tiled_rows(halves, channels, k_h, segment)
    elif name == "ConvSingleMultiply":
        k, make = k_h * -(-segment // 4) * 4, wide_rows if f["wide"] else tiled_rows
        bias, multiplier, shift, rows = [], [], None, []
        for block in range(blocks):
            front = blob.take("i", 4 if f["wide"] else 2)
            rows += make(blob.take("h", k * 4 if f["wide"] else k * 2), 4, k_h, segment)
            b, a, d, c = front if f["wide"] else [front[0], *(rest := blob.take("i", 2))[:1], front[1], rest[1]]
            bias += [a, b, c, d]
            multiplier += blob.take("i", 4)
    elif name == "ConvWinograd":
        rows = winograd_rows(blob, channels, f["c"])
    elif name == "FullyConnectedHuffman":
        rows = coded_rows(blob, f)
    elif name == "FullyConnectedSparse":
        rows = sparse_rows(blob, f["matrix"], channels, f["in_c"])
    elif name == "ConvSparse":
        rows = sparse_rows(blob, f["matrix"], channels, -(-k_h * segment // 4) * 4)
    else:
        return None
    if "window" in f:
        count = f["n"] * f["h"] * f["w"] * f["c"]
        x = struct.unpack_from(f"<{count}b", arena, f["src"])
        pixels = columns(list(x), f, window, f["in_zp"])
    else:
        x = struct.unpack_from(f"<{f.get('rows', 1) * f['in_c']}b", arena, f["src"])
        pixels = (list(x[at : at + f["in_c"]]) for at in range(0, len(x), f["in_c"]))
    low, high = f.get("clamp") or (-128, 127)
    out = []
    for pixel in pixels:
        if not folded:
            pixel = [v - f["in_zp"] for v in pixel]
        for o in range(channels):
            if depthwise:
                read = pixel[o // (channels // f["c"]) :: f["c"]]
            elif name == "Conv2d" and f["groups"] > 1:
                depth, group = f["c"] // f["groups"], o // (channels // f["groups"])
                read = [v for at in range(0, len(pixel), f["c"]) for v in pixel[at + group * depth :][:depth]]
            else:
                read = pixel
            total = sum(map(operator.mul, read, rows[o]))
            if single:
                total = signed(total * (1 if f.get("wide") else 256) + bias[o])
                out.append(max(-128, min(127, total * multiplier[o] >> 44)))
            else:
                out.append(requantise(signed(total + bias[o]), multiplier[o], shift[o], f["out_zp"], low, high))
    return struct.pack(f"<{len(out)}b", *out)


def main(model, trace):
    data, trace = Path(model).read_bytes(), json.loads(Path(trace).read_text())
    listed = list(records(data))
    header = listed[0][2]
    blobs = data[-(-(32 + header["graph_len"]) // 16) * 16 :]
    arena = bytearray(header["arena_bytes"])
    first = next(fields for _, name, fields in listed if name == "IoRepr")
    arena[first["offset"] : first["offset"] + len(trace["input"])] = bytes(trace["input"])
    # Members of fused row tiles have no header: they are not operators of their own.
    operators = [(name, fields) for _, name, fields in listed if "header" in fields]
    assert len(operators) == len(trace["outputs"])
    computed = set()
    for index, ((name, fields), output) in enumerate(zip(operators, map(bytes, trace["outputs"]))):
        try:
            found = compute(name, fields, arena, blobs)
        except Undefined:
            found = None
        if found is not None:
            if found != output:
                at = next((i for i, pair in enumerate(zip(found, output)) if pair[0] != pair[1]), len(output))
                sys.exit(f"operator {index}, {name}: byte {at} of {len(output)} differs: {fields}")
            computed.add(name + (" wide" if fields.get("wide") else "") + f" {fields.get('matrix', {}).get('form', '')}")
        # A branch writes nothing: its output is the index.
        if name == "Branch":
            continue
        # Strides of a copy may be negative; then its output begins before `dst`.
        axes = next(iter(fields.get("axes", {"": []}).values()))
        before = sum(min(0, (a["extent"] - 1) * a["dst_stride"]) for a in axes) * fields.get("size", 1)
        begin = fields.get("layer", fields)["dst"] + before
        arena[begin : begin + len(output)] = output
    print(*sorted(name.strip() for name in computed), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
