"""Edits the bytes of a GGUF, to plant the faults that converters have made: for tests of what `verify` catches.

Plain struct and numpy, sharing no code with ropewalk or gguf-py: a fault of theirs cannot hide here. Layout (GGUF version 3, little-endian):
  "GGUF" | u32 version | i64 tensors | i64 pairs | pairs: string name, u32 type, value | infos: string name, u32 n, i64 sizes[n], u32 type, u64 offset | zeros | data
A string is an u64 and its bytes. Sizes begin with the row's length. Offsets count from the data, which begins at a multiple of general.alignment (32).
"""
import struct

import numpy as np

ALIGNMENT = 32
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
FORMATS = {4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
FLOATS = {0: np.dtype("<f4"), 1: np.dtype("<f2")}  # ggml types F32 and F16
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 8: (32, 34), 14: (256, 210)}  # F32 F16 Q4_0 Q4_1 Q8_0 Q6_K: weights and bytes of a block


class Tensor:
    def __init__(self, sizes, kind, data):
        self.sizes, self.kind, self.data = sizes, kind, data

    def rows(self):
        """[rows, row's bytes], to read and to change."""
        length, size = BLOCKS[self.kind]
        width = self.sizes[0] // length * size
        array = np.frombuffer(self.data, np.uint8).reshape(-1, width).copy()
        return array

    def set_rows(self, rows):
        data = np.ascontiguousarray(rows).tobytes()
        assert len(data) == len(self.data)
        self.data = data

    def values(self):
        return np.frombuffer(self.data, FLOATS[self.kind]).reshape(self.sizes[::-1]).astype(np.float64)

    def set_values(self, values):
        assert values.shape == tuple(self.sizes[::-1])
        self.data = values.astype(FLOATS[self.kind]).tobytes()


class Gguf:
    """A file taken apart: `pairs` name -> [type, value's bytes], `tensors` name -> Tensor, both in file order."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.at = 0
        assert self.take(4) == b"GGUF" and self.number("I") == 3, "not a GGUF of version 3"
        n_tensors, n_pairs = self.number("q"), self.number("q")
        self.pairs, self.tensors = {}, {}
        for _ in range(n_pairs):
            name, kind = self.string(), self.number("I")
            begin = self.at
            self.step(kind)
            self.pairs[name] = [kind, self.bytes[begin : self.at]]
        infos = []
        for _ in range(n_tensors):
            name = self.string()
            sizes = [self.number("q") for _ in range(self.number("I"))]
            infos.append((name, sizes, self.number("I"), self.number("Q")))
        data = -(-self.at // ALIGNMENT) * ALIGNMENT
        for name, sizes, kind, offset in infos:
            length, size = BLOCKS[kind]
            count = int(np.prod(sizes)) // length * size
            self.tensors[name] = Tensor(sizes, kind, self.bytes[data + offset : data + offset + count])
        del self.bytes

    def take(self, count):
        assert self.at + count <= len(self.bytes), "the file ends early"
        self.at += count
        return self.bytes[self.at - count : self.at]

    def number(self, kind):
        (value,) = struct.unpack_from("<" + kind, self.bytes, self.at)  # struct.error past the end
        self.at += struct.calcsize("<" + kind)
        return value

    def string(self):
        return self.take(self.number("Q")).decode()

    def step(self, kind):
        if kind == STRING:
            self.take(self.number("Q"))
        elif kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element in SIZES:
                self.take(SIZES[element] * count)
            else:
                for _ in range(count):
                    self.step(element)
        else:
            self.take(SIZES[kind])

    def value(self, name):
        kind, data = self.pairs[name]
        return struct.unpack("<" + FORMATS[kind], data)[0]

    def set(self, name, value, kind=None):
        """A number, of the kind it had or of one that is new."""
        kind = self.pairs[name][0] if kind is None else kind
        self.pairs[name] = [kind, struct.pack("<" + FORMATS[kind], value)]

    def drop(self, prefix):
        gone = [name for name in self.pairs if name.startswith(prefix)]
        assert gone, f"no key starts with {prefix}"
        for name in gone:
            del self.pairs[name]

    def strings(self, name):
        kind, data = self.pairs[name]
        element, count = struct.unpack_from("<IQ", data)
        assert (kind, element) == (ARRAY, STRING)
        out, at = [], 12
        for _ in range(count):
            (length,) = struct.unpack_from("<Q", data, at)
            out.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        return out

    def set_strings(self, name, strings):
        self.pairs[name][1] = struct.pack("<IQ", STRING, len(strings)) + b"".join(struct.pack("<Q", len(one)) + one for one in strings)

    def write(self, path):
        def string(text):
            return struct.pack("<Q", len(text.encode())) + text.encode()

        pairs = b"".join(string(name) + struct.pack("<I", kind) + data for name, (kind, data) in self.pairs.items())
        infos, data, offset = [], [], 0
        for name, tensor in self.tensors.items():
            infos.append(string(name) + struct.pack("<I", len(tensor.sizes)) + struct.pack(f"<{len(tensor.sizes)}q", *tensor.sizes) + struct.pack("<IQ", tensor.kind, offset))
            data += [tensor.data, bytes(-len(tensor.data) % ALIGNMENT)]
            offset += len(tensor.data) + len(data[-1])
        head = b"GGUF" + struct.pack("<Iqq", 3, len(self.tensors), len(self.pairs)) + pairs + b"".join(infos)
        with open(path, "xb") as file:
            file.writelines([head, bytes(-len(head) % ALIGNMENT), *data])
