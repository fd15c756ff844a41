"""What a transformers release computes for folders: {folder: {inv_freq, scaling, context, logits}} as JSON.

Runs in a process of its own: the release is whichever this interpreter finds first.
usage: rope_run.py CASES.json   [{"folder": ..., "lengths": [...], "ids": [...]}]
A case with "kinds" instead of lengths is asked for the rotary embedding of each kind of layer: {kinds: {kind: {inv_freq, scaling}}, context}
"""
import json
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()


def kinds(model):
    """Gemma 3's: one module with names per kind in version 5, two modules in version 4."""
    rotary = model.model.rotary_emb
    if hasattr(rotary, "full_attention_inv_freq"):
        return {kind: {"inv_freq": getattr(rotary, kind + "_inv_freq").tolist(), "scaling": float(getattr(rotary, kind + "_attention_scaling"))}
                for kind in ("full_attention", "sliding_attention")}
    both = {"full_attention": rotary, "sliding_attention": model.model.rotary_emb_local}
    return {kind: {"inv_freq": module.inv_freq.tolist(), "scaling": float(module.attention_scaling)} for kind, module in both.items()}


def run(case):
    model = transformers.AutoModelForCausalLM.from_pretrained(case["folder"], dtype=torch.float32, attn_implementation="eager").eval()
    if "kinds" in case:
        return {"context": model.config.max_position_embeddings, "kinds": kinds(model)}
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
