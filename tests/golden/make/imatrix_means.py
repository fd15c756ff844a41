#!/usr/bin/env python3
"""Importances as llama-quantize 0.5 has them, by numpy: float32 sums / float32 counts, 1 where the count is 0.

usage: imatrix_means.py FOLDER OUT.json   (FOLDER: *.imatrix.gguf and *.imatrix.dat; needs gguf and numpy)
Writes {file: {"chunks", "datasets", "entries": {name: [values, first 32 hex digits of the values' sha256, unseen experts]}}}.
"""
import glob, hashlib, json, os, struct, sys
import gguf
import numpy as np


def digest(values):
    return hashlib.sha256(np.ascontiguousarray(values, dtype="<f4").tobytes()).hexdigest()[:32]


def from_gguf(path):
    reader = gguf.GGUFReader(path)
    tensors = {t.name: np.array(t.data, dtype=np.float32) for t in reader.tensors}
    entries = {}
    for name in sorted(n[:-8] for n in tensors if n.endswith(".in_sum2")):
        counts = tensors[name + ".counts"].reshape(-1, 1)
        sums = tensors[name + ".in_sum2"].reshape(len(counts), -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = np.where(counts > 0, sums / counts, np.float32(1))
        entries[name] = [values.size, digest(values), int((counts <= 0).sum())]
    fields = reader.fields
    return {"chunks": int(fields["imatrix.chunk_count"].contents()), "datasets": list(fields["imatrix.datasets"].contents()),
            "entries": entries}


def from_dat(path):
    data, at, entries = open(path, "rb").read(), 4, {}
    for _ in range(struct.unpack_from("<i", data)[0]):
        length, = struct.unpack_from("<i", data, at)
        name = data[at + 4:at + 4 + length].decode()
        calls, n = struct.unpack_from("<ii", data, at + 4 + length)
        at += 12 + length
        values = np.frombuffer(data, "<f4", n, at)
        at += 4 * n
        entries[name] = [n, digest(values / np.float32(calls) if calls > 0 else values), 0]
    chunks, length = struct.unpack_from("<ii", data, at)
    return {"chunks": chunks, "datasets": [data[at + 8:at + 8 + length].decode()], "entries": entries}


out = {}
for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.imatrix.*"))):
    out[os.path.basename(path)] = from_gguf(path) if path.endswith(".gguf") else from_dat(path)
with open(sys.argv[2], "w") as file:
    json.dump(out, file, indent=1)
    file.write("\n")
