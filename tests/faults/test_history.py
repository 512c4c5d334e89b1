#!/usr/bin/env python3
"""The checker itself: for each invariant a history that breaks it, and one that does not."""
import datetime
import tempfile
import time
import unittest

import history
from wall_clock import WallClock

GOOD = """
1000 invoke call=1 kind=once again=0 deadline_ms=100 work_ms=1
2000 start call=1 kind=enter worker=7 running=1 capacity=2
3000 stop call=1 worker=7 cancelled=0
4000 end call=1 status=OK
"""


def findings(text, rule=None, **options):
    checked = history.History([text])
    return list(getattr(checked, rule)(**options) if rule else checked.always())


class Checker(unittest.TestCase):
    def rejects(self, invariant, text, rule=None, **options):
        found = findings(text, rule, **options)
        self.assertTrue(found, f"{invariant} was not seen")
        self.assertTrue(all(finding.startswith(invariant) for finding in found), found)

    def test_a_good_history_passes(self):
        self.assertEqual(findings(GOOD), [])
        self.assertEqual(findings(GOOD, "nothing_lost"), [])
        self.assertEqual(findings(GOOD, "ends_after_faults", faults=[]), [])

    def test_i1_no_end(self):
        self.rejects("I1", GOOD.replace("4000 end call=1 status=OK\n", ""))

    def test_i1_two_ends(self):
        self.rejects("I1", GOOD + "5000 end call=1 status=UNAVAILABLE\n")

    def test_i1_said_to_be_silent(self):
        self.rejects("I1", GOOD + "5000 bad call=1 why=silent\n")

    def test_i2_long_after_the_deadline(self):
        self.rejects("I2", GOOD.replace("4000 end", "3000000000 end"))

    def test_i2_long_after_the_fault(self):
        text = GOOD.replace("deadline_ms=100", "deadline_ms=0").replace("4000 end", "9000000000 end")
        self.rejects("I2", text, "ends_after_faults", faults=[2500])
        self.assertEqual(findings(text, "ends_after_faults", faults=[4_500_000_000]), [])

    def test_i3_twice(self):
        self.rejects("I3", GOOD + "2500 start call=1 kind=enter worker=8 running=1 capacity=2\n")

    def test_i3_idempotent_calls_may_run_again_but_not_for_ever(self):
        text = GOOD.replace("again=0", "again=1")
        again = "2500 start call=1 kind=enter worker=8 running=1 capacity=2\n"
        self.assertEqual(findings(text + again), [])
        self.rejects("I3", text + again * 6)

    def test_i3_ok_out_of_nothing(self):
        self.rejects("I3", "1000 invoke call=1 kind=once again=0 deadline_ms=100 work_ms=1\n4000 end call=1 status=OK\n")

    def test_i3_a_call_nobody_made(self):
        self.rejects("I3", GOOD + "2500 start call=2 kind=enter worker=8 running=1 capacity=2\n")

    def test_i4_order(self):
        for why in ("order", "order-at-worker", "one-too-many", "ok-but-incomplete", "data-after-end"):
            self.rejects("I4", GOOD + f"3500 bad call=1 why={why}\n")

    def test_i5_proof(self):
        self.rejects("I5", GOOD + "3500 bad call=1 why=proof\n")

    def test_i6_too_many_at_once(self):
        self.rejects("I6", GOOD.replace("running=1", "running=3"))

    def test_i7_memory_and_descriptors(self):
        base = (10 << 20, 20)
        self.assertEqual(list(history.check_samples([(12 << 20, 30), (11 << 20, 21)], base, 4 << 20, 4)), [])
        self.assertTrue(list(history.check_samples([(15 << 20, 20)], base, 4 << 20, 4)))
        self.assertTrue(list(history.check_samples([(10 << 20, 25)], base, 4 << 20, 4)))

    def test_i8_before_its_time(self):
        self.rejects("I8", GOOD.replace("status=OK", "status=DEADLINE_EXCEEDED"))

    def test_i8_started_too_late(self):
        text = GOOD.replace("2000 start", "400000000 start").replace("4000 end", "500000000 end")
        self.rejects("I8", text)

    def test_i9_starved(self):
        self.assertEqual(list(history.check_fairness(10, 25, 0.95)), [])
        self.assertTrue(list(history.check_fairness(10, 31, 0.95)))
        self.assertTrue(list(history.check_fairness(10, 20, 0.5)))

    def test_i10_more_than_was_granted(self):
        sent = "".join(f"{2000 + n} sent call=1 n={n} bytes=100\n" for n in range(1, 301))
        took = "2001 took call=1 n=1\n" + "".join(f"{2500 + n} took call=1 n={n}\n" for n in range(2, 301))
        self.rejects("I10", GOOD + sent + took)
        self.rejects("I10", GOOD + sent.replace("bytes=100", "bytes=100000") + took)
        held = "".join(f"{2000 + 2 * n} sent call=1 n={n} bytes=100\n{2001 + 2 * n} took call=1 n={n}\n"
                       for n in range(1, 301))
        self.assertEqual(findings(GOOD + held), [])

    def test_i11_lost_in_a_drain(self):
        failed = GOOD.replace("status=OK", "status=UNAVAILABLE")
        self.rejects("I11", failed, "nothing_lost")  # it was executed
        self.rejects("I11", failed.replace("again=0", "again=1"), "nothing_lost")
        unexecuted = "\n".join(row for row in failed.splitlines() if "start" not in row)
        self.assertEqual(findings(unexecuted, "nothing_lost"), [])
        self.rejects("I11", unexecuted.replace("UNAVAILABLE", "INTERNAL"), "nothing_lost")

    def test_a_wall_clock_that_is_not_read(self):
        with tempfile.TemporaryDirectory() as folder:
            clock = WallClock(folder, "")
            first = time.monotonic_ns()
            clock.set(3600)
            now = time.monotonic_ns()
            read = [(at, clock.at(at)) for at in (first, now)]
            self.assertEqual(list(clock.wrong_stamps("it", read)), [])
            unmoved = [(first, clock.at(first)), (now, clock.at(now) - 3600 * history.S)]
            self.assertIn("-3600.000 s off", next(clock.wrong_stamps("it", unmoved), ""))
            self.assertTrue(list(clock.wrong_stamps("it", read[:1])), "nothing was written after it was moved")
            stamp = datetime.datetime.fromtimestamp(clock.at(now) / history.S, datetime.timezone.utc)
            line = '{"time":"%s","message":"it comes"}' % stamp.isoformat().replace("+00:00", "Z")
            self.assertEqual(list(clock.wrong_line(line, 0, "comes", (now, now))), [])
            self.assertTrue(list(clock.wrong_line(line, 0, "comes", (first, first))))
            self.assertTrue(list(clock.wrong_line(line, 1, "comes", (now, now))))

    def test_rubbish_is_no_history(self):
        with self.assertRaises(ValueError):
            history.History(["not a line\n"])


if __name__ == "__main__":
    unittest.main()
