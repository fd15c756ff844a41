"""One pass equals the chain: `convert BASE+A --type T` has the tensors of merge, then convert, then the real llama-quantize, for f16, bf16 and f32 bases.

Of mixes the whole file is compared: keys, order and tensors."""
import hashlib
import pathlib
import subprocess
import tempfile

import gguf

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


def main():
    options = arguments(["--llama-quantize"])
    ropewalk, checks = Ropewalk(options.ropewalk), Checks()
    base = options.golden / FIXTURES / "models/tolstoy-4m-yarn-2k"
    adapter = options.golden / FIXTURES / "adapters/qlora-shakespeare"
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
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
