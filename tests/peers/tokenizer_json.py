"""tokenizer.json beside the real tokenizers library: random texts, with special tokens as text and as tokens.

Every text is a document of its own (-f), so that what happens at the start of a text is tested as often. Ids must be equal; the seed is fixed.
"""
import json
import pathlib
import random
import shutil
import tempfile

import tokenizers

from support import Checks, FIXTURES, Ropewalk, arguments

SEED = 20
# what tokenizers trip over: spaces, marks that combine or reorder, digits of other scripts, case that changes length, spelled specials
PARTS = ["Hello", "world", " ", "  ", "\n", "\t", "\r\n", "don't", "I'LL", "'s", "12345", "3.14", "naïve", "e\u0301", "日本語", "한국어", "🙂", "👩\u200d👩\u200d👧", "ß", "İ", "ǅ", "ﬁ", "Ω", "½", "²", "٣", "\u00a0", "\u3000", "\u2028", "\ufeff", "\x7f",
         "_", "--", "...", "(a)", "{", "}", "▁", "▁▁", "<s>", "</s>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<unk>", "\u0345\u0301\u0323", "क्षि", "ไทย", "Ⓐ", "ʰ", "ـ", "\u180e", "ⅷ", "𝟘", "ſ", "K", "'ſ", "ﬀ", "中文，。", "«x»", "€5", "a\u0300\u0316b", "\u1680", "\u0085", "㋿", "e\u1abf\u0301", "\u0301\u1dfa\u0323", "ꟲ"]
BLOCKS = [(0x20, 0x7F), (0x80, 0x250), (0x370, 0x530), (0x5D0, 0x6D0), (0x904, 0x93A), (0xE01, 0xE3B), (0x1E00, 0x1F00), (0x2000, 0x2070), (0x2190, 0x2400), (0x3041, 0x3097), (0x4E00, 0x9FD0), (0xAC00, 0xD7A4), (0xFF01, 0xFF5F), (0x1D400, 0x1D455), (0x1F300, 0x1F650), (0x1C80, 0x1C90), (0xA7C0, 0xA7DE), (0x10D40, 0x10D90), (0x11F00, 0x11F5B), (0x1FA70, 0x1FB00), (0x31340, 0x31360)]


def random_text(rng):
    if rng.random() < 0.6:
        return "".join(rng.choice(PARTS) + rng.choice(["", "", " ", "  "]) for _ in range(rng.randrange(1, 14)))
    return "".join(chr(rng.randrange(*rng.choice(BLOCKS))) for _ in range(rng.randrange(1, 30)))


def first_difference(texts, theirs, ours):
    at = 0
    for text, ids in zip(texts, theirs, strict=True):
        if ours[at:at + len(ids)] != ids:
            return f"{text!r}: {ours[at:at + len(ids)]}, theirs {ids}"
        at += len(ids)
    return f"{len(ours)} ids, theirs {at}"


def main():
    options = arguments()
    checks, ropewalk = Checks(), Ropewalk(options.ropewalk)
    files = {path.stem: path for path in sorted((options.golden / "tokenizer_json/tokenizers").glob("*.json"))}
    files |= {name: options.golden / FIXTURES / "models" / name / "tokenizer.json" for name in ("stories260K", "tolstoy-4m")}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        shutil.copytree(options.golden / "zoo/llama-gqa", folder)
        for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            (folder / name).unlink(missing_ok=True)
        for name, path in files.items():
            rng = random.Random(SEED)
            texts = [random_text(rng) for _ in range(250 if name.startswith(("pre-", "norm-", "dec-")) else 1500)]
            documents = []
            for index, text in enumerate(texts):
                file = pathlib.Path(scratch) / f"{index}.txt"
                file.write_bytes(text.encode())
                documents += ["-f", file]
            shutil.copy(path, folder / "tokenizer.json")
            real = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
            for special in (False, True):
                real.encode_special_tokens = not special
                theirs = [real.encode(text, add_special_tokens=False).ids for text in texts]
                ours = ropewalk.json("tokenize", folder, *documents, *(["--special"] if special else []))["ids"]
                same = ours == [one for ids in theirs for one in ids]
                checks.check(same, f"{name}{', special tokens' if special else ''}: {len(texts)} texts, seed {SEED}" + ("" if same else "; " + first_difference(texts, theirs, ours)))
            ids = [one for some in theirs[:60] for one in some]
            file = pathlib.Path(scratch) / "ids.json"
            file.write_text(json.dumps(ids))
            for special in (False, True):
                shown, real_text = ropewalk.json("tokenize", folder, "--tokens", file, "--decode", *(["--special"] if special else []))["text"], real.decode(ids, skip_special_tokens=not special)
                checks.check(shown == real_text, f"{name}, {len(ids)} ids to text{', with special tokens' if special else ''}")
    checks.exit()


main()
