#!/usr/bin/env python3
"""Makes bpe/toys, bpe/llama_cpp_ids.json: ids and texts by llama.cpp 0.5's BPE tokenizer, under every name of a pre-tokenizer it knows.

    llama_cpp_bpe_ids.py --golden build/release/golden --llama-cpp LLAMA_CPP_FOLDER --out OUT_FOLDER --scratch FOLDER

Needs gguf 0.19 and tokenizers 0.23.3; LLAMA_CPP_FOLDER is a built llama.cpp 0.5 (libllama in build/bin). Everything is seeded: same versions, same bytes.

OUT/toys/alphabet.gguf  a byte-level BPE of 3000 tokens, metadata alone; OUT/toys/spelled.gguf: one whose pieces hold characters, with byte tokens (Gemma 4's way)
OUT/llama_cpp_ids.json  {"texts": [hex], "names": {name: {"toy", "result", "add_bos", "bos", "eos"}}, "results": [{"encode": [[fnv1a64 of the ids, special tokens as text; as tokens]],
                         null: throws, "decode": [[[id], hex]]}]}: names with the same answers share a result
"""
import argparse
import json
import pathlib
import random
import re
import subprocess

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from engine_vocabulary import finish, fnv1a64, vocabulary_gguf

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SPELLED = ("gemma4", "granite-embed-multi-311m", "sarvam-moe")
SPECIAL = [("<|endoftext|>", 3), ("<|user|>", 4), ("<s>", 3), ("</s>", 3), ("<unk>", 2), ("two words", 4), ("<|end|>", 3), ("[PAD12]", 5), ("\u00e9t\u00e9", 4)]

HAND = [
    "it'stuff a'rex I'mx o'LLx we'veb 'dx", "don't DON'T Don'T we'Re I'LL i'd 'S 's 'st 'x '", "x's y'T z've W'VE v'LL", "\u2019s can\u2019t", "a  b   c    d", " a", "  a", "a ", "a  ", "\ta", "a\t\tb", "a\n\nb", "a \n b", "a\r\nb\r\n", "\n", " \n", "\n ", "  \n  \n  x",
    "\r", "\r\r\r x", "a\u00a0b", "a\u00a0\u00a0b ", "\u3000x\u3000\u3000y", "x\u2028y\u2029z", "\u0085x", "1", "12", "123", "1234", "12345", "1234567", "1,234,567.89", "3.14159", "a1b22c333d4444", "\u0661\u0662\u0663\u0664", "\u00bd\u2167\u2460\u2461",
    "x\u00b2y\u00b3", "2024-11-22 02:35:01", "0x1F 1e-9", "!!!", "a!b?c.", "...---...", "(a)[b]{c}<d>", "$5 + 6 = 11", "~`^|<>=+$", "a_b_c", "__init__", "foo.bar(baz)", "http://x.y/z?q=1&r=2", "C++ C# F#", "#include <a.h>\n", "\tif (x) {\n\t\treturn;\n\t}\n",
    "HelloWorld helloWorld HELLO hELLO", "ABCdefGHI", "XMLHttpRequest", "aB", "Ab", "AB", "ABc", "abC", "\u00c9cole \u00c9COLE \u00e9cole", "STRASSE stra\u00dfe \u1e9e", "\u0410\u0411\u0412\u0433\u0434 \u0430\u0411", "\u01c5 \u01c8", "\u02b0\u02b1x",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002", "\u6211\u60f3apple\u5de5\u4f5c1314\u5929", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c\u30ab\u30bf\u30ab\u30ca\uff76\uff80", "\ud55c\uad6d\uc5b4 \ud55c", "\u1100\u1161\u11a8", "\u3131\u3134", "\u3105\u3106", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u0ea5\u0eb2\u0ea7",
    "\u1780\u17b6\u1793\u17cb", "\u1019\u103c\u1014\u103a", "\u0939\u093f\u0928\u094d\u0926\u0940", "\u0628\u0650\u0633\u0652\u0645\u0650 \u0627\u0644\u0644\u0651\u0647\u060c x", "\u05e9\u05b8\u05c1\u05dc\u05d5\u05b9\u05dd", "e\u0301a\u0300 \u0301x \u0301", "a\u20e3 1\ufe0f\u20e3", "\U0001f600\U0001f680 \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x\U0001f600y", " \U0001f600", "\u200b\u200d\ufeff", "\U00020000\U0002a6d6\U0002ebf0\U0002f800", "\ufa0e\uf900\ufa6e", "\u3007\u3021\u4e00", "\u31ef\u2ffc", "\u0378\u0380", "\ue000\uf8ff", "\U0010ffff", "\U000e0041", "\u0964 \u06d4 \u3001 \u3002 \uff0c \u2026", "\uff01\uff0f\uff1a\uff5e", "\u2018a\u2019 \u201cb\u201d \u2014",
    "<sentinel:12> <sentinel:> IMGIMGABZ IMGIMGABCDEZ IMGIMGZ", "A|B (c|d)", "a,b;c:d", " (x) ", "( ", "\u00b5m \u01bb\u01c0 \u0294 \u0376", "a b c d e", "a  b", "\u00e9 \u00e9", "x\u0301 y", "9a9", "9 a 9", "\u0669a", "1\u0301", "\u00aa\u00ba", "\u1d62", "\u24b6\u24d0", "\u2160\u2170",
    "<|endoftext|>hi<|user|>there two words</s><s><unk>", "<|user|> x <|user|>", "two wordstwo words", "x[PAD12]y", "l'\u00e9t\u00e9 \u00e9t\u00e9s", "<|end|><|end", "hello<|endoftext|>", "foo ' bar 's baz 'm qux 're ' 've . , ! ?", "    ", "\n\n\n\n", "\n\n \n", "\t \t", " " * 700, "a" * 300, "1" * 50, "\u4e00" * 40, ("ab " * 60),
]


