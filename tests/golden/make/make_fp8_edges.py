#!/usr/bin/env python3
"""fp8 weights at the edges: a shape that is no multiple of its blocks, dequantized by DeepSeek's own kernel (which transformers refuses or divides otherwise), and
MXFP8's exponents and one scale for all, dequantized by transformers.

usage: TRITON_INTERPRET=1 make_fp8_edges.py KERNEL.PY OUT.json
       KERNEL.PY: weight_quant and weight_dequant with their kernels, unchanged, of inference/kernel.py of github.com/deepseek-ai/DeepSeek-V3 at
       06231633430c449a1f6a8c0b5a1d6f99860b8eb2
       (transformers 5.23.0, torch 2.15.0, triton 3.9.0)
"""
import base64, hashlib, importlib.util, json, sys, types
import torch, transformers, triton
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

spec = importlib.util.spec_from_file_location("kernel", sys.argv[1])
kernel = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kernel)
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(10)


def raw(tensor): return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def library(weight, scale, dtype):
    quantizer = types.SimpleNamespace(quantization_config=types.SimpleNamespace(weight_block_size=None))
    return Fp8Dequantize(quantizer)._dequantize_one(weight, scale, output_dtype=dtype)


def case(weight, scale, block, dequantize):
    entry = {"weight_block_size": block, "dequant": {}}
    for name, part in (("weight", weight), ("weight_scale_inv", scale)):
        entry[name] = {"dtype": str(part.dtype).split(".")[1], "shape": list(part.shape), "bytes": base64.b64encode(raw(part)).decode()}
    for dtype in ("float16", "float32") if dequantize != library else ("bfloat16", "float16", "float32"):  # triton's interpreter does not round to bfloat16
        entry["dequant"][dtype] = hashlib.sha256(raw(dequantize(weight, scale, getattr(torch, dtype)))).hexdigest()
    return entry


def deepseek(block):
    def dequantize(weight, scale, dtype):
        torch.set_default_dtype(dtype)
        try: return kernel.weight_dequant(weight, scale, block)
        finally: torch.set_default_dtype(torch.float32)
    return dequantize


source = torch.randn(40, 100, generator=generator) * 0.05
codes, scales = kernel.weight_quant(source, 32)
even = (torch.randn(24, 64, generator=generator)).to(torch.float8_e4m3fn)
cases = {"edges": case(codes, scales, [32, 32], deepseek(32)),
         # 48 rows are two blocks of 32, the second cut off: transformers takes 24 and 24
         "uneven": case(*kernel.weight_quant(torch.cat([source[:24, :64], 3 * source[:24, :64]]), 32), [32, 32], deepseek(32)),
         "mxfp8": case(even, torch.randint(110, 126, (24, 2), generator=generator, dtype=torch.uint8), [1, 32], library),
         "scalar": case(even, torch.tensor([0.0371]), None, library)}
wrong = library(*(torch.frombuffer(bytearray(base64.b64decode(cases["uneven"][p]["bytes"])), dtype=d).reshape(cases["uneven"][p]["shape"])
                  for p, d in (("weight", torch.float8_e4m3fn), ("weight_scale_inv", torch.float32))), torch.float32)
assert hashlib.sha256(raw(wrong)).hexdigest() != cases["uneven"]["dequant"]["float32"]
versions = {"transformers": transformers.__version__, "torch": torch.__version__, "triton": triton.__version__, "DeepSeek-V3": "06231633430c449a1f6a8c0b5a1d6f99860b8eb2"}
json.dump({"versions": versions, "cases": cases}, open(sys.argv[2], "w"), indent=1)
