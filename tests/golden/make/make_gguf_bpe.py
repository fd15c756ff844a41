#!/usr/bin/env python3
"""Makes gguf_bpe.json: folders with byte-level BPE tokenizers, and the tokenizer.* keys that convert_hf_to_gguf.py writes for each.

usage: make_gguf_bpe.py LLAMA_CPP_DIR LLAMA3_ROPE_DIR TOKENIZER_JSON_DIR > gguf_bpe.json
llama.cpp v0.5.0-dev (the sources vendored in llama_cpp_python 0.3.36), transformers 5.23.0, tokenizers 0.23.3.
LLAMA3_ROPE_DIR: the zoo's llama3-rope (bpe/llama3-rope of the goldens). TOKENIZER_JSON_DIR: tokenizers/ of the golden tokenizer_json.
A variant is a recipe that the test applies again: a base for tokenizer.json, fields to replace in it, other files, the size of the embedding. The converter is
changed in nothing but, where "pre" is given, the name its pre-tokenizer detection returns: vocabularies of 512 tokens are not in its table.
"""
import hashlib, json, os, re, struct, sys, tempfile, traceback

llama_cpp, rope, tokenizers = map(os.path.abspath, sys.argv[1:4])
sys.path.insert(0, llama_cpp)
sys.path.insert(1, os.path.join(llama_cpp, "gguf-py"))
sys.dont_write_bytecode = True
import torch
from safetensors.torch import save_file
import conversion.base
import importlib.util

spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", os.path.join(llama_cpp, "convert_hf_to_gguf.py"))
converter = importlib.util.module_from_spec(spec)
spec.loader.exec_module(converter)


def token(content, special=False, normalized=False, **more):
    return dict(dict(content=content, lstrip=False, normalized=normalized, rstrip=False, single_word=False, special=special), **more)


def added(id, *args, **more):
    return dict(id=id, **token(*args, **more))


BASIC = [added(0, "<|reserved_special_token_0|>", True), added(1, "<|begin_of_text|>", True), added(2, "<|end_of_text|>", True)]
LONE = dict(tokenizer_class="PreTrainedTokenizerFast")
FORCED = dict(base="llama3-rope", pre="llama-bpe")

