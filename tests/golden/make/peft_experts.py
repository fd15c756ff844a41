#!/usr/bin/env python3
"""Adapters of experts' parameters (target_parameters), made and merged by PEFT: tests/golden/peft_experts.json.

    peft_experts.py > tests/golden/peft_experts.json     (peft 0.21.2, transformers 5.23.0, torch 2.15.0)
    peft_experts.py --old > OLD                          (peft 0.18.1, whose files have inputs and outputs the other way round: the case "old")

Each case is a random model of one layer and three experts, cut to the tensors of its experts and what else changes: the base's file as transformers saves it, the two
files of an adapter with random values as PEFT saves them, and the tensors that change, merged with base and adapter in double and rounded once to float32 (all base64; tensors little-endian).
"""
import base64
import json
import pathlib
import sys
import tempfile

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

OLD = "--old" in sys.argv[1:]
SHAPE = dict(vocab_size=16, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1, head_dim=8, max_position_embeddings=32,
             bos_token_id=1, eos_token_id=2, pad_token_id=0, tie_word_embeddings=False)
FEW = dict(num_local_experts=3, num_experts_per_tok=2)
BOTH = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
MODELS = {
    "gpt_oss": dict(FEW, intermediate_size=6, sliding_window=16),
    "gpt_oss-square": dict(FEW, intermediate_size=8, sliding_window=16),
    "mixtral": dict(FEW, intermediate_size=6),
    "qwen3_moe": dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=6, decoder_sparse_step=1, mlp_only_layers=[]),
    "qwen3_moe-square": dict(num_experts=3, num_experts_per_tok=2, moe_intermediate_size=4, decoder_sparse_step=1, mlp_only_layers=[]),
    "llama4_text": dict(FEW, intermediate_size=6, intermediate_size_mlp=12, interleave_moe_layer_step=1, attention_chunk_size=16),
}
LORA = dict(r=2, lora_alpha=3)
CASES = {
    "gpt_oss": ("gpt_oss", dict(LORA, target_modules=["q_proj"], target_parameters=BOTH)),
    "gpt_oss-square": ("gpt_oss-square", dict(LORA, target_modules=[], target_parameters=["mlp.experts.down_proj"], use_rslora=True)),
    "mixtral": ("mixtral", dict(LORA, target_modules=[], target_parameters=BOTH)),
    "qwen3_moe": ("qwen3_moe", dict(LORA, target_modules=["q_proj"], target_parameters=BOTH, rank_pattern={"experts.down_proj": 3}, alpha_pattern={"experts.gate_up_proj": 5})),
    "qwen3_moe-square": ("qwen3_moe-square", dict(LORA, target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])),
    "router": ("qwen3_moe", dict(LORA, target_modules=[], target_parameters=["mlp.gate.weight"])),
    "llama4_text": ("llama4_text", dict(LORA, target_modules=[], target_parameters=["feed_forward.experts.gate_up_proj", "feed_forward.experts.down_proj"])),
}
if OLD:
    CASES = {"old-" + name: CASES[name] for name in ("gpt_oss", "qwen3_moe", "qwen3_moe-square")}


def text(data):
    return base64.b64encode(data).decode()


def make_base(name, folder):
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(transformers.CONFIG_MAPPING[name.split("-")[0]](**SHAPE, **MODELS[name]))
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(torch.randn_like(value) * 0.3)
    model.float().save_pretrained(folder)


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def case(model_name, config):
    with tempfile.TemporaryDirectory() as work:
        base, adapter, out = (pathlib.Path(work) / name for name in ("base", "adapter", "out"))
        make_base(model_name, base)
        torch.manual_seed(7)
        model = get_peft_model(load(base), LoraConfig(**config))
        with torch.no_grad():
            for name, value in model.named_parameters():
                if "lora_" in name:
                    value.copy_(torch.randn_like(value) * 0.4)
        model.save_pretrained(adapter)
        merged = {}
        for dtype in (torch.float32, torch.float64):
            again = PeftModel.from_pretrained(load(base), adapter).to(dtype)
            again.merge_and_unload().save_pretrained(out)
            merged[dtype] = load_file(out / "model.safetensors")
        before = load_file(base / "model.safetensors")
        assert before.keys() == merged[torch.float64].keys()
        changed = [name for name in before if not torch.equal(before[name], merged[torch.float32][name])]
        for name in changed:
            exact = merged[torch.float64][name]
            assert exact.dtype == torch.float64
            apart = (merged[torch.float32][name] - exact).abs().max().item()
            assert apart < 1e-6, (name, apart)
        kept = {name: value for name, value in before.items() if name in changed or ".experts." in name}
        save_file(kept, out / "kept.safetensors")
        print(model_name, peft.__version__, len(changed), "changed of", len(kept), file=sys.stderr)
        saved = json.loads((adapter / "adapter_config.json").read_text())
        saved["base_model_name_or_path"] = ""
        return {"config": json.dumps({key: value for key, value in saved.items() if value is not None}),
                "weights": text((adapter / "adapter_model.safetensors").read_bytes()),
                "base": text((out / "kept.safetensors").read_bytes()),
                "merged": {name: text(merged[torch.float64][name].float().numpy().tobytes()) for name in changed}}


print(json.dumps({name: case(*of) for name, of in CASES.items()}, indent=1))
