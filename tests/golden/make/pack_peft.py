#!/usr/bin/env python3
"""tests/golden/peft.tar.zst from the folder that PEFT 0.21.2 wrote (its README says how).

    pack_peft.py FOLDER WORK && tar -C WORK --sort=name --owner=0 --group=0 --mtime=@0 -c . | zstd -19 --long=27 -o peft.tar.zst

Adapters and bases are kept as they are. Of the merged tensors mostly their sha256 is ("sha256" in golden.json, by
"<prefix>/<name>"): true/ is the merge in double rounded once to float, and a merge that is right has its very bytes.
Kept whole are the cases of KEEP and those that need a tolerance. f16/ and bf16/ are true/ rounded (the README, checked
on KEEP), peft/ and peft16/ are what PEFT's own float merge gives: nobody compares them. Left out: statistics, and the
mixtures of experts, which peft_experts.py makes smaller.
"""
import hashlib
import json
import os
import shutil
import struct
import sys

KEEP = ["lora-basic", "dtype-f32-on-f16", "dtype-bf16-on-bf16", "dtype-f32-on-bf16", "pissa", "olora",
        "multi/golden-svd-abc", "multi/golden-svd-abc-clamp", "multi/golden-ties_svd-abc",
        "multi/golden-magnitude_prune_svd-abc"]
LEFT_OUT = ("params-", "bases/qwen3_moe", "bases/mixtral", "bases/gpt_oss")
COMPARED = ("true", "untied", "once")


def read(path):
    data = open(path, "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {k: data[8 + size:][slice(*v["data_offsets"])] for k, v in header.items()}


def main(source, target):
    shutil.rmtree(target, ignore_errors=True)
    for root, folders, files in os.walk(source):
        folders.sort()
        inside = os.path.relpath(root, source)
        if inside.startswith(LEFT_OUT):
            continue
        os.makedirs(os.path.join(target, inside), exist_ok=True)
        for name in sorted(files):
            path, to = os.path.join(root, name), os.path.join(target, inside, name)
            if name == "golden.safetensors":
                continue
            if name != "golden.json":
                shutil.copyfile(path, to)
                continue
            golden = json.load(open(path))
            golden.pop("stats", None)
            if inside in KEEP:
                shutil.copyfile(os.path.join(root, "golden.safetensors"), os.path.join(target, inside, "golden.safetensors"))
            else:
                tensors = read(os.path.join(root, "golden.safetensors"))
                golden["sha256"] = {k: hashlib.sha256(v).hexdigest() for k, v in tensors.items()
                                    if k.split("/")[0] in COMPARED}
            json.dump(golden, open(to, "w"), indent=1)


main(*sys.argv[1:])
