#!/usr/bin/env python3
"""Makes tests/golden/tokenizer_ids.tar.zst: ids and texts by the real sentencepiece and the real llama.cpp.

    sentencepiece_ids.py --golden build/release/golden --llama-cpp LLAMA_CPP_FOLDER --out OUT_FOLDER

Needs sentencepiece 0.2.3, gguf, protobuf; LLAMA_CPP_FOLDER is a built llama.cpp 0.5 (libllama in build/bin). Everything is seeded: same versions, same bytes,
except the toy models, whose training is deterministic too but may change with the library.

OUT/models/NAME.model   toy models, each for rules that Llama 2 and Mistral do not exercise (see toy_models)
OUT/texts.json          [hex]: the texts, bytes that need not be UTF-8
OUT/NAME.json           {"model", "encode": [[id] per text], "chunks": {file: [[count, fnv1a64] per 10,000 bytes]}, "decode": [[[id], hex]]}
                        by sentencepiece
OUT/NAME.llama_cpp.json {"model", "add_space_prefix", "encode": [[[id], [id]] per text: special tokens as text, as tokens; null: throws],
                        "chunks", "decode": [[[id], hex, hex]]: without, with special tokens} by llama.cpp
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

from engine_vocabulary import finish, fnv1a64, vocabulary_gguf

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CHUNK = 10_000
SPACE = "\u2581"

HAND = [
    b"", b" ", b"  ", b"   ", b"\n", b"\t", b" \n ", b"\r\n", b"a", b" a", b"a ", b"  a  b  ", b"\xe2\x96\x81", b"\xe2\x96\x81a", b"a\xe2\x96\x81b", b" \xe2\x96\x81 ",
    b"\0", b"a\0b", b"\0\0", b"<s>", b"</s>", b"<unk>", b"<0x0A>", b"<0x41>", b"a<s>b", b"a <s> b", b"<s> Hello</s>", b" </s>  <s>", b"<unk><unk>", b"[INST] hi [/INST]",
    "caf\u00e9".encode(), "cafe\u0301".encode(), "\ufb01ligature \u2460 \uff21\uff22\uff23".encode(), "\u00a0nbsp\u3000ideographic\u2003em".encode(), "\u200bzero\u200dwidth".encode(),
    "\ufeffbom".encode(), "\ufffd".encode(), "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467".encode(), "\U0010ffff".encode(), "\u05e9\u05dc\u05d5\u05dd".encode(),
    "\u4f60\u597d\u4e16\u754c".encode(), "\u3053\u3093\u306b\u3061\u306f".encode(), "\uc548\ub155".encode(), "\u1112\u1161\u11ab".encode(), "\u0434\u043e\u0431\u0440\u044b\u0439 \u0434\u0435\u043d\u044c".encode(),
    b"\xff", b"\xff\xfe", b"\x80", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82 x", b"\xf0\x9f\x98", b"\xf0\x9f\x98\x80\x80", b"\xed\xa0\x80", b"\xc0\xaf", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe0\x9f\xbf",
    b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x88\x80\x80\x80", b"abc\xe2", b"abc\xe2\x96", b"\xe2\x96 ", b"\xe2  ", b"\xf0   abc", b"ok \xff ok \xc3\xa9",
    b"<sep>", b"<user> hi", b"x<user>", b"abab", b"aba", b"ababab ab", b"<ctl>", b" <sep> <ctl> ", b"the the", b" the", b"thethe<sep>the", b"a" * 100, b"b" + b"a" * 70 + b"b", b"a" * 64, b"a" * 65,
    b"ab" * 200, b" " * 200, b"\n" * 50, b"0123456789" * 20, b"!?." * 30, "\U0001f600".encode() * 40, b"word " * 100, b"no_spaces_" * 60, b"Hello  world \n\n  indented\n\tcode();\n",
    b"http://example.org/a?b=c&d=%20", b"x = [1,2,3]; // comment", b"<|im_start|>user\nhi<|im_end|>", b"<|user|> hi <|end|>\n<|assistant|>", b"<|endoftext|>  x", b"<|end|>   x",
    b" <|end|> <|end|>", b"</s>   x", b"<s>   x", b"<|placeholder1|>", b"a</s>", b"a</s>b", b"x<unk>y", b"x<0x41>y", b"(</s>)",
]


def samples(seed, count, make):
    rng = random.Random(seed)
    return [make(rng) for _ in range(count)]


def random_unicode(rng):
    ranges = [(0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x900, 0x980), (0x2000, 0x2070), (0x2580, 0x2584), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xFB00, 0xFB06), (0xFF00, 0xFFEF), (0x1F300, 0x1F680)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) if rng.random() < 0.8 else " " for _ in range(rng.randrange(1, 60))).encode()


def random_bytes(rng):
    alphabet = [0x20, 0x61, 0xC3, 0xA9, 0xE2, 0x96, 0x81, 0xF0, 0x9F, 0x98, 0x80, 0xFF, 0x00, 0x0A] if rng.random() < 0.6 else range(256)
    return bytes(rng.choice(alphabet) for _ in range(rng.randrange(1, 40)))


def shaken_prose(text):
    def make(rng):
        start = rng.randrange(len(text) - 400)
        piece = bytearray(text[start:start + rng.randrange(20, 400)])
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(piece) + 1)
            piece[at:at] = rng.choice([b"  ", b"<s>", b"</s>", b"\xe2\x96\x81", b"\n\n", b"\xff", "\u00e9".encode(), b"<sep>", b"abab", b"<|end|> ", b"\t", b" <unk>"])
        return bytes(piece)
    return make


def corpus_chunks():
    for path in sorted((ROOT / "data/text").glob("*.txt")):
        data = path.read_bytes()
        yield path.name, [data[at:at + CHUNK] for at in range(0, len(data), CHUNK)]


def toy_models(folder):
    """Small models for what the published ones do not have."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.txt"
    corpus.write_bytes((ROOT / "data/text/war-and-peace-tail.txt").read_bytes()[:200_000])

    def train(name, **options):
        sentencepiece.SentencePieceTrainer.train(input=str(corpus), model_prefix=str(folder / name), model_type="bpe", num_threads=1, minloglevel=2, **options)
        (folder / f"{name}.vocab").unlink()

    def edit(source, name, change):
        model = proto.ModelProto()
        model.ParseFromString((folder / f"{source}.model").read_bytes())
        change(model)
        (folder / f"{name}.model").write_bytes(model.SerializeToString(deterministic=True))

    symbols = dict(user_defined_symbols=["<sep>", "<user> ", "abab", "ab", "\u2581the"], control_symbols=["<ctl>"])
    train("nfkc", vocab_size=400, **symbols)  # the defaults: nmt_nfkc, extra spaces removed, unknown characters
    train("nfkc-bytes", vocab_size=700, normalization_rule_name="nmt_nfkc_cf", byte_fallback=True, add_dummy_prefix=False, pad_id=3)
    train("spaces", vocab_size=600, normalization_rule_name="identity", remove_extra_whitespaces=False, split_by_whitespace=False, allow_whitespace_only_pieces=True, max_sentencepiece_length=12)

    def unused(model):
        rng = random.Random(5)
        for piece in model.pieces:
            if piece.type == 1 and rng.random() < 0.3:
                piece.type = 5
        model.trainer_spec.unk_surface = "[?]"
    edit("nfkc-bytes", "unused", unused)
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
    corpus.unlink()


