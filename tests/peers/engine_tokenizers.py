"""The tokenizers of GGUFs that we write, in the real llama.cpp: equal ids on the same texts, special tokens as text and as tokens.

Kinds: llama (tokenizer.model, BPE), gpt2 (tokenizer.json, byte-level BPE), t5 (tokenizer.model, unigram: with a table of its own, with spaces inside
pieces, with sums that float32 rounds to one; a unigram tokenizer.json). The vocabularies of GPT-2, Qwen2.5 and Llama 2, whole, stand in models without weights worth a name: 100 kB of each of
four kinds of text. Ids are compared with `tokenize` of the same GGUF, by the engine's rules; for the texts that are
not normalized and hold no special token also with `tokenize` of the source, by its library's rules.
Negative control: one swapped pair of scores must change ids.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from support import Checks, Ropewalk, arguments, read_safetensors, write_safetensors
from texts import large_texts, newer_text, sampled_newer_characters

PLAIN = ["Hello world", "The prince, who had said nothing, looked at her.", "one two  three", "it is 12345 and 678", "word\nnext line\n", "na\u00efve caf\u00e9", "x = y * (z - 1)"]


def engine(model, texts, scratch):
    file = scratch / "texts.json"
    file.write_text(json.dumps(texts))
    command = [sys.executable, pathlib.Path(__file__).with_name("engine_tokenize.py"), model, file]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"the engine gave no result for {model}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return json.loads(lines[-1][len("RESULT "):])


def ours(ropewalk, source, texts, scratch, special):
    """Ids per text; a call for all: documents are encoded one by one, and their numbers counted by one call each would be slow."""
    documents = []
    for index, text in enumerate(texts):
        file = scratch / f"{index}.txt"
        file.write_bytes(text.encode())
        documents += ["-f", file]
    return ropewalk.json("tokenize", source, *documents, *(["--special"] if special else []))["ids"]


def flat(lists):
    return [one for ids in lists for one in ids]


def with_vocabulary(base, folder, file, tokenizer, rows):
    """`base` with another tokenizer and as many rows in embedding and head."""
    shutil.copytree(base, folder)
    for old in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "model.safetensors.index.json"):
        (folder / old).unlink(missing_ok=True)
    shutil.copy(tokenizer, folder / file)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= read_safetensors(path)
        path.unlink()
    config = json.loads((folder / "config.json").read_text()) | {"vocab_size": rows, "bos_token_id": 1, "eos_token_id": 2}
    (folder / "config.json").write_text(json.dumps(config))
    for name in tensors:
        shape = (rows, tensors[name].shape[1]) if "embed_tokens" in name or "lm_head" in name else tensors[name].shape
        tensors[name] = np.zeros(shape, dtype=np.float16)
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def check_large(checks, ropewalk, options, scratch):
    golden, texts = options.golden, large_texts(options.golden, 100_000)
    texts["newer characters"] = newer_text(sampled_newer_characters())
    for name, file, tokenizer, rows in (("GPT-2", "tokenizer.json", golden / "tokenizer_json/tokenizers/gpt2.json", 50257), ("Qwen2.5", "tokenizer.json", golden / "tokenizer_json/tokenizers/qwen2.5.json", 151936),
                                        ("Llama 2", "tokenizer.model", golden / "tokenizers/llama2/tokenizer.model", 32000)):
        folder = with_vocabulary(golden / "zoo/llama-gqa", scratch / f"large {name}", file, tokenizer, rows)
        model = scratch / "large.gguf"
        ropewalk.run("convert", folder, "-o", model, "--type", "f16", "--overwrite")
        theirs = [both[0] for both in engine(model, list(texts.values()), scratch)]
        same = ours(ropewalk, model, texts.values(), scratch, False) == flat(theirs)
        checks.check(same, f"{name}: {', '.join(texts)}, at most 100 kB each, {len(flat(theirs))} ids")


def main():
    options = arguments()
    checks, ropewalk = Checks(), Ropewalk(options.ropewalk)
    texts = []
    for text in json.loads((options.golden / "tokenizer_ids/texts.json").read_text()):
        try:
            texts.append(bytes.fromhex(text).decode())
        except UnicodeDecodeError:
            pass  # a request to the engine's server is JSON
    texts = [text for text in texts if text] + PLAIN
    models = {name: options.golden / "unigram/models" / f"{name}.model" for name in ("rules", "spaces", "near")}
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        sources = {"llama": options.golden / "zoo/llama-gqa", "gpt2": options.golden / "bpe/llama3-rope"}
        for name, model in models.items():
            sources[f"t5 {name}"] = scratch / name
            shutil.copytree(options.golden / "zoo/llama-gqa", scratch / name)
            for other in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
                (scratch / name / other).unlink(missing_ok=True)
            shutil.copy(model, scratch / name / "tokenizer.model")
        sources["t5 tokenizer.json"] = with_vocabulary(options.golden / "zoo/llama-gqa", scratch / "t5 json", "tokenizer.json", options.golden / "tokenizer_json/tokenizers/unigram.json", 32)
        answers = {}
        for name, source in sources.items():
            file = scratch / "model.gguf"
            ropewalk.run("convert", source, "-o", file, "--type", "f16", "--overwrite")
            answers[name] = engine(file, texts, scratch)
            for special in (False, True):
                theirs = [both[special] for both in answers[name]]
                checks.check(ours(ropewalk, file, texts, scratch, special) == flat(theirs), f"{name}{', special tokens' if special else ''}: {len(texts)} texts, {len(flat(theirs))} ids")
            if name == "t5 near":
                continue  # its sums part where one side rounds them to float32
            plain = [both[0] for both in answers[name][-len(PLAIN):]]
            checks.check(ours(ropewalk, source, PLAIN, scratch, False) == flat(plain), f"{name}: {len(PLAIN)} plain texts as the source's own library has them")
        check_large(checks, ropewalk, options, scratch)
        checks.check(answers["t5 spaces"] != answers["t5 near"], "control: another model has other ids")
    checks.exit()


main()
