#!/usr/bin/env python3
"""q8_0 blocks by the real ggml (ctypes on libggml-base.so) and by gguf-py. usage: make_q8_0.py LLAMA_CPP_BUILD_BIN > tests/golden/q8_0/blocks.json"""
import ctypes, glob, importlib.metadata, json, os, struct, sys
import numpy as np
import gguf

path = sorted(glob.glob(os.path.join(sys.argv[1], "libggml-base.so.*.*.*")))[0]
lib = ctypes.CDLL(path)


def ggml(x):
    out = (ctypes.c_uint8 * (len(x) // 32 * 34))()
    lib.quantize_row_q8_0_ref(x.ctypes.data_as(ctypes.c_void_p), out, ctypes.c_int64(len(x)))
    return bytes(out)


def ggml_decode(blocks):
    out = np.empty(len(blocks) // 34 * 32, np.float32)
    lib.dequantize_row_q8_0(blocks, out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(len(out)))
    return out


def gguf_py(x):
    with np.errstate(all="ignore"):
        return gguf.quants.quantize(x.reshape(1, -1), gguf.GGMLQuantizationType.Q8_0).tobytes()


def stream(n_blocks):
    """Pseudo-random blocks that the test generates again: 24-bit values times a power of two by block."""
    state, out = 88172645463325252, np.empty((n_blocks, 32), np.float32)
    for block in range(n_blocks):
        for i in range(32):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            out[block, i] = np.float32(np.ldexp(float((state >> 40) - 2**23), block % 50 - 23 - 35))
    return out.reshape(-1)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


f32 = lambda *v: np.resize(np.array(v, np.float32), 32)
rng = np.random.default_rng(20240607)
with np.errstate(all="ignore"):
    cases = {
        "zeros": f32(0.0),
        "negative zeros": f32(-0.0),
        "ties at scale 1": np.concatenate([f32(127)[:1], np.arange(-15.5, 15.5, 1, dtype=np.float32)]),
        "ties at scale 1, large": np.concatenate([f32(-127)[:1], np.arange(95.5, 126.5, 1, dtype=np.float32)]),
        "just below and above ties": np.concatenate([f32(127)[:2], np.nextafter(np.arange(0.5, 15, 1, dtype=np.float32), np.float32(0)),
                                                     np.nextafter(np.arange(0.5, 15, 1, dtype=np.float32), np.float32(200)), f32(-0.49999997)[:1]])[:32],
        "one outlier": np.concatenate([f32(1e4)[:1], rng.standard_normal(31).astype(np.float32)]),
        "half subnormal scale": (rng.standard_normal(32) * 1e-4).astype(np.float32),
        "scale rounds to zero": (rng.standard_normal(32) * 1e-7).astype(np.float32),
        "float subnormal scale": (rng.standard_normal(32) * 1e-37).astype(np.float32),
        "inverse overflows": (rng.standard_normal(32) * 1e-38).astype(np.float32),
        "inverse overflows, zeros between": f32(0, 2e-38, -1e-38),
        "scale is zero in float": f32(1e-44, -3e-45),
        "scale at the largest half": f32(127 * 65504.0, 1e6, -3e5),
        "scale overflows half": f32(1e7, -1e6, 3),
        "largest float": f32(3.4028235e38, -1e38, 1e30),
        "infinity": f32(1, np.inf, -2),
        "nan first": np.concatenate([f32(np.nan)[:1], f32(1, -2, 3)[:31]]),
        "nan in the middle": np.concatenate([f32(5, 1, -2)[:16], f32(np.nan)[:1], f32(1, -2, 3)[:15]]),
        "nan last": np.concatenate([f32(1, -2, 3)[:31], f32(np.nan)[:1]]),
        "negative nan last": np.concatenate([f32(1, -2, 3)[:31], np.array([0xFFC12345], np.uint32).view(np.float32)]),
    }
    for i in range(12):
        cases[f"normal {i}"] = (rng.standard_normal(32) * 10.0 ** rng.integers(-4, 3)).astype(np.float32)
        cases[f"normal {i} as f16"] = cases[f"normal {i}"].astype(np.float16).astype(np.float32)

out = {"made_by": "make_q8_0.py", "ggml": os.path.basename(path).split(".so.")[1], "gguf": importlib.metadata.version("gguf"), "numpy": np.__version__, "blocks": []}
for name, x in cases.items():
    x = np.ascontiguousarray(x, np.float32)
    assert x.shape == (32,), name
    block = ggml(x)
    out["blocks"].append({"name": name, "x": x.tobytes().hex(), "ggml": block.hex(), "gguf": gguf_py(x).hex(), "decoded": ggml_decode(block).tobytes().hex()})
n = 5000
x = stream(n)
out["stream"] = {"n_blocks": n, "ggml_fnv1a": str(fnv1a(ggml(x))), "gguf_fnv1a": str(fnv1a(gguf_py(x))), "decoded_fnv1a": str(fnv1a(ggml_decode(ggml(x)).tobytes()))}
print(json.dumps(out, indent=1))
