"""The llama.cpp protocol against the real llama-perplexity, chunk by chunk.

It prints the perplexity so far after every chunk, with four decimals. Tolerance of a mean loss, in nats: float32 arithmetic moves a loss of these models by at most 1.6e-4 from
float64 (goldens/forward/README), in the engine as in ours; its rope angles are a running float32 product, off by at most 2.5e-4 rad at position 2047 and in proportion before,
whose effect is 8 * 4.6e-5 there (see engine.py): at most half of that below 1024. 2 * 1.6e-4 + 4 * 4.6e-5 = 5.0e-4, and half a unit of the fourth decimal.
Negative controls: a second half that begins one token earlier, chunks that keep their first token instead of BOS, and the tokens protocol must all be outside.
"""
import json
import pathlib
import re
import subprocess
import tempfile

import numpy as np

from support import Checks, FIXTURES, Ropewalk, arguments, read_safetensors

TOLERANCE = 2 * 1.6e-4 + 4 * 4.6e-5


def real_perplexities(tool, model, text, context):
    """After each chunk, and how many chunks there are. One thread, keys and values in f32, no flash attention: what is left is the engine's float32 arithmetic."""
    command = [tool, "-m", model, "-f", text, "-c", context, "-b", context, "-t", 1, "-ctk", "f32", "-ctv", "f32", "-fa", "off", "--no-warmup"]
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    chunks = re.search(r"over (\d+) chunks", done.stdout)
    printed = [float(value) for _, value in re.findall(r"\[(\d+)\](\d+\.\d+),", done.stdout)]
    # Its logger writes from a thread of its own, and the process may end before the last value is out.
    if done.returncode or not chunks or len(printed) < int(chunks[1]) - 1:
        raise SystemExit(f"llama-perplexity: exit {done.returncode}\n{done.stdout[-2000:]}")
    return printed, int(chunks[1])


def close(ours, theirs):
    return abs(np.log(ours / theirs)) <= TOLERANCE + 0.5e-4 / theirs


def losses(ropewalk, model, ids, folder):
    """Loss of every id but the first."""
    tokens, out = folder / "ids.json", folder / "losses.safetensors"
    tokens.write_text(json.dumps([int(token) for token in ids]))
    ropewalk.run("logits", model, "--tokens", tokens, "-c", len(ids), "--last", 1, "-o", out, "--overwrite", "--quiet")
    return read_safetensors(out)["nll"]


def main():
    options = arguments(["--llama-perplexity"])
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    text = options.golden / FIXTURES / "goldens/perplexity/doc-1.txt"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = folder / "model.gguf"
        ropewalk.run("convert", options.golden / FIXTURES / "models/tolstoy-4m-yarn-2k", "-o", model, "--type", "f32", "--no-sync", "--quiet")
        for context in (128, 129, 512, 1024):
            theirs, chunks = real_perplexities(options.llama_perplexity, model, text, context)
            ours = [ropewalk.json("perplexity", model, "-f", text, "-c", context, "--protocol", "llama.cpp", "--windows", n + 1)["results"][0]["perplexity"] for n in range(len(theirs))]
            worst = max(abs(np.log(a / b)) for a, b in zip(ours, theirs))
            checks.check(all(close(a, b) for a, b in zip(ours, theirs, strict=True)), f"llama.cpp at {context}: {len(theirs)} chunks, each sum within {TOLERANCE:.1e} (worst {worst:.1e})")
            whole = ropewalk.json("perplexity", model, "-f", text, "-c", context, "--protocol", "llama.cpp")["results"][0]
            checks.check(whole["windows"] == chunks, f"llama.cpp at {context}: {chunks} chunks, the rest dropped")
            tokens = ropewalk.json("perplexity", model, "-f", text, "-c", context)["results"][0]["perplexity"]
            checks.check(not close(tokens, theirs[-1]), f"llama.cpp at {context}, negative control: protocol tokens gives {tokens:.4f}, not {theirs[-1]:.4f}")

            ids = [1] + ropewalk.json("tokenize", model, "-f", text)["ids"]
            first = losses(ropewalk, model, ids[:context], folder)
            checks.check(close(np.exp(first[context // 2:].mean()), theirs[0]), f"llama.cpp at {context}: the first chunk is the second half of its losses")
            early = np.exp(first[context // 2 - 1:].mean())
            checks.check(not close(early, theirs[0]), f"llama.cpp at {context}, negative control: from one token earlier {early:.4f}, not {theirs[0]:.4f}")
            if context > 256:
                continue  # one token among so many moves no mean
            kept = np.cumsum([losses(ropewalk, model, ids[n * context:(n + 1) * context], folder)[context // 2:].mean() for n in range(6)]) / np.arange(1, 7)
            apart = np.abs(kept - np.log(theirs[:6]))
            checks.check(apart.max() > 2 * TOLERANCE, f"llama.cpp at {context}, negative control: chunks without BOS are up to {apart.max():.1e} apart")
    checks.exit()


main()
