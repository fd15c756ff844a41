#!/usr/bin/env python3
"""Makes tests/golden/tokenizer_json.tar.zst: ids and texts by the real tokenizers library.

    tokenizers_ids.py --data DATA --zoo ZOO --out OUT_FOLDER        (tokenizers 0.23.3; every draw is seeded: same bytes each time)

DATA holds published vocabularies (gpt2/vocab.json, merges.txt; qwen/qwen2.5-*), ZOO models with small tokenizers of the rules of Llama 3, Qwen and Falcon.

OUT/tokenizers/NAME.json  a published vocabulary as its tokenizer.json, or a toy: one step each, on a vocabulary of bytes where the suffix "</w>" shows the words
OUT/snippets.json         {kind: [hex]}: what the corpora are drawn from, see corpus()
OUT/texts.json            [hex]: valid UTF-8
OUT/ids/NAME.json         {"encode": [[id] per text], "special": the same with special tokens in the text, "decode": [hex of those special ids],
                          "corpora": {kind: [[count, fnv1a64 of the ids] per document]}, "cases": [[hex, [id]]] of llama.cpp's .inp and .out}
"""
import argparse
import json
import pathlib
import random

import tokenizers

from engine_vocabulary import fnv1a64

ROOT = pathlib.Path(__file__).resolve().parents[3]
CHUNK = 10_000
DOCUMENT, DOCUMENTS = 62_500, 16  # a megabyte of each kind
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

UNICODE = ["\U0001f642", "\U0001f469\u200d\U0001f469\u200d\U0001f467\ufe0f", "\U0001f1e9\U0001f1ea", "\u65e5\u672c\u8a9e", "\u4e2d\u6587\uff0c\u3002", "\ud55c\uad6d\uc5b4", "\u1112\u1161\u11ab", "e\u0301", "a\u0300\u0316b", "\u0928\u093f",
           "\u0915\u094d\u0937\u093f", "\u0e44\u0e17\u0e22", "\u05e9\u05dc\u05d5\u05dd", "\u0627\u0644\u0639\u0631\u0628\u064a\u0629", "\u00df", "\u0130", "\u01c5", "\ufb01", "\u2126", "\u00bd", "\u00b2", "\u0663", "\u00a0", "\u3000", "\u2028", "\ufeff", "\u200b", "\u180e",
           "\u2177", "\u24b6", "\U0001d7d8", "\u017f", "\u212a", "'\u017f", "\u00ab\u0445\u00bb", "\u20ac5", "\u1680", "\u0085", "\u2581", "\u2581\u2581", " ", " ", " ", "Hello", " world", "don't", "\u0441\u043b\u043e\u0432\u043e", "\n", "\u0345\u0301\u0323", "\ufffd"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x99", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\x80"]
CODE = ["if (x == 0) {\n", "    return ", "int32_t ", "->", "::", "std::vector<float>", " += ", "0x1F", "123456", "3.14e-10", "// TODO: don't\n", "/* ", " */\n", "\t\t", "        ", "}\n", "\n\n", "def f(self, *args):\n", "    self._x = ", "lambda", "\"%s\\n\"", "#include <a.h>\n",
        "&&", "||", "!=", ";", ",", "(", ")", "[i]", "camelCaseName", "snake_case_name", "SCREAMING", "\r\n", "<div class=\"a\">", "</div>", "http://example.org/a?b=c&d=%20", "$x", "@y", "^", "~", "`", "I'LL", "we've", "'s"]
SPACE = [" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n", "\t \t", "\u00a0", "\u3000", "\u2003", "        ", "                ", "\x0b", "\x0c", "a", "word", "1", ".", "\n\n\n\n"]
WORDS = UNICODE + CODE + ["<s>", "</s>", "<|endoftext|>", "<|im_start|>", " <|im_end|> ", "<unk>", "<mask>", "  <mask>  ", "a<mask>", "<one>", "x<one>", " <one> ", "HELLO", "\x00", "\x7f"]


