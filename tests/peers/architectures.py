"""Merges into models of classes that ropewalk does not run, against PEFT's in the same classes.

Each case is a tiny random model that transformers saves, an adapter with random values that PEFT saves, and PEFT's merge of the two in double, saved by transformers and
rounded once to the type of the base: our folder has those tensors, to the byte, and those of the base where PEFT changes nothing. It loads in transformers, and its logits
in float32 are those of PEFT's model rounded the same way (the same sums of the same numbers; 1e-6 of the largest is left for a library's own choices).
"""
import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from support import Checks, Ropewalk, arguments

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)

SHAPE = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)
GPT2 = dict(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2)
FEW = dict(SHAPE, num_local_experts=3, num_experts_per_tok=2)
QWEN_MOE = dict(SHAPE, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=12, decoder_sparse_step=1, mlp_only_layers=[])
LORA = dict(r=3, lora_alpha=5)
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
GEMMA3 = dict(text_config=SHAPE, vision_config=VISION, mm_tokens_per_image=4, image_token_index=62, boi_token_index=60, eoi_token_index=61)
LLAVA = dict(text_config=dict(SHAPE, model_type="llama"), vision_config=dict(VISION, model_type="clip_vision_model"), image_token_index=60)
QWEN_VL = dict(text_config=dict(SHAPE, rope_parameters=dict(rope_type="default", mrope_section=[1, 1, 2], rope_theta=1e4)),
               vision_config=dict(depth=1, hidden_size=16, intermediate_size=24, num_heads=2, out_hidden_size=16, patch_size=14),
               image_token_id=60, video_token_id=61, vision_start_token_id=62, vision_end_token_id=63)
#  name: class, its shape, the adapter, the type of the base
CASES = {
    "qwen2": ("qwen2", SHAPE, dict(LORA, target_modules="all-linear"), torch.float32),
    "qwen2-saved": ("qwen2", dict(SHAPE, tie_word_embeddings=False), dict(LORA, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]), torch.bfloat16),
    "qwen2-tied": ("qwen2", dict(SHAPE, tie_word_embeddings=True), dict(LORA, target_modules=["q_proj", "down_proj"]), torch.float16),
    "qwen3": ("qwen3", SHAPE, dict(LORA, target_modules=["q_proj", "up_proj", "down_proj"], use_dora=True), torch.float32),
    "gemma2": ("gemma2", SHAPE, dict(LORA, target_modules="all-linear", use_rslora=True), torch.bfloat16),
    "gemma3_text": ("gemma3_text", SHAPE, dict(LORA, target_modules=["k_proj", "gate_proj", "o_proj"]), torch.float32),
    "phi3": ("phi3", SHAPE, dict(LORA, target_modules=["qkv_proj", "gate_up_proj", "o_proj", "down_proj"]), torch.float32),
    "falcon": ("falcon", dict(vocab_size=64, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, bos_token_id=1, eos_token_id=2), dict(LORA, target_modules="all-linear"), torch.float32),
    "gpt_neox": ("gpt_neox", {key: SHAPE[key] for key in SHAPE if key not in ("head_dim", "num_key_value_heads")}, dict(LORA, target_modules="all-linear"), torch.float32),
    "gpt2": ("gpt2", GPT2, dict(LORA, target_modules=["c_attn", "c_proj", "c_fc"]), torch.float32),
    "gpt2-dora": ("gpt2", GPT2, dict(LORA, target_modules=["c_attn", "c_proj", "c_fc"], use_dora=True), torch.float32),
    "mixtral": ("mixtral", dict(FEW, sliding_window=None), dict(LORA, target_modules=["q_proj"], target_parameters=[*EXPERTS, "mlp.gate.weight"]), torch.float32),
    "mixtral-modules": ("mixtral", dict(FEW, sliding_window=None), dict(LORA, target_modules=["q_proj", "w1", "w2", "w3"]), torch.float32),
    "qwen3_moe": ("qwen3_moe", QWEN_MOE, dict(LORA, target_modules=["v_proj"], target_parameters=EXPERTS), torch.bfloat16),
    "qwen3_moe-modules": ("qwen3_moe", QWEN_MOE, dict(LORA, target_modules=["v_proj", "gate_proj", "up_proj", "down_proj"]), torch.float32),
    "gpt_oss": ("gpt_oss", FEW, dict(LORA, target_modules=["q_proj", "o_proj"], target_parameters=EXPERTS), torch.bfloat16),
    "gemma3": ("gemma3", GEMMA3, dict(LORA, target_modules=["q_proj", "down_proj"]), torch.float32),
    "llava": ("llava", LLAVA, dict(LORA, target_modules=["k_proj", "up_proj", "linear_1"]), torch.bfloat16),
    "qwen2_5_vl": ("qwen2_5_vl", QWEN_VL, dict(LORA, target_modules=["q_proj", "down_proj", "qkv"]), torch.float32),
}


