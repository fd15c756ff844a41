"""Our GGUFs in the real llama.cpp: greedy tokens and log-probabilities past the original context (256 tokens).

Tolerances, in nats of a log-probability, on tolstoy-4m-yarn-2k merged:
* f32 file: the engine computes in float32 as we do. Its rope angles are a running float32 product (off by up to 2.5e-4 rad at position 2047, eight times
  the float64-against-float32 frequency error whose effect the float64 goldens put at 4.6e-5); float32 arithmetic itself moves a logit by 4.9e-4 (same table).
  8 * 4.6e-5 + 2 * 4.9e-4 for each of two float32 runs = 2.3e-3.
* f16 file: the engine also rounds the activations of every product to float16. The same model wholly in half precision moves a loss by up to 1.8e-2
  (goldens/forward/README); only the products' inputs are rounded here, so that is the bound.
* q8_0 file: the engine rounds activations to 8 bits in blocks of 32: half a step of amax/127 is 16 times float16's step at amax (2^-12), hence 16 * 1.8e-2 = 0.29
  on the log-probability of tokens that can be chosen (p > 1e-3).
Negative control: the same file without its YaRN keys must be outside every one of these.
"""
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

from support import Checks, FIXTURES, Ropewalk, arguments, fixture_prompts

TOLERANCE = {"f32": 2.3e-3, "f16": 1.8e-2, "q8_0": 0.29}
LENGTHS = (300, 900, 1900)  # all past the original context
COUNT = 64
VOCABULARY = 2048


def engine(model, ids, folder, *adapters):
    prompt = folder / "prompt.json"
    prompt.write_text(json.dumps(ids))
    command = [sys.executable, pathlib.Path(__file__).with_name("engine_run.py"), model, prompt, COUNT, 2048, VOCABULARY, *adapters]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"the engine gave no result for {model}:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return json.loads(lines[-1][len("RESULT "):])


def difference(ropewalk, model, ids, answer):
    """Largest difference of a log-probability over all steps, for tokens either side gives more than 1e-3."""
    ours = ropewalk.log_probabilities(model, ids + answer["ids"][:-1], COUNT)
    worst = 0.0
    for step, pairs in enumerate(answer["logprobs"]):
        for token, logprob in pairs:
            if logprob > np.log(1e-3) or ours[step, token] > np.log(1e-3):
                worst = max(worst, abs(ours[step, token] - logprob))
    return worst


def same_greedy(ropewalk, model, ids, answer, tolerance):
    """Equal ids, or at the first that differs the two candidates are closer than both sides' rounding."""
    ours = ropewalk.greedy(model, ids, COUNT)
    for step, (a, b) in enumerate(zip(ours, answer["ids"], strict=True)):
        if a != b:
            row = ropewalk.log_probabilities(model, ids + ours[:step], 1)[0]
            return abs(row[a] - row[b]) <= 2 * tolerance, f"part at token {step}, {abs(row[a] - row[b]):.1e} nats apart"
    return True, f"{COUNT} of {COUNT} equal"


def check_adapters(checks, ropewalk, options, folder):
    """Adapters as GGUF beside the model, in the engine's own loader. The second has its scale in B: rsLoRA, 8 / sqrt(16) = 32 / 16."""
    models, original = options.golden / FIXTURES / "models", options.golden / FIXTURES / "adapters/qlora-shakespeare"
    base = models / "tolstoy-4m-yarn-2k"
    model, ids = folder / "base.gguf", fixture_prompts(options.golden, (900,))[0]
    ropewalk.run("convert", base, "-o", model, "--type", "f32", "--no-sync", "--quiet")
    rslora = folder / "rslora"
    shutil.copytree(original, rslora)
    config = json.loads((original / "adapter_config.json").read_text()) | {"use_rslora": True, "lora_alpha": 8}
    (rslora / "adapter_config.json").unlink()
    (rslora / "adapter_config.json").write_text(json.dumps(config))
    for name, adapter in (("LoRA", original), ("rsLoRA", rslora)):
        file = folder / f"{name}.gguf"
        ropewalk.run("adapter", "convert", f"{base}+{adapter}", "-o", file, "--no-sync", "--quiet")
        answer = engine(model, ids, folder, file)
        worst = difference(ropewalk, f"{model}+{original}", ids, answer)
        checks.check(worst <= TOLERANCE["f32"], f"{name} as a GGUF, applied by the engine: log-probabilities within {TOLERANCE['f32']:g} (worst {worst:.1e})")
    worst = difference(ropewalk, model, ids, answer)
    checks.check(worst > TOLERANCE["f32"], f"negative control, the model without its adapter: outside (worst {worst:.1e})")


