#!/usr/bin/env python3
"""pack-quantized layers whose groups follow the activations (weight_g_idx), compressed and decompressed by compressed-tensors 0.13.0: later versions have no such
layers any more.

usage: make_compressed_g_idx.py OUT.json        (compressed-tensors 0.13.0, torch 2.15.0)
"""
import base64, hashlib, json, sys
from importlib.metadata import version
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams

torch.set_num_threads(1)
generator = torch.Generator().manual_seed(9)


def raw(tensor): return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


weight = torch.randn(16, 96, generator=generator) * 0.05
cases = {}
for bits, symmetric, dtype in ((4, True, torch.float16), (4, False, torch.bfloat16), (8, True, torch.bfloat16)):
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy="group", group_size=32, actorder="group")
    g_idx = (torch.randperm(96, generator=generator) // 32).to(torch.int32)
    parts = weight[:, torch.argsort(g_idx, stable=True)].reshape(16, 3, 32)
    scale, zero = calculate_qparams(parts.amin(-1), parts.amax(-1), args)
    scale, zero = scale.to(dtype), zero.to(torch.int8)
    compressor = BaseCompressor.load_from_registry("pack-quantized", config=None)
    stored = compressor.compress_weight(weight=weight.to(dtype), scale=scale, zero_point=None if symmetric else zero, g_idx=g_idx, quantization_args=args)
    stored |= {"weight_scale": scale, "weight_g_idx": g_idx}
    value = compressor.decompress_weight(dict(stored), quantization_args=args)
    assert value.dtype == dtype and (value.float() - weight).abs().max() < 0.03, (value.float() - weight).abs().max()
    plain = compressor.decompress_weight({k: v for k, v in stored.items() if k != "weight_g_idx"}, quantization_args=args)
    assert not torch.equal(plain, value)
    entry = {"format": "pack-quantized", "weights": json.loads(args.model_dump_json()), "dequant": hashlib.sha256(raw(value)).hexdigest()}
    for name, part in stored.items():
        entry[name] = {"dtype": str(part.dtype).split(".")[1], "shape": list(part.shape), "bytes": base64.b64encode(raw(part)).decode()}
    cases[f"{bits}bit-{'sym' if symmetric else 'asym'}"] = entry
json.dump({"versions": {"compressed-tensors": version("compressed-tensors"), "torch": torch.__version__}, "cases": cases}, open(sys.argv[1], "w"), indent=1)
