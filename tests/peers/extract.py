"""`adapter extract` of models of many architectures, loaded and merged by PEFT onto the base: the tuned model, as far as numpy's singular values say that the rank reaches.

Every parameter of a tuned model differs from the base's: matrices by noise, so that a cut rank leaves what it must; all else comes back as it is.
"""
import pathlib
import tempfile
import warnings

import numpy as np
import torch
import transformers
from peft import PeftModel

from architectures import FEW, GEMMA3, GPT2, LLAVA, QWEN_MOE, QWEN_VL, SHAPE, fill, kind_of, load, tensors_of
from support import Checks, Ropewalk, arguments

RANK = 5
SMALL = dict(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, bos_token_id=1, eos_token_id=2)
UNTIED = dict(SHAPE, tie_word_embeddings=False)
#  name: class, its shape, what `adapter extract` is told
CASES = {
    "llama": ("llama", dict(SHAPE, attention_bias=True, mlp_bias=True), ()),
    "gpt2": ("gpt2", GPT2, ()),
    "qwen2": ("qwen2", UNTIED, ()),
    "qwen2-tied": ("qwen2", dict(SHAPE, tie_word_embeddings=True), ()),
    "qwen2-lora": ("qwen2", UNTIED, ("--embeddings", "lora")),
    "qwen3": ("qwen3", UNTIED, ()),
    "gemma3_text": ("gemma3_text", SHAPE, ()),
    "gemma3": ("gemma3", GEMMA3, ()),
    "phi3": ("phi3", UNTIED, ()),
    "phi": ("phi", {key: SHAPE[key] for key in SHAPE if key not in ("head_dim", "num_key_value_heads")}, ()),
    "falcon": ("falcon", SMALL, ()),
    "bloom": ("bloom", dict(vocab_size=64, hidden_size=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=2), ()),
    "gpt_neox": ("gpt_neox", {key: SHAPE[key] for key in SHAPE if key not in ("head_dim", "num_key_value_heads")}, ()),
    "mixtral": ("mixtral", dict(FEW, sliding_window=None), ()),
    "qwen3_moe": ("qwen3_moe", QWEN_MOE, ()),
    "olmoe": ("olmoe", dict(UNTIED, num_experts=3, num_experts_per_tok=2), ()),
    "llava": ("llava", LLAVA, ()),
    "qwen2_5_vl": ("qwen2_5_vl", QWEN_VL, ()),
}


#  what no adapter of PEFT expresses: parts of names that stay as the base has them
AS_IT_WAS = {"gemma3": ["mm_input_projection_weight", "vision_tower.head"], "llava": ["class_embedding"]}


def make(case, folder, choose):
    kind, shape, _ = CASES[case]
    torch.manual_seed(21)
    config = transformers.CONFIG_MAPPING[kind](**shape)
    model = kind_of(config).from_config(config).to(torch.float32)
    fill(model.parameters(), 0.2)
    model.save_pretrained(folder / "base")
    with torch.no_grad():
        for name, value in model.named_parameters():
            if choose(name) and not any(part in name for part in AS_IT_WAS.get(case, [])):
                value.add_(torch.randn_like(value) * 0.05)
    model.save_pretrained(folder / "tuned")


def peft_merged(base, adapter):
    """PEFT's merge in float64, and what it warned of."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(load(base, torch.float32), adapter).to(torch.float64).merge_and_unload()
    return model, [str(one.message)[:200] for one in told if "adapter" in str(one.message) and "key" in str(one.message)]


def least(tuned, base):
    """Norm of what a product of RANK leaves of the difference."""
    values = np.linalg.svd(tuned.double().numpy() - base.double().numpy(), compute_uv=False)
    return np.sqrt((values[RANK:] ** 2).sum()), np.sqrt((values**2).sum())


def check_case(checks, ropewalk, case, folder, choose=lambda name: True, what=""):
    make(case, folder, choose)
    out = folder / "lora"
    report = ropewalk.json("adapter", "extract", folder / "tuned", folder / "base", "--rank", RANK, "-o", out, "--no-sync", *CASES[case][2])
    lora = {module["name"] for module in report["modules"] if module["kind"] == "lora"}
    model, told = peft_merged(folder / "base", out)
    model.save_pretrained(folder / "theirs")
    tuned, base, theirs = (tensors_of(folder / name) for name in ("tuned", "base", "theirs"))
    apart, changed = [], 0
    for name, value in tuned.items():
        off = torch.linalg.norm(theirs[name].double() - value.double()).item()
        changed += not torch.equal(value, base[name])
        if name in lora:
            want, size = least(value, base[name])
            if not abs(off - want) <= 2e-6 * size:
                apart.append((name, off, want))
        elif off != 0:
            apart.append((name, off, 0.0))
    case += what
    heads = [theirs.pop(name) for name in set(theirs) - set(tuned)]  # a tied one, which PEFT has apart now
    embeddings = [value.double() for name, value in tuned.items() if ".embed_tokens." in name or ".wte." in name or ".word_embeddings." in name]
    fine = set(tuned) == set(theirs) and all(torch.equal(head.double(), embeddings[0]) for head in heads) and lora <= set(tuned) and not apart and not told and changed > 0 and lora
    checks.check(fine, f"{case}: of {len(tuned)} tensors {changed} differ; PEFT merges {len(lora)} products to the best of rank {RANK}, all else to what it was" + (f"; not {apart[:3]} {told}" if not fine else ""))
    moved = {name for name in lora if torch.linalg.norm(base[name].double() - tuned[name].double()).item() > 1.02 * least(tuned[name], base[name])[0]}
    checks.check(moved == {name for name in lora if not torch.equal(tuned[name], base[name])}, f"{case}, negative control: the base alone is farther away in each of them that differs")
    return out, theirs


def check_our_merge(checks, ropewalk, case, folder, adapter, theirs):
    ropewalk.run("merge", f"{folder / 'base'}+{adapter}", "-o", folder / "merged", "--no-sync", "--quiet")
    ours = tensors_of(folder / "merged")
    worst = max((torch.linalg.norm(ours[name].double() - theirs[name].double()) / torch.linalg.norm(theirs[name].double())).item() for name in theirs if name in ours)
    checks.check(set(ours) == set(theirs) and worst <= 1e-7, f"{case}: ropewalk merges it to the same (worst {worst:.1e} of a weight's norm)")


def main():
    options = arguments()
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            out, theirs = check_case(checks, ropewalk, case, folder)
            check_our_merge(checks, ropewalk, case, folder, out, theirs)
    parts = {"qwen2": ("layers.1.self_attn", ", a part of one layer"), "gpt2": ("h.0.mlp.c_fc", ", one module"), "mixtral": ("layers.1.mlp.experts.down_proj", ", experts of one layer")}
    for case, (part, what) in parts.items():
        with tempfile.TemporaryDirectory() as folder:
            check_case(checks, ropewalk, case, pathlib.Path(folder), lambda name: part in name, what)
    checks.exit()


if __name__ == "__main__":
    main()
