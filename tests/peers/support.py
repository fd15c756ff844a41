"""What the peer tests share: running ropewalk, reading safetensors without the library, and counting checks.

A test is a plain script: it prints one line per check and exits 1 if any failed or if none ran.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile

import numpy as np

FIXTURES = "fixtures"
ROOT = pathlib.Path(__file__).parents[2]


def arguments(extra=(), optional=()):
    parser = argparse.ArgumentParser()
    parser.add_argument("--ropewalk", required=True, help="the binary under test")
    parser.add_argument("--golden", required=True, type=pathlib.Path, help="folder of the unpacked golden archives")
    parser.add_argument("--strip", required=True, help="scripts/strip_gguf_keys.py")
    for name in extra:
        parser.add_argument(name, required=True)
    for name in optional:
        parser.add_argument(name)
    return parser.parse_args()


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def check(self, ok, text):
        print(("ok    " if ok else "FAIL  ") + text, flush=True)
        if ok:
            self.passed += 1
        else:
            self.failed += 1

    def exit(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(0 if self.passed and not self.failed else 1)


class Ropewalk:
    def __init__(self, binary):
        self.binary = binary

    def run(self, *words, expect=0):
        done = subprocess.run([self.binary, *map(str, words)], capture_output=True, text=True)
        if done.returncode != expect:
            raise SystemExit(f"ropewalk {' '.join(map(str, words))}: exit {done.returncode}, expected {expect}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def json(self, *words, expect=0):
        return json.loads(self.run(*words, "--json", expect=expect))

    def log_probabilities(self, source, ids, last):
        """Log-softmax [last, vocab] in float64 of the logits after each of the last `last` ids."""
        with tempfile.TemporaryDirectory() as folder:
            tokens = pathlib.Path(folder) / "ids.json"
            tokens.write_text(json.dumps(ids))
            out = pathlib.Path(folder) / "logits.safetensors"
            self.run("logits", source, "--tokens", tokens, "-c", len(ids), "--last", last, "-o", out, "--quiet")
            logits = read_safetensors(out)["logits"].astype(np.float64)
        return log_softmax(logits)

    def greedy(self, source, ids, count):
        with tempfile.TemporaryDirectory() as folder:
            tokens = pathlib.Path(folder) / "ids.json"
            tokens.write_text(json.dumps(ids))
            return self.json("generate", source, "--tokens", tokens, "-n", count, "--ignore-eos")["ids"]


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def read_safetensors(path):
    """Name -> array; bfloat16 stays uint16."""
    kinds = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], dtype=kinds[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write_safetensors(path, tensors):
    """Of float16 and float32 arrays."""
    kinds = {"float16": "F16", "float32": "F32"}
    header, data, end = {}, [], 0
    for name, array in tensors.items():
        header[name] = {"dtype": kinds[array.dtype.name], "shape": list(array.shape), "data_offsets": [end, end + array.nbytes]}
        data.append(array.tobytes())
        end += array.nbytes
    head = json.dumps(header).encode()
    path.write_bytes(b"".join([struct.pack("<Q", len(head)), head, *data]))


def fixture_prompts(golden, lengths):
    """The opening tokens (BOS first) of the float64 goldens' windows, cut to `lengths`: real held-out text, ids from sentencepiece."""
    windows = read_safetensors(golden / FIXTURES / "goldens/forward/tolstoy-4m-yarn-2k-2048/golden.safetensors")["input_ids"]
    return [windows[index % len(windows)][:length].tolist() for index, length in enumerate(lengths)]
