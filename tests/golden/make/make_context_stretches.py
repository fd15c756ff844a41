"""The eight stretches of held-out tokens behind fixtures/goldens/context.json, by the real sentencepiece.

    python make_context_stretches.py TOKENIZER.model WAR-AND-PEACE.txt TINYSHAKESPEARE.txt > context_stretches.json

As the script that made context.json cuts them: the last 8 % of each text from the next line end on, tokenised one after the other without special tokens into one stream,
and from it eight stretches of 2048 evenly spaced. Made with sentencepiece 0.2.3 and tolstoy-4m's tokenizer.model (all three tolstoy models have the same).
"""
import json
import sys

import sentencepiece as spm

LONGEST, STRETCHES, HELD_OUT = 2048, 8, 0.08


def main():
    tokenizer, *texts = sys.argv[1:]
    sp = spm.SentencePieceProcessor(model_file=tokenizer)
    stream = []
    for path in texts:
        body = open(path, encoding="utf-8").read()
        stream += sp.encode(body[body.index("\n", int(len(body) * (1 - HELD_OUT))) + 1:])
    last = len(stream) - LONGEST
    starts = [int(last * i / (STRETCHES - 1)) for i in range(STRETCHES)]
    json.dump({"made_by": "make_context_stretches.py, sentencepiece " + spm.__version__, "stream_tokens": len(stream), "starts": starts,
               "stretches": [stream[s:s + LONGEST] for s in starts]}, sys.stdout, separators=(",", ":"))


main()
