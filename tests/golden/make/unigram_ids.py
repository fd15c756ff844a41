#!/usr/bin/env python3
"""Makes tests/golden/unigram.tar.zst: ids and texts of unigram models by the real sentencepiece, llama.cpp and tokenizers.

    unigram_ids.py --golden build/release/golden --llama-cpp LLAMA_CPP_FOLDER --out OUT_FOLDER --scratch FOLDER

Needs sentencepiece 0.2.3, tokenizers 0.23.3, gguf, protobuf; LLAMA_CPP_FOLDER is a built llama.cpp 0.5 (libllama in build/bin). Everything is seeded.

OUT/models/NAME.model      toy models; one whose table is that of a model of tokenizer_ids goes without it (see "charsmap")
OUT/NAME.json              {"charsmap": whose table it has or null, "encode": [first 8 digits of fnv1a64 of the ids per text of tokenizer_ids/texts.json], "chunks": {file: [[count, fnv1a64] per
                           10,000 bytes]}, "decode": [[[id], hex]]} by sentencepiece
OUT/NAME.llama_cpp.json    the same by llama.cpp of the vocabulary as a GGUF of kind t5: "encode": [[special tokens as text, as tokens] per text; null: throws]
OUT/precompiled.json       {"charsmap": model: {"texts": [8 digits of fnv1a64 of the normalized text per text], "blocks": [fnv1a64 per 4096 characters, see block_texts]}}
                           by tokenizers' Precompiled
OUT/tokenizer_json/NAME.json, .ids.json   {"encode", "decode": [hex] of every fourth}: the model as a tokenizer.json of kind Unigram, its normalizer's table left out
"""
import argparse
import json
import pathlib
import random
import subprocess

import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

import sentencepiece_ids as base
from engine_vocabulary import finish, fnv1a64, vocabulary_gguf

ROOT = pathlib.Path(__file__).resolve().parents[3]
# Keys that are beginnings of others, one that goes, one that becomes spaces.
RULES = [("a", "x"), ("ab", "yy"), ("abc", "z"), ("e\u0301", "\u00e9"), ("q", ""), ("\u00df", "ss"), ("#", " "), ("\u3000", "  "), ("\u0301", "'")]


def toy_models(folder):
    """Small models for what decides: flags, kinds of pieces, signs and ties of scores."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, rules = folder / "corpus.txt", folder / "rules.tsv"
    corpus.write_bytes((ROOT / "data/text/war-and-peace-tail.txt").read_bytes()[:200_000])
    rules.write_text("".join(f"{' '.join(f'{ord(c):X}' for c in source)}\t{' '.join(f'{ord(c):X}' for c in target)}\n" for source, target in RULES))

    def train(name, **options):
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / name), model_type="unigram", num_threads=1, minloglevel=2, **options)
        (folder / f"{name}.vocab").unlink()

    def edit(source, name, change):
        model = base.load(folder / f"{source}.model")
        change(model)
        (folder / f"{name}.model").write_bytes(model.SerializeToString(deterministic=True))

    symbols = dict(user_defined_symbols=["<sep>", "<user> ", "abab", "ab", "\u2581the"], control_symbols=["<ctl>"])
    train("nfkc", vocab_size=400, **symbols)
    train("bytes", vocab_size=700, normalization_rule_name="nmt_nfkc_cf", byte_fallback=True, add_dummy_prefix=False, pad_id=3)
    train("spaces", vocab_size=500, normalization_rule_name="identity", remove_extra_whitespaces=False, split_by_whitespace=False, allow_whitespace_only_pieces=True, max_sentencepiece_length=12)
    train("suffix", vocab_size=300, normalization_rule_name="identity", treat_whitespace_as_suffix=True)
    train("t5", vocab_size=400, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["<extra_id_0>", "<extra_id_1>"])
    train("rules", vocab_size=200, normalization_rule_tsv=str(rules), remove_extra_whitespaces=False)

    def unused(model):
        rng = random.Random(5)
        for piece in model.pieces:
            if piece.type == 1 and rng.random() < 0.3:
                piece.type = 5
        model.trainer_spec.unk_surface = "[?]"
    edit("bytes", "unused", unused)
    edit("spaces", "unused-spaces", unused)

    def ties(model):
        rng = random.Random(6)
        for piece in model.pieces:
            piece.score = rng.choice([-2.0, -1.0, -0.0, 0.0, 1.0, 1.0, 3.5])
        for count in range(1, 81):
            if "a" * count not in {piece.piece for piece in model.pieces}:
                model.pieces.add(piece="a" * count, score=0.0, type=4)
        model.normalizer_spec.escape_whitespaces = False
    edit("nfkc", "ties", ties)

    def near(model):  # sums that float32 rounds
        rng = random.Random(7)
        for piece in model.pieces:
            piece.score = -rng.choice([1 / 3, 0.1, 2 / 3, 1e-3, 7 / 9]) * len(piece.piece)
    edit("t5", "near", near)
    corpus.unlink()
    rules.unlink()


def write_t5_gguf(path, out_path):
    """As the converter's T5Model.set_vocab writes it, with user-defined pieces as such."""
    model = base.load(path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
    out = vocabulary_gguf(out_path, "t5")
    out.add_token_list([piece.piece.encode() for piece in model.pieces])
    out.add_token_scores([piece.score for piece in model.pieces])
    out.add_token_types([piece.type for piece in model.pieces])
    out.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)
    out.add_remove_extra_whitespaces(model.normalizer_spec.remove_extra_whitespaces)
    if model.normalizer_spec.precompiled_charsmap:
        out.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    out.add_eos_token_id(max(processor.eos_id(), 0))
    out.add_unk_token_id(processor.unk_id())
    out.add_pad_token_id(max(processor.pad_id(), 0))
    finish(out)


