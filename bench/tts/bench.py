#!/usr/bin/env python3
"""Speech synthesis, us and piper-tts in turn.

bench.py --bench BINARY --model FOLDER [--rounds N] [--threads N] [--python PYTHON]

Both programs are started once and then take turns, so that a busy machine is busy for each. Printed are
medians of wall and CPU time, of the wall time until the first sound, peak memory, and the ratio of CPU
times, us / peer: below 1 we are ahead. PYTHON must have piper-tts==1.8.0.
"""
import argparse
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SENTENCES = {
    "short": "The train to the coast leaves from platform nine.",
    "long": "When the rain had stopped and the wind had gone down, the old fisherman pushed his boat into the "
            "water, lit his pipe, and rowed slowly out to the place where he had left his nets the night before.",
}


class Program:
    def __init__(self, name, command):
        self.name, self.results = name, []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.run()  # warm up
        self.results.clear()

    def run(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.results.append([float(x) for x in self.process.stdout.readline().split()])

    def median(self, column):
        return statistics.median(r[column] for r in self.results)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--bench", required=True)
parser.add_argument("--model", required=True)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--threads", default="1")
parser.add_argument("--python", default=sys.executable)
args = parser.parse_args()

print("| sentence | program | speech s | wall s | CPU s | first sound s | peak MB | us / it, CPU |")
print("|---|---|---|---|---|---|---|---|")
for label, sentence in SENTENCES.items():
    programs = [Program("dragoman f32", [args.bench, args.model, sentence, args.threads]),
                Program("piper-tts", [args.python, os.path.join(HERE, "peer.py"), args.model, sentence, args.threads])]
    for _ in range(args.rounds):
        for program in programs:
            program.run()
    for program in programs:
        print(f"| {label} | {program.name} | {program.median(4):.1f} | {program.median(0):.3f} | "
              f"{program.median(1):.3f} | {program.median(2):.3f} | {program.median(3):.0f} | "
              f"{programs[0].median(1) / program.median(1):.2f} |")
    for program in programs:
        program.process.stdin.close()
        program.process.wait()
