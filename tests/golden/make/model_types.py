#!/usr/bin/env python3
"""model_types.json: which model types AutoConfig of a release knows, and whose rotary embedding it cannot build.

  names   {RELEASE: the keys of CONFIG_MAPPING_NAMES, sorted, in one line}
  raises  {RELEASE: {TYPE: "KIND: TEXT"}}: of the types that class_ropes.json has a table of for any release, and this one
          knows: what the only rotary embedding of its module raises for a file that says nothing of the rope

  python model_types.py OUT.json CLASS_ROPES.json   for each release (PYTHONPATH for the older); OUT is added to
"""
import json
import logging
import os
import sys
import warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import transformers
from class_ropes import rotary_embeddings
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES


def failure(model_type):
    """What building raises; None where it does not, or where the module has several that do not agree."""
    said = {"model_type": model_type, "hidden_size": 768, "num_attention_heads": 8}
    try:
        config = CONFIG_MAPPING[model_type].from_dict(said).get_text_config()
    except Exception:
        return None  # not the rope's doing
    raised = set()
    for cls in rotary_embeddings(config):
        try:
            cls(config=config)
            return None
        except Exception as error:
            if "unexpected keyword argument" in str(error):  # one that takes numbers, not a configuration
                return None
            raised.add(f"{type(error).__name__}: {error}")
    return raised.pop() if len(raised) == 1 else None


def main():
    out, class_ropes = sys.argv[1:]
    golden = json.load(open(out)) if os.path.exists(out) else {"names": {}, "raises": {}}
    version = transformers.__version__
    golden["names"][version] = " ".join(sorted(CONFIG_MAPPING_NAMES))
    tables = {name for classes in json.load(open(class_ropes))["classes"].values() for name in classes}
    raises = {}
    for name in sorted(tables & set(CONFIG_MAPPING_NAMES)):
        if (text := failure(name)) is not None:
            raises[name] = text
    golden["raises"][version] = raises
    with open(out, "w") as file:
        json.dump({key: dict(sorted(value.items())) for key, value in golden.items()}, file, indent=1)
        file.write("\n")


main()
