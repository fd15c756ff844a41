"""Faults that converters have made, planted in good exports by an editor of bytes: which gate of `verify` fires, at which level, and that the undamaged twin passes.

The trained fixture with its adapter, and SmolLM2-135M-Instruct (a published model, with an adapter of random numbers), both as f16 GGUFs. Faults of an adapter
need no formula of ours: they are made of two exports, with it and without, by what a merge is: base + delta.
"""
import dataclasses
import json
import math
import pathlib
import shutil
import sys
import tempfile
from typing import Callable

import numpy as np

from support import Checks, FIXTURES, ROOT, Ropewalk, arguments, write_safetensors

sys.path.append(str(ROOT / "scripts"))
from gguf_editor import Gguf, Tensor  # noqa: E402

ROPE = "llama.rope.scaling."
FLOAT32, TOKENS, TEMPLATE = 6, "tokenizer.ggml.tokens", "tokenizer.chat_template"
FLOATS = {0: np.dtype("<f4"), 1: np.dtype("<f2")}  # ggml types F32 and F16
ADAPTED = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


@dataclasses.dataclass
class Model:
    name: str
    source: str  # SOURCE with the adapter
    good: pathlib.Path  # its export
    base: pathlib.Path  # the export without the adapter
    rank: int
    context: int
    scaled: bool  # by YaRN
    tied: bool
    small: bool  # what stops before the logits is taken through them, too


@dataclasses.dataclass
class Fault:
    name: str
    plant: Callable  # changes a Gguf
    level: str  # where verify stops
    gates: set  # of structure and weights, all that fail
    of: Callable = lambda model: True  # models that can have it


def rows(tensor):
    """[rows, row's bytes] of a matrix."""
    return np.frombuffer(tensor.data, np.uint8).reshape(tensor.sizes[1], -1)


def values(tensor):
    """In double, outermost size first; tensors of an f16 GGUF, with nothing between them but zeros."""
    kind = FLOATS[tensor.kind]
    return np.frombuffer(tensor.data, kind, math.prod(tensor.sizes)).reshape(tensor.sizes[::-1]).astype(np.float64)


def set_values(tensor, changed):
    tensor.data = changed.astype(FLOATS[tensor.kind]).tobytes()


def layer(name):
    return int(name.split(".")[1]) if name.startswith("blk.") else None


def factor_doubled(file, model):
    file.set(ROPE + "factor", 2 * file.value(ROPE + "factor"))


def attention_factor_squared(file, model):
    """llama.cpp multiplies what it computes from the factor by attn_factor."""
    file.set(ROPE + "attn_factor", 1 + 0.1 * math.log(file.value(ROPE + "factor")), FLOAT32)


def original_context_doubled(file, model):
    file.set(ROPE + "original_context_length", 2 * file.value(ROPE + "original_context_length"))