class Draw:
    """xorshift64, as in the test."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state ^= self.state << 13 & 0xFFFFFFFFFFFFFFFF
        self.state ^= self.state >> 7
        self.state ^= self.state << 17 & 0xFFFFFFFFFFFFFFFF
        return self.state % n


def corpus(snippets, seed):
    draw, out = Draw(seed), []
    for _ in range(DOCUMENTS):
        document = b""
        while len(document) < DOCUMENT:
            document += snippets[draw.below(len(snippets))]
        out.append(document)
    return out


def random_text(rng):
    if rng.random() < 0.7:
        return "".join(rng.choice(WORDS) + rng.choice(["", "", " "]) for _ in range(rng.randrange(1, 12)))
    ranges = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x6FF), (0x900, 0xE80), (0x1E00, 0x2070), (0x2580, 0x2584), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xFB00, 0xFFEF), (0x1D400, 0x1D7FF), (0x1F300, 0x1F680)]
    return "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(1, 24)))


def bpe(vocab, merges, **fields):
    model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False, vocab=vocab, merges=merges)
    model.update(fields.pop("model", {}))
    empty = dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, pre_tokenizer=None, post_processor=None, decoder=None)
    return {**empty, **fields, "model": model}


def token(identity, content, special=True, **flags):
    return {"id": identity, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": special, **flags}


def byte_level(prefix=False, regex=True):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": regex}


def split(pattern, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def metaspace(scheme, cut=True):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}


def sequence(*steps, name="pretokenizers"):
    return {"type": "Sequence", name: list(steps)}


def merge_lines(path):
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#version")]


def published(data):
    yield "gpt2", bpe(json.loads((data / "gpt2/vocab.json").read_text()), merge_lines(data / "gpt2/merges.txt"), pre_tokenizer=byte_level(), decoder=byte_level(True), added_tokens=[token(50256, "<|endoftext|>")])
    config = json.loads((data / "qwen/qwen2.5-tokenizer_config.json").read_text())
    added = [token(int(identity), one["content"], one["special"], normalized=one["normalized"]) for identity, one in config["added_tokens_decoder"].items()]
    yield "qwen2.5", bpe(json.loads((data / "qwen/qwen2.5-vocab.json").read_text()), merge_lines(data / "qwen/qwen2.5-merges.txt"), normalizer={"type": "NFC"}, pre_tokenizer=sequence(split(QWEN), byte_level(regex=False)), decoder=byte_level(True), added_tokens=added)


def toys():
    """One step each. A character is its bytes, a word's last one with the bytes of "</w>" behind it."""
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"<unk>": 256}
    toy = lambda **fields: bpe(vocab, [], **fields, model=dict(unk_token="<unk>", end_of_word_suffix="</w>", byte_fallback=True))
    punctuation = lambda behavior: {"type": "Punctuation", "behavior": behavior}
    pre = {
        "digits": {"type": "Digits", "individual_digits": False}, "digits-individual": {"type": "Digits", "individual_digits": True}, "whitespace": {"type": "Whitespace"}, "whitespace-split": {"type": "WhitespaceSplit"},
        "punctuation-isolated": punctuation("Isolated"), "punctuation-contiguous": punctuation("Contiguous"), "punctuation-previous": punctuation("MergedWithPrevious"), "punctuation-next": punctuation("MergedWithNext"), "punctuation-removed": punctuation("Removed"),
        "bert": {"type": "BertPreTokenizer"}, "metaspace-always": metaspace("always"), "metaspace-first": metaspace("first"), "metaspace-never": metaspace("never"), "metaspace-whole": metaspace("first", False), "words-metaspace-first": sequence({"type": "WhitespaceSplit"}, metaspace("first")),
        "byte-level": byte_level(), "byte-level-prefix": byte_level(True), "byte-level-no-regex": byte_level(True, False), "fixed-length": {"type": "FixedLength", "length": 3}, "delimiter": {"type": "CharDelimiterSplit", "delimiter": "-"},
        "llama3-removed": split(LLAMA3, "Removed", True), "o200k": split(O200K), "possessive": split(r"\p{N}{1,3}+|\s++$|\S{2}?|."), "intersection": split(r"[\p{L}&&[^\p{Lu}a-e]]+|[^\p{L}&&\s]"), "nested-class": split(r"[a-c[0-9]\W]+"),
        "word-boundary": split(r"\b|x*", "MergedWithNext"), "no-word-boundary": split(r"\B", "MergedWithPrevious"), "lines": split(r"^.|.$|(?m:o.)", "Contiguous"), "hexadecimal": split(r"\h+|[\H&&\w]|\x41|\u00e9|\x{1F642}", invert=True), "braces": split(r"l{,2}o|a{|\{", "MergedWithNext", True),
        "string": split("l", "MergedWithPrevious", kind="String"), "string-inverted": split("  ", "Contiguous", True, "String"), "string-removed": split(".", "Removed", kind="String"), "word": split(r"\w+", "Removed"), "space": split(r"\s", "MergedWithNext"),
        "letters": split(r"\p{L}"), "numbers": split(r"\p{N}"), "marks": split(r"\p{M}"), "punctuation-property": split(r"\p{Punctuation}"), "han": split(r"\p{Han}"), "scripts": split(r"[\p{Hangul}\p{Hiragana}\p{Katakana}\p{^Thai}]+"), "caseless": split(r"(?i)[k-s]"),
        "deepseek": sequence(split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"), {"type": "Digits", "individual_digits": True}, byte_level(False, False)),
        "falcon": sequence(punctuation("Contiguous"), byte_level(), {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")), "starcoder": sequence({"type": "Digits", "individual_digits": True}, byte_level(True)),
    }
    for name, step in pre.items():
        yield "pre-" + name, toy(pre_tokenizer=step)
    replace = lambda pattern, content, kind="Regex": {"type": "Replace", "pattern": {kind: pattern}, "content": content}
    strip = lambda left, right: {"type": "Strip", "strip_left": left, "strip_right": right}
    bert = lambda clean, accents, lower: {"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": True, "strip_accents": accents, "lowercase": lower}
    norm = {"nfc": {"type": "NFC"}, "nfd": {"type": "NFD"}, "nfkc": {"type": "NFKC"}, "nfkd": {"type": "NFKD"}, "lowercase": {"type": "Lowercase"}, "strip": strip(True, True), "strip-left": strip(True, False), "strip-accents": {"type": "StripAccents"},
            "sequence": sequence({"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, name="normalizers"), "replace-regex": replace(r"\s+", "_"), "replace-string": replace("l", "LL", "String"), "replace-empty": replace("x*", "-"), "prepend": {"type": "Prepend", "prepend": "\u2581"},
            "byte-level": {"type": "ByteLevel"}, "nmt": {"type": "Nmt"}, "bert": bert(True, None, True), "bert-accents": bert(False, True, False)}
    for name, step in norm.items():
        yield "norm-" + name, toy(normalizer=step)
    dec = {"byte-level": byte_level(True), "byte-fallback": {"type": "ByteFallback"}, "llama": sequence(replace("\u2581", " ", "String"), {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}, name="decoders"),
           "metaspace": metaspace("always"), "metaspace-never": metaspace("never"), "bpe": {"type": "BPEDecoder", "suffix": "</w>"}, "wordpiece": {"type": "WordPiece", "prefix": "##", "cleanup": True}, "ctc": {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": True}, "regex": replace("[b-d]+", "c")}
    small = {"<unk>": 0} | {chr(c): i for i, c in enumerate([*range(32, 127), 0x2581], 1)}
    small |= {text: len(small) + i for i, text in enumerate(["he", "hel", "ll", "llo", "\u2581w", "</w>", "<pad>", "##a", "'s", " .", " n't", "<0xC3>", "<0xA9>", "<0xFF>", "<0x+A>", "<0x41>"])}
    merges = [["h", "e"], ["l", "l"], ["he", "l"], ["ll", "o"], ["\u2581", "w"], ["'", "s"], [" ", "."]]
    for name, step in dec.items():
        yield "dec-" + name, bpe(small, merges, decoder=step, model=dict(unk_token="<unk>"))
    # models' own switches
    spelled = [" ".join(pair) for pair in merges[:6]]
    yield "bpe-fuse-unk", bpe(small, spelled, model=dict(unk_token="<unk>", fuse_unk=True))
    yield "bpe-no-unk", bpe(small, merges)
    yield "bpe-ignore-merges", bpe(small, merges[:1], pre_tokenizer={"type": "WhitespaceSplit"}, model=dict(ignore_merges=True, unk_token="<unk>"))
    prefixed = {"<unk>": 0, "a": 1, "##b": 2, "##a": 3, "ab": 4, "##ab": 5, "aba": 6, "##c": 7, "c": 8, "##bc": 9, "##d</w>": 10, "##cd</w>": 11, "d</w>": 12}
    yield "bpe-affixes", bpe(prefixed, [["a", "##b"], ["##a", "##b"], ["##b", "##c"], ["ab", "##a"], ["##c", "##d</w>"]], pre_tokenizer={"type": "Whitespace"}, model=dict(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    ranked = {"<unk>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "bc": 5, "abc": 6, "aa": 7, "aaa": 8, "aab": 9}
    yield "bpe-two-ways", bpe(ranked, [["b", "c"], ["a", "bc"], ["a", "b"], ["ab", "c"], ["a", "a"], ["aa", "a"], ["aa", "b"], ["a", "ab"], ["a", "aa"]], model=dict(unk_token="<unk>"))
    yield "wordlevel", {**bpe({}, []), "pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "vocab": {"Hello": 0, "world": 1, "<unk>": 2, "1": 3, "don": 4, "'": 5}, "unk_token": "<unk>"}}
    wordpiece = {"[UNK]": 0, "hello": 1, "##s": 2, "wo": 3, "##r": 4, "##ld": 5, "'": 6, "s": 7, "don": 8, "t": 9, "##t": 10, "1": 11, "##2": 12, "##3": 13, "word": 14, "(": 15, ")": 16, "=": 17, "\u65e5": 18, "[CLS]": 19, "[SEP]": 20}
    yield "wordpiece", {**bpe({}, []), "normalizer": bert(True, None, True), "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True}, "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 20], "cls": ["[CLS]", 19]},
                        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 10, "vocab": wordpiece}}
    scored = [["<unk>", 0.0], ["\u2581", -2.5], ["a", -3.0], ["\u2581a", -2.75], ["l", -3.5], ["ll", -3.25], ["o", -4.0], ["lo", -4.5], ["he", -3.0], ["h", -5.0], ["e", -2.0], ["\u2581wor", -6.0], ["w", -5.0], ["r", -4.0], ["d", -4.0], ["ld", -6.5], ["<0xC3>", -9.0], ["<0xA9>", -9.0], ["1", -4.0], ["23", -4.0]]
    for name, fallback in (("unigram", False), ("unigram-bytes", True)):
        bytes_too = [[f"<0x{byte:02X}>", -20.0] for byte in range(256) if byte not in (0xC3, 0xA9)] if fallback else []
        yield name, {**bpe({}, []), "pre_tokenizer": metaspace("always"), "decoder": metaspace("always"), "model": {"type": "Unigram", "unk_id": 0, "vocab": scored + bytes_too, "byte_fallback": fallback}}
    # added tokens: each flag, in both kinds of text
    added = [token(0, "<unk>"), token(200, "<s>"), token(201, "</s>", normalized=True), token(202, "<mask>", lstrip=True), token(203, "<one>", False, single_word=True), token(204, "  ", False), token(205, "Hello", False, normalized=True), token(206, "Hello wor", False), token(207, "<|endoftext|>", rstrip=True), token(208, "<|im_start|>", lstrip=True, rstrip=True), token(209, "don't", False, single_word=True, normalized=True)]
    yield "added-tokens", bpe(small, merges, added_tokens=added, model=dict(unk_token="<unk>"), decoder={"type": "Fuse"})
    yield "added-tokens-normalized", bpe(small, merges, added_tokens=added, model=dict(unk_token="<unk>"), normalizer=sequence({"type": "Lowercase"}, {"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581", "String"), name="normalizers"), decoder={"type": "Fuse"})
    yield "added-tokens-metaspace", bpe(small, merges, added_tokens=added, model=dict(unk_token="<unk>"), pre_tokenizer=metaspace("first"), decoder=metaspace("first"))


def llama_cpp_cases(path):
    texts = path.with_suffix(".gguf.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")[:-1]
    lines = path.with_suffix(".gguf.out").read_text().split("\n")
    return [[text.hex(), [int(word) for word in line.split()]] for text, line in zip(texts, lines)]


def main():
    parser = argparse.ArgumentParser()
    for option in ("--data", "--zoo", "--out"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    options = parser.parse_args()
    out = options.out
    (out / "tokenizers").mkdir(parents=True, exist_ok=True)
    (out / "ids").mkdir(exist_ok=True)
    rng = random.Random(6)
    texts = ["", " ", "  ", "\n", "a", " a", "a ", "Hello world", " Hello  world ", "\u2581", "\u2581\u2581a"] + [random_text(rng) for _ in range(400)]
    snippets = {"unicode": [one.encode() for one in UNICODE] * 2 + BROKEN, "code": [one.encode() for one in CODE], "space": [one.encode() for one in SPACE]}
    write(out / "texts.json", [text.encode().hex() for text in texts])
    write(out / "snippets.json", {kind: [one.hex() for one in list_] for kind, list_ in snippets.items()})
    corpora = {kind: corpus(list_, seed) for seed, (kind, list_) in enumerate(snippets.items(), 1)}
    for file in ("held-out.txt", "war-and-peace-tail.txt"):
        whole = (ROOT / "data/text" / file).read_bytes()
        corpora[file] = [whole[at:at + CHUNK] for at in range(0, len(whole), CHUNK)]

    jobs = [(name, item, True) for name, item in published(options.data)]
    jobs += [("zoo-" + name, json.loads((options.zoo / name / "tokenizer.json").read_text()), True) for name in ("falcon", "llama3-rope", "qwen2")]
    jobs += [(name, item, False) for name, item in toys()]
    cases = {"gpt2": "gpt-2", "qwen2.5": "qwen2"}
    for name, item, whole in jobs:
        (out / "tokenizers" / f"{name}.json").write_text(json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n")
        write(out / "ids" / f"{name}.json", ids_of(item, texts if whole or not name.startswith(("pre-", "norm-")) else texts[:90], corpora if whole else {},
                                                  llama_cpp_cases(options.data / "llama.cpp" / f"ggml-vocab-{cases[name]}") if name in cases else []))


def ids_of(item, texts, corpora, cases):
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(item))
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    tokenizer.encode_special_tokens = True
    plain = [encode(text) for text in texts]
    tokenizer.encode_special_tokens = False
    special = [encode(text) for text in texts]
    assert all(encode(bytes.fromhex(text).decode()) == ids for text, ids in cases)
    chunks = {kind: [[len(ids), fnv1a64(ids)] for ids in (encode(part.decode(errors="replace")) for part in parts)] for kind, parts in corpora.items()}
    decode = [tokenizer.decode(ids).encode().hex() if ids else "" for ids in special]
    return {"encode": plain, "special": special, "decode": decode, "corpora": chunks, "cases": cases}


def write(path, value):
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


main()