def random_text(rng):
    alphabet = ["a", "B", "s", "'", "'", " ", " ", " ", "\n", "\r", "\t", "1", "2", "9", "!", ".", "-", "$", "\u00e9", "\u00c9", "\u4f60", "\u3042", "\ud55c", "\u0301", "\u0661", "\u3000", "\u00a0", "\U0001f600", "\u2026", "/", "(", "\u0e01", "R", "e", "l", "L", "<", ">", "="]
    return "".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 30))).encode()


# Across what a pre-tokenizer cuts: endings, newlines.
MORE_MERGES = ["' s", "'s t", "' S", "' r", "'r e", "'re x", "' x", "\u010a \u010a", "\u010a\u010a \u010a", "\u0120 \u010a", "\u0120\u010a \u0120", "\u010d \u010a", "s 's", "1 2", "12 3", "123 4"]


def texts(golden):
    rng = random.Random(11)
    known = [bytes.fromhex(text) for text in json.loads((golden / "tokenizer_ids/texts.json").read_text())]
    prose = (ROOT / "data/text/war-and-peace-tail.txt").read_bytes()
    return [text.encode("utf-8", "surrogatepass") for text in HAND] + known[::2] + [random_text(rng) for _ in range(200)] + [prose[20_000:28_000]] + \
        ["Code:\n    def f(x):\n\t# 100 % \u2713\n        return {'a': [1, 22, 333], \"b\": None}\n".encode() * 3]


def training_text():
    prose = (ROOT / "data/text/war-and-peace-tail.txt").read_text(encoding="utf-8")[:30_000]
    rng = random.Random(12)
    return [prose] + HAND * 20 + [random_text(rng).decode() for _ in range(2000)]


def alphabet_toy():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"[\s\S]{1,9}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])  # merges across words: cuts show
    tokenizer.train_from_iterator(training_text(), trainers.BpeTrainer(vocab_size=3000, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    return tokenizer


def spelled_toy():
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]{1,9}"), "isolated")
    lines = [text.replace(" ", "\u2581") for text in training_text()]
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=900, limit_alphabet=150, special_tokens=[f"<0x{byte:02X}>" for byte in range(256)], show_progress=False))
    return tokenizer


