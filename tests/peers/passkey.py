"""Keys that `passkey` says are found, in transformers: SmolLM2-135M-Instruct finds them, and with a rope that does not fit it finds none.

transformers reads the same GGUF with its own reader and tokenizer, and is asked in the published protocol's own words (landmark attention, eval/passkey.py of the YaRN repository),
written here anew. It decodes greedily; a key is found if that gives its digits and no further one.

Tolerance of the answer's loss, a mean over its tokens in nats: two float32 programs on the same weights; the float64 goldens of the forward pass put float32 arithmetic at 4.9e-4 of
a logit, once for either side and twice in a loss.
"""
import os
import pathlib
import re

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
import torch  # noqa: E402
import transformers  # noqa: E402

from support import Checks, Ropewalk, arguments  # noqa: E402

TASK = "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you about the important information there."
GRASS = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."
QUESTION = "What is the pass key? The pass key is"
TOLERANCE = 4 * 4.9e-4
CONTEXTS, DEPTHS = (192, 320), (0, 0.5, 1)
BROKEN = 8  # positions are divided by it: a model that was not trained so is lost


def prompt_of(question):
    """eval/passkey.py: `prefix` characters of grass, the key, the rest of them."""
    count, key = question["haystack_units"], question["answer"]
    prefix = round(question["depth"] * count)
    grass = " ".join([GRASS] * (count // len(GRASS) + 1))
    return "\n".join([TASK, grass[:prefix], f"The pass key is {key}. Remember it. {key} is the pass key.", grass[: count - prefix], QUESTION])


def asked(model, tokenizer, question, decode):
    """Whether the key's tokens are the likeliest, one after the other, and a digit more is not; the mean loss of its tokens; how many tokens there are. With `decode`, what greedy
    decoding writes has to say the same."""
    prompt = tokenizer(prompt_of(question), return_tensors="pt").input_ids
    whole = tokenizer(prompt_of(question) + " " + question["answer"], return_tensors="pt").input_ids
    first, count = prompt.shape[1], whole.shape[1] - prompt.shape[1]
    if not torch.equal(whole[:, :first], prompt):
        raise SystemExit("the answer's digits join the prompt's last token: nothing to compare")
    logits = model(whole).logits[0, first - 1 :].double().log_softmax(-1)
    answer, best = whole[0, first:], logits.argmax(-1)
    found = torch.equal(best[:count], answer) and not re.match("[0-9]", tokenizer.decode(best[count:]))
    if decode:
        made = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=count + 1, eos_token_id=None, pad_token_id=0)
        text = tokenizer.decode(made[0, first:])
        if found != bool(re.match(rf" ?{question['answer']}(?![0-9])", text)):
            raise SystemExit(f"greedy decoding writes '{text}', which is not what its tokens' likelihoods say")
    return found, -logits[range(count), answer].mean().item(), whole.shape[1]


def check(checks, ropewalk, source, model, tokenizer, finds, name):
    words = ("passkey", source, "-c", ",".join(map(str, CONTEXTS)), "--depths", ",".join(f"{100 * depth:g}" for depth in DEPTHS), "--iterations", 1, "--min", "accuracy=0.9")
    report = ropewalk.json(*words, expect=0 if finds else 1)
    keys = 0
    for result in report["results"]:
        worst = 0.0
        for question in result["questions"]:
            found, loss, tokens = asked(model, tokenizer, question, finds and result["context"] == CONTEXTS[0])
            worst = max(worst, abs(loss - question["answer_nll"]))
            same = found == question["correct"] and tokens == question["tokens"]
            checks.check(same, f"{name} at {result['context']}, depth {question['depth']}: {'found' if found else 'not found'} in both, of {tokens} tokens")
            keys += found
        checks.check(worst <= TOLERANCE, f"{name} at {result['context']}: losses of the answers {worst:.1e} apart, at most {TOLERANCE:.1e}")
    total = len(CONTEXTS) * len(DEPTHS)
    checks.check(keys == (total if finds else 0), f"{name}: transformers finds {keys} of {total}")
    passes = [gate["pass"] for gate in report["gates"]]
    checks.check(passes == [finds] * len(CONTEXTS), f"{name}: the gates accuracy=0.9 are {passes}")


def main():
    options = arguments(extra=["--smollm2"])
    ropewalk, checks, path = Ropewalk(options.ropewalk), Checks(), pathlib.Path(options.smollm2)
    load = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**load)
    model = transformers.AutoModelForCausalLM.from_pretrained(**load, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.inference_mode():
        check(checks, ropewalk, path, model, tokenizer, True, "SmolLM2-135M")
        for rotary in model.modules():
            if hasattr(rotary, "inv_freq"):
                rotary.inv_freq /= BROKEN
        broken = f"{path}+rope=linear,factor={BROKEN},original=1024"
        check(checks, ropewalk, broken, model, tokenizer, False, "positions divided by 8")
    checks.exit()


main()
