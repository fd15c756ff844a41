#!/usr/bin/env python3
"""Expert tensors of gpt-oss in MXFP4, dequantized by transformers' own convert_moe_packed_tensors. Blocks are random bytes (every byte stands for two values),
scales are every byte too: 0 makes subnormal values, 254 and 255 infinities and NaN.

usage: make_mxfp4.py OUT.json        (transformers 5.23.0, torch 2.15.0)
"""
import base64, hashlib, json, sys
import torch, transformers
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(8)


def sha256(tensor): return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
def packed(tensor): return base64.b64encode(tensor.numpy().tobytes()).decode()


cases = {}
for name, (experts, rows, groups), scales in (("experts", (3, 6, 4), (118, 126)), ("one_group", (2, 5, 1), (118, 126)), ("every_scale", (2, 64, 2), (0, 254))):
    blocks = torch.randint(0, 256, (experts, rows, groups, 16), generator=generator, dtype=torch.uint8)
    scale = torch.randint(*scales, (experts, rows, groups), generator=generator, dtype=torch.uint8)
    if name == "every_scale": scale = torch.arange(256, dtype=torch.uint8).reshape(experts, rows, groups)
    entry = {"shape": list(blocks.shape), "blocks": packed(blocks), "scales": packed(scale), "dequant": {}}
    for dtype in ("bfloat16", "float16", "float32"):
        value = convert_moe_packed_tensors(blocks, scale, dtype=getattr(torch, dtype))
        assert list(value.shape) == [experts, groups * 32, rows]
        # not-a-number has many spellings: one of them stands for all
        value = torch.where(value.isnan(), torch.full_like(value, float("nan")), value)
        entry["dequant"][dtype] = sha256(value)
    cases[name] = entry
json.dump({"versions": {"transformers": transformers.__version__, "torch": torch.__version__}, "cases": cases}, open(sys.argv[1], "w"), indent=1)
