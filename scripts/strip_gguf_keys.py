#!/usr/bin/env python3
"""Removes key-value pairs from a GGUF by prefix of their names: strip_gguf_keys.py IN.gguf OUT.gguf PREFIX [PREFIX...]

It makes the file that a converter which drops those keys would have made.
"""
import sys

from gguf_editor import Gguf


def main():
    if len(sys.argv) < 4:
        raise SystemExit(__doc__.splitlines()[0])
    source, target, prefixes = sys.argv[1], sys.argv[2], sys.argv[3:]
    file = Gguf(source)
    removed = file.drop(prefixes)
    file.write(target)
    print("\n".join(removed))


main()
