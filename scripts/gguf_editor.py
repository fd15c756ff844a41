"""Takes a GGUF apart and writes it again, to plant the faults that converters have made: for tests and demonstrations of what `verify` catches.

Plain Python, sharing no code with ropewalk or gguf-py, so that a fault there cannot hide here. Layout (GGUF version 3, little-endian):
  "GGUF" | u32 version | i64 tensors | i64 pairs | pairs: string name, u32 type, value | infos: string name, u32 n, i64 sizes[n], u32 type, u64 offset | zeros | data
A string is an u64 and its bytes. Sizes begin with the row's length. Offsets count from the data, which begins at a multiple of general.alignment (32).
"""
import struct

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
FORMATS = {4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Tensor:
    """`data`: its bytes, up to the next tensor."""

    def __init__(self, sizes, kind, data):
        self.sizes, self.kind, self.data = sizes, kind, data


class Gguf:
    """`pairs`: name -> [type, value's bytes]; `tensors`: name -> Tensor; both in file order."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.bytes = file.read()
        self.path, self.at = path, 0
        if self.take(4) != b"GGUF":
            raise SystemExit(f"{path}: not a GGUF")
        self.version = self.number("I")
        if self.version not in (2, 3):
            raise SystemExit(f"{path}: GGUF version {self.version}, expected 2 or 3")
        n_tensors, n_pairs = self.number("q"), self.number("q")
        self.pairs, self.tensors = {}, {}
        for _ in range(n_pairs):
            name, kind = self.string(), self.number("I")
            begin = self.at
            self.step(kind)
            self.pairs[name] = [kind, self.bytes[begin : self.at]]
        self.alignment = self.value("general.alignment") if "general.alignment" in self.pairs else 32
        infos = []
        for _ in range(n_tensors):
            name = self.string()
            sizes = [self.number("q") for _ in range(self.number("I"))]
            infos.append((name, sizes, self.number("I"), self.number("Q")))
        data = -(-self.at // self.alignment) * self.alignment
        ends = [offset for *_, offset in infos[1:]] + [len(self.bytes) - data]
        for (name, sizes, kind, offset), end in zip(infos, ends):
            if not 0 <= offset <= end <= len(self.bytes) - data:
                raise SystemExit(f"{path}: tensor '{name}' does not lie behind the one before it")
            self.tensors[name] = Tensor(sizes, kind, self.bytes[data + offset : data + end])
        del self.bytes

    def take(self, count):
        if self.at + count > len(self.bytes):
            raise SystemExit(f"byte {self.at}: the file ends early")
        self.at += count
        return self.bytes[self.at - count : self.at]

    def number(self, kind):
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def string(self):
        return self.take(self.number("Q")).decode()

    def step(self, kind):
        """Over a value."""
        if kind == STRING:
            self.take(self.number("Q"))
        elif kind == ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element in SIZES:
                self.take(SIZES[element] * count)
            else:
                for _ in range(count):
                    self.step(element)
        elif kind in SIZES:
            self.take(SIZES[kind])
        else:
            raise SystemExit(f"byte {self.at}: unknown type {kind}")

    def value(self, name):
        kind, data = self.pairs[name]
        return struct.unpack("<" + FORMATS[kind], data)[0]

    def set(self, name, value, kind=None):
        """A number, of the kind it had or of one that is new."""
        kind = self.pairs[name][0] if kind is None else kind
        self.pairs[name] = [kind, struct.pack("<" + FORMATS[kind], value)]

    def drop(self, prefixes):
        """The names removed; none: SystemExit."""
        gone = [name for name in self.pairs if name.startswith(tuple(prefixes))]
        if not gone:
            raise SystemExit(f"{self.path}: no key starts with {' or '.join(prefixes)}")
        for name in gone:
            del self.pairs[name]
        return gone

    def strings(self, name):
        kind, data = self.pairs[name]
        element, count = struct.unpack_from("<IQ", data)
        if (kind, element) != (ARRAY, STRING):
            raise SystemExit(f"{name} is no list of strings")
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
            data += [tensor.data, bytes(-len(tensor.data) % self.alignment)]
            offset += len(tensor.data) + len(data[-1])
        head = b"GGUF" + struct.pack("<Iqq", self.version, len(self.tensors), len(self.pairs)) + pairs + b"".join(infos)
        with open(path, "xb") as file:
            file.writelines([head, bytes(-len(head) % self.alignment), *data])