VARIANTS = [
    dict(FORCED, name="as it is", n_vocab=512, config=json.load(open(os.path.join(rope, "tokenizer_config.json")))),
    dict(FORCED, name="padded", n_vocab=520, config=dict(LONE, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>"), model={"bos_token_id": 1, "eos_token_id": [2, 3]}),
    dict(FORCED, name="added tokens", n_vocab=540, config=dict(LONE, bos_token="<|begin_of_text|>", pad_token="<pad>", add_prefix_space=True, add_eos_token=True),
         patch=dict(added_tokens=BASIC + [
             added(512, "<|im_start|>"), added(513, "plain"), added(514, "\u2581low\u2581block"), added(515, "<unused7>", normalized=True), added(516, "<pad>"),
             added(517, "\u00e9t\u00e9"), added(518, "two  spaces"), added(519, "\u0120spelled"), added(520, "\u0120kept", normalized=True), added(521, "<\uff5cwide\uff5c>"),
             added(522, " strip ", lstrip=True, rstrip=True), added(523, "special \u00e9", True), added(524, "[@BOS@]", True, normalized=True), added(525, "\u65e5\u672c"),
             added(526, "\n\n"), added(527, "<mask>", lstrip=True)])),
    dict(FORCED, name="named in tokenizer_config.json alone", n_vocab=520, config=dict(LONE, bos_token="<|begin_of_text|>", eos_token="the", additional_special_tokens=["he", "<new>"])),
    dict(FORCED, name="chat", n_vocab=512, config=dict(LONE, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", add_bos_token=False, chat_template=[
        dict(name="default", template="{{ a }}"), dict(name="tool use", template="{{ b }}")])),
    dict(FORCED, name="no template", n_vocab=512, patch=dict(post_processor=dict(type="ByteLevel", add_prefix_space=True, trim_offsets=False, use_regex=True)), config=LONE,
         model={"bos_token_id": 1, "eos_token_id": 2}),
    dict(base="gpt2", name="GPT-2", n_vocab=50257, config=dict(tokenizer_class="GPT2Tokenizer", bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")),
    dict(base="gpt2", name="GPT-2, vocab.json and merges.txt", spread=True, n_vocab=50300, config=dict(tokenizer_class="GPT2Tokenizer"), model={"bos_token_id": 50256, "eos_token_id": 50256}),
    dict(base="qwen2.5", name="Qwen2.5", n_vocab=151936, config=dict(tokenizer_class="Qwen2Tokenizer", bos_token=None, eos_token="<|im_end|>", pad_token="<|endoftext|>", add_bos_token=False,
                                                                      chat_template="{{ c }}"), model={"bos_token_id": 151643, "eos_token_id": 151645}),
]

CODES = {0: ("u8", "B"), 1: ("i8", "b"), 4: ("u32", "I"), 5: ("i32", "i"), 6: ("f32", "f"), 7: ("bool", "?"), 8: ("str", None), 10: ("u64", "Q")}


def tokenizer_keys(path):
    """[name, type, value | {n, payload_sha256}] of the tokenizer.* keys, as the dumps of the gguf goldens."""
    data, at = open(path, "rb").read(), 8

    def read(code):
        nonlocal at
        value = struct.unpack_from("<" + code, data, at)[0]
        at += struct.calcsize("<" + code)
        return value

    def text():
        nonlocal at
        n = read("Q")
        at += n
        return data[at - n:at].decode("utf-8", "backslashreplace")

    def value(kind):
        return text() if kind == 8 else read(CODES[kind][1])

    read("q")
    keys = []
    for _ in range(read("q")):
        name, kind = text(), read("i")
        if kind != 9:
            keys.append([name, CODES[kind][0], value(kind)])
            continue
        kind, n = read("i"), read("Q")
        begin, items = at, [value(kind) for _ in range(n)]
        keys.append([name, f"arr[{CODES[kind][0]}]", items if n <= 16 else {"n": n, "payload_sha256": hashlib.sha256(data[begin:at]).hexdigest()}])
    return [key for key in keys if key[0].startswith("tokenizer.")]


def write(folder, variant):
    base = os.path.join(rope, "tokenizer.json") if variant["base"] == "llama3-rope" else os.path.join(tokenizers, variant["base"] + ".json")
    tokenizer = json.load(open(base, encoding="utf-8"))
    tokenizer.update(variant.get("patch", {}))

    def put(name, value):
        json.dump(value, open(os.path.join(folder, name), "w", encoding="utf-8"))

    if variant.get("spread"):
        put("vocab.json", tokenizer["model"]["vocab"])
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
        open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8").write("\n".join(["#version: 0.2"] + merges) + "\n")
    else:
        put("tokenizer.json", tokenizer)
    put("tokenizer_config.json", variant["config"])
    put("config.json", dict(dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=variant["n_vocab"], hidden_size=8, intermediate_size=8, num_hidden_layers=1,
                                 num_attention_heads=1, num_key_value_heads=1, head_dim=8, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0), **variant.get("model", {})))
    save_file({"model.norm.weight": torch.ones(8)}, os.path.join(folder, "model.safetensors"))


def convert(folder, out, pre):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if pre:
                conversion.base.TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
            sys.argv = ["convert_hf_to_gguf.py", folder, "--vocab-only", "--outfile", out]
            converter.main()
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit("the converter failed")


out = []
for variant in VARIANTS:
    with tempfile.TemporaryDirectory() as work:
        folder = os.path.join(work, "Tiny-Bpe")
        os.mkdir(folder)
        write(folder, variant)
        convert(folder, os.path.join(work, "out.gguf"), variant.get("pre"))
        out.append(dict(variant, keys=tokenizer_keys(os.path.join(work, "out.gguf"))))
        print(variant["name"], file=sys.stderr)
text = json.dumps(out, indent=1, ensure_ascii=True)
print(re.sub(r"\[\n\s+(\"tokenizer[^\n]*),\n\s+(\"[^\n]*),\n\s+([^\n{\[]*)\n\s+\]", r"[\1, \2, \3]", text))
