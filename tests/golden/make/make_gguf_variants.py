#!/usr/bin/env python3
"""Makes gguf_variants.json: copies of the zoo's llama-gqa with other tokenizer files, cards and configurations, and what convert_hf_to_gguf.py writes for each.

usage: make_gguf_variants.py LLAMA_CPP_DIR ZOO_DIR > gguf_variants.json
llama.cpp v0.5.0-dev (the sources vendored in llama_cpp_python 0.3.36), transformers 5.23.0, sentencepiece 0.2.3.
A variant is a recipe (files to write, files to remove, a merge patch for config.json, arguments) that the test applies again.
"""
import base64, hashlib, json, os, shutil, struct, subprocess, sys, tempfile

from sentencepiece import sentencepiece_model_pb2 as pb

llama_cpp, zoo = map(os.path.abspath, sys.argv[1:3])
BASE = os.path.join(zoo, "llama-gqa")


def shorter_model():
    """500 pieces of the 512, one of each rarer type among them."""
    model = pb.ModelProto.FromString(open(os.path.join(BASE, "tokenizer.model"), "rb").read())
    del model.pieces[500:]
    model.pieces[490].type = pb.ModelProto.SentencePiece.USER_DEFINED
    model.pieces[491].type = pb.ModelProto.SentencePiece.UNUSED
    return base64.b64encode(model.SerializeToString()).decode()


def token(content, special=False):
    return dict(content=content, lstrip=False, normalized=False, rstrip=False, single_word=False, special=special)


def added(id, content, special=True):
    return dict(id=id, **token(content, special))


