#!/usr/bin/env python3
"""Where the tokenizers library's classes of characters are not utf8proc's: the tables of formats/tokenizers/library_unicode.cpp.

    tokenizers_classes.py           (tokenizers 0.23.3 and libutf8proc 2.8)

Every character from U+0080 is asked for, each alone between two letters; for the normal forms alone and beside marks of every kind.
"""
import ctypes

from tokenizers import normalizers
from tokenizers.pre_tokenizers import Digits, Punctuation, Whitespace

library = ctypes.CDLL("libutf8proc.so.2")
category = library.utf8proc_category
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


# one of each class that orders or combines
MARKS = "\u0334\u093c\u3099\u094d\u05b0\u0327\u031b\u1dce\u0323\u302e\u0301\u0315\u035c\u0360\u0345"
STABLE, COMPATIBLE, COMPOSE, DECOMPOSE = 2, 4, 8, 16  # UTF8PROC_...
FORMS = [(normalizers.NFC(), COMPOSE), (NFD, DECOMPOSE), (normalizers.NFKC(), COMPOSE | COMPATIBLE), (normalizers.NFKD(), DECOMPOSE | COMPATIBLE)]
libc = ctypes.CDLL(None)
libc.free.argtypes = [ctypes.c_void_p]


def form(text, how):
    data, out = text.encode(), ctypes.c_void_p()
    size = library.utf8proc_map(data, ctypes.c_ssize_t(len(data)), ctypes.byref(out), how | STABLE)
    whole = ctypes.string_at(out, size).decode()
    libc.free(out)
    return whole


def other_form(code):
    mark = 6 <= CATEGORY[code] <= 8
    text = chr(code) + "".join("q" + chr(code) + one + "q" + one + chr(code) for one in MARKS if mark)
    return any(theirs.normalize_str(text) != form(text, how) for theirs, how in FORMS)


alphabetic = {code for first, last in ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189), (0x200C, 0x200D)) for code in range(first, last + 1)}
whole = {code for code in CODES if NFD.normalize_str(chr(code)) == chr(code)}
show("punctuation", splits(Punctuation("isolated")), between(12, 18))
show("numeric", splits(Digits(True)), between(9, 11))
show("word", {code for code in CODES if len(Whitespace().pre_tokenize_str("a" + chr(code) + "a")) == 1}, between(1, 10) | between(12, 12) | alphabetic)
show("mark", drops(normalizers.StripAccents()), between(6, 8))
show("nonspacing", drops(bert(strip_accents=True)) & whole, between(6, 6) & whole)
show("other", drops(bert(clean_text=True)), between(26, 29) | {0xFFFD})
for code in CODES:
    theirs, ours = normalizers.Lowercase().normalize_str(chr(code)), chr(library.utf8proc_tolower(code))
    if theirs != ours:
        print(f"lowercase {{0x{code:X}, 0x{code:X}, {ord(theirs[0]) - code}}}" + (" and more" if len(theirs) > 1 else ""))
# U+11930 combines with U+11935 since Unicode 13
show("forms", {code for code in CODES if other_form(code)} | {0x11930}, set())
