#!/usr/bin/env python3
"""Lists every record of `.off` files with its fields: a second reader of the format, written from runtime/FORMAT.md alone.

    tests/format_reader.py FILE...

It takes types, field names and tags from the tables of that page, so a table that is wrong shows up as a listing that differs from
the runtime's (tests/tests/format.rs compares them). A line is the record's offset in the file, its name, and its fields as JSON;
members of fused row tiles follow their record. Of a signed file the envelope comes first, and offsets count from behind it. Numbers that are not finite are null. Exit code 1 if a file is no valid container.
"""
import json
import math
import re
import struct
import sys
import zlib
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "runtime" / "FORMAT.md"
HEADER = struct.Struct("<4sHHIIIIII")
HEADER_NAMES = "magic version requires file_len crc32 arena_bytes arena_lower_bound graph_len source_hash".split()
VERSION = 2
ENVELOPE = struct.Struct("<4sH10s64s16s8sIIHHH2s32s24s")
LEARNS, NESTED, KNOWN = 2, 4, 7
TAG_OF_FUSED_TILES = 30


class Invalid(Exception):
    """The bytes are no file of this format."""


def tokenise(cell):
    return re.findall(r"\w+|[^\w\s]", cell.strip("`"))


def parse_type(tokens):
    """A type from the front of a list of tokens: a name, or its kind and what is in it."""
    first = tokens.pop(0)
    if first not in ("[", "(", "Option"):
        return first
    if first == "Option":
        tokens.pop(0)
    inner = [parse_type(tokens)]
    while tokens[0] == ",":
        tokens.pop(0)
        inner.append(parse_type(tokens))
    if tokens[0] == ";":
        inner *= int(tokens[1])
        del tokens[:2]
    assert tokens.pop(0) in "])>"
    return ("option" if first == "Option" else "many", inner)


def parse_variant(cell):
    """What follows the number of an enum's variant: nothing, a type, or a list of fields."""
    tokens = tokenise(cell)
    if len(tokens) < 2 or tokens[1] != ":":
        return parse_type(tokens) if tokens else None
    fields = []
    while tokens:
        name = tokens.pop(0)
        assert tokens.pop(0) == ":"
        fields.append((name, parse_type(tokens)))
        assert not tokens or tokens.pop(0) == ","
    return fields


def read_page(text):
    """Types by name, and names by tag. A struct is a list of fields, an enum a dictionary of variants."""
    types, tags, name = {}, {}, None
    for line in text.splitlines():
        if heading := re.match(r"### (?:Tag (\d+)|Type): `(\w+)`", line):
            name = heading[2]
            if heading[1]:
                tags[int(heading[1])] = name
        elif line.startswith("#"):
            name = None
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if name and re.match(r"\| `\w+` \| `", line):
            types.setdefault(name, []).append((cells[0].strip("`"), parse_type(tokenise(cells[1]))))
        elif name and re.match(r"\| \d+ \| `", line):
            types.setdefault(name, {})[int(cells[0])] = (cells[1].strip("`"), parse_variant(cells[2]))
    return types, tags


TYPES, TAGS = read_page(PAGE.read_text(encoding="utf-8"))

class Reader:
    """Values from the bytes `at` to `end`."""

    def __init__(self, data, at, end):
        self.data, self.at, self.end = data, at, end

    def take(self, count):
        require(count <= self.end - self.at, f"a record ends beyond its section at {self.at}")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, bits):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            require(not value >> bits, f"a number of more than {bits} bits at {self.at}")
            if byte < 0x80:
                return value
            require(shift < bits, f"a number of more than {bits} bits at {self.at}")

    def flag(self):
        byte = self.take(1)[0]
        require(byte < 2, f"neither 0 nor 1 at {self.at}")
        return byte == 1

    def record(self, kind):
        return self.at, kind, self.read(kind)

    def read(self, kind):
        if isinstance(kind, tuple):
            if kind[0] == "option":
                return self.read(kind[1][0]) if self.flag() else None
            return [self.read(element) for element in kind[1]]
        if isinstance(kind, list):
            return {name: self.read(field) for name, field in kind}
        if kind in ("u8", "i8"):
            return int.from_bytes(self.take(1), signed=kind == "i8")
        if kind in ("u16", "u32", "i16", "i32"):
            value = self.varint(int(kind[1:]))
            return value if kind[0] == "u" else (value >> 1) ^ -(value & 1)
        if kind == "bool":
            return self.flag()
        if kind == "f32":
            value = struct.unpack("<f", self.take(4))[0]
            return value if math.isfinite(value) else None
        if isinstance(TYPES[kind], list):  # a struct
            return self.read(TYPES[kind])
        number = self.varint(32)
        require(number in TYPES[kind], f"{kind} has no variant {number}")
        name, content = TYPES[kind][number]
        return name if content is None else {name: self.read(content)}


