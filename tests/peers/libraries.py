"""Our folders in the real transformers and PEFT.

* The merged folder loads; float32 log-probabilities and 64 greedy tokens past the original context agree. Both sides are float32: each is within 4.9e-4 of the
  float64 truth in a logit (goldens/forward/README), a log-probability within twice that: 4 * 4.9e-4 = 2.0e-3.
* PEFT's merge_and_unload accumulates in float32: it may differ from the exact merge where a float32 sum falls on the other side of a tie, by one float16 step,
  in at most 2 of 10,000 elements (240 of 3,145,728 for these files).
* The hf protocol is the sliding-window perplexity of transformers' guide: a window every `stride` tokens, labels of -100 on what an earlier window scored, the model's own mean
  loss weighed by its labels less one. Each loss is within 1.6e-4 of float64 on either side (goldens/forward/README): 3.2e-4.
* Passkey prompts have the real tokenizer's ids; what greedy generation says of them is the verdict; losses of the answers are within the same tolerance.
* The extended folder's frequencies are those transformers computes from its config.json.
"""
import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers
from peft import PeftModel

from support import Checks, FIXTURES, Ropewalk, arguments, fixture_prompts, log_softmax, read_safetensors

TOLERANCE = 2.0e-3
COUNT = 64
transformers.logging.set_verbosity_error()


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()


def greedy(model, ids):
    with torch.no_grad():
        out = model.generate(torch.tensor([ids]), max_new_tokens=COUNT, min_new_tokens=COUNT, do_sample=False, eos_token_id=None, pad_token_id=0)
    return out[0, len(ids):].tolist()


def check_forward(checks, ropewalk, folder, prompts, label):
    model = load(folder)
    for ids in prompts:
        theirs_ids = greedy(model, ids)
        whole = ids + theirs_ids[:-1]
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0, -COUNT:].double().numpy()
        theirs, ours = log_softmax(logits), ropewalk.log_probabilities(folder, whole, COUNT)
        worst = float(np.abs(theirs - ours).max())
        checks.check(worst <= TOLERANCE, f"{label}, prompt of {len(ids)}: log-probabilities within {TOLERANCE:g} (worst {worst:.1e})")
        ours_ids = ropewalk.greedy(folder, ids, COUNT)
        apart = next((step for step, (a, b) in enumerate(zip(ours_ids, theirs_ids, strict=True)) if a != b), None)
        gap = 0.0 if apart is None else abs(theirs[apart, ours_ids[apart]] - theirs[apart, theirs_ids[apart]])
        checks.check(gap <= 2 * TOLERANCE, f"{label}, prompt of {len(ids)}: greedy " + ("equal" if apart is None else f"parts at {apart}, {gap:.1e} nats apart"))
    return model


def guide_perplexity(model, ids, context, stride):
    """Perplexity and number of counted labels, by the recipe of transformers' guide."""
    total, counted, scored = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + context, len(ids))
        window = torch.tensor([ids[begin:end]])
        labels = window.clone()
        labels[:, : (end - begin) - (end - scored)] = -100
        with torch.no_grad():
            loss = model(window, labels=labels).loss.item()
        weight = int((labels != -100).sum()) - 1
        total, counted, scored = total + loss * weight, counted + weight, end
        if end == len(ids):
            break
    return float(np.exp(total / counted)), counted


def check_perplexity(checks, ropewalk, folder, text):
    model = load(folder)
    ids = transformers.AutoTokenizer.from_pretrained(folder)(text.read_text()).input_ids
    for context, stride in ((256, 128), (256, 256), (512, 333)):
        theirs, tokens = guide_perplexity(model, ids, context, stride)
        result = ropewalk.json("perplexity", folder, "-f", text, "-c", context, "--stride", stride, "--protocol", "hf")["results"][0]
        apart = abs(np.log(result["perplexity"] / theirs))
        checks.check(apart <= 3.2e-4 and result["tokens"] == tokens, f"hf at {context}, stride {stride}: {theirs:.4f} over {tokens} labels ({apart:.1e} apart)")
        for protocol in ("tokens", "yarn"):
            step = min(stride, context - 1) if protocol == "tokens" else stride  # a window of tokens has a BOS of its own
            other = ropewalk.json("perplexity", folder, "-f", text, "-c", context, "--stride", step, "--protocol", protocol)["results"][0]["perplexity"]
            checks.check(abs(np.log(other / theirs)) > 3.2e-4, f"hf at {context}, stride {stride}, negative control: protocol {protocol} gives {other:.4f}")
    default = ropewalk.json("perplexity", folder, "-f", text, "-c", 256, "--protocol", "hf")["results"][0]
    checks.check(default["stride"] == 128, "hf: the stride is half a window unless told")


