"""One greedy completion in the real llama.cpp, printed as JSON: {"ids": [...], "logprobs": [[[id, logprob], ...], ...]}.

Runs in a process of its own: the engine keeps threads and global state. Keys and values in f32, no flash attention, one thread, so that what is
left of the difference is the engine's arithmetic on the file's types.
usage: engine_run.py MODEL.gguf IDS.json COUNT CONTEXT VOCABULARY [ADAPTER.gguf]
"""
import json
import sys

import xllamacpp as llama

model, ids, count, context, vocabulary = sys.argv[1:6]
params = llama.CommonParams()
params.model.path = model
params.n_ctx = int(context)
params.n_parallel = 1
params.cpuparams.n_threads = 1
params.cpuparams_batch.n_threads = 1
params.warmup = False
params.cache_type_k = llama.ggml_type.GGML_TYPE_F32
params.cache_type_v = llama.ggml_type.GGML_TYPE_F32
params.flash_attn_type = llama.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
params.lora_adapters = [llama.CommonAdapterLoraInfo(adapter, 1.0) for adapter in sys.argv[6:]]
server = llama.Server(params)
answer = server.handle_completions({
    "prompt": json.load(open(ids)), "n_predict": int(count), "temperature": 0, "n_probs": int(vocabulary), "cache_prompt": False,
    "ignore_eos": True,
})
steps = answer["choices"][0]["logprobs"]["content"]
result = {"ids": [step["id"] for step in steps],
          "logprobs": [[[top["id"], top["logprob"]] for top in step["top_logprobs"]] for step in steps]}
print("RESULT " + json.dumps(result), flush=True)
