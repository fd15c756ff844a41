#!/usr/bin/env python3
"""Makes plamo2.json: ids and texts by llama.cpp 0.5's tokenizer of kind plamo2, for a toy vocabulary.

    plamo2_ids.py --golden build/release/golden --llama-cpp LLAMA_CPP_FOLDER --scratch FOLDER --out plamo2.json

Needs gguf 0.19; LLAMA_CPP_FOLDER is a built llama.cpp 0.5 (libllama in build/bin). Seeded: same versions, same bytes.

The vocabulary is drawn from the golden texts and the prose of data/text: pieces of one to nine characters with few different scores, so that paths tie, tokens of every type, padding with a score
of -1000 (which is the engine's mark of what is unknown), scores below what it accepts.
{"tokens": [hex], "scores", "types", "encode": [[8 digits of fnv1a64 of the ids, special tokens as text; as tokens] per text of tokenizer_ids/texts.json and of "texts"; null: throws], "texts": [hex],
 "decode": [[[id], hex]]}
"""
import argparse
import json
import pathlib
import random
import subprocess

from engine_vocabulary import finish, fnv1a64, vocabulary_gguf


HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def vocabulary(texts):
    rng = random.Random(7)
    rows = [("<|plamo:unk|>", 0.0, UNKNOWN), ("<|plamo:bos|>", 0.0, CONTROL), ("<|plamo:eos|>", 0.0, CONTROL), ("<|plamo:pad|>", 0.0, CONTROL)]
    rows += [(f"<0x{byte:02x}>" if byte % 3 == 0 else f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    prose = (ROOT / "data/text/war-and-peace-tail.txt").read_text(encoding="utf-8")[:40_000]
    pieces = [prose[at:at + rng.randrange(1, 10)] for at in (rng.randrange(len(prose)) for _ in range(900))]
    for text in texts:
        decoded = text.decode("utf-8", "replace")
        pieces += [decoded[at:at + rng.randrange(1, 6)] for at in range(0, len(decoded), 9)][:4]
    pieces += ["a", "e", "e ", "aa", "aaaa", "aaaaaaaa", " ", "  ", "   ", "the", "\u4e2d\u6587", "\u4e2d", "\U0001f642"]
    known = {text for text, _, _ in rows}
    for piece in pieces:
        if piece and "\0" not in piece and piece not in known:  # the engine cuts a token at a zero
            known.add(piece)
            kind = rng.choices([NORMAL, USER, UNUSED, CONTROL], [90, 2, 6, 2])[0]
            rows.append((piece, rng.choice([-0.5, -1.0, -1.00004, -3.25, -7.5, -8.0, -12.0, 0.0, 1.5]) if rng.random() < 0.97 else rng.choice([-1000.0, -2000.0, -2500.0, 3e9]), kind))
    rows += [(f"[PAD{at}]", -1000.0, UNUSED) for at in range(3)] + [("not a byte", -1.0, BYTE)]
    assert len({text for text, _, _ in rows}) == len(rows), sorted(text for text, _, _ in rows)
    return rows


def write(path, rows):
    out = vocabulary_gguf(path, "plamo2")
    out.add_token_list([text.encode() for text, _, _ in rows])
    out.add_token_scores([score for _, score, _ in rows])
    out.add_token_types([kind for _, _, kind in rows])
    finish(out)


def main():
    parser = argparse.ArgumentParser()
    for option in ("--golden", "--llama-cpp", "--scratch", "--out"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    options = parser.parse_args()
    engine, tool = options.llama_cpp, options.scratch / "llama_cpp_ids"
    subprocess.run(["g++", "-O1", "-std=c++20", f"-I{engine}/include", f"-I{engine}/ggml/include", HERE / "llama_cpp_ids.cpp", "-o", tool, f"-L{engine}/build/bin", "-lllama", "-lggml", "-lggml-base",
                    f"-Wl,-rpath,{engine}/build/bin"], check=True)
    texts = [bytes.fromhex(text) for text in json.loads((options.golden / "tokenizer_ids/texts.json").read_text())]
    rows = vocabulary(texts)
    path = options.scratch / "plamo2.gguf"
    write(path, rows)
    rng = random.Random(8)
    tokens = [text for text, _, _ in rows]
    more = ["".join(rng.choice(tokens) for _ in range(rng.randrange(1, 25))).encode() for _ in range(150)] + ["\ufeffbom\ufeff".encode(), b"a" * 1000, b" " * 1000, "\ufeff".encode()]
    done = lambda lines: [json.loads(line) for line in subprocess.run([tool, path], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True).stdout.splitlines()]
    encoded = done(["t " + text.hex() for text in texts + more])
    ids = [[rng.randrange(len(rows)) for _ in range(10)] for _ in range(40)] + [list(range(300))]
    decoded = done(["d " + " ".join(map(str, one)) for one in ids])
    result = {"tokens": [text.encode().hex() for text in tokens], "scores": [score for _, score, _ in rows], "types": [kind for _, _, kind in rows],
              "encode": [None if one[0] is None else [fnv1a64(one[0])[:8], fnv1a64(one[1])[:8]] for one in encoded], "texts": [text.hex() for text in more],
              "decode": [[one, both[0]] for one, both in zip(ids, decoded, strict=True)]}
    options.out.write_text(json.dumps(result, separators=(",", ":")) + "\n")
    print(len(rows), options.out.stat().st_size)


main()
