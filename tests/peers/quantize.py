"""One pass equals the chain: `convert BASE+A --type q8_0` has the tensors of merge, then convert, then the real llama-quantize, for f16, bf16 and f32 bases."""
import hashlib
import pathlib
import subprocess
import tempfile

import gguf

from support import Checks, FIXTURES, Ropewalk, arguments


def tensors(path):
    return {tensor.name: (int(tensor.tensor_type), [int(n) for n in tensor.shape], hashlib.sha256(tensor.data.tobytes()).hexdigest())
            for tensor in gguf.GGUFReader(str(path)).tensors}


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
            plain = work / "plain.gguf"
            ropewalk.run("convert", stored, "-o", plain, "--type", "q8_0", "--no-sync", "--quiet")
            checks.check(tensors(plain) != theirs, f"{dtype} base, negative control: without the adapter they differ")
    checks.exit()


main()
