#!/usr/bin/env python3
"""bench.py - echo calls through the mesh and its peers, in turn; prints figures and ratios, writes JSON.

Everything is pinned to one core (a wake-up across cores of a virtual machine measures the hypervisor), in rounds:
each contender once, then again. Ratios are those of one round; the median over rounds counts. Then once more with
all cores. bench/rpc/run.sh builds what this needs.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

import contenders
import gates

SIZES = {64: "64 B", 4096: "4 KiB", 65536: "64 KiB", 1048576: "1 MiB"}


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--ours", default="build/release", help="our build folder")
    parser.add_argument("--peers", default="build/bench-rpc", help="where the peers were built")
    parser.add_argument("--only", default="", help="contenders, as ours-ipc,nats-go: " + ", ".join(contenders.ALL))
    parser.add_argument("--sizes", default="64,4096,65536,1048576")
    parser.add_argument("--in-flight", default="1,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6, help="each measurement")
    parser.add_argument("--core", type=int, default=os.cpu_count() - 1, help="the one to pin to")
    parser.add_argument("--first", action="store_true", help="before other work of a busy machine; needs root")
    parser.add_argument("--no-unpinned", action="store_true", help="leave out the run on all cores")
    parser.add_argument("--no-reliability", action="store_true", help="leave out what breaks things")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", default="build/bench-rpc/result.json")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.no_unpinned = 1, 0.35, True
    return args


def come_first():
    """All that is started here gets a core when it wants one, whatever else the machine does."""
    if os.getpid() != os.getpgrp():
        os.setsid()
    os.nice(-20)
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as file:
            file.write("-20")
    except FileNotFoundError:
        pass  # a kernel without groups of sessions


def measure(site, contender, size, in_flight, seconds):
    """One run of one client; None when it fails or stands still."""
    command = contender.client + ["--size", str(size), "--in-flight", str(in_flight), "--seconds", str(seconds),
                                  "--warmup", str(min(0.2, seconds / 3))]
    for name, pid in contender.pids.items():
        command += ["--pid", f"{name}={pid}"]
    try:
        done = subprocess.run(site.command(command), capture_output=True, text=True, timeout=seconds + 8, check=False)
    except subprocess.TimeoutExpired:
        print(f"{contender.name}, {SIZES.get(size, size)}, {in_flight} in flight: stands still", file=sys.stderr)
        return None
    if done.returncode != 0:
        print(f"{contender.name}, {SIZES.get(size, size)}, {in_flight} in flight: exit {done.returncode} {done.stderr.strip()}",
              file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def run(args, core):
    """{contender: {(size, in flight): [a result a round, or None]}}"""
    names = args.only.split(",") if args.only else list(contenders.ALL)
    results = {}
    with tempfile.TemporaryDirectory(prefix="bench-rpc-") as folder:
        site = contenders.Site(os.path.abspath(args.ours), os.path.abspath(args.peers), folder, core)
        try:
            present = {name: contenders.ALL[name](site) for name in names}
            for size in map(int, args.sizes.split(",")):
                for in_flight in map(int, args.in_flight.split(",")):
                    print(f"{'one core' if core is not None else 'all cores'}: {SIZES.get(size, size)}, {in_flight} in flight",
                          file=sys.stderr)
                    for _ in range(args.rounds if core is not None else 1):
                        for name, contender in present.items():
                            cells = results.setdefault(name, {}).setdefault((size, in_flight), [])
                            cells.append(measure(site, contender, size, in_flight, args.seconds))
        finally:
            site.stop()
    return results


def median(rounds, figure):
    values = [figure(r) for r in rounds if r]
    return statistics.median(values) if values else None


def print_figures(results, title):
    print(f"\n{title}")
    cells = list(next(iter(results.values())))
    for size, in_flight in cells:
        print(f"\n{SIZES.get(size, size)}, {in_flight} in flight"
              f"{'':8}   p50 µs    p99 µs   calls/s   CPU µs/call (middle, server, client)")
        for name, by_cell in results.items():
            rounds = by_cell[(size, in_flight)]
            if not any(rounds):
                print(f"  {name:20} stands still or fails")
                continue
            cpu = [median(rounds, lambda r, who=who: r["cpu_us"].get(who, 0)) for who in ("broker", "server", "client")]
            print(f"  {name:20} {median(rounds, lambda r: r['p50_us']):9.1f} {median(rounds, lambda r: r['p99_us']):9.1f}"
                  f" {median(rounds, lambda r: r['calls_per_s']):9.0f}   {sum(cpu):8.2f}"
                  f" ({cpu[0]:.2f}, {cpu[1]:.2f}, {cpu[2]:.2f})")


def run_reliability(args):
    command = [f"{args.ours}/bench/rpc/reliability", args.ours] + (["--quick"] if args.quick else [])
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def as_json(results):
    return {name: {f"{size}x{in_flight}": rounds for (size, in_flight), rounds in cells.items()}
            for name, cells in results.items()}


def main():
    args = parse()
    if args.first:
        come_first()
    pinned = run(args, args.core)
    print_figures(pinned, f"Pinned to one core, median of {args.rounds}")
    result = {"machine": platform.platform(), "rounds": args.rounds, "seconds": args.seconds,
              "pinned": as_json(pinned)}
    if not args.no_unpinned:
        unpinned = run(args, None)
        print_figures(unpinned, "On all cores, one round")
        result["unpinned"] = as_json(unpinned)
    if not args.no_reliability:
        result["reliability"] = run_reliability(args)
        print("\nWhen things break\n  " + "\n  ".join(f"{k:22} {v}" for k, v in result["reliability"].items()))
    result["must_reach"] = gates.rows(pinned, result.get("reliability", {}), SIZES)
    gates.print_table(result["must_reach"])
    os.makedirs(os.path.dirname(args.json) or ".", exist_ok=True)
    with open(args.json, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)


if __name__ == "__main__":
    main()