BOS = {"SpecialToken": {"id": "<s>", "type_id": 0}}
EOS = {"SpecialToken": {"id": "</s>", "type_id": 0}}
SEP = {"SpecialToken": {"id": "<sep>", "type_id": 0}}
A = {"Sequence": {"id": "A", "type_id": 0}}
B = {"Sequence": {"id": "B", "type_id": 1}}
BASIC = [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")]
PLAIN = dict(tokenizer_class="LlamaTokenizer", bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def tokenizer_json(post_processor, tokens):
    return json.dumps(dict(version="1.0", added_tokens=tokens, post_processor=post_processor, model=dict(type="BPE", vocab={}, merges=[])))


def template(single, pair):
    return dict(type="TemplateProcessing", single=single, pair=pair)


VARIANTS = [
    dict(name="tokens", files_base64={"tokenizer.model": shorter_model()}, files={
        "added_tokens.json": json.dumps({"<extra>": 500, "\u2581spaced\u2581out": 501, "past": 700}),
        "tokenizer_config.json": json.dumps(dict(PLAIN, add_prefix_space=False, add_bos_token=True, add_eos_token=True, added_tokens_decoder={
            "0": token("<unk>", True), "1": token("<s>", True), "2": token("</s>", True), "502": token("<|im_start|>"), "503": token("<unused5>"), "504": token("\u2581\u2581two"),
            "505": token("<\uff5cwide\uff5c>"), "506": token("<pad>"), "600": token("past too")},
            chat_template=[dict(name="default", template="{{ a }}"), dict(name="tool use!", template="{{ b }}")]))}),
    dict(name="template", config={"pad_token_id": 5, "eos_token_id": [2, 3]}, files={
        "tokenizer.json": tokenizer_json(template([BOS, A, EOS], [BOS, A, EOS, BOS, B, EOS]), BASIC + [added(7, "<eot>"), added(8, "<mask>"), added(9, "<cls>")]),
        "tokenizer_config.json": json.dumps(dict(PLAIN, bos_token=token("<s>", True), eos_token="<eot>", mask_token="<mask>", cls_token="<cls>", pad_token=None))}),
    dict(name="no-tokenizer-config", remove=["tokenizer_config.json"], files={"tokenizer.json": tokenizer_json(template([BOS, A], [BOS, A, EOS, B]), BASIC)}),
    dict(name="separator", files={
        "tokenizer.json": tokenizer_json(dict(type="Sequence", processors=[dict(type="ByteLevel"), template([BOS, A], [BOS, A, SEP, B])]), BASIC + [added(9, "<sep>")]),
        "tokenizer_config.json": json.dumps(dict(PLAIN, sep_token="<sep>", add_bos_token=False))}),
    dict(name="roberta", files={
        "tokenizer.json": tokenizer_json(dict(type="RobertaProcessing", sep=["</s>", 2], cls=["<s>", 1]), BASIC),
        "tokenizer_config.json": json.dumps(dict(PLAIN, add_eos_token=False))}),
    dict(name="names", folder="Acme-Tiny-v1.5-130k-chat", config={"_name_or_path": "org/Other-Model-100K-hf", "head_dim": None, "rope_parameters": None, "rope_theta": 500000.0,
                                                                  "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "float32", "dtype": None},
         files={"README.md": "---\nlicense: other\nlicense_name: acme\nlicense_link: https://acme.example/licence\nlanguage: de\ntags: [a, b]\nbase_model:\n  - https://huggingface.co/acme/Base-1B-v2\n"
                             "  - plain\n  - https://elsewhere.example/x\ndatasets: acme/one\nmodel_creator: Someone\ndescription: >-\n  several\n  lines\n---\ntext\n"}),
    dict(name="sampling", files={
        "chat_template.jinja": "{{ from a file }}\n",
        "additional_chat_templates/rag.jinja": "{{ rag }}",
        "generation_config.json": json.dumps(dict(top_k=40, top_p=0.9, min_p=0.05, xtc_probability=0.1, xtc_threshold=0.2, temperature=0.7, penalty_last_n=64, penalty_repeat=1.1,
                                                  repetition_penalty=1.2, mirostat=2, mirostat_tau=5.0, mirostat_eta=0.1, sequence="top_k;temp"))}),
    dict(name="overrides", args=["--model-name", "Chosen"], files={"README.md": "---\nmodel_name: Card\nauthor: Card Author\n---\n"}, metadata={
        "general.name": "File", "general.author": "File Author", "general.version": "v9", "general.tags": ["x", "y"], "general.sampling.temp": 0.25, "general.license": "ignored",
        "general.base_models": [{"name": "B", "doi": "10.1/x"}], "general.size_label": "tiny", "general.source.url": "https://s.example", "general.unknown": 1}),
]


TYPES = {0: ("u8", "B"), 1: ("i8", "b"), 2: ("u16", "H"), 3: ("i16", "h"), 4: ("u32", "I"), 5: ("i32", "i"), 6: ("f32", "f"), 7: ("bool", "?"), 8: ("str", None), 10: ("u64", "Q"),
         11: ("i64", "q"), 12: ("f64", "d")}


def dump_of(path):
    """[name, type, value | {n, payload_sha256}] of every key, as the dumps of the gguf goldens."""
    data, at = open(path, "rb").read(), 8

    def read(code):
        nonlocal at
        value = struct.unpack_from("<" + code, data, at)[0]
        at += struct.calcsize(code)
        return value

    def text():
        nonlocal at
        n = read("Q")
        at += n
        return data[at - n:at].decode("utf-8", "backslashreplace")

    def value(kind):
        return text() if kind == 8 else read(TYPES[kind][1])

    read("q")
    keys = []
    for _ in range(read("q")):
        name, kind = text(), read("i")
        if kind != 9:
            keys.append([name, TYPES[kind][0], value(kind)])
            continue
        kind, n = read("i"), read("Q")
        begin, items = at, []
        for _ in range(n):
            items.append(value(kind))
        keys.append([name, f"arr[{TYPES[kind][0]}]", items if n <= 16 else {"n": n, "payload_sha256": hashlib.sha256(data[begin:at]).hexdigest()}])
    return dict(keys=keys, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def main():
    out = []
    for variant in VARIANTS:
        with tempfile.TemporaryDirectory() as work:
            folder = os.path.join(work, variant.get("folder", "llama-gqa"))
            shutil.copytree(BASE, folder, ignore=shutil.ignore_patterns("golden.safetensors", "meta.json", "config_legacy.json"))
            for name in variant.get("remove", []):
                os.remove(os.path.join(folder, name))
            for name, text in variant.get("files", {}).items():
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                open(os.path.join(folder, name), "w", encoding="utf-8").write(text)
            for name, text in variant.get("files_base64", {}).items():
                open(os.path.join(folder, name), "wb").write(base64.b64decode(text))
            path = os.path.join(folder, "config.json")
            config = json.load(open(path))
            for key, value in variant.get("config", {}).items():
                config.pop(key, None) if value is None else config.update({key: value})
            json.dump(config, open(path, "w"), indent=2)
            target, args = os.path.join(work, "out.gguf"), list(variant.get("args", []))
            if "metadata" in variant:
                json.dump(variant["metadata"], open(os.path.join(work, "metadata.json"), "w"))
                args += ["--metadata", os.path.join(work, "metadata.json")]
            run = subprocess.run([sys.executable, os.path.join(llama_cpp, "convert_hf_to_gguf.py"), folder, "--outfile", target, "--outtype", "f16"] + args, capture_output=True, text=True)
            if run.returncode:
                sys.exit(variant["name"] + ": " + run.stderr[-2000:])
            got = dump_of(target)
            out.append(dict(variant, keys=got["keys"], size=got["size"], sha256=got["sha256"]))
            print(variant["name"], got["size"], file=sys.stderr)
    print(json.dumps(out, indent=1, ensure_ascii=True))


main()
