#!/usr/bin/env python3
"""merge of every kind of adapter whose merge is products and norms, beside PEFT, on a random Llama of 1.1 B parameters in float16.

Needs scripts/peers libraries and a release build. Warm and without sync; peers run once, ours is the fastest of --times. --layers makes a smaller model of the same
shape: the ratio is what counts then.
"""
import argparse
import os
import pathlib
import shutil
import sys

from measure import ROOT, best, compared, compared_header, machine, peer, run
from merge_convert import PEFT_MERGE, SHAPE, write_inputs

RANK = 64

# every tensor of the adapter is random; save_projection, so that VeRA can be merged without torch's generator
WRITE_ADAPTER = """
import sys, torch, transformers
from peft import IA3Config, LoHaConfig, LoKrConfig, LoraConfig, VeraConfig, get_peft_model
base, out, kind, rank = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
linears = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
lora = dict(r=rank, lora_alpha=2 * rank, target_modules=linears)
lycoris = dict(r=rank, alpha=rank, target_modules=linears)
config = {"LoRA": lambda: LoraConfig(**lora), "rsLoRA": lambda: LoraConfig(use_rslora=True, **lora), "DoRA": lambda: LoraConfig(use_dora=True, **lora),
          "LoHa": lambda: LoHaConfig(**lycoris), "LoKr": lambda: LoKrConfig(**lycoris),
          "IA3": lambda: IA3Config(target_modules=linears, feedforward_modules=["down_proj"]),
          "VeRA": lambda: VeraConfig(r=4 * rank, target_modules=linears, save_projection=True)}[kind]()
transformers.logging.set_verbosity_error()
model = get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16), config)
torch.manual_seed(1)
with torch.no_grad():
    for name, value in model.named_parameters():
        if value.requires_grad:
            value.add_(torch.randn_like(value) * 0.01)
model.save_pretrained(out)
"""
KINDS = ("LoRA", "rsLoRA", "DoRA", "LoHa", "LoKr", "IA3", "VeRA")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for inputs and outputs, about 8 GB with all layers")
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--ropewalk", type=pathlib.Path, default=ROOT / "build/release/tools/ropewalk")
    parser.add_argument("--tokenizer", type=pathlib.Path, default=ROOT / "build/release/golden/tokenizers/llama2")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    python = peer("libraries")
    inputs, outputs = options.work / f"inputs-{options.layers}", options.work / "outputs"
    base, _ = write_inputs(inputs, python, options.tokenizer, options.layers)

    def fresh():
        shutil.rmtree(outputs, ignore_errors=True)
        outputs.mkdir(parents=True)

    weights = base / "model.safetensors"
    fresh()
    floor = best(["cp", weights, outputs / "copy"], options.times, fresh)
    print(f"{machine()}; {options.layers} layers, {os.path.getsize(weights) / 1e9:.2f} GB of float16 weights, rank {RANK} on all linears; warm, no sync; cp: {floor.wall:.2f} s\n")
    compared_header("kind", "PEFT")
    for kind in options.kinds.split(","):
        adapter = inputs / kind
        if not (adapter / "adapter_config.json").exists():
            run([python, "-c", WRITE_ADAPTER, base, adapter, kind, RANK])
        fresh()
        theirs = run([python, "-c", PEFT_MERGE, base, adapter, outputs / "merged"])
        ours = best([options.ropewalk, "merge", f"{base}+{adapter}", "-o", outputs / "merged", "--no-sync", "--quiet"], options.times, fresh)
        compared(kind, theirs, ours)
    shutil.rmtree(outputs)


if __name__ == "__main__":
    sys.exit(main())