def kind_of(config):
    return transformers.AutoModelForImageTextToText if hasattr(config, "vision_config") else transformers.AutoModelForCausalLM


def load(folder, dtype):
    return kind_of(transformers.AutoConfig.from_pretrained(folder)).from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def tensors_of(folder):
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update(load_file(path))
    return out


def fill(named, scale):
    with torch.no_grad():
        for value in named:
            value.copy_(torch.randn_like(value) * scale)


def make(name, folder):
    """The base's folder, and the adapter's."""
    kind, shape, adapter, dtype = CASES[name]
    torch.manual_seed(11)
    config = transformers.CONFIG_MAPPING[kind](**shape)
    model = kind_of(config).from_config(config).to(dtype)
    fill(model.parameters(), 0.2)
    base = folder / "base"
    model.save_pretrained(base)
    torch.manual_seed(12)
    tuned = get_peft_model(load(base, torch.float32), LoraConfig(**adapter))
    fill((value for key, value in tuned.named_parameters() if "lora_" in key and "magnitude" not in key), 0.3)
    with torch.no_grad():
        for key, value in tuned.named_parameters():
            if "magnitude" in key or "modules_to_save" in key:
                value.mul_(1 + 0.1 * torch.rand_like(value))
    tuned.save_pretrained(folder / "adapter")
    return base, folder / "adapter"


def logits(model):
    with torch.no_grad():
        return model(torch.arange(3, 35).reshape(2, 16)).logits


def rounded(model, dtype):
    """Its weights as the folder has them, in float32."""
    with torch.no_grad():
        for value in model.parameters():
            value.copy_(value.to(dtype))
    return model.to(torch.float32)


def merged_by_peft(base, adapter):
    return PeftModel.from_pretrained(load(base, torch.float32), adapter).to(torch.float64).merge_and_unload()


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).numpy()


def check_tensors(checks, name, out, base, theirs):
    ours, before = tensors_of(out), tensors_of(base)
    changed = {key for key in before if not torch.equal(theirs[key].to(before[key].dtype), before[key])}
    apart = [key for key in before if key not in ours or not np.array_equal(bits(ours[key]), bits(theirs[key].to(before[key].dtype)))]
    checks.check(set(ours) == set(before) == set(theirs) and changed and not apart,
                 f"{name}: {len(ours)} tensors, {len(changed)} of them changed, are PEFT's rounded once" + (f"; not {apart[:3]}" if apart else ""))
    return changed


