"""What extend writes, in the real transformers: the newest and one of version 4, each loading the folder that was written for it.

The wanted frequencies are computed here, in float64, from the papers and the YaRN repository (each method's function says which); the release's own table must be
within 3 float32 units in the last place of its arithmetic, that is of float32 evaluations of the same formula: 4 roundings, and for a blend f / s (1 - k) + f k one of
k that counts s times: (4 + s) * 2^-24. Attention factors are Python floats: 1e-9, lists and JSON change nothing.
Logits of the release and of ropewalk on the folder: both float32, each within 4.9e-4 of float64 (goldens/forward/README): 2 * 4.9e-4, and so again for the weights
of these models, whose logits are smaller. Past the original context, where another rope gives other logits (the negative control).
"""
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
import transformers

from support import Checks, Ropewalk, arguments, log_softmax

TOLERANCE = 1.0e-3
ORIGINAL = 256
HEAD = 128


def plain(theta=10000.0):
    return theta ** -(np.arange(0, HEAD, 2) / HEAD)


def correction(rotations, theta=10000.0):
    return HEAD * math.log(ORIGINAL / (rotations * 2 * math.pi)) / (2 * math.log(theta))


def ramp(low, high):
    low, high = max(low, 0), min(high, HEAD - 1)
    return np.clip((np.arange(HEAD // 2) - low) / (high - low if high != low else 0.001), 0, 1)


def yarn(s, fast=32, slow=1, truncate=True, theta=10000.0):
    """arXiv:2309.00071, as modeling_llama_together_yarn.py and modeling_mistral_yarn.py of the YaRN repository compute it."""
    low, high = correction(fast, theta), correction(slow, theta)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    kept = 1 - ramp(low, high)
    return plain(theta) / s * (1 - kept) + plain(theta) * kept


def by_parts(s):
    """LlamaPartNTKScaledRotaryEmbedding of the YaRN repository."""
    ntk = plain(10000.0 * s ** (HEAD / (HEAD - 2)))
    inner = 1 - ramp(math.floor(correction(1.25)), math.ceil(correction(0.75)))
    outer = 1 - ramp(math.floor(correction(16)), math.ceil(correction(2)))
    scaled = plain() / s * (1 - inner) + ntk * inner
    return scaled * (1 - outer) + plain() * outer


def llama3(s, low=1.0, high=4.0):
    """Llama 3.1's model card."""
    f = plain()
    turns = ORIGINAL * f / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return f / s * (1 - smooth) + f * smooth


def dynamic(s, length):
    """transformers' rule: the base grows with the sequence past the original context."""
    alpha = s * max(length, ORIGINAL) / ORIGINAL - (s - 1)
    return plain(10000.0 * alpha ** (HEAD / (HEAD - 2)))


LISTS = {"rope_type": "longrope", "factor": 8.0, "original_max_position_embeddings": ORIGINAL, "attention_factor": 1.125,
         "short_factor": [1 + pair / 100 for pair in range(64)], "long_factor": [1 + pair / 8 for pair in range(64)]}


def lists(length):
    return plain() / np.array(LISTS["long_factor" if length > ORIGINAL else "short_factor"])


# name -> (what extend is told, frequencies at a length, attention factor, s that counts in the tolerance, model)
CASES = {
    "linear": (["--rope", "linear,factor=4"], lambda n: plain() / 4, 1, 0, "llama"),
    "ntk": (["--rope", "ntk,alpha=8"], lambda n: plain(10000.0 * 8 ** (HEAD / (HEAD - 2))), 1, 0, "llama"),
    "dynamic": (["--rope", "dynamic,factor=4"], lambda n: dynamic(4, n), 1, 4, "llama"),
    "ntk-by-parts": (["--like", "airophin-pntk", "-c", "1k"], lambda n: by_parts(4), 1, 0, "llama"),
    "yarn": (["--rope", "yarn,to=4k"], lambda n: yarn(16), 0.1 * math.log(16) + 1, 16, "llama"),
    "yarn, not rounded": (["--rope", "yarn,factor=8,truncate=false"], lambda n: yarn(8, truncate=False), 0.1 * math.log(8) + 1, 8, "llama"),
    "yarn, like yarn-mistral": (["--like", "yarn-mistral", "-c", "4k"], lambda n: yarn(16, 128, 2), 0.07 * math.log(16) + 1, 16, "mistral"),
    "yarn with an attention factor of 1": (["--rope", "yarn,factor=8,attention_factor=1"], lambda n: yarn(8), 1, 8, "mistral"),
    "llama3": (["--rope", "llama3,factor=8"], lambda n: llama3(8), 1, 8, "llama"),
    "longrope": (["--rope", json.dumps(LISTS)], lists, 1.125, 0, "llama"),
    "theta alone": (["--rope", "none,rope_theta=1e6,to=2k"], lambda n: plain(1e6), 1, 0, "llama"),
    "Yarn-Mistral's remote code": (["--rope", "native"], lambda n: yarn(16, 128, 2), 0.07 * math.log(16) + 1, 16, "remote-mistral"),
    "Yarn-Llama-2's remote code": (["--rope", "native"], lambda n: yarn(16), 0.1 * math.log(16) + 1, 16, "remote-llama"),
}

# A rope for each kind of layer (Gemma 3): what extend is told, {kind: (frequencies, attention factor, s)}, releases that can be told
SCALED = 0.1 * math.log(8) + 1
LAYERS = {
    "one SPEC is for the full layers": (["--rope", "yarn,factor=8"], {"full_attention": (yarn(8, theta=1e6), SCALED, 8), "sliding_attention": (plain(), 1, 0)}, (4, 5)),
    "the ropes as they are": (["--rope", "native"], {"full_attention": (plain(1e6), 1, 0), "sliding_attention": (plain(), 1, 0)}, (4, 5)),
    "a rope each": (["--rope", json.dumps({"full_attention": {"rope_type": "yarn", "factor": 8.0}, "sliding_attention": {"rope_type": "linear", "factor": 4.0}})],
                    {"full_attention": (yarn(8, theta=1e6), SCALED, 8), "sliding_attention": (plain() / 4, 1, 0)}, (5,)),
}


# Phi-3, whose class takes longrope alone; version 4 of it three keys, so no attention factor but the one that follows from the contexts:
# what extend is told, frequencies at a length, attention factor, s, releases that can be told
OWN_LISTS = {key: value for key, value in LISTS.items() if key != "attention_factor"}
PHI3 = {
    "yarn": (["--rope", "yarn,factor=16"], lambda n: yarn(16), 0.1 * math.log(16) + 1, 16, (5,)),
    "yarn with an attention factor of 1": (["--rope", "yarn,factor=8,attention_factor=1"], lambda n: yarn(8), 1, 8, (4, 5)),
    "linear": (["--rope", "linear,factor=4"], lambda n: plain() / 4, 1, 0, (4, 5)),
    "llama3": (["--rope", "llama3,factor=8"], lambda n: llama3(8), 1, 8, (4, 5)),
    "lists": (["--rope", json.dumps(OWN_LISTS)], lists, math.sqrt(1 + math.log(8) / math.log(ORIGINAL)), 0, (4, 5)),
    "dynamic": (["--rope", "dynamic,factor=4"], None, None, None, ()),
}


def make_models(folder):
    """One layer, two heads of 128 channels, as the published systems have them; remote code by config.json alone."""
    torch.manual_seed(1)
    for family in ("llama", "mistral"):
        config = transformers.AutoConfig.for_model(family, vocab_size=64, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2,
                                                   num_key_value_heads=1, max_position_embeddings=ORIGINAL, initializer_range=0.08)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for name in (family, "remote-" + family):
            model.save_pretrained(folder / name)
            path = folder / name / "config.json"
            written = json.loads(path.read_text())
            for key in ("rope_parameters", "head_dim"):
                written.pop(key, None)
            written["rope_theta"] = 10000.0
            if family == "mistral":
                written["sliding_window"] = None
            if name.startswith("remote"):
                modeling = {"llama": "modeling_llama_together_yarn.Llama", "mistral": "modeling_mistral_yarn.Mistral"}[family]
                written["auto_map"] = {"AutoModelForCausalLM": modeling + "ForCausalLM"}
                written["rope_scaling"] = {"type": "yarn", "factor": 16.0, "original_max_position_embeddings": ORIGINAL, "finetuned": True}
                written["max_position_embeddings"] = 1024 if family == "mistral" else 4096
            path.write_text(json.dumps(written, indent=2))
    config = transformers.AutoConfig.for_model("gemma3_text", vocab_size=64, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                                               head_dim=HEAD, max_position_embeddings=ORIGINAL, sliding_window=64, layer_types=["sliding_attention", "full_attention"])
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "gemma3")
    config = transformers.AutoConfig.for_model("phi3", vocab_size=64, hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                                               max_position_embeddings=ORIGINAL, original_max_position_embeddings=ORIGINAL, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder / "phi3")
    path = folder / "phi3" / "config.json"
    written = json.loads(path.read_text())
    written.pop("rope_parameters", None)
    path.write_text(json.dumps(dict(written, rope_theta=10000.0, rope_scaling=None), indent=2))


def run_release(folder, version, overlay, cases):
    listing = folder / "cases.json"
    listing.write_text(json.dumps(cases))
    environment = dict(os.environ, **({"PYTHONPATH": overlay} if overlay else {}))
    done = subprocess.run([sys.executable, pathlib.Path(__file__).with_name("rope_run.py"), listing], capture_output=True, text=True, env=environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"transformers {version} gave no result:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return json.loads(lines[-1][len("RESULT "):])


def check_layers(checks, ropewalk, folder, version, overlay):
    cases = {}
    for name, (words, _, able) in LAYERS.items():
        out = folder / f"layers-{version}-{len(cases)}"
        done = subprocess.run([ropewalk.binary, "extend", folder / "gemma3", "-o", out, *words, "--engine", f"transformers@{version}", "--no-sync", "--quiet"], capture_output=True, text=True)
        if int(version.split(".")[0]) not in able:
            checks.check(done.returncode == 4 and f"no config.json makes transformers {version} run" in done.stderr, f"transformers {version}, {name}: refused by name")
            continue
        checks.check(done.returncode == 0, f"transformers {version}, {name}: written {done.stderr}")
        cases[name] = {"folder": str(out), "kinds": True}
    answers = run_release(folder, version, overlay, list(cases.values()))["answers"]
    for name, case in cases.items():
        label = f"transformers {version}, {name}"
        answer = answers[case["folder"]]
        for kind, (table, attention, s) in LAYERS[name][1].items():
            got = np.array(answer["kinds"][kind]["inv_freq"])
            worst, bound = float(np.abs(got / table - 1).max()), (4 + s) * 2**-24
            checks.check(worst <= bound, f"{label}, {kind}: frequencies within {bound:.1e} (worst {worst:.1e})")
            checks.check(abs(answer["kinds"][kind]["scaling"] - attention) <= 1e-9, f"{label}, {kind}: attention factor {attention:.6f}")
            checks.check(float(np.abs(got / (plain(2e5) / 1.5) - 1).max()) > bound, f"{label}, {kind}, negative control: other frequencies are not passed")
        checks.check(answer["context"] == (ORIGINAL if name == "the ropes as they are" else 2048), f"{label}: context")


def check_phi3(checks, ropewalk, folder, version, overlay):
    """Tables alone: ropewalk does not run the class. Without --engine what is written must load where any of the newest can be told."""
    cases = {}
    for name, (words, _, _, _, able) in PHI3.items():
        for engine in (["--engine", f"transformers@{version}"], []):
            out = folder / f"phi3-{version}-{name}-{len(engine)}"
            done = subprocess.run([ropewalk.binary, "extend", folder / "phi3", "-o", out, *words, *engine, "--no-sync", "--quiet"], capture_output=True, text=True)
            label = f"transformers {version}, phi3, {name}" + ("" if engine else ", no engine named")
            if not (int(version.split(".")[0]) in able if engine else able):
                checks.check(done.returncode == 4 and "no config.json makes" in done.stderr, f"{label}: refused {done.stderr}")
                continue
            checks.check(done.returncode == 0, f"{label}: written {done.stderr}")
            if engine or version.startswith("5"):
                cases[label] = (name, {"folder": str(out), "lengths": [1, ORIGINAL, ORIGINAL + 1, 1024], "ids": [1, 2, 3]})
    answers = run_release(folder, version, overlay, [case for _, case in cases.values()])["answers"]
    for label, (name, case) in cases.items():
        _, table, attention, s, _ = PHI3[name]
        for length, got in answers[case["folder"]]["tables"].items():
            worst, bound = float(np.abs(np.array(got["inv_freq"]) / table(int(length)) - 1).max()), (4 + s) * 2**-24
            checks.check(worst <= bound, f"{label}: frequencies at {length} within {bound:.1e} (worst {worst:.1e})")
            checks.check(abs(got["scaling"] - attention) <= 1e-9, f"{label}: attention factor {attention:.6f}")
            checks.check(float(np.abs(np.array(got["inv_freq"]) / (plain(2e5) / 1.5) - 1).max()) > bound, f"{label}, negative control: other frequencies are not passed")


def check_release(checks, ropewalk, folder, version, overlay):
    ids = [(7 * step) % 64 for step in range(600)]
    lengths = [1, ORIGINAL, ORIGINAL + 1, 1024]
    cases = {}
    for name, (words, _, _, _, model) in CASES.items():
        out = folder / f"{version}-{len(cases)}"
        ropewalk.run("extend", folder / model, "-o", out, *words, "--engine", f"transformers@{version}", "--no-sync", "--quiet")
        cases[name] = {"folder": str(out), "lengths": lengths, "ids": ids}
    result = run_release(folder, version, overlay, list(cases.values()))
    checks.check(result["version"] == version, f"this is transformers {version}")
    for name, case in cases.items():
        check_case(checks, ropewalk, f"transformers {version}, {name}", case, result["answers"][case["folder"]], CASES[name])


def check_case(checks, ropewalk, label, case, answer, wanted):
    _, table, attention, s, _ = wanted
    worst = 0.0
    factors = set()
    for length, got in answer["tables"].items():
        worst = max(worst, float(np.abs(np.array(got["inv_freq"]) / table(int(length)) - 1).max()))
        factors.add(got["scaling"])
    bound = (4 + s) * 2**-24
    checks.check(worst <= bound, f"{label}: frequencies within {bound:.1e} (worst {worst:.1e})")
    checks.check(all(abs(factor - attention) <= 1e-9 for factor in factors), f"{label}: attention factor {attention:.6f}")
    checks.check(float(np.abs(np.array(answer["tables"]["1024"]["inv_freq"]) / (plain() / 1.5) - 1).max()) > bound, f"{label}, negative control: other frequencies are not passed")
    theirs = log_softmax(np.array(answer["logits"]))
    ours = ropewalk.log_probabilities(case["folder"], case["ids"], 8)
    apart = float(np.abs(theirs - ours).max())
    checks.check(apart <= TOLERANCE, f"{label}: log-probabilities at {len(case['ids'])} tokens within {TOLERANCE:g} (worst {apart:.1e})")


def main():
    options = arguments(optional=("--transformers4",))
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_models(folder)
        check_release(checks, ropewalk, folder, transformers.__version__, None)
        check_layers(checks, ropewalk, folder, transformers.__version__, None)
        check_phi3(checks, ropewalk, folder, transformers.__version__, None)
        if options.transformers4:
            check_release(checks, ropewalk, folder, "4.57.6", options.transformers4)
            check_layers(checks, ropewalk, folder, "4.57.6", options.transformers4)
            check_phi3(checks, ropewalk, folder, "4.57.6", options.transformers4)
        # the models tell ropes apart: the base's own rope gives other logits past its context
        ids = [(7 * step) % 64 for step in range(600)]
        apart = np.abs(ropewalk.log_probabilities(f"{folder / 'llama'}+rope=none,to=4k", ids, 8) - ropewalk.log_probabilities(f"{folder / 'llama'}+rope=yarn,to=4k", ids, 8)).max()
        checks.check(apart > TOLERANCE, f"negative control: without the rope log-probabilities are {apart:.1e} apart")
    checks.exit()


main()
