"""Texts of four kinds, made the same each time: English (data/text), code, mixed Unicode and white space drawn from the goldens' snippets."""
import json
import pathlib
import random

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 6


def drawn(rng, snippets, size):
    out = ""
    while len(out.encode()) < size:
        out += "".join(rng.choice(snippets) for _ in range(500))
    return out.encode()[:size].decode(errors="ignore")


def large_texts(golden, size):
    prose = b"".join((ROOT / "data/text" / name).read_bytes() for name in ("war-and-peace-tail.txt", "held-out.txt"))
    texts = {"English": (prose * (size // len(prose) + 1))[:size].decode(errors="ignore")}
    for kind, snippets in json.loads((golden / "tokenizer_json/snippets.json").read_text()).items():
        valid = []
        for snippet in snippets:
            try:
                valid.append(bytes.fromhex(snippet).decode())
            except UnicodeDecodeError:
                pass
        texts[kind] = drawn(random.Random(SEED), valid, size)
    return texts
