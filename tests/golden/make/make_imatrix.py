"""tests/golden/imatrix.tar.zst: importance matrices by the real llama-imatrix (llama.cpp 0.5, Linux x86-64).

    make_imatrix.py ROPEWALK LLAMA_IMATRIX FIXTURES OUT
FIXTURES: the folder the archive fixtures.tar.zst unpacks to. The models become f32 GGUFs by ROPEWALK (their bytes are those of the converter, see tests/golden/gguf); keys
and values in f32, no flash attention, one thread: what is left is the engine's float32 arithmetic. Then: tar --zstd --sort=name --owner=0 --group=0 --mtime=@0 -cf imatrix.tar.zst -C OUT .
"""
import json
import pathlib
import shutil
import subprocess
import sys

RUNS = {  # the file: its model, its arguments
    "yarn.gguf": ("tolstoy-4m-yarn-2k", "-f doc-1.txt -c 512 --chunks 3 --process-output"),  # three chunks at once: 6 tokens of the last piece are not looked at
    "chunks.gguf": ("stories260K", "-f doc-1.txt -c 100 --chunk 2 --chunks 9"),
    "batches.dat": ("stories260K", "-f doc-2.txt -c 130 -b 64 -ub 32 --chunks 5 --output-format dat"),  # chunks of 64, 64 and 2 tokens, the last not looked at
    "both.gguf": ("stories260K", "-c 100 --in-file chunks.gguf,batches.dat"),
    "both.dat": ("stories260K", "-c 100 --in-file chunks.gguf,batches.dat --output-format dat"),
    "added.gguf": ("stories260K", "-f doc-3.txt -c 100 --chunks 4 --in-file chunks.gguf"),
}
README = """Importance matrices by llama-imatrix of llama.cpp 0.5 (llama-cpp-python 0.3.36, Linux x86-64, GGML_NATIVE=OFF), and what it printed. `index.json`: the model (a folder of fixtures/models, as an
f32 GGUF), the arguments without `-m` and `-o`, the final perplexity. Texts are fixtures/goldens/perplexity. Made by make/make_imatrix.py.
"""


def main():
    ropewalk, tool, fixtures, out = [pathlib.Path(word).resolve() for word in sys.argv[1:]]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    work = out.parent / "imatrix-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for text in (fixtures / "goldens/perplexity").glob("*.txt"):
        shutil.copy(text, work)
    index = {}
    for name, (model, words) in RUNS.items():
        if not (work / f"{model}.gguf").exists():
            subprocess.run([ropewalk, "convert", fixtures / "models" / model, "-o", work / f"{model}.gguf", "--type", "f32", "--quiet"], check=True)
        command = [tool, *words.split(), "-m", f"{model}.gguf", "-o", name, "-t", "1", "-ctk", "f32", "-ctv", "f32", "-fa", "off"]
        done = subprocess.run([str(word) for word in command], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
        final = [line.split("PPL = ")[1].split(" +/-")[0] for line in done.stdout.splitlines() if "Final estimate" in line]
        index[name] = {"model": model, "arguments": words, "perplexity": float(final[0]) if final else None}
        shutil.copy(work / name, out)
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    (out / "README.md").write_text(README)
    shutil.rmtree(work)


main()
