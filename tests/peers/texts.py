"""Texts of four kinds, made the same each time: English (data/text), code, mixed Unicode and white space drawn from the goldens' snippets."""
import json
import pathlib
import random
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEED = 6


def drawn(rng, snippets, size):
    out = ""
    while len(out.encode()) < size:
        out += "".join(rng.choice(snippets) for _ in range(500))
    return out.encode()[:size].decode(errors="ignore")


def newer_characters():
    """Every character that Python's Unicode 14.0 does not have and the regex module has, and its neighbours."""
    import regex
    assigned = regex.compile(r"\P{Cn}")
    newer = {code for code in range(0x110000) if unicodedata.category(chr(code)) == "Cn" and assigned.match(chr(code))}
    return newer | {code + one for code in newer for one in (-1, 1) if not 0xD800 <= code + one < 0xE000 and code + one < 0x110000}


def sampled_newer_characters():
    """Those of the golden: the ends and the middle of each block of them."""
    return set(map(ord, json.loads((ROOT / "tests/golden/newer_characters.json").read_text(encoding="utf-8"))["text"]))


def newer_text(codes):
    """What stands before and behind a character decides where words end."""
    rng = random.Random(SEED)
    shapes = ["{}", "{}", "a{}", " {}", "{}'s", "1{}", "{}2 ", "\n{}", "É{}\u0301", "({}", "中{}"]
    return "".join(rng.choice(shapes).format(chr(code)) for code in sorted(codes))


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