def parts(tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    by_id = sorted(model["vocab"], key=model["vocab"].get)
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    return by_id, merges


def write(path, tokens, merges, pre):
    types = [6 if re.fullmatch("<0x[0-9A-F]{2}>", token) else 1 for token in tokens] + [kind for _, kind in SPECIAL]
    out = vocabulary_gguf(path, "gpt2", pre)
    out.add_token_list([token.encode() for token in tokens] + [text.encode() for text, _ in SPECIAL])
    out.add_token_types(types)
    out.add_token_merges([merge.encode() for merge in merges])
    finish(out)


def names(llama_cpp):
    source = (llama_cpp / "src/llama-vocab.cpp").read_text()
    return sorted(set(re.findall(r'tokenizer_pre == "([^"]+)"', source)) - {"whitespace"})


def main():
    parser = argparse.ArgumentParser()
    for option in ("--golden", "--llama-cpp", "--out", "--scratch"):
        parser.add_argument(option, required=True, type=pathlib.Path)
    options = parser.parse_args()
    engine, tool = options.llama_cpp, options.scratch / "llama_cpp_ids"
    (options.out / "toys").mkdir(parents=True, exist_ok=True)
    subprocess.run(["g++", "-O1", "-std=c++20", f"-I{engine}/include", f"-I{engine}/ggml/include", HERE / "llama_cpp_ids.cpp", "-o", tool, f"-L{engine}/build/bin", "-lllama", "-lggml", "-lggml-base",
                    f"-Wl,-rpath,{engine}/build/bin"], check=True)

    def ask(path, lines):
        done = subprocess.run([tool, str(path)], input="\n".join(lines) + "\n", capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{path}: {done.returncode} {done.stderr[-1000:]}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    # Tokens that no merge makes, merges whose parts or results are no tokens, one that stands twice, and one without a space.
    toys = {}
    for name, make in (("alphabet", alphabet_toy), ("spelled", spelled_toy)):
        tokens, merges = parts(make())
        removed = set(random.Random(3).sample([token for token in tokens[400:] if len(token) > 1], 60))
        tokens = [token for token in tokens if token not in removed and token not in dict(SPECIAL)]
        parts_of_merges = {part for merge in merges for part in merge.split(" ")}
        unmerged = set(random.Random(4).sample([merge for merge in merges if merge.replace(" ", "") not in parts_of_merges], 150))
        merges = [merge for merge in merges if merge not in unmerged] + MORE_MERGES + [merges[0], "nospace", "q q", "qq qq"]
        tokens += [text for text in dict.fromkeys(merge.replace(" ", "") for merge in MORE_MERGES) if text not in tokens]
        toys[name] = (tokens, merges)
        write(options.out / f"toys/{name}.gguf", tokens, merges, "default" if name == "alphabet" else "gemma4")

    all_texts = texts(options.golden)
    results, entries = [], {}
    for pre in names(engine):
        toy = "spelled" if pre in SPELLED else "alphabet"
        path = options.scratch / "toy.gguf"
        write(path, *toys[toy], pre)
        n = len(toys[toy][0]) + len(SPECIAL)
        encoded = ask(path, ["t " + text.hex() for text in all_texts])
        ids = [[random.Random(seed).randrange(n) for _ in range(12)] for seed in range(60)] + [one[0] for one in encoded[:len(HAND)] if one[0]] + [list(range(n - len(SPECIAL), n))]
        decoded = ask(path, ["d " + " ".join(map(str, one)) for one in ids])
        result = {"encode": [None if one[0] is None else [fnv1a64(one[0]), fnv1a64(one[1])] for one in encoded],
                  "decode": [[one, both[0]] for one, both in zip(ids, decoded)]}
        if result not in results:
            results.append(result)
        entries[pre] = {"toy": toy, "result": results.index(result)}
        print(pre, entries[pre], flush=True)
    (options.out / "llama_cpp_ids.json").write_text(json.dumps({"texts": [text.hex() for text in all_texts], "names": entries, "results": results}, separators=(",", ":")) + "\n")


main()