def check_case(checks, ropewalk, name, folder):
    base, adapter = make(name, folder)
    out = folder / "out"
    report = ropewalk.json("merge", f"{base}+{adapter}", "-o", out, "--no-sync")
    peft = merged_by_peft(base, adapter)
    peft.save_pretrained(folder / "theirs")
    changed = check_tensors(checks, name, out, base, tensors_of(folder / "theirs"))
    checks.check(report["tensors_changed"] == len(changed), f"{name}: the report counts them")
    card = (out / "README.md").read_text()
    checks.check("| rope" not in card and "| context" not in card and CASES[name][0] in card, f"{name}: the card claims no rope")
    theirs = logits(rounded(peft, CASES[name][3]))
    scale = theirs.abs().max().item()
    worst = (logits(load(out, torch.float32)) - theirs).abs().max().item() / scale
    moved = (logits(load(base, torch.float32)) - theirs).abs().max().item() / scale
    checks.check(worst <= 1e-6 and moved > 1e-2, f"{name}: transformers loads it and computes PEFT's logits ({worst:.1e} apart, the base {moved:.1e})")
    other = folder / "other"
    ropewalk.run("merge", f"{base}+{adapter}:1.01", "-o", other, "--no-sync", "--quiet")
    ours, off = tensors_of(out), tensors_of(other)
    checks.check(all(not torch.equal(ours[key], off[key]) for key in changed if "-saved" not in name or "q_proj" in key), f"{name}, negative control: a hundredth more is another model")


def check_files_without_the_head(checks, ropewalk, folder):
    """gpt2's own files lack the first part of the names that its class has."""
    base, adapter = make("gpt2", folder)
    alone, out = folder / "alone", folder / "out"
    load(base, torch.float32).transformer.save_pretrained(alone)
    ropewalk.run("merge", f"{alone}+{adapter}", "-o", out, "--no-sync", "--quiet")
    merged_by_peft(base, adapter).transformer.save_pretrained(folder / "theirs")
    check_tensors(checks, "gpt2 without its head", out, alone, tensors_of(folder / "theirs"))


def check_packed_experts(checks, ropewalk, folder):
    """gpt-oss as it is published, its experts in MXFP4: PEFT merges into what transformers dequantizes. Matrices of down_proj are square."""
    shape, (_, _, adapter, _) = dict(FEW, hidden_size=32, intermediate_size=32), CASES["gpt_oss"]
    torch.manual_seed(13)
    model = transformers.AutoModelForCausalLM.from_config(transformers.GptOssConfig(**shape)).to(torch.bfloat16)
    fill(model.parameters(), 0.2)
    base = folder / "base"
    model.save_pretrained(base)
    tensors = tensors_of(base)
    for name in [key for key in tensors if key.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        experts, inputs, outputs = tensors.pop(name).shape
        tensors[name + "_blocks"] = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        tensors[name + "_scales"] = torch.randint(120, 126, (experts, outputs, inputs // 32), dtype=torch.uint8)
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((base / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    (base / "config.json").write_text(json.dumps(config))

    def dequantized():
        return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16, quantization_config=transformers.Mxfp4Config(dequantize=True), attn_implementation="eager")

    tuned = get_peft_model(dequantized(), LoraConfig(**adapter))
    fill((value for key, value in tuned.named_parameters() if "lora_" in key), 0.3)
    tuned.save_pretrained(folder / "adapter")
    before = {key: value.clone() for key, value in dequantized().state_dict().items()}
    theirs = PeftModel.from_pretrained(dequantized(), folder / "adapter").to(torch.float64).merge_and_unload().state_dict()
    ropewalk.run("merge", f"{base}+{folder / 'adapter'}", "-o", folder / "out", "--no-sync", "--quiet")
    ours = tensors_of(folder / "out")
    apart = [key for key in theirs if key not in ours or not torch.equal(ours[key], theirs[key].to(torch.bfloat16))]
    changed = [key for key in before if not torch.equal(before[key], theirs[key].to(torch.bfloat16))]
    checks.check(set(ours) == set(theirs) and not apart and len(changed) == 8, f"gpt_oss in MXFP4: {len(ours)} tensors, {len(changed)} of them changed, are PEFT's rounded once" + (f"; not {apart[:3]}" if apart else ""))


def main():
    options = arguments()
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            check_case(checks, ropewalk, name, pathlib.Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        check_files_without_the_head(checks, ropewalk, pathlib.Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        check_packed_experts(checks, ropewalk, pathlib.Path(folder))
    checks.exit()


if __name__ == "__main__":
    main()
