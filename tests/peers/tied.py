"""Adapters of an embedding and a head, tied or not: the merged folder computes what the model computed while PEFT trained it.

The judge is the trained model itself, in float64, before anything is saved; PEFT's own merge is held against it too, and is known to be off in some of the cases, which is said.
"""
import json
import pathlib
import tempfile
import warnings

import torch
import transformers
from peft import LoraConfig, OFTConfig, PeftModel, get_peft_model

from architectures import SHAPE, fill, load, logits, tensors_of
from support import Checks, Ropewalk, arguments

warnings.simplefilter("ignore")  # PEFT tells of tied heads at length
BOTH = ["embed_tokens", "lm_head"]
OFT = dict(oft_block_size=4, r=0)
#  name: whether the base's head is tied, rows added, the adapter, whether head and embedding are one tensor afterwards, whether PEFT's merge is what was trained
CASES = {
    "rows of each, others": (True, 0, dict(trainable_token_indices={"embed_tokens": [2], "lm_head": [2, 4]}), False, False),
    "rows of each, the same": (True, 0, dict(trainable_token_indices={"embed_tokens": [2, 4], "lm_head": [2, 4]}), True, True),
    "rows of both at once": (True, 0, dict(trainable_token_indices=[2, 4]), True, True),
    "rows, untied": (False, 0, dict(trainable_token_indices={"embed_tokens": [2], "lm_head": [2, 4]}), False, True),
    "both saved": (True, 0, dict(modules_to_save=BOTH), False, True),
    "both saved, untied": (False, 0, dict(modules_to_save=BOTH), False, True),
    "embedding saved": (True, 0, dict(modules_to_save=["embed_tokens"]), False, True),
    "head saved, tied by PEFT": (True, 0, dict(modules_to_save=["lm_head"], ensure_weight_tying=True), True, True),
    "new rows, both saved": (True, 3, dict(modules_to_save=BOTH), False, True),
    "new rows, both saved, untied": (False, 3, dict(modules_to_save=BOTH), False, True),
    "new rows trained": (True, 3, dict(trainable_token_indices=[64, 65, 66]), True, True),
    "new rows trained, by name": (True, 3, dict(trainable_token_indices={"embed_tokens": [64, 65, 66]}), True, True),
    "LoRA of the head": (True, 0, dict(target_modules=["q_proj", "lm_head"]), False, False),
    "LoRA of the embedding": (True, 0, dict(target_modules=["q_proj", "embed_tokens"]), False, False),
    "LoRA of each": (True, 0, dict(target_modules=["q_proj", *BOTH]), False, False),
    "LoRA of each, untied": (False, 0, dict(target_modules=["q_proj", *BOTH]), False, True),
    "OFT of the embedding": (True, 0, dict(kind=OFTConfig, target_modules=["q_proj", "embed_tokens"], **OFT), False, False),
    "OFT of the embedding, untied": (False, 0, dict(kind=OFTConfig, target_modules=["q_proj", "embed_tokens"], **OFT), False, True),
    "OFT of the embedding, exact": (False, 0, dict(kind=OFTConfig, target_modules=["embed_tokens"], use_cayley_neumann=False, **OFT), False, True),
    "LoRA of the embedding, head saved": (True, 0, dict(target_modules=["q_proj", "embed_tokens"], modules_to_save=["lm_head"]), False, True),
    "LoRA of the head, embedding saved": (True, 0, dict(target_modules=["q_proj", "lm_head"], modules_to_save=["embed_tokens"]), False, True),
}


def grown(base, rows):
    model = load(base, torch.float32)
    torch.manual_seed(31)
    if rows:
        model.resize_token_embeddings(model.config.vocab_size + rows, mean_resizing=False)
    return model


def train(base, rows, options, folder):
    """The adapter's folder, and what the model computes with it."""
    kind = options.get("kind", LoraConfig)
    if kind is LoraConfig:
        options = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj"], **options}
    tuned = get_peft_model(grown(base, rows), kind(task_type="CAUSAL_LM", **{key: value for key, value in options.items() if key != "kind"}))
    torch.manual_seed(32)
    with torch.no_grad():
        for value in tuned.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))
    tuned.save_pretrained(folder)
    return logits(tuned.double().eval())


def distance(got, want):
    return (got - want).abs().max().item() / want.abs().max().item()


def check_case(checks, ropewalk, name, folder):
    tied, rows, options, one, peft_right = CASES[name]
    torch.manual_seed(30)
    model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**dict(SHAPE, tie_word_embeddings=tied))).to(torch.float32)
    fill(model.parameters(), 0.2)
    base, adapter, out = folder / "base", folder / "adapter", folder / "out"
    model.save_pretrained(base)
    want = train(base, rows, options, adapter)
    ropewalk.run("merge", f"{base}+{adapter}", "-o", out, "--no-sync", "--quiet")
    off = distance(logits(load(out, torch.float32).double()), want)
    moved = distance(logits(grown(base, rows).double()), want)
    peft = distance(logits(PeftModel.from_pretrained(grown(base, rows), adapter).double().merge_and_unload()), want)
    checks.check(off <= 1e-6 and moved > 1e-3, f"{name}: the merged model computes what was trained ({off:.1e} apart, the base {moved:.1e})")
    checks.check((peft <= 1e-6) == peft_right, f"{name}: PEFT's own merge is {peft:.1e} apart" + ("" if peft_right else ", as known"))
    is_one = "lm_head.weight" not in tensors_of(out)
    says = json.loads((out / "config.json").read_text())["tie_word_embeddings"]
    checks.check(is_one == one and says == one, f"{name}: embedding and head are {'one tensor' if one else 'two'}, and config.json says so")


def main():
    options = arguments()
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            check_case(checks, ropewalk, name, pathlib.Path(folder))
    checks.exit()


if __name__ == "__main__":
    main()
