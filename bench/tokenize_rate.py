#!/usr/bin/env python3
"""Text to ids beside the tokenizers library, one thread each, 10 MB of text, in the same run.

Needs the peers of scripts/peers (libraries) and a release build. Both sides' times are of encoding alone: the time for a text of one byte, which reads the tokenizer, is taken off.
"""
import argparse
import pathlib
import shutil

from measure import ROOT, best, header, machine, peer, row

BYTES = 10_000_000
PEER = """
import sys, tokenizers
tokenizer = tokenizers.Tokenizer.from_file(sys.argv[1])
print(len(tokenizer.encode(open(sys.argv[2], encoding="utf-8").read(), add_special_tokens=False).ids))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for the text and the tokenizers")
    parser.add_argument("--ropewalk", type=pathlib.Path, default=ROOT / "build/release/tools/ropewalk")
    parser.add_argument("--golden", type=pathlib.Path, default=ROOT / "build/release/golden")
    parser.add_argument("--times", type=int, default=3, help="runs of each; the fastest counts")
    options = parser.parse_args()
    python = peer("libraries")
    options.work.mkdir(parents=True, exist_ok=True)
    prose = b"".join((ROOT / "data/text" / name).read_bytes() for name in ("held-out.txt", "war-and-peace-tail.txt"))
    text, nothing = options.work / "text.txt", options.work / "byte.txt"
    text.write_bytes((prose * (BYTES // len(prose) + 1))[:BYTES].decode(errors="ignore").encode())
    nothing.write_bytes(b"a")
    print(f"{machine()}; {text.stat().st_size} bytes of prose, the repository's own {len(prose)} repeated\n")
    header("tokenizer", "tokens", "tokenizers 0.23.3 MB/s", "ropewalk MB/s", "ratio", "peak GiB: theirs", "ours")
    for name in ("gpt2", "qwen2.5", "zoo-llama3-rope"):
        folder = options.work / name
        shutil.copytree(options.golden / "zoo/llama-gqa", folder, dirs_exist_ok=True)
        for old in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
            (folder / old).unlink(missing_ok=True)
        shutil.copy(options.golden / f"tokenizer_json/tokenizers/{name}.json", folder / "tokenizer.json")
        alone = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        theirs, ours = ([best(command(file), options.times, environment=alone) for file in (text, nothing)] for command in (
            lambda file: [python, "-c", PEER, folder / "tokenizer.json", file], lambda file: [options.ropewalk, "tokenize", folder, "-f", file, "--count", "--quiet"]))
        if theirs[0].output.split()[-1] != ours[0].output.split()[-1]:
            raise SystemExit(f"{name}: {ours[0].output} tokens, theirs {theirs[0].output}")
        rates = [text.stat().st_size / 1e6 / (whole.cpu - start.cpu) for whole, start in (theirs, ours)]
        row(name, ours[0].output.split()[-1], f"{rates[0]:.2f}", f"{rates[1]:.1f}", f"**{rates[1] / rates[0]:.1f}x**", f"{theirs[0].rss_bytes / 2**30:.2f}", f"{ours[0].rss_bytes / 2**30:.2f}")


main()
