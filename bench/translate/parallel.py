#!/usr/bin/env python3
"""Parallel text from Debian's packages: the Debian Reference, English and Portuguese.

    apt-get download debian-reference-en debian-reference-pt
    for d in debian-reference-*.deb; do dpkg -x $d reference; done
    parallel.py reference OUT      # writes OUT.en and OUT.pt, a sentence a line

Both manuals are made from one source, so their paragraphs stand in the same order. Kept are those
without markup inside that are one sentence of 5 to 60 words.
"""
import html
import pathlib
import re
import sys


def paragraphs(path):
    text = path.read_text(encoding="utf-8")
    return [re.sub(r"\s+", " ", p).strip() for p in re.findall(r"<p>(.*?)</p>", text, re.S)]


def pairs(folder, language):
    for english in sorted(pathlib.Path(folder).rglob("ch*.en.html")):
        other = next(pathlib.Path(folder).rglob(english.name.replace(".en.", f".{language}.")), None)
        left, right = paragraphs(english), paragraphs(other) if other else []
        if len(left) == len(right):
            yield from zip(left, right)


def main():
    folder, out = sys.argv[1], sys.argv[2]
    seen = set()
    with open(out + ".en", "w") as en, open(out + ".pt", "w") as pt:
        for left, right in pairs(folder, "pt"):
            if "<" in left or "<" in right or left == right or left in seen:
                continue
            if any(re.search(r"[.!?:] \S", side) for side in (left, right)):
                continue
            if not 5 <= len(left.split()) <= 60:
                continue
            seen.add(left)
            en.write(html.unescape(left) + "\n")
            pt.write(html.unescape(right) + "\n")
    print(len(seen), "pairs")


main()
