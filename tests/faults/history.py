"""Reads what clients and workers wrote down (journal.h) and says which invariants it breaks.

A history is a list of lines of all processes; a finding is a text that begins with the invariant's
name, as "I3: call 17 was executed twice". No finding: the history is one that the mesh may have.
"""
import collections

MS = 1_000_000
S = 1_000_000_000
NOBODYS = (1 << 64) - 1  # calls of the liar, who writes nothing down


class Line:
    __slots__ = ("at", "what", "fields")

    def __init__(self, at, what, fields):
        self.at, self.what, self.fields = at, what, fields

    def __getattr__(self, name):
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(name) from None


class Call:
    """All that any process wrote down about one call."""

    def __init__(self):
        self.invoke = None
        self.ends, self.starts, self.stops, self.bad = [], [], [], []
        self.sent, self.took = [], []
        self.cancel = None

    @property
    def status(self):
        return self.ends[0].status if self.ends else None


def parse(text):
    for number, row in enumerate(text.strip().splitlines(), 1):
        words = row.split()
        try:
            fields = dict(word.split("=", 1) for word in words[2:])
            yield Line(int(words[0]), words[1], fields)
        except (ValueError, IndexError):
            raise ValueError(f"line {number} of a journal is none: {row!r}") from None


class History:
    def __init__(self, texts):
        self.calls = collections.defaultdict(Call)
        self.most_running = {}  # worker -> (running, capacity)
        self.quiet = 0
        for text in texts:
            for line in parse(text):
                self.add(line)

    def add(self, line):
        if line.what == "quiet":
            self.quiet += 1
            return
        call = self.calls[int(line.call)]
        if line.what == "invoke":
            call.invoke = line
        elif line.what == "cancel":
            call.cancel = line
        elif line.what in ("end", "start", "stop", "bad", "sent", "took"):
            getattr(call, {"end": "ends", "start": "starts", "stop": "stops"}.get(line.what, line.what)).append(line)
        if line.what == "start":
            running = (int(line.running), int(line.capacity))
            self.most_running[line.worker] = max(self.most_running.get(line.worker, (0, 0)), running)

    def invoked(self):
        return {number: call for number, call in self.calls.items() if call.invoke}

    def of(self, client):
        """Only that client's calls."""
        own = History([])
        index = int(client.name.removeprefix("client"))
        own.calls.update((number, call) for number, call in self.calls.items() if number >> 40 == index)
        return own

    def count(self, status):
        return sum(call.status == status for call in self.calls.values())

    def statuses(self):
        return collections.Counter(call.status for call in self.invoked().values())

    # ---- the invariants ----------------------------------------------------------------------

    def every_call_ends_once(self):
        for number, call in self.invoked().items():
            if len(call.ends) != 1:
                yield f"I1: call {number} ({call.invoke.kind}) ended {len(call.ends)} times"
            for line in call.bad:
                if line.why in ("silent", "not-started"):
                    yield f"I1: call {number}: {line.why}"

    def ends_in_time(self, grace_ms=1500):
        """By its deadline, or a moment after."""
        for number, call in self.invoked().items():
            deadline_ms = int(call.invoke.deadline_ms)
            for end in call.ends:
                late = end.at - call.invoke.at - deadline_ms * MS
                if deadline_ms > 0 and late > grace_ms * MS:
                    yield f"I2: call {number} ended {late // MS} ms after its deadline"

    def ends_after_faults(self, faults, within_s=5):
        """Without a deadline: soon after the last thing that happened to it."""
        for number, call in self.invoked().items():
            if int(call.invoke.deadline_ms) > 0 or not call.ends:
                continue
            work = call.invoke.at + int(call.invoke.work_ms) * MS
            before = [at for at in faults if at <= call.ends[0].at]
            allowed = max([work] + before) + within_s * S
            if call.ends[0].at > allowed:
                yield f"I2: call {number} ended {(call.ends[0].at - allowed) // MS} ms too late"

    def executes_at_most(self, tries=6):
        for number, call in self.invoked().items():
            most = tries if call.invoke.again == "1" else 1
            if len(call.starts) > most:
                yield f"I3: call {number} ({call.invoke.kind}) was executed {len(call.starts)} times"
            if call.status == "OK" and not call.starts:
                yield f"I3: call {number} is OK, but nobody executed it"
        for number, call in self.calls.items():
            if call.starts and not call.invoke and number != NOBODYS:
                yield f"I3: call {number} was executed, but nobody made it"

    def streams_in_order(self):
        for number, call in self.calls.items():
            for line in call.bad:
                if line.why in ("order", "order-at-worker", "one-too-many", "ok-but-incomplete", "data-after-end"):
                    yield f"I4: call {number}: {line.why}"

    def answers_belong(self):
        for number, call in self.calls.items():
            for line in call.bad:
                if line.why == "proof":
                    yield f"I5: call {number} got an answer that is not its own"

    def within_capacity(self):
        for worker, (running, capacity) in self.most_running.items():
            if running > capacity:
                yield f"I6: worker {worker} ran {running} calls, and can {capacity}"

    def deadlines_hold(self, slack_ms=250):
        """Never before the deadline; and no execution begins after it."""
        for number, call in self.invoked().items():
            deadline = call.invoke.at + int(call.invoke.deadline_ms) * MS
            if int(call.invoke.deadline_ms) == 0:
                continue
            if call.status == "DEADLINE_EXCEEDED" and call.ends[0].at < deadline - MS:
                # Refused early is allowed: who is sure that it cannot be served in time may say so.
                if call.starts:
                    yield f"I8: call {number} ran, and was ended {(deadline - call.ends[0].at) // MS} ms before its deadline"
            for start in call.starts:
                if start.at > deadline + slack_ms * MS:
                    yield f"I8: call {number} was started {(start.at - deadline) // MS} ms after its deadline"

    def credit_holds(self, messages=256, size=1 << 20):
        """What was sent and not yet taken stays within the window."""
        for number, call in self.calls.items():
            if not call.took:
                continue
            steps = sorted([(line.at, 1, int(line.bytes)) for line in call.sent] +
                           [(line.at, -1, 0) for line in call.took])
            ahead, each = 0, max((int(line.bytes) for line in call.sent), default=0)
            # Both ends' buffers: one window; and a message that the application holds on each side.
            most = min(messages, size // each + 1 if each else messages) + 2
            for _, step, _ in steps:
                ahead += step
                if ahead > most:
                    yield f"I10: {ahead} messages of call {number} were sent and not taken; {most} may be"
                    break

    def nothing_lost(self):
        """Of a drain: calls that may be repeated succeed, others fail only if nobody executed them."""
        for number, call in self.invoked().items():
            if call.status == "OK" or call.invoke.kind in ("cancel", "abandon", "hasty"):
                continue
            if call.invoke.again == "1":
                yield f"I11: call {number} may be repeated, and ended {call.status}"
            elif call.status != "UNAVAILABLE" or call.starts:
                yield (f"I11: call {number} ({call.invoke.kind}) ended {call.status}, "
                       f"executed {len(call.starts)} times")

    def allowed(self, statuses):
        for number, call in self.invoked().items():
            if call.ends and call.status not in statuses:
                yield f"call {number} ({call.invoke.kind}) ended {call.status}"

    def always(self, late_ms=250):
        """What holds whatever is broken."""
        for rule in (self.every_call_ends_once, self.ends_in_time, self.executes_at_most, self.streams_in_order,
                     self.answers_belong, self.within_capacity, self.credit_holds):
            yield from rule()
        yield from self.deadlines_hold(late_ms)


def check_samples(samples, base, growth_bytes, fds):
    """I7 of one process: samples are (rss bytes, descriptors), base is the first after warm-up."""
    for rss, _ in samples:
        if rss > base[0] + growth_bytes:
            yield f"I7: {rss >> 20} MiB of memory, {base[0] >> 20} at first"
            break
    if samples and samples[-1][1] > base[1] + fds:
        yield f"I7: {samples[-1][1]} descriptors in the end, {base[1]} at first"


def check_fairness(alone_p99_ms, beside_p99_ms, share, times=3, least=0.9):
    """I9: beside a tenant with far more calls another is served as if it had half of the workers."""
    if beside_p99_ms > times * alone_p99_ms:
        yield f"I9: p99 is {beside_p99_ms:.0f} ms beside another tenant, {alone_p99_ms:.0f} alone"
    if share < least:
        yield f"I9: the small tenant got {share:.0%} of its fair share"
