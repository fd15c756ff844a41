#!/usr/bin/env python3
"""Peak memory of a merge into a model of Llama 2 13B's shape, whose weights are holes in a sparse file: the reader and the writer see all of its bytes.

With all layers 26 GB are written to --work (and removed); what a merge holds at once does not depend on their number.
"""
import argparse
import json
import pathlib
import shutil
import struct
import sys

from measure import ROOT, header, machine, row, run

SHAPE = dict(hidden_size=5120, intermediate_size=13824, num_hidden_layers=40, num_attention_heads=40, num_key_value_heads=40, vocab_size=32000)
RANK = 64


def sparse(path, shapes, data=None):
    """A safetensors file of float16; zeros that take no space, or `data` over and over."""
    entries, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        entries[name] = {"dtype": "F16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while data and file.tell() < 8 + len(text) + end:
            file.write(data[: 8 + len(text) + end - file.tell()])
        file.truncate(8 + len(text) + end)


def write_inputs(folder, layers):
    d, f, v = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["vocab_size"]
    linears = {"self_attn.q_proj": (d, d), "self_attn.k_proj": (d, d), "self_attn.v_proj": (d, d), "self_attn.o_proj": (d, d),
               "mlp.gate_proj": (f, d), "mlp.up_proj": (f, d), "mlp.down_proj": (d, f)}
    weights, factors = {"model.embed_tokens.weight": [v, d], "lm_head.weight": [v, d], "model.norm.weight": [d]}, {}
    for layer in range(layers):
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"model.layers.{layer}.{name}.weight"] = [d]
        for name, (rows, columns) in linears.items():
            weights[f"model.layers.{layer}.{name}.weight"] = [rows, columns]
            factors[f"base_model.model.model.layers.{layer}.{name}.lora_A.weight"] = [RANK, columns]
            factors[f"base_model.model.model.layers.{layer}.{name}.lora_B.weight"] = [rows, RANK]
    base, adapter = folder / "base", folder / "adapter"
    base.mkdir(parents=True), adapter.mkdir()
    sparse(base / "model.safetensors", weights)
    sparse(adapter / "adapter_model.safetensors", factors, struct.pack("<8e", *(0.01 * k for k in range(1, 9))) * 4096)
    config = dict(SHAPE, num_hidden_layers=layers, architectures=["LlamaForCausalLM"], model_type="llama", hidden_act="silu", max_position_embeddings=4096, rms_norm_eps=1e-5,
                  rope_theta=10000.0, tie_word_embeddings=False, torch_dtype="float16")
    (base / "config.json").write_text(json.dumps(config, indent=2))
    (adapter / "adapter_config.json").write_text(json.dumps(dict(peft_type="LORA", task_type="CAUSAL_LM", r=RANK, lora_alpha=2 * RANK, bias="none", base_model_name_or_path="base",
                                                                 target_modules=[name.split(".")[1] for name in linears]), indent=2))
    return base, adapter, (base / "model.safetensors").stat().st_size


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--ropewalk", type=pathlib.Path, default=ROOT / "build/release/tools/ropewalk")
    options = parser.parse_args()
    folder = options.work / f"sparse-{options.layers}"
    shutil.rmtree(folder, ignore_errors=True)
    base, adapter, size = write_inputs(folder, options.layers)
    print(f"{machine()}; {options.layers} layers, {size / 1e9:.1f} GB of float16 weights, rank {RANK} on all linears\n")
    header("threads", "wall s (CPU s)", "peak RSS MiB")
    for threads in options.threads.split(","):
        ours = run([options.ropewalk, "merge", f"{base}+{adapter}", "-o", folder / "merged", "--no-sync", "--quiet", "-t", threads])
        row(threads, f"{ours.wall:.1f} ({ours.cpu:.1f})", f"{ours.rss_bytes / 2**20:.0f}")
        shutil.rmtree(folder / "merged")
    shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
