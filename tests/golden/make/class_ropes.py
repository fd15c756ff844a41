#!/usr/bin/env python3
"""class_ropes.json: the frequencies that the real transformers gives, without a weight.

  classes     of every class whose rotary embedding can be built, from a config.json that says nothing of the rope:
              {"model_type": TYPE, "hidden_size": 768, "num_attention_heads": 8}. What a class has where the file is silent.
  published   of the 162 files of lint.tar.zst, those whose class this release has (5.x alone).

A table is [pairs, frequency of pair 1, of the middle pair, of the last, attention factor]; a dictionary of them where the kinds of layers have each their own.

  python class_ropes.py OUT.json CONFIGS   for each release (PYTHONPATH for the older); OUT is added to
"""
import glob
import importlib
import json
import logging
import os
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

OTHER = ("Vision", "Audio", "SaProt", "Axial")  # of parts that see no text


def round_trip(x):
    return float(f"{x:.9g}")


def table(inv_freq, attention):
    f = inv_freq.double().flatten().tolist()
    return [len(f)] + [round_trip(f[i]) for i in (min(1, len(f) - 1), len(f) // 2, -1)] + [round_trip(attention)]


def rotary_embeddings(config):
    """The classes in the module of the configuration's class that turn text by its rope."""
    module = importlib.import_module(type(config).__module__.replace("configuration_", "modeling_"))
    for name in dir(module):
        cls = getattr(module, name)
        if not isinstance(cls, type) or not name.endswith("RotaryEmbedding") or cls.__module__ != module.__name__:
            continue
        if any(word in name for word in OTHER):
            continue
        yield cls


def ropes(config):
    """The tables of the one rotary embedding in the class's module; None if there is none or several that differ."""
    found = []
    for cls in rotary_embeddings(config):
        try:
            rotary = cls(config=config)
        except Exception:
            continue
        tables = {}
        for buffer, values in rotary.named_buffers():
            if not buffer.endswith("inv_freq") or "original" in buffer:
                continue
            kind = buffer[: -len("inv_freq")].rstrip("_")
            attention = getattr(rotary, (kind + "_" if kind else "") + "attention_scaling", 1.0)
            tables[kind] = table(values, attention)
        if tables and tables not in found:
            found.append(tables)
    if len(found) != 1:
        return None
    return found[0][""] if list(found[0]) == [""] else found[0]


def quietly(make):
    try:
        return make()
    except Exception:
        return None


def main():
    out, configs = sys.argv[1:]
    golden = json.load(open(out)) if os.path.exists(out) else {"classes": {}, "published": {}}
    version = transformers.__version__
    classes = {}
    for name in sorted(CONFIG_MAPPING_NAMES):
        said = {"model_type": name, "hidden_size": 768, "num_attention_heads": 8}
        config = quietly(lambda: CONFIG_MAPPING[name].from_dict(said))
        if config is None or hasattr(config, "image_size"):  # one that sees pictures
            continue
        if (rope := quietly(lambda: ropes(config))) is not None:
            classes[name] = rope
    golden["classes"][version] = classes
    if version.startswith("5."):
        for path in sorted(glob.glob(os.path.join(configs, "*.json"))):
            raw = json.load(open(path))

            def read():
                config = CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
                return ropes(config if "hidden_size" in raw or "text_config" not in raw else config.text_config)

            if (rope := quietly(read)) is not None:
                golden["published"][os.path.basename(path)] = rope
        golden["published"] = dict(sorted(golden["published"].items()))
    with open(out, "w") as file:
        file.write("{\n")
        file.write(' "classes": {\n')
        file.write(",\n".join(
            f'  "{v}": {{\n' + ",\n".join(f"   {json.dumps(k)}: {json.dumps(r)}" for k, r in rows.items()) + "\n  }"
            for v, rows in sorted(golden["classes"].items())))
        file.write('\n },\n "published": {\n')
        file.write(",\n".join(f"  {json.dumps(k)}: {json.dumps(r)}" for k, r in golden["published"].items()))
        file.write("\n }\n}\n")


if __name__ == "__main__":
    main()
