"""gates.py - what the mesh must reach, against what was measured: one table.

A ratio is taken within each round, ours by the peer's; the median over rounds counts.
"""
import statistics


class Ratio:
    """Ours divided by the peer's; at least `asked` of a figure where more is better, at most where less is."""

    def __init__(self, ours, peer, size, in_flight, figure, asked, least):
        self.ours, self.peer, self.cell, self.figure = ours, peer, (size, in_flight), figure
        self.asked, self.least = asked, least

    def what(self, sizes):
        size, in_flight = self.cell
        figure = {"calls_per_s": "calls/s", "p50_us": "p50"}[self.figure]
        return f"{sizes[size]}, {in_flight} in flight, {figure}: {self.ours} / {self.peer}"

    def median(self, results, figure):
        pairs = zip(results.get(self.ours, {}).get(self.cell, []), results.get(self.peer, {}).get(self.cell, []))
        ratios = [figure(one) / figure(other) for one, other in pairs if one and other]
        return statistics.median(ratios) if ratios else None

    def measured(self, results):
        return self.median(results, lambda result: result[self.figure])

    def by_cpu(self, results):
        """The same by CPU time: on one core it is what the ratio would be on a machine with nothing else to do."""
        ratio = self.median(results, cpu_all)
        return 1 / ratio if ratio and self.least else ratio


class Value:
    """A figure of ours alone."""

    def __init__(self, text, asked, least, value):
        self.text, self.asked, self.least, self.value = text, asked, least, value

    def what(self, _sizes):
        return self.text

    def measured(self, results):
        return self.value(results)

    def by_cpu(self, _results):
        return None


def of_cell(name, size, in_flight, figure):
    def value(results):
        rounds = [r for r in results.get(name, {}).get((size, in_flight), []) if r]
        return statistics.median(figure(r) for r in rounds) if rounds else None
    return value


def cpu_all(result):
    return sum(result["cpu_us"].values())


def cpu_broker(result):
    return result["cpu_us"]["broker"]


def worst_gap_ms(name, in_flight):
    """The longest time without any answer in any run."""
    def value(results):
        runs = [r for (_, n), rounds in results.get(name, {}).items() if n == in_flight for r in rounds]
        return float("inf") if None in runs else max((r["gap_us"] / 1000 for r in runs), default=None)
    return value


SPEED = [
    Ratio("ours-ipc", "go-streams", 64, 64, "calls_per_s", 1.05, True),
    Ratio("ours-ipc", "grpc", 64, 64, "calls_per_s", 4, True),
    Ratio("ours-ipc", "nats-go", 64, 64, "calls_per_s", 1.7, True),
    Ratio("ours-ipc", "grpc-haproxy", 64, 64, "calls_per_s", 7, True),
    Value("64 B, 64 in flight: CPU µs a call, ours-ipc, all processes", 5, False, of_cell("ours-ipc", 64, 64, cpu_all)),
    Value("64 B, 64 in flight: CPU µs a call, ours-ipc, the broker", 2, False, of_cell("ours-ipc", 64, 64, cpu_broker)),
    Ratio("ours-ipc", "grpc-haproxy", 64, 1, "p50_us", 0.6, False),
    Ratio("ours-ipc", "nats-go", 64, 1, "p50_us", 0.85, False),
    Ratio("ours-ipc", "grpc", 64, 1, "p50_us", 1.35, False),
    Ratio("ours-inproc", "grpc", 64, 1, "p50_us", 0.5, False),
    Ratio("ours-ipc", "nats-go", 4096, 64, "calls_per_s", 1.05, True),
    Ratio("ours-ipc", "nats-go", 65536, 64, "calls_per_s", 2.4, True),
    Ratio("ours-ipc", "grpc-unix", 65536, 64, "calls_per_s", 1.05, True),
    Ratio("ours-ipc", "nats-go", 1048576, 64, "calls_per_s", 3, True),
    Value("any size, 64 in flight: longest time without an answer, ours-ipc, ms", 100, False,
          worst_gap_ms("ours-ipc", 64)),
    Ratio("ours-curve", "grpc-tls", 64, 64, "calls_per_s", 2, True),
]

RELIABILITY = [
    ("kill_p99_ms", "a worker gets kill -9: p99 of its calls' time until they end, ms", 100, False),
    ("kill_failed", "  idempotent calls that failed", 0, False),
    ("stop_p99_ms", "a worker gets SIGSTOP: likewise, ms", 3500, False),
    ("stop_failed", "  idempotent calls that failed", 0, False),
    ("restart_failed", "workers and brokers restart in turn: idempotent calls lost", 0, False),
    ("deadline_p99_ms", "a deadline ends a call so late, p99, ms", 10, False),
    ("deadline_wrong", "  with another status than DEADLINE_EXCEEDED", 0, False),
    ("cancel_p99_ms", "a cancellation reaches the handler, p99, ms", 5, False),
    ("overload_goodput", "good calls at twice the load that fits / what fits", 0.9, True),
    ("idle_broker_mib", "an idle broker, MiB resident", 10, False),
    ("idle_peer_kib", "each idle peer, KiB", 40, False),
    ("queued_mib", "1,000 workers and 10,000 queued calls, MiB beyond payloads", 64, False),
]


def rows(results, reliability, sizes):
    """A row for each that was measured."""
    table = [{"what": gate.what(sizes), "asked": gate.asked, "least": gate.least, "measured": gate.measured(results),
              "by_cpu": gate.by_cpu(results)} for gate in SPEED]
    table += [{"what": what, "asked": asked, "least": least, "measured": reliability.get(name), "by_cpu": None}
              for name, what, asked, least in RELIABILITY]
    table = [row for row in table if row["measured"] is not None]
    for row in table:
        row["met"] = row["measured"] >= row["asked"] if row["least"] else row["measured"] <= row["asked"]
    return table


def print_table(table):
    print("\nWhat must be reached\n             asked  measured  by CPU")
    for row in table:
        by_cpu = f"{row['by_cpu']:7.3g}" if row["by_cpu"] else ""
        print(f"  {'met    ' if row['met'] else 'NOT MET'}  {'≥' if row['least'] else '≤'} {row['asked']:<6g}"
              f" {row['measured']:8.3g} {by_cpu:7}  {row['what']}")