def write_vocabulary_gguf(model_path, path, add_space_prefix):
    model = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    pieces = [proto_piece for proto_piece in load(model_path).pieces]
    out = vocabulary_gguf(path, "llama")
    out.add_token_list([piece.piece.encode() for piece in pieces])
    out.add_token_scores([piece.score for piece in pieces])
    out.add_token_types([piece.type for piece in pieces])
    out.add_bos_token_id(max(model.bos_id(), 0))
    out.add_eos_token_id(max(model.eos_id(), 0))
    out.add_add_space_prefix(add_space_prefix)
    finish(out)


def load(model_path):
    model = proto.ModelProto()
    model.ParseFromString(model_path.read_bytes())
    return model


def random_ids(n_vocab, encoded):
    rng = random.Random(7)
    lists = [[rng.randrange(n_vocab) for _ in range(rng.randrange(1, 20))] for _ in range(60)]
    lists += [[rng.randrange(min(n_vocab, 300)) for _ in range(rng.randrange(1, 20))] for _ in range(60)]
    lists += [[1, *ids, 2] for ids in encoded[:20]] + [[identity] for identity in range(min(n_vocab, 30))]
    return lists + [ids for ids in encoded if len(ids) < 200][::3]


def by_sentencepiece(name, path, label, texts, out):
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    encoded = [model.encode(text) for text in texts]
    decode = [[ids, model.decode(ids).encode().hex()] for ids in random_ids(model.vocab_size(), encoded)]
    chunks = {file: [[len(ids), fnv1a64(ids)] for ids in (model.encode(part) for part in parts)] for file, parts in corpus_chunks()}
    write(out / f"{name}.json", {"model": label, "encode": encoded, "chunks": chunks, "decode": decode})


