#!/usr/bin/env python3
"""Makes gguf_t5.json: the tokenizer.* keys that convert_hf_to_gguf.py writes for a T5 with one of the unigram models of golden `unigram`.

usage: make_gguf_t5.py LLAMA_CPP_DIR UNIGRAM_DIR > gguf_t5.json
llama.cpp v0.5.0-dev (the sources vendored in llama_cpp_python 0.3.36), transformers 5.23.0, sentencepiece 0.2.3. The models have no user-defined pieces: the
converter takes those for normal ones.
"""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
llama_cpp, unigram = map(os.path.abspath, sys.argv[1:3])
source = open(os.path.join(HERE, "make_gguf_bpe.py")).read()
reader = source[source.index("CODES = {"):source.index("def write(")]
exec("import hashlib\n" + reader)  # tokenizer_keys

VARIANTS = [dict(model="rules", n_vocab=220, config=dict(pad_token="<unk>")), dict(model="spaces", n_vocab=500, config=dict(eos_token="</s>", bos_token="<s>", add_bos_token=True))]

out = []
for variant in VARIANTS:
    with tempfile.TemporaryDirectory() as work:
        folder = os.path.join(work, "Tiny-T5")
        os.mkdir(folder)
        shutil.copy(os.path.join(unigram, "models", variant["model"] + ".model"), os.path.join(folder, "tokenizer.model"))
        json.dump(variant["config"], open(os.path.join(folder, "tokenizer_config.json"), "w"))
        json.dump(dict(architectures=["T5ForConditionalGeneration"], model_type="t5", vocab_size=variant["n_vocab"], d_model=8, d_ff=8, d_kv=8, num_heads=1, num_layers=1, num_decoder_layers=1,
                       n_positions=64, layer_norm_epsilon=1e-6, relative_attention_num_buckets=32, decoder_start_token_id=0, eos_token_id=1), open(os.path.join(folder, "config.json"), "w"))
        header = b"{}      "
        open(os.path.join(folder, "model.safetensors"), "wb").write(struct.pack("<Q", len(header)) + header)
        file = os.path.join(work, "out.gguf")
        subprocess.run([sys.executable, os.path.join(llama_cpp, "convert_hf_to_gguf.py"), folder, "--vocab-only", "--outfile", file], check=True, stdout=sys.stderr,
                       env=dict(os.environ, PYTHONPATH=os.path.join(llama_cpp, "gguf-py"), PYTHONDONTWRITEBYTECODE="1"))
        out.append(dict(variant, keys=tokenizer_keys(file)))
print(json.dumps(out, indent=1))
