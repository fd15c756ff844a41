"""What a transformers release computes for folders: {folder: {inv_freq, scaling, context, logits}} as JSON.

Runs in a process of its own: the release is whichever this interpreter finds first.
usage: rope_run.py CASES.json   [{"folder": ..., "lengths": [...], "ids": [...]}]
"""
import json
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()


def run(case):
    model = transformers.AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(torch.tensor([case["ids"]])).logits[0, -8:]
    rotary = model.model.rotary_emb  # asked after the logits: a dynamic one remembers the longest sequence
    tables = {}
    for length in case["lengths"]:
        cos, sin = rotary(torch.zeros(1, 1), torch.tensor([[length - 1]]))
        tables[length] = {"inv_freq": rotary.inv_freq.tolist(), "scaling": float(rotary.attention_scaling), "cos": cos[0, 0].tolist(), "sin": sin[0, 0].tolist()}
    return {"context": model.config.max_position_embeddings, "tables": tables, "logits": logits.tolist()}


answers = {case["folder"]: run(case) for case in json.load(open(sys.argv[1]))}
print("RESULT " + json.dumps({"version": transformers.__version__, "answers": answers}), flush=True)
