"""Importance matrices against the real llama-imatrix, which runs an f32 GGUF of the fixture with keys and values in f32: every count and chunk the same, every sum within 1e-4
(tests/golden/imatrix has six runs; these are other lengths of chunks, batches and formats, and a context past the original). Each run is also set beside the tool's own defaults
(keys and values in f16, flash attention), and that distance printed. Negative control: one chunk fewer is outside.
"""
import pathlib
import struct
import subprocess
import tempfile

import numpy as np

from support import Checks, FIXTURES, Ropewalk, arguments

TOLERANCE = 1e-4
RUNS = {  # what: its arguments
    "defaults": "",
    "chunks of 129": "-c 129 --process-output",
    "seven chunks": "--chunks 7 -c 256",
    "longer than a batch": "-c 520 -b 256",
    "pieces of 96": "-c 400 -b 800 -ub 96",
    "sixteen tokens": "-c 16 --chunks 9 -b 16 -ub 16",
    "past the original context": "-c 1536",
    "from the second chunk": "-c 200 --chunk 1 --chunks 5",
}


def read_dat(path):
    """Entries of the older format: name to calls and means times calls; then the chunks."""
    data, at, entries = path.read_bytes(), 4, {}
    for _ in range(struct.unpack_from("<i", data)[0]):
        (length,) = struct.unpack_from("<i", data, at)
        name = data[at + 4 : at + 4 + length].decode()
        calls, count = struct.unpack_from("<ii", data, at + 4 + length)
        at += 12 + length
        entries[name] = (calls, np.frombuffer(data, np.float32, count, at).astype(np.float64))
        at += 4 * count
    return entries, struct.unpack_from("<i", data, at)[0]


def distance(ours, theirs):
    """Largest relative difference; infinity where anything but the values differs."""
    if [(name, ours[0][name][0]) for name in ours[0]] != [(name, theirs[0][name][0]) for name in theirs[0]] or ours[1] != theirs[1]:
        return np.inf
    return max(np.max(np.abs(values - theirs[0][name][1]) / theirs[0][name][1]) for name, (_, values) in ours[0].items())


def main():
    options = arguments(["--llama-imatrix"])
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    text = options.golden / FIXTURES / "goldens/perplexity/doc-2.txt"
    folder_model = options.golden / FIXTURES / "models/tolstoy-4m-yarn-2k"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = folder / "model.gguf"
        ropewalk.run("convert", folder_model, "-o", model, "--type", "f32", "--no-sync", "--quiet")

        def real(arguments_, out, f32=True):
            command = [options.llama_imatrix, "-m", model, "-f", text, "-o", out, "-t", 1, "--output-format", "dat", *arguments_.split()]
            command += ["-ctk", "f32", "-ctv", "f32", "-fa", "off"] if f32 else []
            done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode:
                raise SystemExit(f"llama-imatrix: exit {done.returncode}\n{done.stdout[-2000:]}")
            return read_dat(out)

        for what, words in RUNS.items():
            mine = words.replace("-ub", "--ubatch-size").split()
            ropewalk.run("imatrix", model, "-f", text, "-o", folder / "ours.dat", "--overwrite", "--quiet", *mine)
            ropewalk.run("imatrix", folder_model, "-f", text, "-o", folder / "folder.dat", "--overwrite", "--quiet", *mine)
            ours, from_folder = read_dat(folder / "ours.dat"), read_dat(folder / "folder.dat")
            theirs, usual = real(words, folder / "theirs.dat"), real(words, folder / "usual.dat", f32=False)
            apart = distance(ours, theirs)
            checks.check(apart <= TOLERANCE, f"{what}: {len(ours[0])} tensors, {ours[1]} chunks, sums within {TOLERANCE} (worst {apart:.1e}; of the tool's own defaults {distance(ours, usual):.1e})")
            checks.check(distance(from_folder, theirs) <= TOLERANCE, f"{what}: from the folder of f16 safetensors too")
        ropewalk.run("imatrix", model, "-f", text, "-o", folder / "ours.dat", "--overwrite", "--quiet", "-c", "200", "--chunk", "2", "--chunks", "5")
        apart = distance(read_dat(folder / "ours.dat"), real("-c 200 --chunk 1 --chunks 5", folder / "theirs.dat"))
        checks.check(apart > 10 * TOLERANCE, f"negative control: one chunk later is {apart:.1e} apart")
    checks.exit()


main()
