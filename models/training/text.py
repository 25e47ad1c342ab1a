"""Sentences, words and files, as every step of the training needs them."""

import gzip
import json
import lzma
import re

ABBREVIATIONS = set(
    """mr mrs ms dr prof st jr sr vs etc e.g i.e fig figs no vol al inc ltd co corp u.s u.k u.n d.c gen sen rep gov lt col
    capt ca c cf approx dept est p pp a.m p.m ph.d b.c a.d b.c.e c.e mt ft jan feb mar apr jun jul aug sep sept oct nov
    dec""".split()
)
SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])")


def sentences(text):
    out, start = [], 0
    for match in SENTENCE_END.finditer(text):
        last = re.split(r"[\s(\[\"']", text[start : match.start() + 1])[-1].rstrip(".").lower()
        if text[match.start()] == "." and (last in ABBREVIATIONS or re.fullmatch(r"[a-z]", last)):
            continue
        out.append(text[start : match.end()].strip())
        start = match.end()
    if text[start:].strip():
        out.append(text[start:].strip())
    return out


def open_text(path):
    path = str(path)
    if path.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    if path.endswith(".xz"):
        return lzma.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def read_jsonl(path):
    with open_text(path) as lines:
        return [json.loads(line) for line in lines]
