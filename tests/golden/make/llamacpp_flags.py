#!/usr/bin/env python3
"""What the real llama.cpp makes of its own rope flags: remakes tests/golden/llamacpp_flags.json.

usage: llamacpp_flags.py PROBE GOLDEN_DIR OUT.json
PROBE is llamacpp_flags_probe.cpp, built against libllama-common, libllama and ggml of llama.cpp 0.5; GOLDEN_DIR the unpacked goldens.
"""
import json
import subprocess
import sys

MODELS = ["gguf/llama-gqa/llama-gqa.f16.gguf", "gguf/llama-yarn-opts/llama-yarn-opts.f16.gguf",
          "gguf/stories260K/stories260K.f16.gguf"]
YARN = "-c 2048 --rope-scaling yarn --rope-scale 16"
LINES = [
    "", "-c 2048", YARN + " --yarn-orig-ctx 128", YARN + " --yarn-orig-ctx 128 --yarn-attn-factor 0.5",
    YARN + " --yarn-orig-ctx 128 --yarn-beta-slow 2 --yarn-beta-fast 20",
    YARN + " --override-kv llama.rope.scaling.attn_factor=float:0.934878",
    YARN + " --yarn-ext-factor 0 --yarn-attn-factor 0.5", YARN + " --yarn-ext-factor 0.5", "-c 2048 --rope-scale 4",
    "-c 2048 --rope-scaling linear --rope-scale 4 --yarn-attn-factor 0.75", "-c 2048 --rope-scaling none --rope-scale 4",
    "-c 2048 --rope-freq-base 500000",
    "-c 2048 --rope-scaling none --rope-freq-base 82684.62256 --override-kv llama.rope.scaling.attn_factor=float:1.25",
    "-c 2048 --rope-scale 1 --rope-scaling yarn"]


def main():
    probe, goldens, out = sys.argv[1:]
    runs = []
    for model in MODELS:
        for line in LINES:
            ran = subprocess.run([probe, "-m", f"{goldens}/{model}"] + line.split(), capture_output=True, text=True, check=True)
            answer = json.loads(ran.stdout.strip().split("\n")[-1])
            (node,) = answer["nodes"]
            runs.append({"model": model, "flags": line, "n_ctx": answer["n_ctx"], "positions": node["positions"]})
    note = ("llama.cpp 0.5.0 (ggml 0.25.3): each line of flags through common_params_parse, the model loaded by libllama with it, "
            "one token decoded; cos and sin of the rope node of its graph as ggml computes them on the CPU, hex of float32. "
            "Made by make/llamacpp_flags.py")
    with open(out, "w") as f:
        f.write(json.dumps({"note": note, "runs": runs}, indent=0) + "\n")


main()
