#!/usr/bin/env python3
"""Text to ids beside the real libraries, one thread each, in the same run: 10 MB of prose, then texts made to be slow.

Needs the peers of scripts/peers (tokenizers) and a release build. Times are CPU seconds of encoding alone: the time for a text of one byte, which reads the tokenizer, is taken off.
The second table is of texts that are one word to a tokenizer, or nearly: a letter, spaces, the vocabulary's longest word again and again, each half a megabyte and a whole one. Time that grows with the
length gives a ratio near 2, time that grows with its square 4. A library that takes longer than --patience is stopped.
"""
import argparse
import base64
import json
import pathlib
import shutil
import subprocess

from measure import ROOT, best, header, machine, peer, row

BYTES, SLOW_BYTES = 10_000_000, 1_000_000
# argv: kind, file, text, pattern (of a tiktoken file)
PEER = """
import sys
kind, file, text, pattern = sys.argv[1:]
text = open(text, encoding="utf-8").read()
if kind == "tokenizers":
    import tokenizers
    print(len(tokenizers.Tokenizer.from_file(file).encode(text, add_special_tokens=False).ids))
elif kind == "sentencepiece":
    import sentencepiece
    print(len(sentencepiece.SentencePieceProcessor(model_file=file).encode(text)))
else:
    import base64, tiktoken
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in open(file, "rb"))}
    print(len(tiktoken.Encoding("bench", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}).encode_ordinary(text)))
"""
CONVERTED = """
import base64, json, sys
from sentencepiece import sentencepiece_model_pb2 as proto
item, model = json.load(open(sys.argv[1])), proto.ModelProto.FromString(open(sys.argv[2], "rb").read())
item["normalizer"]["normalizers"][0]["precompiled_charsmap"] = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
json.dump(item, open(sys.argv[3], "w"))
"""


class Case:
    def __init__(self, kind, name, file, source, pattern=""):
        self.kind, self.name, self.file, self.source, self.pattern = kind, name, file, source, pattern


def tiktoken_file(golden, family, python, path):
    """As tests/golden/make/tiktoken_ids.py makes it."""
    code = ("import sys, base64, pathlib; sys.path.insert(0, sys.argv[1]); import tiktoken_ids as t; name, count, pattern = t.FAMILIES[sys.argv[3]]\n"
            "open(sys.argv[4], 'wb').write(b''.join(base64.b64encode(token) + b' %d\\n' % rank for rank, token in enumerate(t.tokens(pathlib.Path(sys.argv[2]), name, count)))); print(pattern, end='')")
    return subprocess.run([python, "-c", code, ROOT / "tests/golden/make", golden, family, path], check=True, capture_output=True, text=True).stdout


def cases(golden, python, work):
    for name in ("gpt2", "qwen2.5", "zoo-llama3-rope", "wordpiece", "wordlevel"):
        yield Case("tokenizers", name, "tokenizer.json", golden / f"tokenizer_json/tokenizers/{name}.json")
    unigram = work / "unigram.json"
    subprocess.run([python, "-c", CONVERTED, golden / "unigram/tokenizer_json/nfkc.json", golden / "tokenizer_ids/models/nfkc.model", unigram], check=True)
    yield Case("tokenizers", "unigram", "tokenizer.json", unigram)
    yield Case("sentencepiece", "llama2", "tokenizer.model", golden / "tokenizers/llama2/tokenizer.model")
    yield Case("sentencepiece", "unigram", "tokenizer.model", golden / "unigram/models/nfkc.model")
    for family in ("cl100k", "o200k"):
        file = work / f"{family}.tiktoken"
        yield Case("tiktoken", family, "tokenizer.model", file, tiktoken_file(golden, family, python, file))


def chosen(options, python):
    return [case for case in cases(options.golden, python, options.work) if not options.only or options.only in f"{case.kind} {case.name}"]


def folder_of(case, golden, work):
    folder = work / "model"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(golden / "zoo/llama-gqa", folder)
    for old in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / old).unlink(missing_ok=True)
    shutil.copy(case.source, folder / case.file)
    return folder


