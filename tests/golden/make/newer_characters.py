#!/usr/bin/env python3
"""Where the tokenizers library's regular expressions take a character otherwise than PCRE2: formats/tokenizers/newer_characters.cpp's tables, and the golden newer_characters.json.

    newer_characters.py table             (tokenizers 0.23.3, which has Oniguruma with Unicode 16.0; libpcre2-8 10.42 with Unicode 14.0; fontTools for the names of scripts)
    newer_characters.py golden FOLDER     (tokenizers; Python 3.11's Unicode 14.0; FOLDER has gpt2.json and qwen2.5.json, those of tokenizer_json.tar.zst)

Every property is asked about every character, in one text of all of them. Both programs must differ by characters of the later versions alone, or the table says so by itself.
"""
import ctypes
import json
import pathlib
import sys
import unicodedata

from tokenizers import Regex, normalizers
from tokenizers.pre_tokenizers import Split

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
ALL = "".join(map(chr, CODES))
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split()
BINARY = "Alphabetic Uppercase Lowercase Emoji Ideographic Math Emoji_Presentation Extended_Pictographic Emoji_Modifier".split()


def library(pattern, text=ALL):
    """Characters of `text` that the library's regular expression matches, each alone."""
    rest = Split(Regex(pattern), "removed").pre_tokenize_str(text)
    out, at = set(), 0
    for _, (begin, end) in rest + [("", (len(text), len(text)))]:
        out.update(map(ord, text[at:begin]))
        at = end
    return out


class Pcre2:
    UTF, UCP, CASELESS, NO_CHECK = 0x80000, 0x20000, 0x8, 0x40000000

    def __init__(self):
        self.lib = ctypes.CDLL("libpcre2-8.so.0")
        for name in ("compile", "match_data_create", "get_ovector_pointer"):
            getattr(self.lib, f"pcre2_{name}_8").restype = ctypes.c_void_p
        self.data = ctypes.c_void_p(self.lib.pcre2_match_data_create_8(2, None))
        self.place = ctypes.cast(self.lib.pcre2_get_ovector_pointer_8(self.data), ctypes.POINTER(ctypes.c_size_t))

    def __call__(self, pattern, text=ALL, caseless=False):
        """None if the pattern is refused."""
        source, subject = pattern.encode(), text.encode()
        error, at, out = ctypes.c_int(), ctypes.c_size_t(), set()
        code = self.lib.pcre2_compile_8(source, ctypes.c_size_t(len(source)), ctypes.c_uint32(self.UTF | self.UCP | (self.CASELESS if caseless else 0)), ctypes.byref(error), ctypes.byref(at), None)
        if not code:
            return None
        code, begin = ctypes.c_void_p(code), 0
        while self.lib.pcre2_match_8(code, subject, ctypes.c_size_t(len(subject)), ctypes.c_size_t(begin), ctypes.c_uint32(self.NO_CHECK), self.data, None) > 0:
            begin = self.place[1]
            out.update(map(ord, subject[self.place[0]:begin].decode()))
        self.lib.pcre2_code_free_8(code)
        return out


def ranges(codes):
    out = []
    for code in sorted(codes):
        if out and out[-1][1] == code - 1:
            out[-1][1] = code
        else:
            out.append([code, code])
    return out


def table():
    from fontTools.unicodedata import Scripts
    pcre2 = Pcre2()
    rows = {}  # code: {column: value}
    for category in CATEGORIES:
        theirs, ours = library(rf"\p{{{category}}}+"), pcre2(rf"\p{{{category}}}+")
        for code in theirs - ours:
            rows.setdefault(code, {})["now"] = category
        for code in ours - theirs:
            rows.setdefault(code, {})["was"] = category
    scripts = {}
    for short, name in Scripts.NAMES.items():
        try:
            theirs = library(rf"\p{{{name}}}+")
        except Exception:
            print("//", name, "is not known to the library", file=sys.stderr)
            continue
        ours = pcre2(rf"\p{{sc:{name}}}+")
        fresh = ours is None
        for code in theirs - (ours or set()):
            rows.setdefault(code, {})["script"] = name
            scripts[name] = (short, fresh)
        for code in (ours or set()) - theirs:
            rows.setdefault(code, {})["left"] = name
    for name in BINARY:
        theirs, ours = library(rf"\p{{{name}}}+"), pcre2(rf"\p{{{name}}}+")
        for code in theirs ^ ours:
            rows.setdefault(code, {})[name] = code in theirs
    merged = []
    for code, row in sorted(rows.items()):
        assert row.pop("left", "Unknown") == "Unknown" and all(row.get(name, True) for name in BINARY), (code, row)
        if merged and merged[-1][1] == code - 1 and merged[-1][2] == row:
            merged[-1][1] = code
        else:
            merged.append([code, code, row])
    return merged, scripts


def loose(name):
    return name.replace("_", "").lower()


