#!/usr/bin/env python3
"""A published model quantized again, by ropewalk and by llama-quantize: the same bytes, and what each took.

The model is SmolLM2-135M-Instruct as Q4_1, the GGUF of `scripts/peers smollm2`, or any --model. Both run with
--allow-requantize; types that need importances are given none, so both refuse them: they are left out.
"""
import argparse
import hashlib
import pathlib
import subprocess
import sys

from measure import ROOT, header, machine, peer, row, run

TYPES = ["Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_0", "Q4_1", "Q4_K_S", "Q4_K_M", "Q5_0", "Q5_1", "Q5_K_S", "Q5_K_M", "Q6_K", "Q8_0", "IQ2_M", "IQ3_XXS", "IQ3_XS", "IQ3_S",
         "IQ3_M", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4_MOE", "F16", "BF16", "F32", "COPY"]


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def attempt(command):
    """What it took, and None if the command fails."""
    try:
        return run(command)
    except SystemExit:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for the outputs, 1 GB")
    parser.add_argument("--model", type=pathlib.Path, help="another GGUF")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--types", type=lambda text: text.split(","), default=TYPES, help="default: %(default)s")
    options = parser.parse_args()
    model, quantize = options.model or peer("smollm2"), peer("llama-quantize")
    options.work.mkdir(parents=True, exist_ok=True)
    print(f"{machine()}; {model.name}, sha256 {sha256(model)}; two threads, warm, no sync\n", flush=True)
    header("to", "llama-quantize: wall s (CPU s)", "ropewalk: wall s (CPU s)", "ratio of CPU", "same bytes", "sha256")
    failed = 0
    for name in options.types:
        ours_at, theirs_at = options.work / "ours.gguf", options.work / "theirs.gguf"
        theirs = attempt([quantize, "--allow-requantize", model, theirs_at, name, "2"])
        ours = attempt([options.build / "tools/ropewalk", "quantize", "--no-sync", "--allow-requantize", model, ours_at, name, "2"])
        if not theirs or not ours:
            equal, digest = ("both refuse" if not theirs and not ours else "NO"), "-"
        else:
            digest = sha256(ours_at)
            equal = "yes" if digest == sha256(theirs_at) else "NO"
        failed += equal == "NO"
        took = [f"{one.wall:.2f} ({one.cpu:.2f})" if one else "refuses" for one in (theirs, ours)]
        row(name, *took, f"**{theirs.cpu / ours.cpu:.1f}x**" if theirs and ours else "-", equal, digest[:16])
        for path in (ours_at, theirs_at):
            path.unlink(missing_ok=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
