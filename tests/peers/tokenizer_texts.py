"""Large texts of four kinds, and random ones, beside the real libraries: tokenizers, sentencepiece and tiktoken. Every vocabulary of the repository; all ids equal.

The texts are made here, the same each time: English (data/text), code and mixed Unicode and white space drawn from the goldens' snippets, each a document of its own. Vocabularies that were published
get --bytes of each kind, the toys a tenth; a run by hand takes --all-bytes 1000000 for all. Random texts are short documents: what happens at the start of a text is tested as often.
Bytes that are no UTF-8 are not given to commands: the goldens' corpora have them. sentencepiece and tiktoken take no special tokens from a text; tokenizers is asked for none.
"""
import argparse
import base64
import json
import pathlib
import random
import shutil
import sys
import tempfile

import sentencepiece
import tiktoken
import tokenizers

from support import Checks, FIXTURES, Ropewalk
from texts import SEED, large_texts, newer_characters, newer_text

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden/make"))
import tiktoken_ids  # noqa: E402  (how the vocabularies of tiktoken's families are made)

PUBLISHED = ("gpt2", "qwen2.5", "llama2", "mistral", "t5")
CONVERTED = {"nfkc": "tokenizer_ids/models/nfkc.model", "bytes": "tokenizer_ids/models/nfkc-bytes.model", "rules": "unigram/models/rules.model"}


def random_texts(texts, count):
    """Pieces of the large texts, joined, and characters of many blocks."""
    rng = random.Random(SEED)
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x5EB), (0x904, 0x93A), (0x1E00, 0x1F00), (0x2000, 0x2070), (0x3041, 0x3097), (0x4E00, 0x9FD0), (0xAC00, 0xD7A4), (0xFF01, 0xFF5F), (0x1F300, 0x1F650), (0x1C80, 0x1C90), (0xA7C0, 0xA7DE), (0x10D40, 0x10D90), (0x1FA70, 0x1FB00), (0x31340, 0x31360)]
    out = []
    for _ in range(count):
        if rng.random() < 0.7:
            parts = [rng.choice(list(texts.values())) for _ in range(rng.randrange(1, 5))]
            out.append("".join(part[(at := rng.randrange(len(part))):at + rng.randrange(1, 25)] for part in parts))
        else:
            out.append("".join(chr(rng.randrange(*rng.choice(blocks))) for _ in range(rng.randrange(1, 30))))
    return out


def first_difference(texts, theirs, ours):
    at = 0
    for text, ids in zip(texts, theirs, strict=True):
        if ours[at:at + len(ids)] != ids:
            part = next((i for i, (a, b) in enumerate(zip(ours[at:at + len(ids)], ids)) if a != b), len(ids))
            return f"{text[:60]!r} (of {len(text)}), at id {part}: {ours[at + part:at + part + 6]}, theirs {ids[part:part + 6]}"
        at += len(ids)
    return f"{len(ours)} ids, theirs {at}"


def converted(path, golden, table):
    """A golden tokenizer.json that leaves its table to a sentencepiece model."""
    from sentencepiece import sentencepiece_model_pb2
    model = sentencepiece_model_pb2.ModelProto.FromString((golden / table).read_bytes())
    item = json.loads(path.read_text())
    item["normalizer"]["normalizers"][0]["precompiled_charsmap"] = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    return json.dumps(item)


def peers(golden):
    """(kind, name, file's name in the folder, its bytes, encode)."""
    fixtures = golden / FIXTURES / "models"
    jsons = [(path.stem, path.read_text(encoding="utf-8")) for path in sorted((golden / "tokenizer_json/tokenizers").glob("*.json"))]
    jsons += [(name, (fixtures / name / "tokenizer.json").read_text(encoding="utf-8")) for name in ("stories260K", "tolstoy-4m")]
    jsons += [("llama3-rope", (golden / "bpe/llama3-rope/tokenizer.json").read_text(encoding="utf-8"))]
    jsons += [("converted-" + name, converted(golden / f"unigram/tokenizer_json/{name}.json", golden, table)) for name, table in CONVERTED.items()]
    for name, text in jsons:
        real = tokenizers.Tokenizer.from_str(text)
        real.encode_special_tokens = True
        yield "tokenizers", name, "tokenizer.json", text.encode(), lambda one, real=real: real.encode(one, add_special_tokens=False).ids
    models = [("llama2", golden / "tokenizers/llama2/tokenizer.model"), ("mistral", golden / "tokenizers/mistral/tokenizer.model.v1"), ("zoo", golden / "zoo/llama-gqa/tokenizer.model")]
    models += [(name, fixtures / name / "tokenizer.model") for name in ("stories260K", "tolstoy-4m")]
    models += [(path.stem, path) for folder in ("tokenizer_ids", "unigram") for path in sorted((golden / folder / "models").glob("*.model"))]
    for name, path in models:
        real = sentencepiece.SentencePieceProcessor(model_file=str(path))
        yield "sentencepiece", name, "tokenizer.model", path.read_bytes(), real.encode
    for family, (name, count, pattern) in tiktoken_ids.FAMILIES.items():
        ranks = {token: rank for rank, token in enumerate(tiktoken_ids.tokens(golden, name, count))}
        real = tiktoken.Encoding(family, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
        lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())
        yield "tiktoken", family, "tokenizer.model", lines, real.encode_ordinary


def written_texts(texts, folder):
    """The texts, and the options that name their files."""
    folder.mkdir()
    documents = []
    for index, text in enumerate(texts):
        (folder / f"{index}.txt").write_bytes(text.encode())
        documents += ["-f", folder / f"{index}.txt"]
    return texts, documents


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ropewalk", required=True)
    parser.add_argument("--golden", required=True, type=pathlib.Path)
    parser.add_argument("--strip")
    parser.add_argument("--bytes", type=int, default=100_000, help="of each kind of text for a published vocabulary")
    parser.add_argument("--all-bytes", type=int, help="the same for every vocabulary")
    parser.add_argument("--only", help="vocabularies whose kind and name hold this")
    options = parser.parse_args()
    checks, ropewalk = Checks(), Ropewalk(options.ropewalk)
    whole = large_texts(options.golden, options.all_bytes or options.bytes)
    short, newer, written = random_texts(whole, 400), newer_text(newer_characters()), {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch) / "model"
        shutil.copytree(options.golden / "zoo/llama-gqa", folder)
        for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
            (folder / name).unlink(missing_ok=True)
        for kind, name, file, data, encode in peers(options.golden):
            if options.only and options.only not in f"{kind} {name}":
                continue
            large = options.all_bytes or (options.bytes if name in PUBLISHED or kind == "tiktoken" else options.bytes // 10)
            if large not in written:
                written[large] = written_texts([text.encode()[:large].decode(errors="ignore") for text in whole.values()] + short[:400 if large == options.bytes else 150] + [newer], pathlib.Path(scratch) / str(large))
            texts, documents = written[large]
            for old in ("tokenizer.model", "tokenizer.json"):
                (folder / old).unlink(missing_ok=True)
            (folder / file).write_bytes(data)
            theirs = [encode(text) for text in texts]
            ours = ropewalk.json("tokenize", folder, *documents)["ids"]
            same = ours == [one for ids in theirs for one in ids]
            checks.check(same, f"{kind} {name}: {len(whole)} texts of {large} bytes, {len(texts) - len(whole) - 1} short ones, one of newer characters, {len(ours)} ids" + ("" if same else "; " + first_difference(texts, theirs, ours)))
    checks.exit()


main()
