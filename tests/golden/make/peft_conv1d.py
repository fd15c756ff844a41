#!/usr/bin/env python3
"""A GPT-2 that bitsandbytes packed, whose Conv1D become linear layers, and a LoRA trained on it: tests/golden/peft_conv1d.json.

    peft_conv1d.py > tests/golden/peft_conv1d.json     (bitsandbytes 0.50.2, peft 0.21.2, transformers 5.23.0, torch 2.15.0)

Of each folder that transformers saves, the tensors of the attention are kept. `merged`: sha256 of the weights as the class stores them, float16: PEFT's merge in double into
the linear layers that bitsandbytes dequantizes, turned. That they are the class's is checked here: put into a GPT2LMHeadModel they give the logits of the linear layers.
"""
import base64
import hashlib
import json
import pathlib
import sys
import tempfile

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save

torch.set_num_threads(1)
#  name: how it is packed, the width, the layers that are kept; bitsandbytes on a CPU dequantizes blocks of 64 wrongly where rows are shorter
KINDS = {
    "int8": (dict(load_in_8bit=True), 16, ["attn.c_attn", "attn.c_proj"]),
    "nf4": (dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"), 64, ["attn.c_proj"]),
}
SHAPE = dict(vocab_size=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=1, eos_token_id=2)


def randomize(named, scale):
    with torch.no_grad():
        for value in named:
            value.copy_(torch.randn_like(value) * scale)


def logits(model):
    with torch.no_grad():
        return model(torch.arange(3, 11)[None]).logits


def linear(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", dtype=torch.float16).dequantize()


def text(data):
    return base64.b64encode(data).decode()


def case(folder, kind, width, parts):
    torch.manual_seed(4)
    plain = transformers.AutoModelForCausalLM.from_config(transformers.GPT2Config(n_embd=width, **SHAPE)).to(torch.float16)
    randomize(plain.parameters(), 0.2)
    plain.save_pretrained(folder / "plain")
    packed = transformers.AutoModelForCausalLM.from_pretrained(
        folder / "plain", quantization_config=transformers.BitsAndBytesConfig(**kind), dtype=torch.float16, device_map="cpu")
    packed.save_pretrained(folder / "base")
    tuned = get_peft_model(packed, LoraConfig(r=2, lora_alpha=3, target_modules=parts, task_type="CAUSAL_LM"))
    randomize((value for name, value in tuned.named_parameters() if "lora_" in name), 0.3)
    tuned.save_pretrained(folder / "adapter")

    model = PeftModel.from_pretrained(linear(folder / "base"), folder / "adapter").double().merge_and_unload()
    wanted = logits(model)
    merged = {name: dict(model.named_modules())["transformer.h.0." + name].weight.detach().T.contiguous() for name in parts}
    own = transformers.AutoModelForCausalLM.from_pretrained(folder / "plain", dtype=torch.float64)
    with torch.no_grad():
        for name, module in model.named_modules():
            if type(module) is torch.nn.Linear and name.startswith("transformer.h"):
                own.get_submodule(name).weight.copy_(module.weight.T)
    assert (logits(own) - wanted).abs().max() < 1e-12 < 1e-3 < (logits(plain.double()) - wanted).abs().max()

    tensors = {name: value for name, value in load_file(folder / "base/model.safetensors").items() if any(f".{part}.weight" in name or f".{part}.SCB" in name for part in parts)}
    config = json.loads((folder / "base/config.json").read_text())
    adapter = json.loads((folder / "adapter/adapter_config.json").read_text())
    return {
        "config": {key: config[key] for key in ("model_type", "dtype", "quantization_config")},
        "tensors": text(save(tensors, {"format": "pt"})),
        "adapter": {key: adapter[key] for key in ("peft_type", "peft_version", "r", "lora_alpha", "target_modules", "fan_in_fan_out")},
        "weights": text((folder / "adapter/adapter_model.safetensors").read_bytes()),
        "merged": {f"transformer.h.0.{name}.weight": hashlib.sha256(value.to(torch.float16).numpy().tobytes()).hexdigest() for name, value in merged.items()},
    }


def main():
    out = {}
    for name, options in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            out[name] = case(pathlib.Path(folder), *options)
    json.dump(out, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
