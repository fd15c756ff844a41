#!/usr/bin/env python3
"""Makes tests/golden/tiktoken_ids.json: ids by the real tiktoken, of vocabularies that the test makes too.

    tiktoken_ids.py --golden build/release/golden --out tests/golden/tiktoken_ids.json        (tiktoken 0.14.0)

A vocabulary is GPT-2's first 50256 tokens or Qwen2.5's first tokens (tokenizer_json/tokenizers/*.json), as published in tiktoken files, cut or filled with tokens of three
bytes 0xFF and two more to the number of tokens that names its family, which is all that tells how text is cut into words: the ids are of these patterns on a real vocabulary's merges.

{family: {"from": file, "n_tokens", "encode": [8 digits of fnv1a64 of the ids, per text of tokenizer_json/texts.json], "chunks": [fnv1a64 per 10,000 bytes of held-out.txt]}}
"""
import argparse
import json
import pathlib

import tiktoken
import tiktoken_ext.openai_public as public

from engine_vocabulary import fnv1a64

ROOT = pathlib.Path(__file__).resolve().parents[3]
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CL100K = r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
O200K = "|".join([r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                  r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                  r"""\p{N}{1,3}""", r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""", r"""\s*[\r\n]+""", r"""\s+(?!\S)""", r"""\s+"""])
# GPT-2's and cl100k's are tiktoken's own, the others their publishers' (llama-models).
FAMILIES = {"gpt2": ("gpt2", 50256, public.r50k_pat_str), "cl100k": ("qwen2.5", 100256, CL100K), "llama3": ("gpt2", 128000, LLAMA3),
            "o200k": ("gpt2", 199998, O200K)}


def alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{chr(byte): byte for byte in printable}, **{chr(256 + at): byte for at, byte in enumerate(others)}}


def tokens(golden, name, count):
    spelled = json.loads((golden / f"tokenizer_json/tokenizers/{name}.json").read_text())["model"]["vocab"]
    letters = alphabet()
    out = [bytes(letters[c] for c in text) for text, identity in sorted(spelled.items(), key=lambda item: item[1]) if text != "<|endoftext|>"][:count]
    at = 0
    while len(out) < count:
        out.append(b"\xff\xff\xff" + bytes([at >> 8 & 255, at & 255]) + (b"\xff" if at >= 65536 else b"") + (b"\xfe" if at >= 131072 else b""))
        at += 1
    return out


def main():
    parser = argparse.ArgumentParser()
    for option in ("--golden", "--out"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    options = parser.parse_args()
    assert public.cl100k_base.__code__.co_consts and CL100K in public.cl100k_base.__code__.co_consts
    texts = [bytes.fromhex(text).decode() for text in json.loads((options.golden / "tokenizer_json/texts.json").read_text())]
    prose = (ROOT / "data/text/held-out.txt").read_bytes()
    chunks = [prose[at:at + 10_000].decode("utf-8", "replace") for at in range(0, len(prose), 10_000)]
    result = {}
    for family, (name, count, pattern) in FAMILIES.items():
        ranks = {token: rank for rank, token in enumerate(tokens(options.golden, name, count))}
        assert len(ranks) == count
        encoding = tiktoken.Encoding(family, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        encoded = [encoding.encode_ordinary(text) for text in texts]
        assert all(encoding.decode(ids) == text for ids, text in zip(encoded, texts))
        result[family] = {"from": name, "n_tokens": count, "encode": [fnv1a64(ids)[:8] for ids in encoded], "chunks": [fnv1a64(encoding.encode_ordinary(chunk)) for chunk in chunks]}
    options.out.write_text(json.dumps(result, separators=(",", ":")) + "\n")
    print(options.out.stat().st_size)


if __name__ == "__main__":
    main()
