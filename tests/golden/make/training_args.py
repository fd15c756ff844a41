#!/usr/bin/env python3
"""Arguments as a Trainer leaves them beside an adapter: tests/golden/training_args.json.

    training_args.py > tests/golden/training_args.json     (TRL 1.16.0, transformers 5.23.0, torch 2.15.0, accelerate 1.15.0)

Each file is what Trainer writes as training_args.bin, in base64; `fields` are the lengths of the object it was made of.
"""
import base64
import io
import json
import sys

import accelerate
import torch
import transformers
import trl

ALL = {"plain": transformers.TrainingArguments(output_dir="out", report_to=[], use_cpu=True)}
for length in (64, 32768):
    ALL[f"sft-{length}"] = trl.SFTConfig(output_dir="out", max_length=length, report_to=[], use_cpu=True, bf16=False)

out = {"versions": {one.__name__: one.__version__ for one in (trl, transformers, torch, accelerate)}, "files": {}}
for name, arguments in ALL.items():
    data = io.BytesIO()
    torch.save(arguments, data)
    fields = {key: getattr(arguments, key, None) for key in ("max_length", "output_dir", "per_device_train_batch_size", "do_train")}
    out["files"][name] = {"bin": base64.b64encode(data.getvalue()).decode(), "fields": fields}
json.dump(out, sys.stdout, indent=1)
