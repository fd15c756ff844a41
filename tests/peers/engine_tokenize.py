"""Texts to ids by the real llama.cpp, printed as JSON: [[ids, special tokens as text], [ids, as tokens]] per text.

Runs in a process of its own: the engine keeps threads and global state.
usage: engine_tokenize.py MODEL.gguf TEXTS.json
"""
import json
import sys
import urllib.request

import xllamacpp as llama

model, texts = sys.argv[1:3]
params = llama.CommonParams()
params.model.path = model
params.n_ctx = 64
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.warmup = False
params.port = 0
server = llama.Server(params)
address = server.listening_address


def ids(text, special):
    body = json.dumps({"content": text, "add_special": False, "parse_special": special}).encode()
    request = urllib.request.Request(f"{address}/tokenize", body, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request))["tokens"]


print("RESULT " + json.dumps([[ids(text, False), ids(text, True)] for text in json.load(open(texts))]), flush=True)
