#!/usr/bin/env python3
"""GPTQ and AWQ checkpoints, packed and dequantized by their libraries.

usage: make_gptq_awq.py OUT_DIR
   (GPTQModel 7.7.0 and AutoAWQ 0.2.9 importable, torch 2.15.0; AutoAWQ's packing_utils.py alone is imported, as its package needs an older transformers)
GPTQ: TorchLinear.pack of GPTQModel packs, convert_gptq_v2_to_v1_format_module writes the older zero points, and TorchLinear.dequantize_weight of the module that
reads the stored tensors back gives the weight. AWQ: packed by the layout that awq/modules/linear/gemm.py writes, dequantized by AutoAWQ's dequantize_gemm.
"""
import hashlib, importlib.util, json, os, sys
import torch, torch.nn as nn
from safetensors.torch import load_file, save_file

out = sys.argv[1]
torch.set_num_threads(1)


def sha256(tensor): return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def linear(weight):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float16)
    layer.weight.data = weight.clone()
    return layer


def quantizer(weight, bits, group, sym):
    """Scales and zeros [out, groups] in float32, round to nearest."""
    g = group if group > 0 else weight.shape[1]
    blocks = weight.float().reshape(weight.shape[0], -1, g)
    low, high = blocks.amin(-1).clamp(max=0), blocks.amax(-1).clamp(min=0)
    top = 2**bits - 1
    if sym:
        scale, zero = 2 * torch.maximum(-low, high) / top, torch.full_like(low, 2 ** (bits - 1))
    else:
        scale = (high - low) / top
        zero = torch.round(-low / scale).clamp(1, top)  # 0 has no place in v1
    return scale, zero


def gptq(weight, bits, group, sym, act_order, version, generator):
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module, convert_gptq_v1_to_v2_format_module
    rows, columns = weight.shape
    order = torch.randperm(columns, generator=generator) if act_order else torch.arange(columns)
    g = group if group > 0 else columns
    g_idx = torch.empty(columns, dtype=torch.int32)
    g_idx[order] = (torch.arange(columns) // g).to(torch.int32)
    scale, zero = quantizer(weight[:, order], bits, group, sym)

    def module():
        m = TorchLinear(bits=bits, group_size=group, sym=sym, desc_act=act_order, in_features=columns, out_features=rows, bias=False, pack_dtype=torch.int32, register_buffers=True)
        return m

    m = module()
    m.pack_original(linear=linear(weight), scales=scale, zeros=zero, g_idx=g_idx)
    if version == 1:
        from gptqmodel.quantization.config import QuantizeConfig
        convert_gptq_v2_to_v1_format_module(m, QuantizeConfig(bits=bits, group_size=group, sym=sym, desc_act=act_order))
    stored = {k: getattr(m, k).clone() for k in ("qweight", "qzeros", "scales", "g_idx")}
    again = module()
    for k, v in stored.items(): setattr(again, k, v.clone())
    if version == 1: convert_gptq_v1_to_v2_format_module(again, bits, torch.int32)
    again.post_init()
    return stored, again.dequantize_weight().t().contiguous()


def awq(weight, group, asymmetric, packing):
    """stored tensors as WQLinear_GEMM.from_linear packs them."""
    scale, zero = quantizer(weight, 4, group, not asymmetric)
    scale = scale.half()
    g = group
    codes = torch.round(weight.float().reshape(weight.shape[0], -1, g) / scale.float()[..., None] + zero[..., None]).clamp(0, 15).reshape(weight.shape).to(torch.int32)

    def pack(matrix):  # [rows, columns] -> [rows, columns / 8]
        packed = torch.zeros((matrix.shape[0], matrix.shape[1] // 8), dtype=torch.int32)
        for position, column in enumerate(packing.AWQ_ORDER):
            packed |= matrix[:, column::8] << (4 * position)
        return packed

    stored = {"qweight": pack(codes.t().contiguous()), "qzeros": pack(zero.t().to(torch.int32).contiguous()), "scales": scale.t().contiguous()}
    value = packing.dequantize_gemm(stored["qweight"], stored["qzeros"], stored["scales"], 4, group)
    return stored, value.t().contiguous()


def main():
    spec = importlib.util.find_spec("awq")
    path = os.environ.get("AWQ_PACKING") or os.path.join(spec.submodule_search_locations[0], "utils/packing_utils.py")
    spec = importlib.util.spec_from_file_location("packing_utils", path)
    packing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(packing)
    generator = torch.Generator().manual_seed(11)
    index = {}
    weight = (torch.randn(64, 96, generator=generator) * 0.05).half()
    tensors, cases = {}, {}
    for bits in (2, 3, 4, 8):
        for group in (32, -1):
            for sym in (True, False):
                for act_order in (False, True):
                    for version in (1, 2):
                        if act_order and group == -1: continue
                        name = f"gptq-{bits}bit-g{group}-{'sym' if sym else 'asym'}{'-act' if act_order else ''}-v{version}"
                        stored, value = gptq(weight, bits, group, sym, act_order, version, generator)
                        assert (value.float() - weight.float()).abs().max() < 0.5, name
                        for k, v in stored.items(): tensors[f"{name}/{k}"] = v
                        cases[name] = {"bits": bits, "group_size": group, "sym": sym, "desc_act": act_order, "checkpoint_format": "gptq" if version == 1 else "gptq_v2", "dequant": sha256(value)}
    for group in (32, 96):
        for asymmetric in (False, True):
            name = f"awq-g{group}-{'asym' if asymmetric else 'sym'}"
            stored, value = awq(weight, group, asymmetric, packing)
            assert (value.float() - weight.float()).abs().max() < 0.1, name
            for k, v in stored.items(): tensors[f"{name}/{k}"] = v
            cases[name] = {"group_size": group, "zero_point": asymmetric, "dequant": sha256(value)}
    # equal tensors once
    kept, seen = {}, {}
    for k, v in tensors.items():
        mark = (str(v.dtype), tuple(v.shape), sha256(v))
        if mark not in seen: seen[mark] = k; kept[k] = v.contiguous()
        name, part = k.split("/")
        cases[name][part] = seen[mark]
    os.makedirs(out, exist_ok=True)
    save_file(kept, f"{out}/tensors.safetensors", metadata={"format": "pt"})
    index["cases"] = cases
    index["versions"] = {"gptqmodel": "7.7.0", "autoawq": "0.2.9", "torch": torch.__version__}
    json.dump(index, open(f"{out}/index.json", "w"), indent=1)


main()