def by_llama_cpp(tool, name, path, label, texts, out, add_space_prefix):
    def ask(lines):
        done = subprocess.run([tool, str(path)], input="\n".join(lines) + "\n", capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{tool} {path}: {done.returncode} {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]
    encoded = ask(["t " + text.hex() for text in texts])
    n_vocab = int(gguf.GGUFReader(path).fields["tokenizer.ggml.tokens"].data.__len__())
    ids = random_ids(n_vocab, [both[0] or [0] for both in encoded])
    decode = [[one, *both] for one, both in zip(ids, ask(["d " + " ".join(map(str, one)) for one in ids]))]
    chunks = {file: [[len(both[0]), fnv1a64(both[0])] if both[0] is not None else None for both in ask(["t " + part.hex() for part in parts])] for file, parts in corpus_chunks()}
    write(out / f"{name}.llama_cpp.json", {"model": label, "add_space_prefix": add_space_prefix, "encode": encoded, "chunks": chunks, "decode": decode})


def write(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")
    print(path, path.stat().st_size)


def main():
    parser = argparse.ArgumentParser()
    for option in ("--golden", "--llama-cpp", "--out", "--scratch"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    options = parser.parse_args()
    tool, engine, tokenizers, out = options.scratch / "llama_cpp_ids", options.llama_cpp, options.golden / "tokenizers", options.out
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run(["g++", "-O1", "-std=c++20", f"-I{engine}/include", f"-I{engine}/ggml/include", HERE / "llama_cpp_ids.cpp", "-o", tool,
                    f"-L{engine}/build/bin", "-lllama", "-lggml", "-lggml-base", f"-Wl,-rpath,{engine}/build/bin"], check=True)
    toy_models(out / "models")

    cases = [case.rstrip(b"\n") if index else case for index, case in enumerate((tokenizers / "ggml-vocab-llama-spm.gguf.inp").read_bytes().split(b"\n__ggml_vocab_test__\n"))]
    prose = (ROOT / "data/text/held-out.txt").read_bytes()
    texts = cases + HAND + samples(1, 80, random_unicode) + samples(2, 80, random_bytes) + samples(3, 60, shaken_prose(prose))
    write(out / "texts.json", [text.hex() for text in texts])

    toys = sorted((out / "models").glob("*.model"))
    real = [("llama2", tokenizers / "llama2/tokenizer.model", "tokenizers/llama2/tokenizer.model"), ("mistral-v1", tokenizers / "mistral/tokenizer.model.v1", "tokenizers/mistral/tokenizer.model.v1")]
    for name, path, label in real + [(toy.stem, toy, f"tokenizer_ids/models/{toy.name}") for toy in toys]:
        by_sentencepiece(name, path, label, texts, out)
        prefix = name not in ("nfkc-bytes", "unused")
        vocabulary = options.scratch / f"{name}.gguf"
        write_vocabulary_gguf(path, vocabulary, prefix)
        by_llama_cpp(tool, name, vocabulary, label, texts, out, prefix)
    for name in ("llama-spm", "phi-3"):
        file = f"ggml-vocab-{name}.gguf"
        by_llama_cpp(tool, f"gguf-{name}", tokenizers / file, f"tokenizers/{file}", texts, out, True)


if __name__ == "__main__":
    main()
