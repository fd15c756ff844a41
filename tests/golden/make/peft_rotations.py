#!/usr/bin/env python3
"""BOFT and constrained OFT, made and merged by PEFT: tests/golden/peft_rotations.json.

    peft_rotations.py GOLDEN_DIR > tests/golden/peft_rotations.json     (peft 0.21.2, transformers 5.23.0, torch 2.15.0)

GOLDEN_DIR: where tests/golden/peft.tar.zst is unpacked (build/<preset>/golden). Each case is an adapter of its base llama-f32 with random values: the two files as PEFT
saves them (base64), and the weights that change, merged with base and adapter in double and rounded once to float32 (base64, little-endian).
PEFT has several butterflies only where its CUDA extension compiles: block-diagonal matrices out of blocks, which torch makes here.
"""
import base64
import json
import pathlib
import sys
import tempfile

import torch
import transformers
import peft.tuners.boft.layer
from peft import BOFTConfig, OFTConfig, PeftModel, get_peft_model

BASE = pathlib.Path(sys.argv[1]) / "peft/bases/llama-f32"
TARGETS = r"model\.layers\.0\.self_attn\.k_proj"
CASES = {
    "boft-one": (BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=1, target_modules=TARGETS), {"boft_R": 0.3, "boft_s": 0.2}),
    "boft-two": (BOFTConfig(boft_block_size=4, boft_n_butterfly_factor=2, target_modules=TARGETS), {"boft_R": 0.3, "boft_s": 0.2}),
    "boft-four": (BOFTConfig(boft_block_size=2, boft_n_butterfly_factor=4, target_modules=TARGETS), {"boft_R": 0.4, "boft_s": 0.2}),
    "oft-coft": (OFTConfig(oft_block_size=8, r=0, coft=True, eps=0.7, use_cayley_neumann=False, target_modules=TARGETS), {"oft_R": 0.1}),
    "oft-coft-share": (OFTConfig(oft_block_size=8, r=0, coft=True, eps=0.7, block_share=True, use_cayley_neumann=False, target_modules=TARGETS), {"oft_R": 0.1}),
}


class BlockDiagonal:
    @staticmethod
    def apply(blocks):
        return torch.stack([torch.block_diag(*factor) for factor in blocks])


peft.tuners.boft.layer.get_fbd_cuda = lambda: BlockDiagonal
peft.tuners.boft.layer.FastBlockDiag = BlockDiagonal


def text(data):
    return base64.b64encode(data).decode()


def load():
    return transformers.AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)


def case(config, spreads):
    torch.manual_seed(7)
    model = get_peft_model(load(), config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            for role, spread in spreads.items():
                if role in name:
                    value.add_(torch.randn_like(value) * spread * (1 + torch.rand(value.shape[0]).reshape(-1, *[1] * (value.dim() - 1))))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = {name: (pathlib.Path(folder) / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")}
        merged = {}
        for dtype in (torch.float32, torch.float64):
            again = PeftModel.from_pretrained(load(), folder).to(dtype)
            torch.set_default_dtype(dtype)  # the radius of COFT is made in it
            merged[dtype] = again.merge_and_unload().state_dict()
            torch.set_default_dtype(torch.float32)
    base = load().state_dict()
    changed = [name for name in base if not torch.equal(base[name], merged[torch.float32][name])]
    assert len(changed) == 1, changed
    for name in changed:
        assert merged[torch.float64][name].dtype == torch.float64
        apart = (merged[torch.float32][name] - merged[torch.float64][name]).abs().max().item()
        assert apart < 1e-6, (name, apart)
        print(name, "float32 and double apart", apart, "moved", (base[name] - merged[torch.float64][name]).abs().max().item(), file=sys.stderr)
    return {"config": text(files["adapter_config.json"]), "weights": text(files["adapter_model.safetensors"]),
            "merged": {name: text(merged[torch.float64][name].float().numpy().tobytes()) for name in changed}}


print(json.dumps({name: case(config, spreads) for name, (config, spreads) in CASES.items()}, indent=1))
