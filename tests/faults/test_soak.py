#!/usr/bin/env python3
"""A million calls through a real broker, all kinds, some cancelled: memory and descriptors stay flat."""
import os
import time
import unittest

import history
from world import SANITIZED, TOOLS, World, descriptors, rss_bytes

MIB = 1 << 20
CALLS = int(os.environ.get("DRAGOMAN_SOAK_CALLS", "20000" if SANITIZED else "1000000"))


class Soak(unittest.TestCase):
    def test_a_million_calls(self):
        with World() as world:
            broker = world.broker()
            workers = [world.worker("--capacity=16") for _ in range(2)]
            # Pools, arenas and tables grow to their size at first: a tenth of the calls is the warm-up.
            self.soak(world, broker, CALLS // 10)
            watched = [broker.process, *workers]
            base = {process.name: (rss_bytes(process.pid), descriptors(process.pid)) for process in watched}
            world.sample()
            begun = time.monotonic()
            self.soak(world, broker, CALLS)
            took = time.monotonic() - begun
            world.quiesced()
            for process in watched:
                samples = world.samples.get(process.name, [])[2:]
                samples.append((rss_bytes(process.pid), descriptors(process.pid)))
                growth = max(rss for rss, _ in samples) - base[process.name][0]
                print(f"{process.name}: {base[process.name][0] / MIB:.1f} MiB, at most {growth / MIB:+.1f}, "
                      f"{len(samples)} samples", flush=True)
                # A leak of four bytes a call would be 4 MiB of a million.
                found = history.check_samples(samples, base[process.name], (64 if SANITIZED else 4) * MIB, 2)
                self.assertEqual(list(found), [])
            print(f"{CALLS} calls in {took:.1f} s", flush=True)

    def soak(self, world, broker, calls):
        world.serial += 1
        name = f"soak{world.serial}"
        process = world.spawn(name, [os.path.join(TOOLS, "faults_soak"), broker.endpoint("front"), str(calls)])
        world.wait([process], 600)
        said = dict(word.split("=") for word in world.log(name).split() if "=" in word)
        self.assertEqual((int(said["ended"]), said["wrong"]), (calls, "0"))
        self.assertGreater(int(said["cancelled"]), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
