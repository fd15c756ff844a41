#!/usr/bin/env python3
"""Layers of compressed-tensors, compressed and decompressed by it.

usage: make_compressed.py OUT_DIR        (compressed-tensors 0.20.0, torch 2.15.0)
"""
import hashlib, json, os, sys
import torch
from compressed_tensors import __version__
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from safetensors.torch import save_file

out = sys.argv[1]
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(5)


def sha256(tensor): return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def limits(weight, strategy, group, block):
    rows, columns = weight.shape
    if strategy == "tensor": return weight.amin().reshape(1), weight.amax().reshape(1)
    if strategy == "channel": return weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
    if strategy in ("group", "tensor_group"):
        parts = weight.reshape(rows, -1, group)
        return parts.amin(-1), parts.amax(-1)
    low = torch.stack([torch.stack([b.amin() for b in r.split(block[1], 1)]) for r in weight.split(block[0], 0)])
    high = torch.stack([torch.stack([b.amax() for b in r.split(block[1], 1)]) for r in weight.split(block[0], 0)])
    return low, high


def case(fmt, weight, dtype, **kw):
    args = QuantizationArgs(**kw)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    low, high = limits(weight, args.strategy, args.group_size, args.block_structure)
    glob = generate_gparam(weight.amin().float(), weight.amax().float()) if fmt == "nvfp4-pack-quantized" else None
    scale, zero = calculate_qparams(low.float(), high.float(), args, global_scale=glob)
    state = {"weight": weight.to(dtype), "weight_scale": scale.to(dtype) if glob is None and fmt != "mxfp4-pack-quantized" else scale}
    if not args.symmetric: state["weight_zero_point"] = zero.to(torch.int8)
    if glob is not None: state["weight_global_scale"] = glob
    compressor = BaseCompressor.get_value_from_registry(fmt)
    stored = compressor.compress(dict(state), scheme)
    value = compressor.decompress({k: v.clone() for k, v in stored.items()}, scheme)["weight"]
    assert (value.float() - weight.float()).abs().max() < 0.6 * weight.abs().max(), (fmt, kw)
    return {k: v.detach() for k, v in stored.items() if torch.is_tensor(v)}, value, args


weight = torch.randn(64, 96, generator=generator) * 0.05
odd = torch.randn(20, 40, generator=generator) * 0.05
cases, tensors = {}, {}


def add(name, fmt, source, dtype, **kw):
    stored, value, args = case(fmt, source, dtype, **kw)
    entry = {"format": fmt, "weights": json.loads(args.model_dump_json()), "shape": list(source.shape), "dequant": sha256(value), "dtype": str(value.dtype)}
    for k, v in stored.items():
        tensors[f"{name}/{k}"] = v.contiguous()
        entry[k] = f"{name}/{k}"
    cases[name] = entry


for dtype, d in ((torch.float16, "f16"), (torch.bfloat16, "bf16")):
    for bits in (2, 3, 4, 8):
        for symmetric in (True, False):
            s = "sym" if symmetric else "asym"
            add(f"pack-{bits}bit-g32-{s}-{d}", "pack-quantized", weight, dtype, num_bits=bits, type="int", symmetric=symmetric, strategy="group", group_size=32)
            if bits in (4, 8): add(f"pack-{bits}bit-channel-{s}-{d}", "pack-quantized", odd, dtype, num_bits=bits, type="int", symmetric=symmetric, strategy="channel")
for symmetric in (True, False):
    s = "sym" if symmetric else "asym"
    add(f"int8-channel-{s}", "int-quantized", weight, torch.bfloat16, num_bits=8, type="int", symmetric=symmetric, strategy="channel")
add("int8-tensor", "int-quantized", weight, torch.float16, num_bits=8, type="int", symmetric=True, strategy="tensor")
add("fp8-channel", "float-quantized", weight, torch.bfloat16, num_bits=8, type="float", symmetric=True, strategy="channel")
add("fp8-tensor-f16", "float-quantized", weight, torch.float16, num_bits=8, type="float", symmetric=True, strategy="tensor")
add("fp8-channel-f32", "float-quantized", weight, torch.float32, num_bits=8, type="float", symmetric=True, strategy="channel")
add("fp8-block", "float-quantized", weight, torch.bfloat16, num_bits=8, type="float", symmetric=True, strategy="block", block_structure=[32, 32])
add("fp8-block-partial", "float-quantized", odd, torch.bfloat16, num_bits=8, type="float", symmetric=True, strategy="block", block_structure=[16, 32])
add("nvfp4", "nvfp4-pack-quantized", weight, torch.bfloat16, num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16)
add("mxfp4", "mxfp4-pack-quantized", weight, torch.bfloat16, num_bits=4, type="float", symmetric=True, strategy="group", group_size=32)
os.makedirs(out, exist_ok=True)
kept, seen = {}, {}
for key, value in tensors.items():
    mark = (str(value.dtype), tuple(value.shape), sha256(value))
    if mark not in seen: seen[mark] = key; kept[key] = value
    name, part = key.split("/")
    cases[name][part] = seen[mark]
save_file(kept, f"{out}/tensors.safetensors", metadata={"format": "pt"})
json.dump({"versions": {"compressed-tensors": __version__, "torch": torch.__version__}, "cases": cases}, open(f"{out}/index.json", "w"), indent=1)
