#!/usr/bin/env python3
"""Where the tokenizers library's classes of characters are not utf8proc's: the tables of formats/tokenizers/library_unicode.cpp.

    tokenizers_classes.py           (tokenizers 0.23.3 and libutf8proc 2.8)

Every character from U+0080 is asked for, each alone between two letters.
"""
import ctypes

from tokenizers import normalizers
from tokenizers.pre_tokenizers import Digits, Punctuation, Whitespace

category = ctypes.CDLL("libutf8proc.so.2").utf8proc_category
CODES = [code for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
CATEGORY = {code: category(code) for code in CODES}
NFD = normalizers.NFD()


def show(name, theirs, ours):
    for label, codes in (("too", theirs - ours), ("not", ours - theirs)):
        ranges = []
        for code in sorted(codes):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
        print(name, label, ", ".join(f"{{0x{first:X}, 0x{last:X}}}" for first, last in ranges))


def splits(step):
    return {code for code in CODES if len(step.pre_tokenize_str("a" + chr(code) + "a")) > 1}


def drops(step):
    return {code for code in CODES if step.normalize_str("a" + chr(code) + "a") == "aa"}


def between(first, last):
    return {code for code in CODES if first <= CATEGORY[code] <= last}


def bert(**flags):
    return normalizers.BertNormalizer(**{**dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False), **flags})


alphabetic = {code for first, last in ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189), (0x200C, 0x200D)) for code in range(first, last + 1)}
whole = {code for code in CODES if NFD.normalize_str(chr(code)) == chr(code)}
show("punctuation", splits(Punctuation("isolated")), between(12, 18))
show("numeric", splits(Digits(True)), between(9, 11))
show("word", {code for code in CODES if len(Whitespace().pre_tokenize_str("a" + chr(code) + "a")) == 1}, between(1, 10) | between(12, 12) | alphabetic)
show("mark", drops(normalizers.StripAccents()), between(6, 8))
show("nonspacing", drops(bert(strip_accents=True)) & whole, between(6, 6) & whole)
show("other", drops(bert(clean_text=True)), between(26, 29) | {0xFFFD})
