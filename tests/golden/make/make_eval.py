"""tests/golden/eval.json: what lm-evaluation-harness makes of a few rows, with its own task files and a tiny model.

lm_eval 0.4.13, datasets 5.2.0, transformers 5.23.0, torch 2.15.0 (a venv with `pip install lm_eval` over the Python of `scripts/peers libraries`):

    HF_HUB_OFFLINE=1 python make_eval.py --models build/release/golden/fixtures/models --out tests/golden/eval.json

The rows stand in eval_rows.json, in the shape of allenai/ai2_arc, Rowan/hellaswag, cais/mmlu and truthfulqa/truthful_qa (multiple_choice); they are our own (CC0).
The task files are those of the wheel, with the path of the data set replaced by the rows' files. Twice: in float32, as people run it, and with the model in float64
(norms and softmax in float64 too), which is what losses are held against. Prompts are kept as the sha256 of context and continuations, NUL between them.
"""
import argparse
import hashlib
import json
import pathlib
import tempfile

import datasets
import lm_eval
import lm_eval.api.metrics
import torch
import transformers
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"
FILES = {"arc": "arc/arc_challenge.yaml", "hellaswag": "hellaswag/hellaswag.yaml", "truthfulqa_mc1": "truthfulqa/truthfulqa_mc1.yaml",
         "truthfulqa_mc2": "truthfulqa/truthfulqa_mc2.yaml", "mmlu_anatomy": "mmlu/default/mmlu_anatomy.yaml",
         "mmlu_high_school_us_history": "mmlu/default/mmlu_high_school_us_history.yaml"}
RUNS = [("tolstoy-4m-yarn-2k", {}, None), ("tolstoy-4m-yarn-2k", {"arc": 3, "hellaswag": 2, "mmlu": 2}, None), ("tolstoy-4m", {"arc": 3, "mmlu": 2}, 3)]


def config_of(name, rows, folder):
    """The wheel's own task, its data set our files. MMLU's rows are split by subject, as its data set is."""
    config = load_yaml(TASKS / FILES[name])
    of = name.split("_")[0]
    files = {}
    for split, lines in rows[of].items():
        if of == "mmlu":
            lines = [line for line in lines if line["subject"] == name.removeprefix("mmlu_")]
        path = folder / f"{name}-{split}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        files[split] = str(path)
    config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": files})
    return config


def in_float64(model):
    """Everything in double: transformers takes norms, softmax and rotary angles to float32 on the way."""
    import transformers.models.llama.modeling_llama as llama

    def norm(self, x):
        return self.weight.double() * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    llama.LlamaRMSNorm.forward = norm
    softmax = torch.nn.functional.softmax
    torch.nn.functional.softmax = lambda x, dim=None, dtype=None, **_: softmax(x, dim=dim, dtype=torch.float64)
    rotary = llama.LlamaRotaryEmbedding.forward

    def angles(self, x, position_ids):
        frequencies = self.inv_freq.double()[None, :, None] * position_ids[:, None, :].double()
        both = torch.cat((frequencies, frequencies), dim=1).transpose(1, 2)
        return both.cos() * self.attention_scaling, both.sin() * self.attention_scaling

    llama.LlamaRotaryEmbedding.forward = angles
    assert rotary is not angles
    return model.double()


def run(lm, rows, shots, limit, folder):
    tasks = {}
    for name in FILES:
        n = shots.get(name.split("_")[0], 0)
        got = lm_eval.simple_evaluate(model=lm, tasks=[config_of(name, rows, folder)], num_fewshot=n, limit=limit, log_samples=True, bootstrap_iters=0)
        (task,) = got["samples"]
        figures = {k.split(",")[0]: v for k, v in got["results"][task].items() if "," in k and isinstance(v, float)}
        samples = sorted(got["samples"][task], key=lambda s: s["doc_id"])
        tasks[name] = {"figures": figures, "shots": n, "samples": [
            {"prompt": prompt_hash(s["arguments"]), "log_likelihoods": [float(r[0]) for r in s["filtered_resps"]],
             "metrics": {m: float(s[m]) for m in s["metrics"]}} for s in samples]}
    return tasks


def prompt_hash(arguments):
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    pairs = [(r["arg_0"], r["arg_1"]) if isinstance(r, dict) else (r[0], r[1]) for r in requests]
    return hashlib.sha256("\0".join([pairs[0][0]] + [continuation for _, continuation in pairs]).encode()).hexdigest()


def add_errors(tasks):
    """Standard errors by the harness' own functions: simple_evaluate() rounds nothing, but leaves mmlu's subjects apart when they are asked for one by one."""
    for result in tasks.values():
        for figure in list(result["figures"]):
            values = [s["metrics"][figure] for s in result["samples"]]
            result["figures"][figure + "_stderr"] = lm_eval.api.metrics.mean_stderr(values)
    subjects = [result for name, result in tasks.items() if name.startswith("mmlu_")]
    sizes = [len(result["samples"]) for result in subjects]
    tasks["mmlu"] = {"figures": {
        "acc": lm_eval.api.metrics.aggregate_subtask_metrics([r["figures"]["acc"] for r in subjects], sizes),
        "acc_stderr": float(lm_eval.api.metrics.pooled_sample_stderr([r["figures"]["acc_stderr"] for r in subjects], sizes))}}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--models", required=True)
    arguments.add_argument("--out", required=True)
    arguments = arguments.parse_args()
    rows = json.loads((pathlib.Path(__file__).parent.parent / "eval_rows.json").read_text())
    out = {"versions": {"lm_eval": lm_eval.__version__, "transformers": transformers.__version__, "torch": torch.__version__, "datasets": datasets.__version__}, "runs": []}
    with tempfile.TemporaryDirectory() as folder:
        for double in (False, True):
            for index, (name, shots, limit) in enumerate(RUNS):
                lm = HFLM(pretrained=f"{arguments.models}/{name}", dtype="float32", device="cpu", batch_size=1,
                          **({"softmax_dtype": "float64"} if double else {}))
                if double:
                    in_float64(lm._model)
                tasks = run(lm, rows, shots, limit, pathlib.Path(folder))
                if not double:
                    out["runs"].append({"model": name, "shots": shots, "limit": limit, "tasks": tasks})
                    continue
                for task, result in tasks.items():
                    kept = out["runs"][index]["tasks"][task]
                    for sample, exact in zip(kept["samples"], result["samples"], strict=True):
                        assert sample["prompt"] == exact["prompt"]
                        sample["log_likelihoods_f64"] = exact["log_likelihoods"]
                        if task == "truthfulqa_mc2":
                            sample["acc_f64"] = exact["metrics"]["acc"]
    for result in out["runs"]:
        add_errors(result["tasks"])
    pathlib.Path(arguments.out).write_text(json.dumps(out, indent=None, separators=(",", ":")).replace('{"prompt"', '\n{"prompt"') + "\n")


main()
