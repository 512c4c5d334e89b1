"""Speech recognition, us and faster-whisper in turn.

bench.py --bench BINARY --model FOLDER --recording WAV [--rounds N] [--threads N] [--python PYTHON]

All programs are started once and then take turns, so that a busy machine is busy for each. Printed are
medians of wall and CPU time, peak memory, and the ratio of CPU times, us / peer: below 1 we are ahead.
PYTHON must have faster-whisper==1.2.1 and soundfile.
"""
import argparse
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


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
parser.add_argument("--recording", required=True)
parser.add_argument("--rounds", type=int, default=7)
parser.add_argument("--threads", default="1")
parser.add_argument("--python", default=sys.executable)
args = parser.parse_args()

print("| beam | program | wall s | CPU s | peak MB | tokens | us / it, CPU |\n|---|---|---|---|---|---|---|")
for beam in ("1", "5"):
    common = [args.model, args.recording, beam, args.threads]
    programs = [Program("dragoman f32", [args.bench, *common])]
    programs += [Program("faster-whisper " + kind, [args.python, os.path.join(HERE, "peer.py"), *common, kind])
                 for kind in ("float32", "int8")]
    for _ in range(args.rounds):
        for program in programs:
            program.run()
    for program in programs:
        print(f"| {beam} | {program.name} | {program.median(0):.3f} | {program.median(1):.3f} | "
              f"{program.median(2):.0f} | {program.median(3):.0f} | {programs[0].median(1) / program.median(1):.2f} |")
    for program in programs:
        program.process.stdin.close()
        program.process.wait()
