"""A wall clock that a test moves while processes run, and whether they read it (wall_clock.c)."""
import bisect
import ctypes
import datetime
import json
import mmap
import os
import re
import statistics
import subprocess
import time

S = 1_000_000_000
PAGE = 4096


class Settings(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int64), ("each", ctypes.c_int64 * 3 * ((PAGE - 8) // 24))]


class WallClock:
    def __init__(self, folder, library):
        self.library, self.path = library, os.path.join(folder, "wall_clock")
        with open(self.path, "w+b") as file:
            file.truncate(PAGE)
            self.settings = Settings.from_buffer(mmap.mmap(file.fileno(), PAGE))
        self.set(0)

    def set(self, ahead_s, rate=1.0):
        """From now on: so far ahead of the real one, and that fast."""
        n = self.settings.n
        self.settings.each[n][:] = [time.monotonic_ns(), time.time_ns() + ahead_s * S, int(rate * 1_000_000)]
        self.settings.n = n + 1

    def at(self, monotonic_ns):
        """What it read then, in ns."""
        since, wall, per_million = self.settings.each[max(self.phase_of(monotonic_ns), 0)]
        return wall + (monotonic_ns - since) * per_million // 1_000_000

    def phase_of(self, monotonic_ns):
        begins = [self.settings.each[i][0] for i in range(self.settings.n)]
        return bisect.bisect_right(begins, monotonic_ns) - 1

    def environment(self, program):
        """A sanitizer's runtime wants to be first."""
        linked = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        runtimes = re.findall(r"=> (\S+/lib[atu]\w*san\.so\S*)", linked)
        return dict(os.environ, LD_PRELOAD=":".join([*runtimes, self.library]), FAULTS_WALL_CLOCK=self.path)

    # ---- whether it is read ------------------------------------------------------------------

    def wrong_stamps(self, who, stamps, off_s=0.25):
        """Of a process that has lived in all phases: stamps are (monotonic ns, wall ns)."""
        phases = {}
        for at, wall in stamps:
            phases.setdefault(self.phase_of(at), []).append((wall - self.at(at)) / S)
        for phase in range(self.settings.n):
            off = statistics.median(phases.get(phase, [float("inf")]))
            if abs(off) > off_s:
                yield f"{who} read a wall clock {off:+.3f} s off after setting {phase}"

    def wrong_line(self, log, number, text, between, off_s=1):
        """The log's line with that text (the first: 0) is stamped as the clock was between two moments."""
        rows = [row for row in log.splitlines() if text in row]
        if len(rows) <= number:
            yield f"no line {number} has '{text}'"
            return
        stamp = datetime.datetime.fromisoformat(json.loads(rows[number])["time"].replace("Z", "+00:00"))
        first, last = (self.at(at) / S for at in between)
        if not first - off_s <= stamp.timestamp() <= last + off_s:
            yield f"{stamp.timestamp() - first:+.3f} s off: {rows[number]}"