TASK = ("There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there.\n{}\n"
        "The pass key is {}. Remember it. {} is the pass key.\n{}\nWhat is the pass key? The pass key is")
GRASS = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. " * 400


def check_passkey(checks, ropewalk, folder):
    """The prompts of the report made again, and what transformers says of them."""
    model, tokenizer = load(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for result in ropewalk.json("passkey", folder, "-c", "200,600", "--depths", "0,30,100", "--iterations", "2")["results"]:
        worst, verdicts, counts = 0.0, True, True
        for question in result["questions"]:
            before, key = round(question["depth"] * question["haystack_units"]), question["answer"]
            prompt = TASK.format(GRASS[:before], key, key, GRASS[: question["haystack_units"] - before])
            ids, whole = tokenizer(prompt).input_ids, tokenizer(prompt + " " + key).input_ids
            counts &= len(whole) == question["tokens"] and whole[: len(ids)] == ids
            with torch.no_grad():
                logits = model(torch.tensor([whole])).logits[0].double().numpy()
                out = model.generate(torch.tensor([ids]), max_new_tokens=len(whole) - len(ids) + 1, do_sample=False, eos_token_id=None, pad_token_id=0)
            log_p = log_softmax(logits)
            answer = range(len(ids), len(whole))
            worst = max(worst, abs(-np.mean([log_p[t - 1, whole[t]] for t in answer]) - question["answer_nll"]))
            said = tokenizer.decode(out[0, len(ids):]).strip()
            verdicts &= (said[: len(key)] == key and not said[len(key):][:1].isdigit()) == question["correct"]
        checks.check(counts and verdicts and worst <= TOLERANCE, f"passkey at {result['context']}: prompts, verdicts and losses of {len(result['questions'])} (worst {worst:.1e})")


def check_peft(checks, merged, base, adapter):
    model = transformers.AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float16)
    theirs = PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
    ours = {}
    for path in sorted(pathlib.Path(merged).glob("*.safetensors")):
        ours.update(read_safetensors(path))
    checks.check(set(ours) == set(theirs), f"the merged folder has PEFT's {len(theirs)} tensors")
    elements = different = 0
    largest = 0
    for name, value in ours.items():
        other = theirs[name].numpy()
        steps = np.abs(ordered(value) - ordered(other))
        elements += value.size
        different += int((steps != 0).sum())
        largest = max(largest, int(steps.max()))
    checks.check(largest <= 1 and different <= 2e-4 * elements, f"PEFT's merge: {different} of {elements} elements differ, by {largest} float16 step at most")
    unmerged = transformers.AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float16).state_dict()
    apart = sum(int((ours[name] != unmerged[name].numpy()).sum()) for name in ours)
    checks.check(apart > 2e-4 * elements, f"negative control: {apart} elements differ from the base alone")


