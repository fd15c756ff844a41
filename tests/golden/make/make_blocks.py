#!/usr/bin/env python3
"""Blocks of every ggml type by the real ggml. usage: make_blocks.py BLOCKS LLAMA_CPP_BUILD_BIN OUT

BLOCKS is a folder with blocks.safetensors and blocks.json: 64 rows of 256 values, edge cases among them, and 4 rows of
1024, through ggml_quantize_chunk for every type, without and with importances. They are kept as they are (OUT/blocks.bin,
places in OUT/index.json). Added here, by ctypes on libggml-base.so: sha256 of what ggml decodes of those blocks and of
random bytes, and of what it encodes of a longer stream (rows() below). NaN count as 0x7fc00000 in hashes."""
import ctypes, glob, hashlib, json, os, struct, sys
import numpy as np

source, build, out = sys.argv[1:]
path = sorted(glob.glob(os.path.join(build, "libggml-base.so.*.*.*")))[0]
lib = ctypes.CDLL(path)
lib.ggml_quantize_chunk.restype = ctypes.c_size_t
lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
IDS = {"Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ2_XXS": 16, "IQ2_XS": 17,
       "IQ3_XXS": 18, "IQ1_S": 19, "IQ4_NL": 20, "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23, "IQ1_M": 29, "TQ1_0": 34, "TQ2_0": 35, "MXFP4": 39, "NVFP4": 40, "Q1_0": 41, "Q2_0": 42}
SIZES = {"Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144),
         "Q5_K": (256, 176), "Q6_K": (256, 210), "IQ2_XXS": (256, 66), "IQ2_XS": (256, 74), "IQ3_XXS": (256, 98), "IQ1_S": (256, 50), "IQ4_NL": (32, 18),
         "IQ3_S": (256, 110), "IQ2_S": (256, 82), "IQ4_XS": (256, 136), "IQ1_M": (256, 56), "TQ1_0": (256, 54), "TQ2_0": (256, 66), "MXFP4": (32, 17),
         "NVFP4": (64, 36), "Q1_0": (128, 18), "Q2_0": (64, 18)}
COLUMNS, ROWS, RANDOM = 1024, 192, 1 << 18


def noise(seed, n):
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def rows():
    """Eight kinds of rows in turn; f is a sum of four uniform variables, near normal, and exact."""
    u, v = noise(7, ROWS * COLUMNS).reshape(ROWS, COLUMNS), noise(8, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    s = sum(((u >> np.uint64(16 * k)) & np.uint64(0xFFFF)).astype(np.int64) for k in range(4)) - 131070
    x = np.empty((ROWS, COLUMNS), np.float64)
    for r in range(ROWS):
        f, e = s[r] * 2.0**-15, 2.0 ** (r // 8 % 24 - 16)
        low = (v[r] & np.uint64(15)).astype(np.int64)
        x[r] = [f * e, np.abs(f) * e, -np.abs(f) * e, np.where(low < 2, f, 0), 1 + f * 2.0**-6, f * 2.0 ** (low - 8.0), (s[r] >> 14) * e, f * 2.0**-130][r % 8]
    return x.astype(np.float32)


def importances():
    u = noise(9, COLUMNS)
    return np.where(u >> np.uint64(60) == 0, 0, (u & np.uint64(0xFFFF)).astype(np.float64) * 2.0**-12).astype(np.float32)


def decode(name, data):
    elements, size = SIZES[name]
    x = np.empty(len(data) // size * elements, np.float32)
    getattr(lib, "dequantize_row_" + name.lower().replace("_k", "_K"))(bytes(data), x.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(x)))
    return x


def encode(name, x, weights=None):
    elements, size = SIZES[name]
    data = (ctypes.c_uint8 * (x.size // elements * size))()
    n = lib.ggml_quantize_chunk(IDS[name], x.ctypes.data, ctypes.addressof(data), 0, x.shape[0], x.shape[1], None if weights is None else weights.ctypes.data)
    assert n == len(data)
    return bytes(data)


def sha(values):
    bits = values.view(np.uint32).copy()
    bits[np.isnan(values)] = 0x7FC00000
    return hashlib.sha256(bits.tobytes()).hexdigest()


file = open(os.path.join(source, "blocks.safetensors"), "rb").read()
n = struct.unpack("<Q", file[:8])[0]
header, data = json.loads(file[8:8 + n]), file[8 + n:]
notes = json.load(open(os.path.join(source, "blocks.json")))
tensors, packed = {}, b""
for name, tensor in header.items():
    kind = name.split("/")[-1]
    if name == "__metadata__" or kind in ("deq", "valid", "ref") or name.split("/")[0] in ("F16", "BF16"):
        continue
    begin, end = tensor["data_offsets"]
    tensors[name] = {"offset": len(packed), "shape": tensor["shape"]}
    packed += data[begin:end]
index = {"made_by": "make_blocks.py", "ggml": os.path.basename(path).split(".so.")[1], "row_names": notes["row_names"], "tensors": tensors, "types": {}}
x, weights, random = rows(), importances(), noise(1, RANDOM // 8).tobytes()
for name, (elements, size) in SIZES.items():
    info = notes["info"][name]
    same = info.get("imp") == "same bytes as without importances"
    entry = {"importances": "ignored" if same else "required" if info["none"].startswith("needs") else "used",
             "decoded": {key.split("/")[1]: sha(decode(name, packed[t["offset"]:t["offset"] + t["shape"][0] * t["shape"][1]]))
                         for key, t in tensors.items() if key.split("/")[0] == name},
             "decoded_random": sha(decode(name, random[:len(random) // size * size])),
             # rows that make ggml assert have zeros for blocks
             "aborting_rows": {k[:-len("_aborting_rows")]: v for k, v in info.items() if k.endswith("_aborting_rows")},
             "invalid_rows": info["invalid_rows"]}
    for key, t in tensors.items():
        if key.startswith(name + "/"):  # the dequantised values that came with the blocks agree with those made here
            deq = header.get(name + "/deq")
            if key.endswith("/none" if name + "/none" in tensors else "/imp") and deq:
                begin, end = deq["data_offsets"]
                here = packed[t["offset"]:t["offset"] + t["shape"][0] * t["shape"][1]]
                assert sha(np.frombuffer(data[begin:end], np.float32)) == sha(decode(name, here)), key
    if entry["importances"] != "required":
        entry["stream"] = hashlib.sha256(encode(name, x)).hexdigest()
    if not same:
        entry["stream_weighted"] = hashlib.sha256(encode(name, x, weights)).hexdigest()
    index["types"][name.lower()] = entry
os.makedirs(out, exist_ok=True)
open(os.path.join(out, "blocks.bin"), "wb").write(packed)
json.dump(index, open(os.path.join(out, "index.json"), "w"), indent=1)
