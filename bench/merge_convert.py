#!/usr/bin/env python3
"""merge, HF -> GGUF, and both in one pass, beside PEFT, convert_hf_to_gguf.py and llama-quantize, on a random Llama of 1.1 B parameters in float16.

Needs the peers of scripts/peers (libraries, llama-quantize) and a release build. Everything is warm and without sync; the floor is `cp` of the same bytes.
"""
import argparse
import json
import os
import pathlib
import shutil
import sys

from measure import ROOT, best, compared, compared_header, in_turn, machine, peer, run

# TinyLlama-1.1B's shape
SHAPE = dict(hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4, vocab_size=32000)
RANK = 64

WRITE_INPUTS = """
import json, os, shutil, sys
import numpy as np
from safetensors.numpy import save_file
folder, tokenizer, shape, rank = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
d, f, n, v = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"], shape["vocab_size"]
kv = d // shape["num_attention_heads"] * shape["num_key_value_heads"]
rng = np.random.default_rng(1)
def weight(*dims): return (rng.standard_normal(dims, dtype=np.float32) * np.float32(.02)).astype(np.float16)
linears = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d), "self_attn.o_proj": (d, d),
           "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f)}
tensors = {"model.embed_tokens.weight": weight(v, d), "lm_head.weight": weight(v, d), "model.norm.weight": np.ones(d, np.float16)}
adapter = {}
for layer in range(n):
    for name, (rows, columns) in linears.items():
        tensors[f"model.layers.{layer}.{name}.weight"] = weight(rows, columns)
        adapter[f"base_model.model.model.layers.{layer}.{name}.lora_A.weight"] = weight(rank, columns)
        adapter[f"base_model.model.model.layers.{layer}.{name}.lora_B.weight"] = weight(rows, rank)
    for name in ("input_layernorm", "post_attention_layernorm"):
        tensors[f"model.layers.{layer}.{name}.weight"] = np.ones(d, np.float16)
os.makedirs(folder + "/base"); os.makedirs(folder + "/adapter")
save_file(tensors, folder + "/base/model.safetensors", {"format": "pt"})
save_file(adapter, folder + "/adapter/adapter_model.safetensors", {"format": "pt"})
config = dict(shape, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", max_position_embeddings=2048, rms_norm_eps=1e-5, rope_theta=10000.0,
              tie_word_embeddings=False, torch_dtype="float16", bos_token_id=1, eos_token_id=2)
json.dump(config, open(folder + "/base/config.json", "w"), indent=2)
json.dump(dict(peft_type="LORA", task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.0, bias="none", base_model_name_or_path=folder + "/base",
               target_modules=[name.split(".")[1] for name in linears]), open(folder + "/adapter/adapter_config.json", "w"), indent=2)
for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"): shutil.copy(f"{tokenizer}/{name}", folder + "/base")
"""

PEFT_MERGE = """
import sys, torch, transformers
from peft import PeftModel
transformers.logging.set_verbosity_error()
base, adapter, out = sys.argv[1:4]
model = transformers.AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float16)
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
"""


def write_inputs(inputs, python, tokenizer, layers=None):
    """Folders of base and adapter, written if they are not there. Fewer layers make a smaller model."""
    base, adapter = inputs / "base", inputs / "adapter"
    if not (adapter / "adapter_config.json").exists():
        shutil.rmtree(inputs, ignore_errors=True)
        inputs.mkdir(parents=True)
        run([python, "-c", WRITE_INPUTS, inputs, tokenizer, json.dumps({**SHAPE, **({"num_hidden_layers": layers} if layers else {})}), RANK])
    return base, adapter


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for inputs and outputs, about 12 GB")
    parser.add_argument("--ropewalk", type=pathlib.Path, default=ROOT / "build/release/tools/ropewalk")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "build/release/golden/tokenizers/llama2")
    parser.add_argument("--times", type=int, default=3, help="runs of ours; the fastest counts (peers run once)")
    options = parser.parse_args()
    python, quantize = peer("libraries"), peer("llama-quantize")
    converter = quantize.parent / "source/convert_hf_to_gguf.py"
    outputs = options.work / "outputs"
    base, adapter = write_inputs(options.work / "inputs", python, options.tokenizer)

    def fresh():
        shutil.rmtree(outputs, ignore_errors=True)
        outputs.mkdir()

    weights = base / "model.safetensors"
    fresh()
    floor = best(["cp", weights, outputs / "copy"], options.times, fresh)
    print(f"{machine()}; {os.path.getsize(weights) / 1e9:.2f} GB of float16 weights, rank {RANK} on all linears; warm, no sync\n")
    compared_header("step", "peer", "floor: cp, wall s")
    floor_cell = f"{floor.wall:.2f}"
    fresh()
    merge = run([python, "-c", PEFT_MERGE, base, adapter, outputs / "merged"])
    ours = best([options.ropewalk, "merge", f"{base}+{adapter}", "-o", outputs / "merged", "--no-sync", "--quiet"], options.times, fresh)
    compared("merge to fp16 (PEFT)", merge, ours, floor_cell)

    fresh()
    ours = best([options.ropewalk, "convert", base, "-o", outputs / "f16.gguf", "--type", "f16", "--no-sync", "--quiet"], options.times, fresh)
    fresh()
    convert = run([python, converter, base, "--outfile", outputs / "f16.gguf", "--outtype", "f16"])
    compared("HF -> f16 GGUF (convert_hf_to_gguf.py)", convert, ours, floor_cell)

    quant = run([quantize, outputs / "f16.gguf", outputs / "q8_0.gguf", "Q8_0", "2"])
    ours = best([options.ropewalk, "convert", f"{base}+{adapter}", "-o", outputs / "{name}-{type}.gguf", "--type", "f16,q8_0", "--no-sync", "--quiet"], options.times, fresh)
    compared("base + adapter -> f16 and q8_0 GGUFs (PEFT, converter, llama-quantize)", in_turn([merge, convert, quant]), ours, floor_cell)
    shutil.rmtree(outputs)


if __name__ == "__main__":
    sys.exit(main())