def require(holds, otherwise):
    if not holds:
        raise Invalid(otherwise)


def text(field):
    content = field.rstrip(b"\0")
    require(0 not in content, "a text in the envelope has zeros inside")
    return content.decode()


def envelope(data):
    """The fields of a signed file's envelope, whose signature is not checked."""
    require(len(data) >= ENVELOPE.size, "the envelope is truncated")
    (_, version, zeros, signature, context, key, release, file_len, major, minor, patch, zeros_too, name,
     target) = ENVELOPE.unpack_from(data)
    require(version == 1, f"envelope version {version}: this reader knows 1")
    require(not any(zeros + zeros_too) and context == b"offshoot model 1", "the envelope is not well formed")
    require(file_len == len(data) - ENVELOPE.size, f"{len(data)} bytes, the envelope says {file_len} behind it")
    require(text(name) != "", "the envelope names no model")
    return {
        "magic": "OFSG", "envelope": version, "signature": signature.hex(), "key": key.hex(), "release": release,
        "file_len": file_len, "runtime": [major, minor, patch], "name": text(name), "target": text(target),
    }


def records(data):
    """Yields the offset, name and fields of everything in a file."""
    if data[:4] == b"OFSG":
        yield 0, "Envelope", envelope(data)
        data = data[ENVELOPE.size :]
    require(len(data) >= HEADER.size and data[:4] == b"OFFS", "not an .off file")
    header = dict(zip(HEADER_NAMES, HEADER.unpack_from(data)), magic="OFFS")
    end = HEADER.size + header["graph_len"]
    blobs = -(-end // 16) * 16
    require(header["version"] == VERSION, f"format version {header['version']}: this reader knows {VERSION}")
    require(header["file_len"] == len(data), f"{len(data)} bytes, the header says {header['file_len']}")
    require(header["crc32"] == zlib.crc32(data[16:], zlib.crc32(data[:12] + bytes(4))), "damaged: the checksum differs")
    require(header["requires"] & ~KNOWN == 0, f"requires {header['requires']:#x}")
    require(blobs <= len(data) and not any(data[end:blobs]), "the graph section does not end in zeros")
    yield 0, "Header", header
    reader = Reader(data, HEADER.size, end)
    yield from network(reader, blobs)
    for _ in range(reader.read("u8") if header["requires"] & NESTED else 0):
        yield (head := reader.record("NestedHead"))
        part = Reader(data, reader.at, reader.at + len(reader.take(head[2]["len"])))
        yield from network(part, blobs)
        require(part.at == part.end, "bytes behind a network's last record")
    if header["requires"] & LEARNS:
        yield (head := reader.record("LearnHead"))
        taps = (head[2]["classifier"] or {"taps": 0})["taps"]
        for kind in ["LearnLayer"] * head[2]["layers"] + ["Tap"] * taps:
            yield reader.record(kind)
    require(reader.at == end, "bytes behind the last record")


def network(reader, blobs):
    yield (head := reader.record("GraphHead"))
    for _ in range(head[2]["inputs"] + head[2]["outputs"]):
        yield reader.record("IoRepr")
    for _ in range(head[2]["ops"]):
        at, tag, header = reader.at, reader.read("u8"), reader.read("OpHeader")
        require(tag in TAGS, f"no operator has the tag {tag}")
        fields = reader.read(TAGS[tag])
        yield at, TAGS[tag], {"header": header, **fields}
        if tag == TAG_OF_FUSED_TILES:
            begin = blobs + fields["blob"]
            members = Reader(reader.data, begin, min(begin + fields["len"], len(reader.data)))
            for _ in range(fields["members"]):
                require((tag := members.read("u8")) in TAGS, f"no operator has the tag {tag}")
                yield members.record(TAGS[tag])


def main(paths):
    for path in paths:
        try:
            for at, name, fields in records(Path(path).read_bytes()):
                print(f"{at} {name} {json.dumps(fields, separators=(',', ':'))}")
        except (Invalid, OSError) as error:
            sys.exit(f"{path}: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
