#!/usr/bin/env python3
"""Transformers on the same GPU, for scripts/gpu-check: one line of what it measured.

    gpu_check_peer.py time MODEL.json IDS.json CONTEXT WINDOWS    tokens/s and peak memory of a random model of that shape, WINDOWS windows of CONTEXT, logits of each in chunks as its own loss does
    gpu_check_peer.py nll FOLDER IDS.json CONTEXT DTYPE           mean NLL of the first window of a checkpoint: the number alone
    gpu_check_peer.py here                                        says what is here; exit 1 if torch, transformers or a GPU that torch sees is not

Exit 1 with a reason on one line where it cannot run. ROPEWALK_PEER_DEVICE=cpu tries the script itself where there is no GPU.
"""
import json
import os
import sys
import time

DEVICE = os.environ.get("ROPEWALK_PEER_DEVICE", "cuda")


def need():
    try:
        import torch
        import transformers
    except ImportError as error:
        sys.exit(f"not run: {error}")
    if DEVICE == "cuda" and not torch.cuda.is_available():
        sys.exit(f"not run: torch {torch.__version__} sees no GPU")
    return torch, transformers


def synchronize(torch):
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def windows(path, context, count):
    ids = json.load(open(path))
    return [ids[i * context:(i + 1) * context] for i in range(count)]


def losses(torch, model, ids):
    """NLL of every token, the head in chunks of 1024 rows: all logits of a long window at once would not fit."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[0]
    out = []
    for first in range(0, ids.shape[1] - 1, 1024):
        last = min(first + 1024, ids.shape[1] - 1)
        logits = model.lm_head(hidden[first:last]).float()
        out.append(torch.nn.functional.cross_entropy(logits, ids[0, first + 1:last + 1], reduction="none"))
    return torch.cat(out)


def run_time(config_path, ids_path, context, count):
    torch, transformers = need()
    config = transformers.AutoConfig.for_model(**json.load(open(config_path)))
    config._attn_implementation = "sdpa"
    try:
        with torch.device(DEVICE), torch.inference_mode():
            torch.set_default_dtype(torch.bfloat16)
            model = transformers.AutoModelForCausalLM.from_config(config).eval()
            texts = [torch.tensor([text]) for text in windows(ids_path, context, count)]
            losses(torch, model, texts[0][:, :256])  # what is built once
            synchronize(torch)
            start = time.perf_counter()
            for text in texts:
                losses(torch, model, text)
            synchronize(torch)
            seconds = time.perf_counter() - start
    except torch.cuda.OutOfMemoryError:
        sys.exit(f"transformers {transformers.__version__} runs out of {torch.cuda.get_device_properties(0).total_memory / 1e9:.0f} GB")
    memory = torch.cuda.max_memory_allocated() / 1e9 if DEVICE == "cuda" else 0
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, sdpa, bf16, weights resident: {seconds:.2f} s, "
          f"{count * context / seconds:.0f} tokens/s, {memory:.1f} GB")


def run_nll(folder, ids_path, context, dtype):
    torch, transformers = need()
    with torch.inference_mode():
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa").to(DEVICE).eval()
        print(losses(torch, model, torch.tensor(windows(ids_path, context, 1), device=DEVICE)).double().mean().item())


match sys.argv[1:]:
    case ["here"]:
        torch, transformers = need()
        print(f"transformers {transformers.__version__}, torch {torch.__version__}, {torch.cuda.get_device_name(0) if DEVICE == 'cuda' else DEVICE}")
    case ["time", config, ids, context, count]:
        run_time(config, ids, int(context), int(count))
    case ["nll", folder, ids, context, dtype]:
        run_nll(folder, ids, int(context), dtype)
    case _:
        print(__doc__.strip(), file=sys.stderr)
        sys.exit(2)
