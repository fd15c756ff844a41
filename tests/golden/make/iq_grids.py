#!/usr/bin/env python3
"""Prints the tables of lib/codecs/iq_grids.h, read off ggml's own dequantizers (ctypes on libggml-base.so): a block whose
scale is known is decoded once for every index. usage: iq_grids.py LLAMA_CPP_BUILD_BIN"""
import ctypes, glob, os, struct, sys
import numpy as np

lib = ctypes.CDLL(sorted(glob.glob(os.path.join(sys.argv[1], "libggml-base.so.*.*.*")))[0])


def decode(name, block):
    out = np.empty(256, np.float32)
    getattr(lib, "dequantize_row_" + name)(bytes(block), out.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(256))
    return out


# Each: the block that has index `i` at its first group and no signs, elements of a group, what a level 1 is worth there.
def iq2_xxs(i): return struct.pack("<e", 8) + bytes([i]) + bytes(63)          # d * 0.5 * 0.25 = 1
def iq2_xs(i): return struct.pack("<eH", 8, i) + bytes(70)
def iq2_s(i): return struct.pack("<e", 8) + bytes([i & 255]) + bytes(63) + bytes([i >> 8]) + bytes(15)
def iq3_xxs(i): return struct.pack("<e", 4) + bytes([i]) + bytes(95)
def iq3_s(i): return struct.pack("<e", 1) + bytes([i & 255]) + bytes(63) + bytes([i >> 8]) + bytes(43)
def iq1_s(i): return struct.pack("<e", 1) + bytes([i & 255]) + bytes(31) + struct.pack("<H", i >> 8) + bytes(14)


LEVELS2, LEVELS3, ODD, SIGNED = [8, 25, 43], [4, 12, 20, 28, 36, 44, 52, 62], [1, 3, 5, 7, 9, 11, 13, 15], [-0.875, 0.125, 1.125]
for name, table, block, n, width, bits, levels in [
        ("iq2_xxs", "kIq2Xxs", iq2_xxs, 256, 8, 2, LEVELS2), ("iq2_xs", "kIq2Xs", iq2_xs, 512, 8, 2, LEVELS2),
        ("iq2_s", "kIq2S", iq2_s, 1024, 8, 2, LEVELS2), ("iq3_xxs", "kIq3Xxs", iq3_xxs, 256, 4, 3, LEVELS3),
        ("iq3_s", "kIq3S", iq3_s, 512, 4, 3, ODD), ("iq1_s", "kIq1", iq1_s, 2048, 8, 2, SIGNED)]:
    codes = [sum(levels.index(v) << bits * j for j, v in enumerate(decode(name, block(i))[:width])) for i in range(n)]
    assert len(set(codes)) == n, name
    print(f"ROPEWALK_TABLE std::uint16_t {table}[{n}] = {{")
    line = "   "
    for code in codes:
        item = f" {code},"
        if len(line) + len(item) > 120:
            print(line)
            line = "   "
        line += item
    print(line + "\n};")
