#!/usr/bin/env python3
"""Removes key-value pairs from a GGUF by prefix of their names: strip_gguf_keys.py IN.gguf OUT.gguf PREFIX [PREFIX...]

For tests and demonstrations: it makes the file a converter that drops those keys would have made. Plain Python, sharing no code with ropewalk or gguf-py, so that a
fault there cannot hide here. Layout (GGUF version 3, little-endian):
  "GGUF" | u32 version | i64 tensors | i64 pairs | pairs | tensor infos | zeros up to a multiple of general.alignment (32) | data
Tensor offsets are relative to the data, so only the number of pairs and the padding change.
"""
import struct
import sys

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise SystemExit(f"byte {self.at}: the file ends early")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def number(self, kind):
        return struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0]

    def string(self):
        return self.take(self.number("Q"))

    def value(self, kind):
        """Steps over a value; its number if it is an u32."""
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element in SIZES:
                self.take(SIZES[element] * count)
            else:
                for _ in range(count):
                    self.value(element)
        elif kind in SIZES:
            piece = self.take(SIZES[kind])
            return struct.unpack("<I", piece)[0] if kind == 4 else None
        else:
            raise SystemExit(f"byte {self.at}: unknown type {kind}")
        return None


def stripped(data, prefixes):
    """The file without the pairs, and the names removed."""
    cursor = Cursor(data)
    if cursor.take(4) != b"GGUF" or cursor.number("I") not in (2, 3):
        raise SystemExit("not a GGUF of version 2 or 3")
    start = cursor.at
    n_tensors, n_pairs = cursor.number("q"), cursor.number("q")
    kept, removed, alignment = [], [], 32
    for _ in range(n_pairs):
        begin = cursor.at
        name = cursor.string().decode()
        value = cursor.value(cursor.number("I"))
        if name == "general.alignment":
            alignment = value
        if any(name.startswith(prefix) for prefix in prefixes):
            removed.append(name)
        else:
            kept.append(data[begin : cursor.at])
    infos = cursor.at
    for _ in range(n_tensors):
        cursor.string()
        cursor.take(8 * cursor.number("I") + 4 + 8)
    header = data[:start] + struct.pack("<qq", n_tensors, len(kept)) + b"".join(kept) + data[infos : cursor.at]
    data_at = -(-cursor.at // alignment) * alignment
    return header + bytes(-len(header) % alignment) + data[data_at:], removed


def main():
    if len(sys.argv) < 4:
        raise SystemExit(__doc__.splitlines()[0])
    source, target, prefixes = sys.argv[1], sys.argv[2], sys.argv[3:]
    with open(source, "rb") as file:
        data, removed = stripped(file.read(), prefixes)
    if not removed:
        raise SystemExit(f"{source}: no key starts with {' or '.join(prefixes)}")
    with open(target, "xb") as file:
        file.write(data)
    print("\n".join(removed))


main()