def main():
    options = arguments()
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    models = options.golden / FIXTURES / "models"
    source = f"{models / 'tolstoy-4m-yarn-2k'}+{options.golden / FIXTURES / 'adapters/qlora-shakespeare'}"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ropewalk.run("convert", source, "-o", folder / "{name}-{type}.gguf", "--type", ",".join(TOLERANCE), "--model-name", "merged", "--no-sync", "--quiet")
        for kind, tolerance in TOLERANCE.items():
            model = folder / f"merged-{kind}.gguf"
            for ids in fixture_prompts(options.golden, LENGTHS):
                answer = engine(model, ids, folder)
                worst = difference(ropewalk, model, ids, answer)
                checks.check(worst <= tolerance, f"{kind}, prompt of {len(ids)}: log-probabilities within {tolerance:g} (worst {worst:.1e})")
                ok, text = same_greedy(ropewalk, model, ids, answer, tolerance)
                checks.check(ok, f"{kind}, prompt of {len(ids)}: greedy {text}")

            broken = folder / f"broken-{kind}.gguf"
            subprocess.run([sys.executable, options.strip, str(model), str(broken), "llama.rope.scaling."], check=True)
            ids = fixture_prompts(options.golden, (900,))[0]
            worst = difference(ropewalk, model, ids, engine(broken, ids, folder))
            checks.check(worst > tolerance, f"{kind}, negative control without YaRN keys: outside {tolerance:g} (worst {worst:.1e})")

        check_adapters(checks, ropewalk, options, folder)

        # rope that no key can express goes through rope_freqs.weight: the engine must compute the source's rope all the same
        for spec in ("yarn,factor=8,original=256,beta_fast=16,beta_slow=2", "yarn,factor=8,original=256,attention_factor=1.07", "yarn,factor=8,original=256,truncate=false",
                     "linear,factor=8", "ntk,alpha=8"):
            model = folder / "spec.gguf"
            reference = f"{models / 'tolstoy-4m'}+rope={spec}"
            ropewalk.run("convert", reference, "-o", model, "--type", "f32", "--no-sync", "--quiet", "--overwrite")
            ids = fixture_prompts(options.golden, (900,))[0]
            answer = engine(model, ids, folder)
            ours = ropewalk.log_probabilities(reference, ids + answer["ids"][:-1], COUNT)
            worst = max(abs(ours[step, token] - logprob) for step, pairs in enumerate(answer["logprobs"]) for token, logprob in pairs if logprob > np.log(1e-3))
            checks.check(worst <= TOLERANCE["f32"], f"+rope={spec}: the engine computes the source's rope (worst {worst:.1e})")

        # a GGUF extended by itself, near the end of the new context
        short = folder / "short.gguf"
        ropewalk.run("convert", models / "tolstoy-4m", "-o", short, "--type", "f32", "--no-sync", "--quiet")
        for spec in ("yarn,to=2k", "yarn,to=2k,like=yarn-mistral", "ntk-by-parts,to=2k", "llama3,factor=8", "linear,to=2k"):
            model = folder / "extended.gguf"
            reading = ropewalk.json("extend", short, "-o", model, "--rope", spec, "--engine", "llama.cpp", "--no-sync", "--overwrite")["engines"][0]
            checks.check(reading["right"] and reading["context"] == 2048, f"extend --rope {spec}: read back as asked for")
            ids = fixture_prompts(options.golden, (1900,))[0]
            answer = engine(model, ids, folder)
            ours = ropewalk.log_probabilities(f"{models / 'tolstoy-4m'}+rope={spec}", ids + answer["ids"][:-1], COUNT)
            worst = max(abs(ours[step, token] - logprob) for step, pairs in enumerate(answer["logprobs"]) for token, logprob in pairs if logprob > np.log(1e-3))
            checks.check(worst <= TOLERANCE["f32"], f"extend --rope {spec}: the engine's logits at {len(ids) + COUNT} tokens are the folder's (worst {worst:.1e})")
            if spec.startswith("yarn,to=2k,like") or spec.startswith(("ntk", "llama3")):
                # beside rope_freqs.weight the original context is for people: the engine's logits are the same bits without it, and it is there
                bare = folder / "bare.gguf"
                bare.unlink(missing_ok=True)
                subprocess.run([sys.executable, options.strip, str(model), str(bare), "llama.rope.scaling.original_context_length"], check=True)
                checks.check(engine(bare, ids, folder) == answer, f"extend --rope {spec}: original_context_length changes no bit of the engine's log-probabilities")
    checks.exit()


main()
