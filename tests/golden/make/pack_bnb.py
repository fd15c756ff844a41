#!/usr/bin/env python3
"""Packs what make_bnb.py and make_qlora.py wrote for tests/golden/bnb.tar.zst: hashes stand for what dequantizing gives.

usage: pack_bnb.py BNB_DIR ADAPTER_DIR OUT_DIR      (bitsandbytes 0.50.2 importable)

On a CPU with AVX-512 bitsandbytes 0.50.2 takes the wrong absmax where a row is no multiple of the block size: its kernel
starts a new block at every row's beginning, its quantizer and all its other kernels do not (of make_bnb.py's 16x96 matrix
an element is off by 99). What dequantizing gives is therefore computed here by its generic kernel, backends/default, as it
stands, and checked to be what the fast one gives wherever rows are whole blocks.
"""
import hashlib, json, os, shutil, sys
import torch
import bitsandbytes.functional as F
from bitsandbytes.backends.default.ops import _dequantize_4bit_compute
from bitsandbytes.backends.utils import _get_4bit_code
from safetensors.torch import load_file, save_file

source, adapter, out = sys.argv[1:4]
os.makedirs(out, exist_ok=True)


def sha256(tensor):
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def dequantize(packed, state, dtype):
    absmax = state.absmax
    if state.nested: absmax = F.dequantize_blockwise(absmax, state.state2) + state.offset
    code = _get_4bit_code(state.quant_type, packed.device)
    return _dequantize_4bit_compute(packed.reshape(-1).view(torch.uint8), absmax.float(), code, state.blocksize, state.shape, dtype)


factors = load_file(f"{adapter}/adapter_model.safetensors")
config = json.load(open(f"{adapter}/adapter_config.json"))
scale = config["lora_alpha"] / config["r"]


def merged(name, weight):
    a, b = (factors[f"base_model.model.{name.removesuffix('.weight')}.lora_{x}.weight"].double() for x in "AB")
    return (weight.double() + scale * (b @ a)).float()


def states(tensors):
    for key in sorted(tensors):
        if ".quant_state." not in key: continue
        name = key.split(".quant_state.")[0]
        own = {k.removeprefix(name + "."): v for k, v in tensors.items() if k.startswith(name + ".")}
        yield name, tensors[name], F.QuantState.from_dict(own, device=torch.device("cpu"))


checkpoints = {}
for folder in sorted(os.listdir(source)):
    if not folder.startswith("hf-"): continue
    os.makedirs(f"{out}/{folder}", exist_ok=True)
    for file in ("config.json", "model.safetensors"):
        shutil.copyfile(f"{source}/{folder}/{file}", f"{out}/{folder}/{file}")
    tensors, hashes = load_file(f"{source}/{folder}/model.safetensors"), {}
    golden = load_file(f"{source}/{folder}/golden.safetensors")
    for name, packed, state in states(tensors):
        stored, exact = dequantize(packed, state, state.dtype), dequantize(packed, state, torch.float32)
        if state.shape[-1] % state.blocksize == 0: assert torch.equal(stored, golden["dequant/" + name])
        hashes[name] = {"dequant": sha256(stored), "dequant_f32": sha256(exact), "merged_stored": sha256(merged(name, stored)),
                        "merged_exact": sha256(merged(name, exact))}
    if folder == "hf-int8":
        for key, value in golden.items():
            if key.startswith("dequant/"): hashes[key[8:]] = {"dequant": sha256(value), "merged_stored": sha256(merged(key[8:], value))}
    checkpoints[folder] = hashes

meta = json.load(open(f"{source}/tensors.json"))
all_tensors = load_file(f"{source}/tensors.safetensors")
kept, cases, seen = {}, {}, {}


def keep(key):
    """The name under which the tensor's bytes are kept: equal ones once."""
    mark = (sha256(all_tensors[key]), all_tensors[key].dtype)
    if mark not in seen:
        seen[mark] = key
        kept[key] = all_tensors[key].contiguous()
    return seen[mark]


for key in all_tensors:
    if "/" not in key: kept[key] = all_tensors[key].contiguous()
    if key.startswith("w/"): keep(key)
for case, entry in sorted(meta["cases"].items()):
    large = case.startswith("plain-260x128")
    name = case.split("/")[0]
    w = all_tensors["w/" + name]
    packed, state = F.quantize_4bit(w, blocksize=entry["blocksize"], compress_statistics=entry["double_quant"], quant_type=entry["quant_type"])
    assert torch.equal(packed, all_tensors[f"q/{case}/packed"]) and torch.equal(state.absmax, all_tensors[f"q/{case}/absmax"])
    entry["w"] = keep("w/" + name)
    for part in ("packed", "absmax", "nested_absmax", "nested_offset"):
        key = f"q/{case}/{part}"
        if key not in all_tensors: continue
        entry[part + "_sha256"] = sha256(all_tensors[key])
        if part.startswith("nested") or not large or ("-b64" in case and "bf16" not in case): entry[part] = keep(key)
    value = dequantize(packed, state, w.dtype)
    entry["dequant_sha256"] = sha256(value)
    entry["dequant_f32_sha256"] = sha256(dequantize(packed, state, torch.float32))
    if entry["shape"][-1] % entry["blocksize"] == 0: assert torch.equal(value, F.dequantize_4bit(packed, state).reshape(value.shape)), case
    cases[case] = {k: v for k, v in entry.items() if k not in ("n_absmax", "absmax_dtype", "dequant_dtype", "dequant_equals_f32_rounded")}
rows = {}
for key in sorted(all_tensors):
    if key.startswith("i8/") and key.endswith("/dequant"):
        case = key[3:-8]
        if case.startswith("plain-260x128") and not case.endswith("t0.0"): continue
        rows[case] = {"q": keep(f"i8/{case}/q"), "row_absmax": keep(f"i8/{case}/row_absmax"), "dequant_sha256": sha256(all_tensors[key])}
save_file(kept, f"{out}/tensors.safetensors", metadata={"format": "pt"})
os.chmod(f"{out}/tensors.safetensors", 0o644)
meta.update(cases=cases, int8=rows, checkpoints=checkpoints)
json.dump(meta, open(f"{out}/index.json", "w"), indent=1)
