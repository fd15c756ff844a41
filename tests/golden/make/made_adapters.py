#!/usr/bin/env python3
"""What adapters that ropewalk makes are held against: tests/golden/made_adapters.json.

    made_adapters.py GOLDEN_DIR LLAMA_CPP > tests/golden/made_adapters.json     (numpy 2.4.6, llama.cpp 0.5 of llama-cpp-python 0.3.36, torch 2.15.0)

GOLDEN_DIR: where tests/golden/peft.tar.zst and fixtures.tar.zst are unpacked (build/<preset>/golden); LLAMA_CPP: a checkout with convert_lora_to_gguf.py.

* `gguf`: sha256 of the whole file that the converter writes, by case and --outtype.
* `extract`: numpy's SVD, in double, of the difference of two trained models: |difference| and what the best approximation of rank 8 leaves, by tensor.
* `rerank`: the same of scale * B A of an rsLoRA adapter whose patterns give modules ranks and scales of their own, at rank 2.
"""
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file

ROOT, LLAMA_CPP = map(pathlib.Path, sys.argv[1:])
MODELS = ROOT / "fixtures/models"
GGUF = [("peft/lora-all-linear", "peft/bases/llama-f32", ("f32", "f16", "bf16", "q8_0")), ("peft/embedding-lora", "peft/bases/llama-f32", ("f32", "f16")),
        ("peft/lora-exclude", "peft/bases/llama-f32", ("f32",)), ("fixtures/adapters/qlora-shakespeare", "fixtures/models/tolstoy-4m-yarn-2k", ("f32", "q8_0"))]


def best(delta, rank):
    """|delta|, and that of its smallest singular values."""
    values = np.linalg.svd(delta, compute_uv=False)
    return [float(np.linalg.norm(values)), float(np.linalg.norm(values[rank:]))]


def load_folder(folder):
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def converted():
    out = []
    for adapter, base, types in GGUF:
        for kind in types:
            with tempfile.TemporaryDirectory() as folder:
                file = pathlib.Path(folder) / "adapter.gguf"
                subprocess.run([sys.executable, LLAMA_CPP / "convert_lora_to_gguf.py", "--base", ROOT / base, "--outtype", kind, "--outfile", file, ROOT / adapter],
                               check=True, capture_output=True)
                data = file.read_bytes()
            out.append({"adapter": adapter, "base": base, "type": kind, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    return out


def extracted():
    tuned, base = (load_folder(MODELS / name) for name in ("tolstoy-4m-yarn-2k", "tolstoy-4m"))
    assert tuned.keys() == base.keys()
    changed = {name: tuned[name].astype(np.float64) - base[name].astype(np.float64) for name in sorted(base) if (tuned[name] != base[name]).any()}
    return {"tuned": "tolstoy-4m-yarn-2k", "base": "tolstoy-4m", "rank": 8,
            "modules": {name: best(delta, 8) for name, delta in changed.items() if delta.ndim == 2 and "layers" in name},
            "whole": [name for name, delta in changed.items() if delta.ndim == 1 or "layers" not in name]}


def pattern(patterns, module):
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), None)


def reranked():
    folder = ROOT / "peft/patterns-rslora"
    config, factors = json.loads((folder / "adapter_config.json").read_text()), load_file(folder / "adapter_model.safetensors")
    modules = {}
    for key, a in sorted(factors.items()):
        if not key.endswith(".lora_A.weight"):
            continue
        module = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        rank, alpha = pattern(config["rank_pattern"], module) or config["r"], pattern(config["alpha_pattern"], module) or config["lora_alpha"]
        b = factors[key.replace("lora_A", "lora_B")]
        assert a.shape[0] == rank and config["use_rslora"]
        modules[module + ".weight"] = best(alpha / np.sqrt(rank) * (b.astype(np.float64) @ a.astype(np.float64)), 2)
    return {"adapter": "peft/patterns-rslora", "rank": 2, "modules": modules}


def short(value):
    if isinstance(value, float):
        return float(f"{value:.12g}")
    if isinstance(value, dict):
        return {key: short(item) for key, item in value.items()}
    return [short(item) for item in value] if isinstance(value, list) else value


print(json.dumps(short({"extract": extracted(), "rerank": reranked(), "gguf": converted()}), indent=1))
