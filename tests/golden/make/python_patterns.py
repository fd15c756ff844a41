#!/usr/bin/env python3
"""python_patterns.json: what Python's re matches with some hundred expressions, written by hand and drawn from its syntax.

  subjects  the texts
  patterns  [EXPRESSION, BEGIN, WHOLE]: for each subject 1 where re.match (re.fullmatch) matches, else 0;
            [EXPRESSION] alone is none for re

  python python_patterns.py OUT.json     with Python 3.11
"""
import json
import random
import re
import sys
import warnings

warnings.filterwarnings("ignore")

SUBJECTS = ["a", "A", "aa", "ab", "aab", "b1", "12", "a{,3}", "a.b", "a-b", "[a]", " ", "a b", "\n", "a\n", "\x1c", "_",
            "q_proj", "x.q_proj", "model.layers.0.self_attn.q_proj", "model.layers.11.mlp.down_proj", "\x00", "S", "]a:"]
BY_HAND = r"""
.*layers\.\d{,2}\.self_attn\.q_proj|(.*\.)?(layers\.\d{,3}\.self_attn\.q_proj)$|a{,}|a{}|a{,3}|a{2}|a{1,}|a{ 1}|a{1, 2}|a{,1}?b
a{,1}+b|a++b|a*+a|(?>a+)a|(?>a|aa)b|a**|a*??|a+?|a?+|a*?+|{,3}|x{2,1}|^*|$+|\b?|()*|(?:)*|(?=a)*a|(|)|)|[|[]a]+|[^]a]+|[[:alpha:]]+
[[:alpha:]|[a-]|[a-\d]|[\d-a]|[b-a]|[\w.]+|[\W]|[\s]|[\S]+|[^\s]|[^\S]|\s|\S|(?a)\s|(?a:\s)|(?a)[\S]|(?a:[^\S])|(?u:\s)|(?au)a|(?L)a
\Z|a\Z|\z|\h|\R|\K|\Q.\E|\G|\C|\X|\N|\N{DIGIT ONE}|\p{L}|\o{1}|\e|\cA|\x61|\x6|\x{61}|\u0061|\u61|\U00000061|\U00110000|\141|\07|\0|\8
\400|\1|(a)\1|(a)\1?b|(a|\1)|(?P<n>a)(?P=n)|(?P=n)|(?P<n>a)(?P<n>b)|(?P<1>a)|(?<n>a)|(?P>n)|(?'n'a)|(?&n)|(?R)|(?1)|(?|a)|(?C1)|(*F)a|(*ACCEPT)
(?P<idx>\d)?a|(a)?(?(1)a|b)|(a)?(?(1)a)|(?P<n>a)?(?(n)b|a)|(?(2)a|b)|(?(n)a)|(?(0)a)|(?(R)a)|(?(DEFINE)a)|(?(?=a)a|b)|(a)(?(1)a|b|c)
(?i)Q_PROJ|(?i:Q)_proj|(?-i:a)|(?i)(?-i:a)B|a(?i)b|(?i)a|(a(?i)b)|(?x) a b # comment|(?x)a\ b|(?x)a #|(?x: a b )|(?x:a(?-x: )b)|(?x)a {2}|(?x)a{ 2}|(?x)[ ]
(?x)a * ?|(?s).|.|(?m)^|(?m)a$|a$|(?s)a.|(?im-s:A)|(?i-i:a)|(?-a:a)|(?-)|(?)|(?i|(?z)|(?J)a|(?U)a+|(?n)a|(?^)a|(?xx)a|(?#c)a|a(?#c)*|a*(?#c)?|(?#c
.*\.(?#c)q_proj|(?<=a)b|a(?<=a)b|(?<!a)b|(?<=a|ab)b|(?<=a*)b|(?<=a|b).?|.(?<=(a))\1|(?!a).|(?!)|a(?!b)|a\|\||\||a\.b|a\-b|\_|\-|\ |\
[\b]|[\A]|[\Z]|[\B]|[\141]|[\400]|[\8]|[\x61-\x62]|[\u0061]|[\N{DIGIT ONE}]|[\q]|[a\]b]+|[a&&b]+|[a--b]|[^^]|[^a^]|[]|[^]|[a-z&&[^v]]_proj|.*q_proj
(?:(?:a)|b)+|(a)(b)?\2|(a*)*|(a*)+b|(?:a|b)*?b|((((a))))\4|(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)\10|[Z-a]|(?i)[Z-a]|(?i)[^a]|(?i)[Z-_]|\D\d|\w+\W|\Bb|\ba\b|(?a)\b|é|(?i)é|[é-ü]|\ud800
(?P<é>a)|(?P<n|(?P<>a)|(?P|(?|(?=|(?<|(?<a|(?:a|a{70000}|a{99999999999}|(?s:.)\n|\N{|a#b|(?x)a#b
""".strip("\n")


def by_hand():
    """The lines' parts: `|` parts them where the part so far is an expression, or none whatever follows on the line."""
    for line in BY_HAND.split("\n"):
        for one in line.split("|"):
            yield one
        yield line
        parts = line.split("|")
        for first, second in zip(parts, parts[1:]):
            yield first + "|" + second


TOKENS = [*"ab1_.^$|()[]{}*+?-,&~: \\", "\n", "a", "a", "b", "(a)", "(?:", "(?P<n>", "(?P=n)", "(?P<idx>", "(?=", "(?!", "(?<=", "(?<!",
          "(?>", "(?i)", "(?i:", "(?x)", "(?x:", "(?a:", "(?s:", "(?m)", "(?-i:", "(?#", "(?(1)", "(?(n)", "{,2}", "{1,2}", "{2}", "{,}",
          r"\d", r"\w", r"\s", r"\S", r"\W", r"\D", r"\b", r"\B", r"\A", r"\Z", r"\z", r"\1", r"\2", r"\01", r"\141", r"\x61", r"\u0061", r"\h",
          r"\Q", r"\E", r"\K", "[a-", "[^", "[[:alpha:]]", "]", "[ab]", "+", "*", "?", "#", ")", ")", ")", "]", r"\.", "a+", ".*", "q_proj"]


def answer(pattern):
    try:
        code = re.compile(pattern)
    except Exception:
        return [pattern]
    return [pattern] + ["".join("01"[bool(match(text))] for text in SUBJECTS) for match in (code.match, code.fullmatch)]


def main():
    draw = random.Random(8)
    drawn = ("".join(draw.choice(TOKENS) for _ in range(draw.randint(1, 7))) for _ in range(20000))
    known, valid, wrong = set(), 0, 0
    patterns = []
    for one in by_hand():
        if one not in known:
            known.add(one)
            patterns.append(answer(one))
    for one in drawn:
        found = answer(one)
        good = len(found) == 3
        if one in known or (valid if good else wrong) >= (350 if good else 120):
            continue
        known.add(one)
        valid, wrong = valid + good, wrong + (not good)
        patterns.append(found)
    lines = ",\n".join(json.dumps(one) for one in patterns)
    with open(sys.argv[1], "w") as file:
        file.write('{"subjects": %s,\n"patterns": [\n%s\n]}\n' % (json.dumps(SUBJECTS), lines))


main()
