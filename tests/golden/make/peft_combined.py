#!/usr/bin/env python3
"""LoRA adapters combined by PEFT's add_weighted_adapter: tests/golden/peft_combined.json.

    peft_combined.py > tests/golden/peft_combined.json     (peft 0.21.2, transformers 5.23.0, torch 2.15.0)

A random model of one layer, of which what an adapter changes is kept, four adapters with random values as PEFT saves them, and of each case the arguments (all of those
that give the same), the rank that PEFT gives the result, and the tensors that change: combined and merged in double, rounded once to float32 (base64, little-endian). dare is made with density 1, which drops nothing.
"""
import base64
import json
import pathlib
import sys
import tempfile
import warnings

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

SHAPE = dict(vocab_size=12, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, max_position_embeddings=32,
             bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False)
ADAPTERS = {
    "a": dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "v_proj"]),
    "b": dict(r=2, lora_alpha=5, target_modules=["embed_tokens", "v_proj"]),
    "wide-k": dict(r=2, lora_alpha=4, target_modules=["v_proj", "k_proj"], rank_pattern={"k_proj": 3}),
    "rslora": dict(r=2, lora_alpha=2, target_modules=["v_proj"], use_rslora=True),
}
HALF = dict(density=0.5)
CASES = (
    [(["a", "b"], [1, -0.5], how) for how in (
        dict(combination_type="linear"), dict(combination_type="ties", **HALF), dict(combination_type="ties", majority_sign_method="frequency", **HALF),
        dict(combination_type="magnitude_prune", **HALF), dict(combination_type="dare_linear", density=1), dict(combination_type="dare_ties", density=1),
        dict(combination_type="ties_svd", **HALF))]
    + [(["a", "wide-k"], [1, 1], how) for how in (
        dict(combination_type="svd"), dict(combination_type="svd", svd_rank=2), dict(combination_type="ties_svd", **HALF), dict(combination_type="magnitude_prune_svd", **HALF))]
    + [(["a"], [-0.5], how) for how in (
        dict(combination_type="linear"), dict(combination_type="cat"), dict(combination_type="svd", svd_rank=1), dict(combination_type="ties", **HALF),
        dict(combination_type="magnitude_prune_svd", **HALF), dict(combination_type="dare_linear", **HALF), dict(combination_type="dare_ties_svd"))]
    + [(["rslora", "a"], [1, 0.5], how) for how in (
        dict(combination_type="linear"), dict(combination_type="cat"), dict(combination_type="svd"))]
    + [(["a", "rslora"], [0.5, 1], dict(combination_type="cat")), (["rslora", "wide-k"], [1, 1], dict(combination_type="svd")), (["rslora"], [1], dict(combination_type="svd"))]
)


def text(data):
    return base64.b64encode(data).decode()


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def make_adapter(base, folder, config):
    model = get_peft_model(load(base), LoraConfig(**config))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn_like(value) * 0.4)
    model.save_pretrained(folder, save_embedding_layers=False)
    return {"config": json.loads((folder / "adapter_config.json").read_text()), "weights": text((folder / "adapter_model.safetensors").read_bytes())}


def case(work, names, weights, how):
    model = PeftModel.from_pretrained(load(work / "base"), work / names[0], adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(work / name, name)
    model.double()
    torch.set_default_dtype(torch.float64)  # add_weighted_adapter makes tensors of the weights in it
    model.add_weighted_adapter(names, weights, "mix", **how)
    assert all(value.dtype == torch.float64 for value in model.parameters())
    rank = model.peft_config["mix"].r
    merged = model.base_model.merge_and_unload(adapter_names=["mix"]).state_dict()
    torch.set_default_dtype(torch.float32)
    before = load_file(work / "base/model.safetensors")
    changed = [name for name in before if not torch.equal(before[name].double(), merged[name])]
    return {"adapters": names, "weights": weights, "how": [how], "rank": rank, "merged": {name: text(merged[name].float().numpy().tobytes()) for name in changed}}


def main():
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        torch.manual_seed(5)
        model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SHAPE))
        with torch.no_grad():
            for value in model.parameters():
                value.copy_(torch.randn_like(value) * 0.3)
        model.float().save_pretrained(work / "base")
        adapters = {name: make_adapter(work / "base", work / name, config) for name, config in ADAPTERS.items()}
        for one in adapters.values():
            one["config"]["base_model_name_or_path"] = "base"
            one["config"]["target_modules"].sort()  # a set: its order is chance
        cases = []
        for one in CASES:
            made = case(work, *one)
            same = [other for other in cases if all(other[key] == made[key] for key in ("adapters", "weights", "rank", "merged"))]
            if same:
                same[0]["how"] += made["how"]
            else:
                cases.append(made)
        changed = {name for one in cases for name in one["merged"]}
        save_file({name: value for name, value in load_file(work / "base/model.safetensors").items() if name in changed}, work / "kept.safetensors")
        out = {"base": text((work / "kept.safetensors").read_bytes()), "adapters": adapters, "cases": cases}
    print(json.dumps(out, separators=(",", ":")).replace('{"adapters":[', '\n{"adapters":['))


main()
