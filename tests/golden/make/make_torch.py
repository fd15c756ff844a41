#!/usr/bin/env python3
"""Files of torch.save in both layouts, with their tensors as safetensors, and a sharded checkpoint.

usage: make_torch.py BASE_LLAMA_F16_DIR OUT_DIR        (torch 2.15.0, safetensors 0.8.0)
"""
import collections, json, os, shutil, sys
import torch
from safetensors.torch import load_file, save_file

base, out = sys.argv[1:3]
os.makedirs(out, exist_ok=True)
g = torch.Generator().manual_seed(8)
matrix = torch.randn(6, 4, generator=g)
shared = torch.randn(10, 3, generator=g)
plain = {"matrix": matrix, "half": matrix.half(), "bf16": matrix.bfloat16(), "double": matrix.double(), "scalar": torch.tensor(2.5),
         "empty": torch.zeros(0, 7), "transposed": torch.randn(5, 9, generator=g).t(), "transposed_half": torch.randn(130, 70, generator=g).half().t(),
         "view": shared[4:8], "whole": shared, "parameter": torch.nn.Parameter(matrix + 1), "int64": torch.arange(-3, 5), "int32": torch.arange(6, dtype=torch.int32).reshape(2, 3),
         "int16": torch.arange(3, dtype=torch.int16), "int8": torch.arange(-4, 4, dtype=torch.int8), "uint8": torch.arange(9, dtype=torch.uint8), "bool": torch.tensor([True, False, True])}
new = {"fp8": matrix.to(torch.float8_e4m3fn), "fp8_e5m2": matrix.to(torch.float8_e5m2)}
torch.save({**plain, **new}, f"{out}/zip.bin")
torch.save(plain, f"{out}/legacy.bin", _use_new_zipfile_serialization=False)
torch.save(plain, f"{out}/protocol4.bin", pickle_protocol=4)
module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
for p in module.parameters(): p.data = torch.randn(p.shape, generator=g)
torch.save(module.state_dict(), f"{out}/state_dict.bin")  # an OrderedDict with _metadata
save_file({k: v.detach().contiguous().clone() for k, v in {**plain, **new, **module.state_dict()}.items()}, f"{out}/expected.safetensors", metadata={"format": "pt"})
for name, value in {"module": module, "strided": {"x": matrix[:, ::2]}, "expanded": {"x": matrix[:1].expand(6, 4)}, "nested": {"state_dict": plain}, "list": [matrix], "number": {"step": 3, "x": matrix}}.items():
    os.makedirs(f"{out}/refused", exist_ok=True)
    torch.save(value, f"{out}/refused/{name}.bin")

folder = f"{out}/sharded"
os.makedirs(folder, exist_ok=True)
shutil.copyfile(f"{base}/config.json", f"{folder}/config.json")
tensors, weight_map = load_file(f"{base}/model.safetensors"), {}
for i, part in enumerate([sorted(tensors)[::2], sorted(tensors)[1::2]]):
    name = f"pytorch_model-{i + 1:05}-of-00002.bin"
    torch.save(collections.OrderedDict((k, tensors[k]) for k in part), f"{folder}/{name}")
    weight_map.update({k: name for k in part})
json.dump({"metadata": {"total_size": sum(t.nbytes for t in tensors.values())}, "weight_map": weight_map}, open(f"{folder}/pytorch_model.bin.index.json", "w"), indent=2)
