#!/usr/bin/env python3
"""OFT whose block size divides no width, made and merged by PEFT: tests/golden/peft_oft_blocks.json.

    peft_oft_blocks.py > tests/golden/peft_oft_blocks.json     (peft 0.21.2, torch 2.15.0)

Weights [2, width] and rotations are the numbers of `ramp`, which the test makes again. Of each case the configuration that
matters, the block size that PEFT chose for each module, and its weight merged in double, rounded once to float32 (base64).
"""
import base64
import json

import torch
from peft import OFTConfig, get_peft_model

WIDTHS = {"q_proj": 48, "k_proj": 40, "v_proj": 4}  # the nearest divisors of 7: 6 and 8, 8 and 5, 4


def ramp(shape):
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 7 % 11).double() - 5).reshape(shape) / 16


def case(**options):
    torch.set_default_dtype(torch.float64)
    base = torch.nn.Module()
    for name, width in WIDTHS.items():
        setattr(base, name, torch.nn.Linear(width, 2, bias=False))
        getattr(base, name).weight.data = ramp([2, width])
    model = get_peft_model(base, OFTConfig(r=0, oft_block_size=7, target_modules=list(WIDTHS), **options))
    blocks = {}
    for name in WIDTHS:
        module = getattr(model.base_model.model, name)
        rotation = module.oft_R["default"].weight
        rotation.data = ramp(rotation.shape)
        blocks[name] = [module.oft_block_size["default"], *rotation.shape]
    merged = model.merge_and_unload().state_dict()
    return {"options": options, "blocks": blocks,
            "merged": {name: base64.b64encode(merged[name + ".weight"].float().numpy().tobytes()).decode() for name in WIDTHS}}


print(json.dumps({"apart": case(use_cayley_neumann=False), "shared": case(use_cayley_neumann=False, block_share=True)}, indent=1))