class Sides:
    """Both programs on one tokenizer."""

    def __init__(self, case, options, python):
        self.case, self.options, self.python = case, options, python
        self.source = folder_of(case, options.golden, options.work)
        self.start = {}

    def command(self, side, text):
        if side == "ours":
            return [self.options.ropewalk, "tokenize", self.source, "-f", text, "--count", "--quiet"]
        return [self.python, "-c", PEER, self.case.kind, self.source / self.case.file, text, self.case.pattern]

    def cpu(self, side, text, times=1, patience=None):
        """(CPU seconds of encoding alone, tokens, peak bytes), or None past `patience`."""
        alone = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        if side not in self.start:
            self.start[side] = best(self.command(side, self.options.work / "byte.txt"), times, environment=alone).cpu
        command = self.command(side, text)
        if patience:
            command = ["timeout", str(patience), "sh", "-c", '"$@" || exit 1', "sh", *command]
        try:
            whole = best(command, times, environment=alone)
        except SystemExit:
            return None
        return max(whole.cpu - self.start[side], 1e-3), whole.output.split()[-1], whole.rss_bytes


def longest_word(case):
    """The piece with the most letters; nothing else."""
    if case.kind == "tiktoken":
        pieces = [base64.b64decode(line.split()[0]).decode(errors="replace") for line in case.source.read_bytes().splitlines()]
    elif case.kind == "tokenizers":
        vocab = json.loads(case.source.read_text(encoding="utf-8"))["model"]["vocab"]
        pieces = list(vocab) if isinstance(vocab, dict) else [piece for piece, _ in vocab]
    else:
        return "representatives"
    return max((piece for piece in pieces if piece.isascii() and piece.isalpha()), key=len)


def rates(options, python, text):
    header("library", "tokenizer", "tokens", "theirs MB/s", "ropewalk MB/s", "ratio", "peak GiB: theirs", "ours")
    size = text.stat().st_size / 1e6
    for case in chosen(options, python):
        sides = Sides(case, options, python)
        theirs, ours = sides.cpu("theirs", text, options.times), sides.cpu("ours", text, options.times)
        if not theirs or theirs[1] != ours[1]:
            raise SystemExit(f"{case.kind} {case.name}: {ours[1]} tokens, theirs {theirs and theirs[1]}")
        row(case.kind, case.name, ours[1], f"{size / theirs[0]:.2f}", f"{size / ours[0]:.1f}", f"**{theirs[0] / ours[0]:.1f}x**", f"{theirs[2] / 2**30:.2f}", f"{ours[2] / 2**30:.2f}")


def slow_texts(options, python):
    print()
    header("library", "tokenizer", "1 MB of", "ropewalk s", "to half of it", "theirs s")
    for case in chosen(options, python):
        sides = Sides(case, options, python)
        for what, unit in (("a letter", "a"), ("spaces", " "), ("one word", longest_word(case))):
            times = []
            for size in (SLOW_BYTES // 2, SLOW_BYTES):
                file = options.work / "slow.txt"
                file.write_text((unit * (size // len(unit) + 1))[:size])
                times.append(sides.cpu("ours", file))
            theirs = sides.cpu("theirs", file, patience=options.patience)
            if theirs and theirs[1] != times[1][1]:
                raise SystemExit(f"{case.kind} {case.name}, {what}: {times[1][1]} tokens, theirs {theirs[1]}")
            row(case.kind, case.name, what if unit in "a " else f"'{unit}'", f"{times[1][0]:.2f}", f"{times[1][0] / times[0][0]:.1f}x", f"{theirs[0]:.2f}" if theirs else f"over {options.patience}, or fails")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path, help="folder for the text and the tokenizers")
    parser.add_argument("--ropewalk", type=pathlib.Path, default=ROOT / "build/release/tools/ropewalk")
    parser.add_argument("--golden", type=pathlib.Path, default=ROOT / "build/release/golden")
    parser.add_argument("--times", type=int, default=3, help="runs of each; the fastest counts")
    parser.add_argument("--patience", type=int, default=30, help="seconds that a library gets for a megabyte made to be slow")
    parser.add_argument("--bytes", type=int, default=BYTES, help="of prose")
    parser.add_argument("--only", help="tokenizers whose library and name hold this")
    options = parser.parse_args()
    python = peer("tokenizers")
    options.work.mkdir(parents=True, exist_ok=True)
    prose = b"".join((ROOT / "data/text" / name).read_bytes() for name in ("held-out.txt", "war-and-peace-tail.txt"))
    text = options.work / "text.txt"
    text.write_bytes((prose * (options.bytes // len(prose) + 1))[:options.bytes].decode(errors="ignore").encode())
    (options.work / "byte.txt").write_bytes(b"a")
    print(f"{machine()}; {text.stat().st_size} bytes of prose, the repository's own {len(prose)} repeated\n")
    rates(options, python, text)
    slow_texts(options, python)


main()
