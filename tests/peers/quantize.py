"""One pass equals the chain: `convert BASE+A --type T` has the tensors of merge, then convert, then the real llama-quantize, for f16, bf16 and f32 bases.

Of mixes the whole file is compared: keys, order and tensors."""
import hashlib
import pathlib
import subprocess
import tempfile

import gguf
import numpy

from support import Checks, FIXTURES, Ropewalk, arguments


def tensors(path):
    return {tensor.name: (int(tensor.tensor_type), [int(n) for n in tensor.shape], hashlib.sha256(tensor.data.tobytes()).hexdigest())
            for tensor in gguf.GGUFReader(str(path)).tensors}


# One of each family of encoders, and each kind of rule: by layer, by fallback, for the output.
MIXES = ("Q4_K_M", "Q5_K_S", "Q3_K_L", "Q2_K", "Q6_K", "IQ4_XS", "Q4_0", "TQ2_0")


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def compare_mixes(ropewalk, checks, options, work, sources, dtype):
    """sources: what one pass reads, and the merged folder of the chain."""
    one, merged = sources
    lossless = work / "for-mixes.gguf"
    ropewalk.run("convert", merged, "-o", lossless, "--type", dtype, "--model-name", "m", "--no-sync", "--quiet")
    ropewalk.run("convert", one, "-o", work / "one-{TYPE}.gguf", "--type", ",".join(MIXES), "--model-name", "m", "--no-sync", "--quiet")
    hashes = set()
    for mix in MIXES:
        chained, direct = work / f"chain-{mix}.gguf", work / f"quantize-{mix}.gguf"
        subprocess.run([options.llama_quantize, str(lossless), str(chained), mix, "2"], check=True, capture_output=True)
        ropewalk.run("quantize", lossless, direct, mix, "--no-sync", "--quiet")
        theirs = sha256(chained)
        hashes.add(theirs)
        checks.check(sha256(direct) == theirs, f"{dtype} base, {mix}: quantize has llama-quantize's bytes")
        checks.check(sha256(work / f"one-{mix}.gguf") == theirs, f"{dtype} base, {mix}: one pass has the chain's bytes")
    checks.check(len(hashes) == len(MIXES), f"{dtype} base, negative control: the mixes differ from each other")


def write_odd(path):
    """A model as gguf-py writes it: no general.file_type, a matrix of one row, a row of 300 columns."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1), writer.add_context_length(64), writer.add_embedding_length(256), writer.add_feed_forward_length(300)
    writer.add_head_count(4), writer.add_head_count_kv(2), writer.add_layer_norm_rms_eps(1e-5), writer.add_vocab_size(8)
    writer.add_tokenizer_model("llama"), writer.add_token_list([str(i) for i in range(8)]), writer.add_token_scores([0.0] * 8), writer.add_token_types([1] * 8)
    random = numpy.random.default_rng(1)
    shapes = {"token_embd": (8, 256), "output": (8, 256), "blk.0.attn_q": (256, 256), "blk.0.attn_k": (128, 256), "blk.0.attn_v": (128, 256),
              "blk.0.ffn_down": (256, 300), "blk.0.ffn_gate_inp_shexp": (1, 256), "blk.0.four": (1, 1, 2, 256)}
    for name, shape in shapes.items():
        writer.add_tensor(name + ".weight", random.standard_normal(shape).astype(numpy.float16))
    writer.add_tensor("output_norm.weight", numpy.ones(256, numpy.float32))
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file(), writer.close()


def compare_odd(ropewalk, checks, options, work):
    """Whole files of what convert never writes, and rules whose order counts."""
    write_odd(work / "odd.gguf")
    (work / "types.txt").write_text("attn_k=q6_K attn_q=q5_0")
    named, listed = ["--tensor-type", "attn_k=q4_0"], ["--tensor-type-file", str(work / "types.txt")]
    hashes = set()
    for what, words, kind in (("copy", [], "COPY"), ("mix", [], "Q4_K_M"), ("rules before a file", named + listed, "Q8_0"), ("a file before rules", listed + named, "Q8_0")):
        subprocess.run([options.llama_quantize, *words, str(work / "odd.gguf"), str(work / "theirs.gguf"), kind], check=True, capture_output=True)
        ropewalk.run("quantize", *words, work / "odd.gguf", work / "ours.gguf", kind, "--no-sync", "--quiet")
        hashes.add(sha256(work / "theirs.gguf"))
        checks.check(sha256(work / "ours.gguf") == sha256(work / "theirs.gguf"), f"a file of gguf-py, {what}: llama-quantize's bytes")
    checks.check(len(hashes) == 4, "negative control: those files differ from each other")


def main():
    options = arguments(["--llama-quantize"])
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    base = options.golden / FIXTURES / "models/tolstoy-4m-yarn-2k"
    adapter = options.golden / FIXTURES / "adapters/qlora-shakespeare"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        compare_odd(ropewalk, checks, options, folder)
        for dtype in ("f16", "bf16", "f32"):
            work = folder / dtype
            work.mkdir()
            stored = work / "base"
            ropewalk.run("merge", base, "-o", stored, "--dtype", dtype, "--no-sync", "--quiet")
            one_pass = work / "one-pass.gguf"
            ropewalk.run("convert", f"{stored}+{adapter}", "-o", one_pass, "--type", "q8_0", "--no-sync", "--quiet")
            merged = work / "merged"
            ropewalk.run("merge", f"{stored}+{adapter}", "-o", merged, "--no-sync", "--quiet")
            lossless = work / "lossless.gguf"
            ropewalk.run("convert", merged, "-o", lossless, "--type", dtype, "--no-sync", "--quiet")
            chained = work / "chained.gguf"
            subprocess.run([options.llama_quantize, str(lossless), str(chained), "Q8_0", "2"], check=True, capture_output=True)
            ours, theirs = tensors(one_pass), tensors(chained)
            different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
            checks.check(not different, f"{dtype} base: {len(theirs)} tensors equal llama-quantize's" + (f", but {different[:3]}" if different else ""))
            compare_mixes(ropewalk, checks, options, work, (f"{stored}+{adapter}", merged), dtype)
            plain = work / "plain.gguf"
            ropewalk.run("convert", stored, "-o", plain, "--type", "q8_0", "--no-sync", "--quiet")
            checks.check(tensors(plain) != theirs, f"{dtype} base, negative control: without the adapter they differ")
    checks.exit()


main()