def check_made_adapters(checks, ropewalk, models, adapter, folder):
    """Folders that `adapter` writes, loaded and merged by PEFT in float32: within 1e-6 of a weight's norm of our merge (a float32 sum of 16 products is off by 16 * 6e-8)."""
    base, tuned = models / "tolstoy-4m", models / "tolstoy-4m-yarn-2k"
    made = {name: folder / name for name in ("extracted", "reranked", "rescaled", "converted")}
    ropewalk.run("adapter", "extract", tuned, base, "--rank", 16, "-o", made["extracted"], "--no-sync", "--quiet")
    ropewalk.run("adapter", "rerank", adapter, "--rank", 4, "-o", made["reranked"], "--no-sync", "--quiet")
    ropewalk.run("adapter", "rescale", adapter, "--scale", 0.7, "-o", made["rescaled"], "--no-sync", "--quiet")
    ropewalk.run("adapter", "convert", f"{tuned}+{adapter}", "-o", folder / "lora.gguf", "--no-sync", "--quiet")
    ropewalk.run("adapter", "convert", f"{tuned}+{folder / 'lora.gguf'}", "-o", made["converted"], "--no-sync", "--quiet")
    for name, path in made.items():
        onto = base if name == "extracted" else tuned
        model = transformers.AutoModelForCausalLM.from_pretrained(onto, torch_dtype=torch.float32)
        before = {key: value.clone().numpy() for key, value in model.state_dict().items()}
        theirs = {key: value.numpy() for key, value in PeftModel.from_pretrained(model, path).merge_and_unload().state_dict().items()}
        ours = {}
        ropewalk.run("merge", f"{onto}+{path}", "-o", folder / f"{name}-merged", "--dtype", "f32", "--no-sync", "--quiet")
        for file in sorted((folder / f"{name}-merged").glob("*.safetensors")):
            ours.update(read_safetensors(file))
        norms = {key: np.linalg.norm(before[key].astype(np.float64)) for key in ours}
        worst = max(np.linalg.norm(ours[key].astype(np.float64) - theirs[key]) / norms[key] for key in ours)
        moved = max(np.linalg.norm(theirs[key].astype(np.float64) - before[key]) / norms[key] for key in ours)
        checks.check(set(ours) == set(theirs) and worst <= 1e-6, f"{name} adapter: PEFT merges it to what we do (worst {worst:.1e} of a weight's norm)")
        checks.check(moved > 1e-3, f"{name} adapter, negative control: the base alone is {moved:.1e} away")


def ordered(half):
    """float16 as integers in which neighbouring values differ by 1."""
    bits = half.view(np.uint16).astype(np.int64)
    return np.where(bits & 0x8000, -(bits & 0x7FFF), bits)


def main():
    options = arguments()
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    models = options.golden / FIXTURES / "models"
    base, adapter = models / "tolstoy-4m-yarn-2k", options.golden / FIXTURES / "adapters/qlora-shakespeare"
    prompts = fixture_prompts(options.golden, (300, 900, 1900))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        merged = folder / "merged"
        ropewalk.run("merge", f"{base}+{adapter}", "-o", merged, "--no-sync", "--quiet")
        check_forward(checks, ropewalk, merged, prompts, "merged")
        check_peft(checks, merged, base, adapter)
        check_made_adapters(checks, ropewalk, models, adapter, folder)
        check_perplexity(checks, ropewalk, base, options.golden / FIXTURES / "goldens/perplexity/doc-1.txt")
        check_passkey(checks, ropewalk, models / "tolstoy-4m")
        tokenizer = transformers.AutoTokenizer.from_pretrained(merged)
        checks.check(tokenizer.vocab_size == 2048, "the merged folder's tokenizer loads in transformers")

        extended = folder / "extended"
        ropewalk.run("extend", models / "tolstoy-4m", "-o", extended, "--rope", "yarn,factor=8,original_max_position_embeddings=256", "--no-sync", "--quiet")
        model = check_forward(checks, ropewalk, extended, prompts[:1], "extended")
        rotary = model.model.rotary_emb
        tuned = load(base).model.rotary_emb
        checks.check(torch.equal(rotary.inv_freq, tuned.inv_freq) and rotary.attention_scaling == tuned.attention_scaling,
                     "transformers computes the fine-tuned model's YaRN from the extended folder's config.json")
        plain = load(models / "tolstoy-4m").model.rotary_emb
        checks.check(not torch.equal(rotary.inv_freq, plain.inv_freq), "negative control: the base's own frequencies are others")
        config = json.loads((extended / "config.json").read_text())
        checks.check(config["max_position_embeddings"] == 2048, "the extended folder serves 2048 tokens")
    checks.exit()


main()
