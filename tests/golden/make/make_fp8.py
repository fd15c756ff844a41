#!/usr/bin/env python3
"""fp8 blocks (DeepSeek V3, Qwen3-FP8) as transformers quantizes and dequantizes them.

usage: make_fp8.py OUT_DIR        (transformers 5.23.0, torch 2.15.0)
"""
import hashlib, json, os, sys, types
import torch, transformers
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize
from safetensors.torch import save_file

out = sys.argv[1]
torch.set_num_threads(1)


def sha256(tensor): return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


weight = torch.randn(64, 96, generator=torch.Generator().manual_seed(6)) * 0.05
weight[:16, :32] = 0
tensors, cases = {}, {}
for name, block in {"blocks": [16, 32], "columns": [64, 8], "tensor": None}.items():
    quantizer = types.SimpleNamespace(quantization_config=types.SimpleNamespace(weight_block_size=block, scale_fmt="float"))
    stored = Fp8Quantize(quantizer).convert({"m.weight": weight})
    values = {d: Fp8Dequantize(quantizer)._dequantize_one(stored["m.weight"], stored["m.weight_scale_inv"], output_dtype=getattr(torch, d)) for d in ("bfloat16", "float16", "float32")}
    assert (values["float32"] - weight).abs().max() < 0.02
    cases[name] = {"weight_block_size": block, "dequant": {d: sha256(v) for d, v in values.items()}}
    for part in ("weight", "weight_scale_inv"):
        tensors[f"{name}/{part}"] = stored["m." + part].contiguous()
        cases[name][part] = f"{name}/{part}"
os.makedirs(out, exist_ok=True)
save_file(tensors, f"{out}/tensors.safetensors", metadata={"format": "pt"})
json.dump({"versions": {"transformers": transformers.__version__, "torch": torch.__version__}, "cases": cases}, open(f"{out}/index.json", "w"), indent=1)
