#!/usr/bin/env python3
"""The forward pass in float32 on SmolLM2-135M's shape (random weights), windows of 2048 tokens, beside llama-perplexity and llama-bench of llama.cpp 0.5.

Ours is the whole command `ropewalk perplexity`: reading weights, every logit, NLL, entropy and argmax of every position. llama-perplexity evaluates the head on
half the positions, llama-bench on the last one. The floor is the time of 340 MFLOP a token at the machine's measured f32 rate, which forward_bench prints (ROPEWALK_BENCH=ON).
"""
import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys

from measure import ROOT, best, header, machine, peer, row, run

SHAPE = dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3, head_dim=64, vocab_size=49152)

WRITE_INPUTS = """
import json, os, shutil, sys
import numpy as np
from safetensors.numpy import save_file
folder, tokenizer, shape = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
d, f, v = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
kv = shape["head_dim"] * shape["num_key_value_heads"]
rng = np.random.default_rng(1)
def weight(*dims): return rng.standard_normal(dims, dtype=np.float32) * np.float32(.02)
tensors = {"model.embed_tokens.weight": weight(v, d), "model.norm.weight": np.ones(d, np.float32)}
for layer in range(shape["num_hidden_layers"]):
    for name, dims in {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d), "self_attn.o_proj": (d, d),
                       "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f)}.items():
        tensors[f"model.layers.{layer}.{name}.weight"] = weight(*dims)
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.{layer}.{name}.weight"] = np.ones(d, np.float32)
os.makedirs(folder)
save_file(tensors, folder + "/model.safetensors", {"format": "pt"})
config = dict(shape, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0,
              tie_word_embeddings=True, torch_dtype="float32", bos_token_id=1, eos_token_id=2)
json.dump(config, open(folder + "/config.json", "w"), indent=2)
for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"): shutil.copy(f"{tokenizer}/{name}", folder)
json.dump([int(i) for i in rng.integers(3, 32000, 40000)], open(folder + "/ids.json", "w"))
"""


def llama_tools():
    """llama-perplexity and llama-bench, built once beside the cached llama-quantize, for this machine's processor."""
    place = peer("llama-quantize").parent
    build = place / "bench-build"
    if not (build / "bin/llama-bench").exists():
        run(["cmake", "-S", place / "source", "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF",
             "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"])
        run(["cmake", "--build", build, "--target", "llama-bench", "llama-perplexity"])
    return build / "bin/llama-perplexity", build / "bin/llama-bench"


def logged(output, words):
    """Seconds at which llama.cpp logged a line with `words`: lines begin "minutes.seconds.milliseconds.microseconds"."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)\.(\d+) . [^\n]*" + words, output)
    minutes, seconds, thousandths, millionths = (int(part) for part in found.groups())
    return 60 * minutes + seconds + thousandths / 1e3 + millionths / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for inputs, about 1.2 GB")
    parser.add_argument("--ropewalk", type=pathlib.Path, default=ROOT / "build/release/tools/ropewalk")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "build/release/golden/tokenizers/llama2")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    folder = options.work / "smol"
    if not (folder / "ids.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        run([peer("libraries"), "-c", WRITE_INPUTS, folder, options.tokenizer, json.dumps(SHAPE)])
    model = options.work / "smol-f32.gguf"
    run([options.ropewalk, "convert", folder, "-o", model, "--type", "f32", "--overwrite", "--no-sync", "--quiet"])
    perplexity, bench = llama_tools()
    ids = json.loads((folder / "ids.json").read_text())[: 2047 * options.windows]
    (options.work / "ids.json").write_text(json.dumps(ids))

    print(f"{machine()}; {options.threads} threads, f32, random weights of SmolLM2-135M's shape, 2048-token windows\n")
    header("program", "what it computes", "tokens/s", "peak RSS GB")
    ours = best([options.ropewalk, "perplexity", folder, "--tokens", options.work / "ids.json", "-c", "2048", "-t", options.threads, "--protocol", "yarn", "--stride", "2047", "--quiet", "--json"], 3)
    row("ropewalk perplexity", "all logits, NLL, entropy, argmax; weights read from disk", f"{2048 * options.windows / ours.wall:.0f}", f"{ours.rss_bytes / 2**30:.2f}")
    text = ROOT / "data/text/war-and-peace-tail.txt"
    theirs = run([perplexity, "-m", model, "-f", text, "-c", "2048", "-b", "2048", "--chunks", "4", "-t", options.threads])
    seconds = logged(theirs.output, "Final estimate") - logged(theirs.output, "calculating perplexity over")
    row("llama-perplexity", "head on half the positions; loading and tokenizing left out", f"{4 * 2048 / seconds:.0f}", f"{theirs.rss_bytes / 2**30:.2f}")
    theirs = run([bench, "-m", model, "-p", "2048", "-n", "0", "-t", options.threads, "-r", "2", "-o", "json"])
    result = json.loads(theirs.output[theirs.output.index("["):theirs.output.rindex("]") + 1])
    row("llama-bench", "last position's logits only", f"{result[0]['avg_ts']:.0f}", f"{theirs.rss_bytes / 2**30:.2f}")


if __name__ == "__main__":
    sys.exit(main())
