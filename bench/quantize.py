#!/usr/bin/env python3
"""Quantizing beside llama-quantize: whole files, encoders alone, and base + adapter -> 8 quants beside the chain of PEFT, converter and llama-quantize.

Needs the peers of scripts/peers (libraries, llama-quantize, ggml-base) and a release build with -DROPEWALK_BENCH=ON. Everything is warm and without sync, two threads;
the floor of a file is `cp` of the one read. Encoders run on one thread, by its CPU time.
"""
import argparse
import filecmp
import pathlib
import shutil
import sys

from measure import ROOT, best, compared, compared_header, in_turn, machine, peer, run
from merge_convert import PEFT_MERGE, write_inputs

MIXES = ["Q4_K_M", "Q6_K", "Q8_0", "Q5_K_M", "Q3_K_M", "Q2_K", "IQ4_XS", "Q4_0"]
AT_ONCE = ["Q2_K", "Q3_K_M", "Q4_0", "Q4_K_S", "Q4_K_M", "Q5_K_M", "Q6_K", "Q8_0"]


def same(a, b):
    return "yes" if filecmp.cmp(a, b, shallow=False) else "NO"


def whole_files(options, quantize, source, outputs):
    floor = best(["cp", source, outputs / "copy"], options.times)
    (outputs / "copy").unlink()
    compared_header("f16 GGUF to", "llama-quantize", "same bytes", "floor: cp, wall s")
    for mix in options.mixes:
        ours_at, theirs_at = outputs / "ours.gguf", outputs / "theirs.gguf"
        ours = best([options.ropewalk, "quantize", "--no-sync", source, ours_at, mix, "2"], options.times)
        theirs = run([quantize, source, theirs_at, mix, "2"])
        compared(mix, theirs, ours, same(ours_at, theirs_at), f"{floor.wall:.2f}")
        ours_at.unlink()
        theirs_at.unlink()


def chain(options, python, quantize, base, adapter, outputs):
    steps = [run([python, "-c", PEFT_MERGE, base, adapter, outputs / "merged"])]
    for file in base.glob("*token*"):  # which save_pretrained of the model leaves behind
        shutil.copy(file, outputs / "merged")
    f16 = outputs / "f16.gguf"
    steps.append(run([python, quantize.parent / "source/convert_hf_to_gguf.py", outputs / "merged", "--outfile", f16, "--outtype", "f16"]))
    shutil.rmtree(outputs / "merged")
    steps += [run([quantize, f16, outputs / f"theirs-{mix}.gguf", mix, "2"]) for mix in AT_ONCE]
    f16.unlink()
    ours = run([options.ropewalk, "convert", f"{base}+{adapter}", "-o", outputs / "ours-{type}.gguf", "--type", ",".join(mix.lower() for mix in AT_ONCE), "--model-name", "Merged", "--no-sync", "--quiet"])
    compared_header("base + adapter to", "peer", "bytes ours, theirs")
    sizes = [sum(file.stat().st_size for file in outputs.glob(f"{whose}-*.gguf")) / 1e9 for whose in ("ours", "theirs")]
    compared(f"{len(AT_ONCE)} quants (PEFT, converter, llama-quantize)", in_turn(steps), ours, "{:.2f} GB, {:.2f} GB".format(*sizes))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for inputs and outputs, about 20 GB; may be that of merge_convert.py")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--mixes", type=lambda text: text.split(","), default=MIXES, help="of whole files (default: %(default)s)")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=["encoders", "files", "chain"], help="default: %(default)s")
    parser.add_argument("--layers", type=int, help="of the model (default: 22, which is 1.1 B weights; 4 are 0.3 B)")
    parser.add_argument("--times", type=int, default=3, help="runs of ours; the fastest counts (peers run once)")
    options = parser.parse_args()
    options.ropewalk = options.build / "tools/ropewalk"
    print(f"{machine()}; warm, no sync\n", flush=True)
    if "encoders" in options.parts:
        print(run([options.build / "bench/quantize_bench", peer("ggml-base")]).output, flush=True)
    if not {"files", "chain"} & set(options.parts):
        return
    inputs, outputs = options.work / (f"inputs-{options.layers}" if options.layers else "inputs"), options.work / "quantized"
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(parents=True)
    python, quantize = peer("libraries"), peer("llama-quantize")
    base, adapter = write_inputs(inputs, python, options.build / "golden/tokenizers/llama2", options.layers)
    if "files" in options.parts:
        source = outputs / "f16.gguf"
        run([options.ropewalk, "convert", base, "-o", source, "--type", "f16", "--no-sync", "--quiet"])
        print(f"{source.stat().st_size / 1e9:.2f} GB of float16\n", flush=True)
        whole_files(options, quantize, source, outputs)
        source.unlink()
        print()
    if "chain" in options.parts:
        chain(options, python, quantize, base, adapter, outputs)
    shutil.rmtree(outputs)


if __name__ == "__main__":
    sys.exit(main())