def short(ids):
    return fnv1a64(ids)[:8]


def chunk_ids(encode):
    return {file: [[len(ids), fnv1a64(ids)] if ids is not None else None for ids in encode(parts)] for file, parts in base.corpus_chunks()}


def by_sentencepiece(path, charsmap, texts, out):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    encoded = [model.encode(text) for text in texts]
    lists = base.random_ids(model.vocab_size(), encoded)[::3]
    base.write(out / f"{path.stem}.json", {"charsmap": charsmap, "encode": [short(ids) for ids in encoded], "chunks": chunk_ids(lambda parts: [model.encode(part) for part in parts]),
                                           "decode": [[ids, model.decode(ids).encode().hex()] for ids in lists]})


def by_llama_cpp(tool, path, charsmap, texts, scratch, out):
    file = scratch / f"{path.stem}.gguf"
    write_t5_gguf(path, file)

    def ask(lines):
        done = subprocess.run([tool, str(file)], input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]
    encoded = ask(["t " + text.hex() for text in texts])
    lists = base.random_ids(len(base.load(path).pieces), [both[0] or [0] for both in encoded])[::3]
    decode = [[one, both[0]] for one, both in zip(lists, ask(["d " + " ".join(map(str, one)) for one in lists]))]
    hashed = [[None if ids is None else short(ids) for ids in both] for both in encoded]
    base.write(out / f"{path.stem}.llama_cpp.json", {"charsmap": charsmap, "encode": hashed, "chunks": chunk_ids(lambda parts: [both[0] for both in ask(["t " + part.hex() for part in parts])]), "decode": decode})


def block_texts(first):
    """Each character of the block alone and beside letters and a mark."""
    for code in range(first, first + 4096):
        if 0xD800 <= code < 0xE000:
            continue
        character = chr(code)
        yield character + "a" + character + "b" + "A" + character + "\u0301" + "\u00a8" + character + "ab" + "\r" + character


def fnv1a64_bytes(data, value=0xCBF29CE484222325):
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def by_precompiled(charsmaps, texts, out):
    result = {}
    for name, table in charsmaps.items():
        normalizer = normalizers.Precompiled(table)
        blocks = [fnv1a64_bytes("".join(normalizer.normalize_str(text) for text in block_texts(first)).encode()) for first in [*range(0, 0x20000, 4096), 0xE0000]]
        result[name] = {"texts": [fnv1a64_bytes(normalizer.normalize_str(text).encode())[:8] for text in texts], "blocks": blocks}
    base.write(out / "precompiled.json", result)


def by_tokenizers(path, charsmap, table, texts, out):
    pieces = [(piece.piece, piece.score) for piece in base.load(path).pieces]
    unknown = next(at for at, piece in enumerate(base.load(path).pieces) if piece.type == 2)
    tokenizer = tokenizers.Tokenizer(models.Unigram(pieces, unknown, path.stem == "bytes"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Precompiled(table), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if path.stem != "rules" else "first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]) if path.stem == "bytes" else decoders.Metaspace()
    tokenizer.add_special_tokens(["</s>"])
    encoded = [tokenizer.encode(text).ids for text in texts]
    file = json.loads(tokenizer.to_str())
    file["normalizer"]["normalizers"][0]["precompiled_charsmap"] = ""
    base.write(out / f"tokenizer_json/{path.stem}.json", file)
    base.write(out / f"tokenizer_json/{path.stem}.ids.json", {"charsmap": charsmap, "encode": [short(ids) for ids in encoded], "decode": [tokenizer.decode(ids).encode().hex() for ids in encoded[::4]]})


def main():
    parser = argparse.ArgumentParser()
    for option in ("--golden", "--llama-cpp", "--out", "--scratch"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    options = parser.parse_args()
    tool, engine, out = options.scratch / "llama_cpp_ids", options.llama_cpp, options.out
    (out / "tokenizer_json").mkdir(parents=True, exist_ok=True)
    subprocess.run(["g++", "-O1", "-std=c++20", f"-I{engine}/include", f"-I{engine}/ggml/include", pathlib.Path(__file__).parent / "llama_cpp_ids.cpp", "-o", tool,
                    f"-L{engine}/build/bin", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{engine}/build/bin"], check=True)
    toy_models(out / "models")
    known = {base.load(path).normalizer_spec.precompiled_charsmap: f"tokenizer_ids/models/{path.name}" for path in sorted((options.golden / "tokenizer_ids/models").glob("nfkc*.model"))}
    texts = [bytes.fromhex(text) for text in json.loads((options.golden / "tokenizer_ids/texts.json").read_text())]
    valid = [text.decode("utf-8", "replace") for text in texts]
    charsmaps = {label: table for table, label in known.items()}
    for path in sorted((out / "models").glob("*.model")):
        table = base.load(path).normalizer_spec.precompiled_charsmap
        charsmap = known.get(table)
        by_sentencepiece(path, charsmap, texts, out)
        if path.stem != "suffix":  # no key says so
            by_llama_cpp(tool, path, charsmap, texts, options.scratch, out)
        if path.stem in ("nfkc", "bytes", "rules"):
            by_tokenizers(path, charsmap or f"unigram/models/{path.name}", table, valid, out)
        if path.stem == "rules":
            charsmaps[f"unigram/models/{path.name}"] = table
        if charsmap:
            model = base.load(path)
            model.normalizer_spec.precompiled_charsmap = b""
            path.write_bytes(model.SerializeToString(deterministic=True))
    by_precompiled(charsmaps, valid, out)


if __name__ == "__main__":
    main()
