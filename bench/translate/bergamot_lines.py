#!/usr/bin/env python3
"""bench_translate's peer: PyPI's bergamot (wheels up to Python 3.10) on the same model and lines.

    bergamot_lines.py MODEL_FOLDER [batch|single [rounds]] < lines > translations
"""
import glob
import importlib.util
import os
import sys
import time

# The package itself asks the network for a list of models; its native part does not.
sys.path.insert(0, os.path.dirname(importlib.util.find_spec("bergamot").origin))
import _bergamot as native


def main():
    folder, batch = sys.argv[1], sys.argv[2:3] != ["single"]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    config = open(glob.glob(folder + "/config*.yml")[0]).read().replace("relative-paths: true\n", "")
    for name in ("model.", "vocab.", "lex."):
        config = config.replace(f"- {name}", f"- {folder}/{name}")
    begin = time.time()
    service = native.Service(native.ServiceConfig(numWorkers=1, cacheSize=0, logLevel="off"))
    model = service.modelFromConfig(config + "\nmax-length-break: 128\nmini-batch-words: 1024\n")
    print(f"loaded in {(time.time() - begin) * 1e3:.0f} ms", file=sys.stderr)
    options = native.ResponseOptions(qualityScores=False, sentenceMappings=False)
    lines, best = sys.stdin.read().splitlines(), 1e9
    for _ in range(rounds):
        begin = time.time()
        if batch:
            answers = service.translate(model, native.VectorString(lines), options)
            out = [answer.target.text for answer in answers]
        else:
            ask = lambda line: service.translate(model, native.VectorString([line]), options)[0]
            out = [ask(line).target.text for line in lines]
        best = min(best, time.time() - begin)
    words = sum(len(line.split()) for line in lines)
    print("\n".join(out))
    print(f"{len(lines)} lines, {words} words: {best:.3f} s, {best / len(lines) * 1e3:.2f} ms a line, "
          f"{words / best:.0f} words/s", file=sys.stderr)


main()
