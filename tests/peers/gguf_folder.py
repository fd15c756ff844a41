"""Folders made of GGUFs, in the real libraries.

* transformers loads the folder and computes what ropewalk computes of the GGUF: log-probabilities within 2.0e-3 (libraries.py derives it).
* Its AutoTokenizer gives the ids that ropewalk's llama.cpp tokenizer gives of the GGUF, BOS included, and reads them back as the text. transformers 5's class for
  tokenizer.model puts no space before a text that begins with one, of the original folder as of ours; llama.cpp does.
* Tensors in blocks are gguf-py's dequantization, rounded once to float16; rows of Q and K lie in transformers' order.
"""
import pathlib
import tempfile

import gguf
import numpy as np
import torch
import transformers

from support import Checks, FIXTURES, Ropewalk, arguments, log_softmax, read_safetensors

TOLERANCE = 2.0e-3
COUNT = 32
TEXTS = ["Well, Prince, so Genoa and Lucca are now just family estates of the Buonapartes.", "  two  spaces\n\n\tand a tab", "naïve café, 東京 12345!", "x = {'a': 1};", "\U00020000\U0002A6D6\U0002EBF0\U0002F800"]
transformers.logging.set_verbosity_error()


def ids_of(ropewalk, source, text, folder):
    path = folder / "text.txt"
    path.write_text(text)
    return ropewalk.json("tokenize", source, "--bos", "-f", path)["ids"]


def check_folder(checks, ropewalk, scratch, source, kind):
    name = f"{source.name} by {kind}"
    file, folder = scratch / f"{source.name}-{kind}.gguf", scratch / f"{source.name}-{kind}"
    ropewalk.run("convert", source, "-o", file, "--type", kind, "--no-sync", "--quiet")
    ropewalk.run("convert", file, "-o", folder, "--type", "hf:f32", "--no-sync", "--quiet")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    spm = (folder / "tokenizer.model").exists()
    original = transformers.AutoTokenizer.from_pretrained(source)
    for text in TEXTS:
        theirs = tokenizer(text).input_ids
        expected = original(text).input_ids if spm and text.startswith(" ") else ids_of(ropewalk, file, text, scratch)
        checks.check(theirs == expected, f"{name}: {len(theirs)} ids of {text[:20]!r}" + ("" if theirs == expected else f"\n  {theirs}\n  {expected}"))
        back, meant = tokenizer.decode(theirs, skip_special_tokens=True), original.decode(expected, skip_special_tokens=True)
        checks.check(back == meant, f"{name}: they are {back[:20]!r}" + ("" if back == meant else f", not {meant!r}"))
    ids = (tokenizer(TEXTS[0]).input_ids * 8)[:120]
    with torch.no_grad():
        theirs = log_softmax(model(torch.tensor([ids])).logits[0, -COUNT:].double().numpy())
    worst = float(np.abs(theirs - ropewalk.log_probabilities(file, ids, COUNT)).max())
    checks.check(worst <= TOLERANCE, f"{name}: log-probabilities within {TOLERANCE:g} (worst {worst:.1e})")
    return file


def half_split(values, heads):
    """Rows of each head from interleaved pairs to halves."""
    rows, columns = values.shape
    return values.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def check_blocks(checks, ropewalk, scratch, file):
    folder = scratch / "blocks"
    ropewalk.run("convert", file, "-o", folder, "--type", "hf:f16", "--no-sync", "--quiet")
    made = read_safetensors(folder / "model.safetensors")
    reader = gguf.GGUFReader(file)
    field = lambda key: int(reader.get_field(key).contents())
    heads = {"q": field("llama.attention.head_count"), "k": field("llama.attention.head_count_kv")}
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
             "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    equal, kinds, unturned = 0, set(), 0
    tensors = [tensor for tensor in reader.tensors if tensor.name != "rope_freqs.weight"]
    for tensor in tensors:
        parts = tensor.name.removesuffix(".weight").split(".")
        name = (f"model.layers.{parts[1]}." if parts[0] == "blk" else "") + names[parts[-1]] + ".weight"
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if parts[-1] in ("attn_q", "attn_k"):
            unturned += int(np.array_equal(values.astype(np.float16), made[name]))
            values = half_split(values, heads[parts[-1][-1]])
        equal += int(values.shape == made[name].shape and np.array_equal(values.astype(np.float16).view(np.uint16), made[name].view(np.uint16)))
        kinds.add(tensor.tensor_type.name)
    checks.check(equal == len(tensors) == len(made), f"{equal} of {len(tensors)} tensors of {sorted(kinds)} are gguf-py's, rounded once")
    checks.check(unturned == 0, "negative control: Q and K as they lie in the GGUF are others")


def main():
    options = arguments()
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    models = options.golden / FIXTURES / "models"
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        check_folder(checks, ropewalk, scratch, models / "stories260K", "f16")
        check_folder(checks, ropewalk, scratch, options.golden / "zoo/llama-mha-tied-bias", "f32")
        check_folder(checks, ropewalk, scratch, options.golden / "bpe/llama3-rope", "f32")
        file = check_folder(checks, ropewalk, scratch, models / "tolstoy-4m-yarn-2k", "q4_k_m")
        check_blocks(checks, ropewalk, scratch, file)
    checks.exit()


main()