def not_permuted(file, model):
    """Q and K with each head's channels in halves, as transformers has them, where llama.cpp rotates neighbours."""
    for name, tensor in file.tensors.items():
        if ".attn_q." in name or ".attn_k." in name:
            heads = file.value("llama.attention.head_count" + ("" if ".attn_q." in name else "_kv"))
            stored = rows(tensor)
            pairs = stored.reshape(heads, len(stored) // heads // 2, 2, -1)
            tensor.data = pairs.swapaxes(1, 2).tobytes()


def layers_swapped(file, model):
    for name in [name for name in file.tensors if layer(name) == 1]:
        other = name.replace("blk.1.", "blk.2.")
        file.tensors[name].data, file.tensors[other].data = file.tensors[other].data, file.tensors[name].data


def tensor_zeroed(file, model):
    tensor = file.tensors["blk.1.ffn_up.weight"]
    tensor.data = bytes(len(tensor.data))


def row_of_nan(file, model):
    tensor = file.tensors["blk.0.attn_v.weight"]
    changed = values(tensor)
    changed[3] = math.nan
    set_values(tensor, changed)


def tokens_off_by_one(file, model):
    tokens = file.strings(TOKENS)
    file.set_strings(TOKENS, tokens[:300] + tokens[-1:] + tokens[300:-1])


def of_base(change):
    """Every adapted matrix anew, from its values without the adapter and with it."""

    def plant(file, model):
        base = Gguf(model.base)
        for name, tensor in file.tensors.items():
            if any(f".{module}." in name for module in ADAPTED):
                without = values(base.tensors[name])
                set_values(tensor, change(without, values(tensor) - without, model))

    return plant


def untied_wrongly(file, model):
    """A head of its own, its rows one id too late."""
    embedding = file.tensors["token_embd.weight"]
    late = np.roll(rows(embedding), 1, axis=0).tobytes()
    file.tensors["output.weight"] = Tensor(embedding.sizes, embedding.kind, late)


def gains_in_four_bits(file, model):
    for name, tensor in file.tensors.items():
        if "_norm." in name:
            blocks = values(tensor).reshape(-1, 32)
            step = np.abs(blocks).max(axis=1, keepdims=True) / 8
            set_values(tensor, (np.rint(blocks / step).clip(-8, 7) * step).reshape(-1))


def gains_out_of_range(file, model):
    name = next(name for name in file.tensors if "_norm." in name)
    set_values(file.tensors[name], 100 * values(file.tensors[name]))


FAULTS = [
    Fault("YaRN's keys dropped", lambda file, model: file.drop([ROPE]), "logits", {"rope"}, of=lambda model: model.scaled),
    Fault("factor wrong by 2", factor_doubled, "logits", {"rope"}, of=lambda model: model.scaled),
    Fault("attention factor squared", attention_factor_squared, "logits", {"rope"}, of=lambda model: model.scaled),
    Fault("original context doubled", original_context_doubled, "logits", {"rope"}, of=lambda model: model.scaled),
    Fault("theta lost", lambda file, model: file.drop(["llama.rope.freq_base"]), "logits", {"rope"}, of=lambda model: not model.scaled),
    Fault("Q and K not permuted", not_permuted, "weights", {"weights"}),
    Fault("two layers swapped", layers_swapped, "weights", {"weights"}),
    Fault("one tensor zeroed", tensor_zeroed, "weights", {"weights"}),
    Fault("one row NaN", row_of_nan, "weights", {"weights"}),
    Fault("tokens off by one", tokens_off_by_one, "structure", {"tokenizer"}),
    Fault("chat template lost", lambda file, model: file.drop([TEMPLATE]), "structure", {"chat_template"}),
    Fault("adapter not merged", of_base(lambda base, delta, model: base), "weights", {"weights"}),
    Fault("adapter merged twice", of_base(lambda base, delta, model: base + 2 * delta), "weights", {"weights"}),
    Fault("alpha / r for rsLoRA", of_base(lambda base, delta, model: base + delta / math.sqrt(model.rank)), "weights", {"weights"}),
    Fault("tied head untied wrongly", untied_wrongly, "weights", {"weights"}, of=lambda model: model.tied),
    Fault("norm gains in four bits", gains_in_four_bits, "weights", {"weights"}),
    Fault("norm gains out of range", gains_out_of_range, "weights", {"weights"}),
]


def judged(ropewalk, model, candidate, *options, expect):
    return ropewalk.json("verify", candidate, "--against", model.source, "--dtype", "f16", "-c", model.context, "--windows", 1, *options, expect=expect)


def failed(report):
    """Names of the gates that failed: of structure and weights, of logits."""
    names = {gate["name"] for gate in report["gates"] if not gate["pass"]}
    first = names & {"tensors", "geometry", "tokenizer", "chat_template", "rope", "context", "weights"}
    return first, names - first


def check(checks, ropewalk, model, folder):
    twin, planted = folder / "twin.gguf", folder / "planted.gguf"
    Gguf(model.good).write(twin)
    checks.check(twin.read_bytes() == model.good.read_bytes(), f"{model.name}: taken apart and put together, the export has its bytes again")
    report = judged(ropewalk, model, twin, expect=0)
    checks.check(report["pass"] and report["level"] == "logits" and failed(report) == (set(), set()), f"{model.name}: undamaged, it passes")
    for fault in FAULTS:
        if not fault.of(model):
            continue
        file = Gguf(model.good)
        fault.plant(file, model)
        file.write(planted)
        report = judged(ropewalk, model, planted, expect=1)
        first, logits = failed(report)
        right = not report["pass"] and report["level"] == fault.level and first == fault.gates and ("kl_mean" in logits) == (fault.level == "logits")
        checks.check(right, f"{model.name}, {fault.name}: {', '.join(sorted(first))} at {report['level']}, {', '.join(sorted(logits)) or 'which need not run'}")
        if fault.plant is gains_out_of_range:
            flags = [tensor["flag"] for tensor in report["weights"] if not tensor["pass"]]
            checks.check(len(flags) == 1 and "out of the source's range" in str(flags[0]), f"{model.name}, {fault.name}: {flags}")
        if fault.level == "weights" and model.small:
            report = judged(ropewalk, model, planted, "--keep-going", expect=1)
            first, logits = failed(report)
            if fault.plant is row_of_nan:
                named = report["not_compared"]
                checks.check(first == fault.gates and report["logits"] is None and "holds NaN in row 3" in named, f"{model.name}, {fault.name}, --keep-going: {named}")
            else:
                checks.check(first == fault.gates and "kl_mean" in logits, f"{model.name}, {fault.name}, --keep-going: the logits, too, by {', '.join(sorted(logits))}")
        planted.unlink()


def check_blocks(checks, ropewalk, model, folder):
    """A head's rows of zeros in an export of few bits, of which the tensor as a whole keeps most."""
    good, planted = folder / "q4.gguf", folder / "q4-planted.gguf"
    ropewalk.run("convert", model.source, "-o", good, "--type", "q4_k_m", "--dtype", "f16", "--quiet")
    report = judged(ropewalk, model, good, "--level", "weights", expect=0)
    checks.check(report["pass"] and report["level"] == "weights", f"{model.name}, q4_k_m: undamaged, it passes")
    file = Gguf(good)
    tensor = file.tensors["blk.1.attn_output.weight"]
    width = len(tensor.data) // tensor.sizes[1]
    tensor.data = tensor.data[: 40 * width] + bytes(8 * width) + tensor.data[48 * width :]
    file.write(planted)
    report = judged(ropewalk, model, planted, "--level", "weights", expect=1)
    flags = [(tensor["name"], tensor["worst_row"]) for tensor in report["weights"] if not tensor["pass"]]
    right = failed(report) == ({"weights"}, set()) and [name for name, _ in flags] == ["model.layers.1.self_attn.o_proj.weight"]
    right = right and 40 <= flags[0][1]["row"] < 48 and abs(flags[0][1]["error"] - 1) < 1e-6
    checks.check(right, f"{model.name}, q4_k_m, eight rows zeroed: {flags}")


def rs_lora(folder, config):
    """The adapter as rsLoRA, scaled so that its effect stays what it was."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    settings.update(use_rslora=True, lora_alpha=settings["lora_alpha"] / math.sqrt(settings["r"]), **config)
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return settings["r"]


def exported(ropewalk, name, base, adapter, rank, folder, **model):
    """The model with its adapter, and both exports."""
    good, plain = folder / f"{name}.gguf", folder / f"{name}-base.gguf"
    source = f"{base}+{adapter}"
    ropewalk.run("convert", source, "-o", good, "--type", "f16", "--dtype", "f16", "--quiet")
    ropewalk.run("convert", base, "-o", plain, "--type", "f16", "--quiet")
    return Model(name, source, good, plain, rank, **model)


def fixture(ropewalk, golden, folder):
    base, adapter = folder / "base", folder / "adapter"
    shutil.copytree(golden / FIXTURES / "models/tolstoy-4m-yarn-2k", base)
    shutil.copytree(golden / FIXTURES / "adapters/qlora-shakespeare", adapter)
    settings = json.loads((base / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (base / "tokenizer_config.json").write_text(json.dumps(settings))
    rank = rs_lora(adapter, {"base_model_name_or_path": str(base)})
    return exported(ropewalk, "tolstoy-4m-yarn-2k", base, adapter, rank, folder, context=2048, scaled=True, tied=False, small=True)


def published(ropewalk, model, folder):
    """An adapter of rank 4 on q_proj and down_proj, its delta about a tenth of the weights."""
    adapter, rank = folder / "adapter", 4
    adapter.mkdir()
    random = np.random.default_rng(0)
    file = Gguf(model)
    width, hidden = file.value("llama.embedding_length"), file.value("llama.feed_forward_length")
    tensors = {}
    for block in range(file.value("llama.block_count")):
        for module, rows, columns in (("self_attn.q_proj", width, width), ("mlp.down_proj", width, hidden)):
            name = f"base_model.model.model.layers.{block}.{module}.lora_"
            tensors[name + "A.weight"] = (random.standard_normal((rank, columns)) * 0.05).astype(np.float32)
            tensors[name + "B.weight"] = (random.standard_normal((rows, rank)) * 0.05).astype(np.float32)
    write_safetensors(adapter / "adapter_model.safetensors", tensors)
    (adapter / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(model), "r": rank, "lora_alpha": 2.0, "use_rslora": True, "bias": "none",
        "target_modules": ["q_proj", "down_proj"]}))
    return exported(ropewalk, "SmolLM2-135M", model, adapter, rank, folder, context=256, scaled=False, tied=True, small=False)


def main():
    options = arguments(extra=["--smollm2"])
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    models = (lambda folder: fixture(ropewalk, options.golden, folder), lambda folder: published(ropewalk, pathlib.Path(options.smollm2), folder))
    for make in models:
        with tempfile.TemporaryDirectory() as folder:
            model = make(pathlib.Path(folder))
            check(checks, ropewalk, model, pathlib.Path(folder))
            if model.small:  # the published one is in blocks already
                check_blocks(checks, ropewalk, model, pathlib.Path(folder))
    checks.exit()


main()
