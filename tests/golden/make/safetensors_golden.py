#!/usr/bin/env python3
"""Makes safetensors.json: what safetensors 0.8.0, huggingface_hub 2.4.0 and the index of transformers 5.23.0 write.

Run with those versions and torch 2.15 installed: safetensors_golden.py > safetensors.json
"""
import base64
import json
import random
import struct

import huggingface_hub
import safetensors
import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F8_E4M3": torch.float8_e4m3fn,
          "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64,
          "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool}


def header_of(data):
    n = struct.unpack("<Q", data[:8])[0]
    return data[8 : 8 + n].decode()


def layout(tensors, metadata):
    data = save({name: torch.zeros(shape, dtype=DTYPES[dtype]) for name, dtype, shape in tensors}, metadata=metadata)
    return {"tensors": tensors, "metadata": metadata or {}, "header": header_of(data), "bytes": len(data)}


def values():
    tensors = {name: torch.tensor([0.5, -1.5, 2.0, 100.0], dtype=dtype) if dtype.is_floating_point else torch.tensor([1, 0, 1, 1], dtype=dtype)
               for name, dtype in DTYPES.items()}
    tensors["matrix"] = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    tensors["scalar"] = torch.tensor(7.25, dtype=torch.bfloat16)
    tensors["empty"] = torch.zeros(0, 5, dtype=torch.float16)
    return {"file": base64.b64encode(save(tensors, metadata={"format": "pt"})).decode(),
            "values": {name: [float(v) for v in t.to(torch.float64).flatten()] for name, t in tensors.items()},
            "shapes": {name: list(t.shape) for name, t in tensors.items()}}


def shards(sizes, limit):
    state = {f"layers.{i}.weight": torch.zeros(n, dtype=torch.float16) for i, n in enumerate(sizes)}
    split = split_torch_state_dict_into_shards(state, filename_pattern="model{suffix}.safetensors", max_shard_size=limit)
    index = None
    if split.is_sharded:  # as modeling_utils.save_pretrained of transformers 5.23.0
        index = {"metadata": {"total_parameters": sum(sizes), **split.metadata}, "weight_map": split.tensor_to_filename}
        index = json.dumps(index, indent=2, sort_keys=True) + "\n"
    return {"elements": sizes, "limit": limit, "shards": split.filename_to_tensors, "index": index}


def main():
    rng = random.Random(1)
    # One key of metadata at most: the library keeps them in a hash map, so the order of two differs from run to run.
    layouts = [layout([[f"t.{d}.{i}", d, [2, 3 + i]] for i in (1, 0) for d in sorted(DTYPES, key=lambda _: rng.random())], {"format": "pt"}),
               layout([], None),
               layout([["b", "F16", [3]]], None),
               layout([["model.layers.10.x", "BF16", [4, 4]], ["model.layers.2.x", "BF16", [4, 4]], ["lm_head.weight", "BF16", [1]], ["Z", "BF16", []], ["zero", "BF16", [0, 7]]],
                      {'key " \\': 'quote " backslash \\ newline \n tab \t bell \x07 del \x7f é 漢'}),
               layout([['name "with" \\ é/\n', "F32", [1]]], {"format": "pt"})]
    cases = [shards([10, 10, 10], 1000), shards([10, 10, 10], 40), shards([10, 10, 10], 20), shards([5, 50, 5, 50, 5], 40), shards([50, 50], 40), shards([0, 20, 0], 40)]
    for _ in range(40):
        # No empty tensors: torch gives them all one storage, so that function would hold them for tied.
        sizes = [rng.choice([1, 5, 20, 33, 100]) for _ in range(rng.randint(1, 30))]
        cases.append(shards(sizes, rng.choice([10, 60, 100, 200, 400])))
    print(json.dumps({"safetensors": safetensors.__version__, "huggingface_hub": huggingface_hub.__version__, "torch": torch.__version__,
                      "layouts": layouts, "values": values(), "shards": cases}))


main()
