#!/usr/bin/env python3
"""What PEFT's own forward pass gives while adapters are not merged: tests/golden/peft_unmerged.json.

    peft_unmerged.py GOLDEN_DIR > tests/golden/peft_unmerged.json     (peft 0.21.2, transformers 5.23.0, torch 2.15.0)

GOLDEN_DIR: where tests/golden/peft.tar.zst and fixtures.tar.zst are unpacked (build/<preset>/golden). Every case is run twice: as the library is in float32, and with
every operation in double (model.double() alone leaves rope, norms and softmax in float32). `stock` is the largest difference of the two: what float32 costs.
Logits of the last positions are stored, ten digits each, and the NLL of every token.
"""
import base64
import contextlib
import json
import pathlib
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(sys.argv[1])
IDS = [1, 5, 7, 70, 33, 9, 4, 11, 12, 13, 60, 2, 95, 44, 3, 8, 21, 87, 66, 50, 17, 30]


class Doubles(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        def double(value):
            return torch.float64 if value is torch.float32 else value

        if function is torch.Tensor.float:
            return args[0].double()
        return function(*map(double, args), **{key: double(value) for key, value in (kwargs or {}).items()})


@contextlib.contextmanager
def in_double(model):
    model.double()
    torch.set_default_dtype(torch.float64)
    try:
        with Doubles():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def load(base, adapters):
    model = AutoModelForCausalLM.from_pretrained(ROOT / base, dtype=torch.float32, attn_implementation="eager")
    for number, (folder, scale) in enumerate(adapters):
        name = f"a{number}"
        if number == 0:
            model = PeftModel.from_pretrained(model, ROOT / folder, adapter_name=name)
        else:
            model.load_adapter(ROOT / folder, adapter_name=name)
        if scale != 1:
            for module in model.modules():
                if isinstance(module, LoraLayer) and name in module.scaling:
                    module.set_scale(name, scale)
    if len(adapters) > 1:
        model.base_model.set_adapter([f"a{number}" for number in range(len(adapters))])
    return model.eval()


def logits(model, ids):
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].double()


def case(base, adapters, ids, last):
    stock = logits(load(base, adapters), ids)
    model = load(base, adapters)
    with in_double(model):
        exact = logits(model, ids)
    nll = -torch.log_softmax(exact[:-1], -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    return {
        "base": base,
        "adapters": [{"folder": folder, "scale": scale} for folder, scale in adapters],
        "ids": ids,
        "stock": float(f"{(stock - exact).abs().max().item():.3e}"),
        "logits": [[float(f"{x:.10g}") for x in row] for row in exact[-last:].tolist()],
        "nll": [float(f"{x:.10g}") for x in nll.tolist()],
    }


def replicated(base, ids, last):
    """An adapter of layers that stand several times, which no archive has: its two files are part of the case."""
    torch.manual_seed(3)
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], layer_replication=[[0, 2], [0, 1], [1, 2], [1, 2]])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(ROOT / base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_" in name:
                value.copy_(torch.randn_like(value) * 0.3)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        one = case(base, [(folder, 1)], ids, last)
        saved = json.loads((pathlib.Path(folder) / "adapter_config.json").read_text()) | {"base_model_name_or_path": ""}
        config = json.dumps({key: value for key, value in saved.items() if value is not None}).encode()
        files = {"adapter_config.json": config, "adapter_model.safetensors": (pathlib.Path(folder) / "adapter_model.safetensors").read_bytes()}
        files = {name: base64.b64encode(data).decode() for name, data in files.items()}
    return {**one, "adapters": [{"files": files, "scale": 1}]}


cases = {}
for name, base in (("lora-basic", "f32"), ("lora-all-linear", "f32"), ("lora-regex-target", "f32"), ("rslora", "f32"),
                   ("dtype-bf16-on-f32", "f32"), ("dtype-f32-on-f16", "f16"), ("dtype-f32-on-bf16", "bf16"), ("dtype-f16-on-f16", "f16")):
    cases[name] = case(f"peft/bases/llama-{base}", [(f"peft/{name}", 1)], IDS, 8)
cases["two adapters, one scaled"] = case("peft/bases/llama-f32", [("peft/lora-all-linear", 1), ("peft/rslora", -0.75)], IDS, 8)
cases["a deeper model"] = replicated("peft/bases/llama-f32", IDS, 2)
cases["trained"] = case("fixtures/models/tolstoy-4m-yarn-2k", [("fixtures/adapters/qlora-shakespeare", 1)],
                        [1] + [(i * i * 37 + 11 * i) % 2000 + 3 for i in range(299)], 3)
json.dump(cases, sys.stdout, separators=(",", ":"))
print()