def print_table():
    merged, scripts = table()
    items = []
    for first, last, row in merged:
        flags = " | ".join("k" + name.replace("_", "") for name in BINARY if name in row) or "0"
        items.append(f'{{0x{first:X}, 0x{last:X}, "{row.get("was", "").lower()}", "{row.get("now", "").lower()}", "{loose(row.get("script", ""))}", {flags}}}')
    print(",\n".join("    " + item for item in items))
    print(",\n".join(f'    {{"{loose(name)}", "{short.lower()}", {str(fresh).lower()}}}' for name, (short, fresh) in sorted(scripts.items())))
    # the cases of a letter, each on a line of its own: "ss" is a case of sharp s to the library
    cased = [chr(code) for code in CODES if chr(code).lower() != chr(code) or chr(code).upper() != chr(code) or chr(code).casefold() != chr(code) or any(first <= code <= last for first, last, _ in merged)]
    text, pcre2 = "\n".join(cased), Pcre2()
    for one in cased:
        pattern = rf"\x{{{ord(one):x}}}"
        for other in sorted(library("(?i)" + pattern, text) - pcre2(pattern, text, caseless=True) - {10}):
            if other > ord(one):
                print(f"    {{0x{ord(one):X}, 0x{other:X}}},")


PATTERNS = [
    *(rf"\p{{{name}}}" for name in CATEGORIES + ["L", "M", "N", "P", "S", "Z", "C", "LC"]),
    *(rf"\p{{{name}}}" for name in ("Letter", "Han", "Hani", "Latin", "Cyrillic", "Kawi", "Tulu_Tigalari", "garay", "Common", "Unknown", "Alphabetic", "Lowercase", "Emoji", "Ideographic")),
    r"\P{L}", r"\p{^L}", r"\P{Cn}", r"\P{Mn}", r"\P{Kawi}", r"\w", r"\W", r"\d", r"\D", r"\s", r"\S", r"[\w]", r"[^\w]", r"[\W]", r"[^\W\d]",
    r"[^\s\p{L}\p{N}]", r"[^\r\n\p{L}\p{N}]", r"[^\P{L}]", r"[^\P{Mn}x]", r"[\p{Mn}\p{Cn}a]", r"[\P{Nd}1]", r"[\p{L}&&[^\p{Lu}\p{Han}]]", r"[\p{L}&&\p{^Lo}]", r"[一-龥\p{Emoji}]",
    r"(?i)ɤ", r"(?i)\x{A7DC}", r"(?i)[ɐ-ʯ]", r"(?i)[^\x{10D70}-\x{10D7F}]", r"(?i:\x{1C89})", r"(?-i:ɤ)|(?i)ƛ",
    r"(?<=\p{L})\p{N}|\b\p{So}", r"a\B.", r"\b.",
]
# a letter of each script, marks, digits, signs, emoji of Unicode 15.0, 15.1 and 16.0
NOTABLE = "\u0897\u1b4e\u1c89\u1c8a\u2427\u2ffc\u31ef\ua7cb\ua7dc\U000105c0\U00010d40\U00010d50\U00010d69\U00011f04\U00011f36\U0001342f\U00013460\U00016d40\U0001cc00\U0001ccf0\U0001e030\U0001e4d0\U0001fa75\U0001fae9\U0002ebf0\U00031350"


def print_golden():
    """Which characters each pattern matches, a bit each behind a leading 1; and ids of two published vocabularies."""
    assert unicodedata.unidata_version == "14.0.0"
    newer = {code for code in CODES if unicodedata.category(chr(code)) == "Cn"} - library(r"\p{Cn}+")
    asked = {ord(one) for one in "aZ1² _\n٣é\u0301\u0363\U0001171e中ɤƛ\ufb05\ufb06\u3000🙂"}
    for first, last in ranges(newer):
        asked |= {first - 1, first, (first + last) // 2, last, last + 1}
    text = "".join(map(chr, sorted(asked)))

    def bits(pattern):
        matched = library(pattern, text)
        return f"{int('1' + ''.join(str(int(ord(one) in matched)) for one in text), 2):x}"

    out = {"made with": "tests/golden/make/newer_characters.py golden: tokenizers 0.23.3", "text": text, "matches": {pattern: bits(pattern) for pattern in PATTERNS}}
    written = "".join(f"a{one}'s {one}{one} 1{one}" for one in NOTABLE)
    out["words"] = written
    out["lower case"] = normalizers.Lowercase().normalize_str(text)
    out["ids"] = {}
    for name in ("gpt2", "qwen2.5"):
        import tokenizers
        real = tokenizers.Tokenizer.from_file(str(pathlib.Path(sys.argv[2]) / f"{name}.json"))
        out["ids"][name] = real.encode(written, add_special_tokens=False).ids
    print(json.dumps(out, ensure_ascii=False, separators=(",", ":")).replace('","', '",\n"'))


if __name__ == "__main__":
    print_golden() if sys.argv[1] == "golden" else print_table()
