"""A broker or two, workers and clients as processes, what can be done to them, and what they wrote down."""
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import history
from wall_clock import WallClock

BUILD = os.environ["DRAGOMAN_BUILD"]
TOOLS = os.path.join(BUILD, "tests", "faults")
# A mutation puts another in its place.
BROKER = os.environ.get("FAULTS_BROKER") or os.path.join(BUILD, "broker", "dragoman-broker")
WORKER = os.environ.get("FAULTS_WORKER") or os.path.join(TOOLS, "faults_worker")
CLIENT = os.environ.get("FAULTS_CLIENT") or os.path.join(TOOLS, "faults_client")
OVER = os.environ.get("FAULTS_OVER", "tcp")  # or ipc
SANITIZED = os.environ.get("DRAGOMAN_SANITIZE", "") != ""
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rss_bytes(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Broker:
    def __init__(self, world, name, flags, command):
        self.world, self.name, self.flags, self.command = world, name, flags, command
        self.ports = {"front": free_port(), "back": free_port()}
        self.admin = free_port()
        self.process = None
        self.start()

    def path(self, side):
        return os.path.join(self.world.folder, f"{self.name}.{side}")

    def endpoint(self, side):
        return f"tcp://127.0.0.1:{self.ports[side]}" if OVER == "tcp" else f"ipc://{self.path(side)}"

    def connect(self, side):
        """A bare connection that says nothing."""
        if OVER == "tcp":
            return socket.create_connection(("127.0.0.1", self.ports[side]))
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.path(side))
        return connection

    def start(self):
        self.process = self.world.spawn(self.name, [*self.command, BROKER, f"--front={self.endpoint('front')}",
                                                    f"--back={self.endpoint('back')}",
                                                    f"--admin=127.0.0.1:{self.admin}", *self.flags])
        until(self.page, f"{self.name} serves /metrics")

    def page(self):
        try:
            with socket.create_connection(("127.0.0.1", self.admin), timeout=2) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                data = b""
                while chunk := connection.recv(65536):
                    data += chunk
                return data.decode()
        except OSError:
            return ""

    def metric(self, name, label=""):
        """The sum of all series of that name whose labels have this text; None: there is none."""
        found = [float(row.rsplit(" ", 1)[1]) for row in self.page().splitlines()
                 if row.split("{")[0].split(" ")[0] == name and label in row]
        return sum(found) if found else None

    def workers(self):
        return self.metric("dragoman_broker_workers", 'service="dragoman.faults.v1.Ledger"') or 0


class World:
    def __init__(self, wall_clock=False):
        self.folder = tempfile.mkdtemp(prefix="dragoman-faults-")
        self.wall_clock = None
        if wall_clock:
            self.wall_clock = WallClock(self.folder, os.path.join(TOOLS, "libfaults_wall_clock.so"))
        self.processes = []
        self.brokers = []
        self.faults = []  # monotonic ns
        self.serial = 0
        self.samples = {}
        self.sampling = None

    def spawn(self, name, command, **options):
        if self.wall_clock:
            options["env"] = self.wall_clock.environment(command[0])
        with open(os.path.join(self.folder, name + ".log"), "ab") as log:
            process = subprocess.Popen(command, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=log,
                                       stderr=log, **options)
        process.name = name
        self.processes.append(process)
        return process

    def broker(self, *flags, command=()):
        broker = Broker(self, f"broker{len(self.brokers)}", flags, command)
        self.brokers.append(broker)
        return broker

    def fronts(self):
        return ",".join(broker.endpoint("front") for broker in self.brokers)

    def backs(self):
        return ",".join(broker.endpoint("back") for broker in self.brokers)

    def worker(self, *flags, to=None, ready=True):
        self.serial += 1
        before = [broker.workers() for broker in self.brokers]
        process = self.spawn(f"worker{self.serial}", [
            WORKER, f"--broker={to or self.backs()}",
            f"--journal={self.journal('workers')}", *flags])
        if ready:
            until(lambda: all(broker.workers() > n for broker, n in zip(self.brokers, before)),
                  f"{process.name} is registered")
        return process

    def client(self, *flags, to=None):
        self.serial += 1
        return self.spawn(f"client{self.serial}", [
            CLIENT, f"--broker={to or self.fronts()}", f"--index={self.serial}",
            f"--journal={self.journal(f'client{self.serial}')}", *flags])

    def liar(self, broker, seconds, seed):
        return self.spawn(f"liar{seed}", [os.path.join(TOOLS, "faults_liar"), broker.endpoint("front"),
                                          broker.endpoint("back"), str(seconds), str(seed)])

    def proxy(self, target):
        """@return (port, function that tells the proxy what to do)"""
        port = free_port()
        process = self.spawn(f"proxy{port}", [os.path.join(TOOLS, "faults_proxy"), str(port), str(target)],
                             stdin=subprocess.PIPE, text=True)

        def tell(what):
            process.stdin.write(what + "\n")
            process.stdin.flush()
            self.fault()
        def listens():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return True
            except OSError:
                return False
        until(listens, "the proxy listens")
        return port, tell

    def journal(self, name):
        return os.path.join(self.folder, name + ".journal")

    def journal_size(self, client):
        path = self.journal(client.name)
        return os.path.getsize(path) if os.path.exists(path) else 0

    # ---- faults ------------------------------------------------------------------------------

    def fault(self):
        self.faults.append(time.monotonic_ns())

    def kill(self, process):
        process.kill()
        process.wait()
        self.processes.remove(process)
        self.fault()

    def stop(self, process, seconds):
        process.send_signal(signal.SIGSTOP)
        self.fault()
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        self.fault()

    def finish(self, clients):
        """SIGTERM: the calls under way are their last."""
        for client in clients:
            client.terminate()
        self.wait(clients)

    def drain(self, process, seconds=40):
        """SIGTERM: it must leave by itself."""
        process.terminate()
        if process.wait(seconds) != 0:
            raise AssertionError(f"{process.name} left with {process.returncode}: {self.log(process.name)[-2000:]}")
        self.processes.remove(process)

    # ---- what came of it ---------------------------------------------------------------------

    def sample(self, every_s=0.25):
        """From now on: memory and descriptors of all processes but clients."""
        def run():
            while not self.sampling.wait(every_s):
                for process in list(self.processes):
                    try:
                        now = (rss_bytes(process.pid), descriptors(process.pid))
                    except (OSError, IndexError):
                        continue
                    self.samples.setdefault(process.name, []).append(now)
        self.sampling = threading.Event()
        threading.Thread(target=run, daemon=True).start()

    def wait(self, clients, seconds=90):
        deadline = time.monotonic() + seconds
        for client in clients:
            try:
                code = client.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                raise AssertionError(f"{client.name} does not come to an end: "
                                     f"{self.log(client.name)[-1000:]}") from None
            if code != 0:
                raise AssertionError(f"{client.name} left with {code}: {self.log(client.name)[-2000:]}")
            self.processes.remove(client)

    def history(self):
        texts = []
        for name in sorted(os.listdir(self.folder)):
            if name.endswith(".journal"):
                with open(os.path.join(self.folder, name), encoding="ascii") as file:
                    texts.append(file.read())
        return history.History(texts)

    def quiesced(self):
        """No call is left anywhere."""
        for broker in self.brokers:
            until(lambda broker=broker: not broker.metric("dragoman_broker_running") and
                  not broker.metric("mesh_broker_queue_length"), f"{broker.name} has no call left")

    def log(self, name):
        with open(os.path.join(self.folder, name + ".log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def close(self):
        if self.sampling:
            self.sampling.set()
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()
            if process.stdin:
                process.stdin.close()

    def __enter__(self):
        return self

    def sanitizers(self):
        """What a sanitizer said in any process, also in one that was killed since."""
        names = [name[:-4] for name in os.listdir(self.folder) if name.endswith(".log")]
        return [f"{name}: {row}" for name in sorted(names) for row in self.log(name).splitlines()
                if "Sanitizer:" in row or "runtime error:" in row]

    def __exit__(self, kind, value, trace):
        self.close()
        if not kind and self.sanitizers():
            raise AssertionError("\n".join(self.sanitizers()) + f"\nin {self.folder}")
        if kind:
            for name in sorted(os.listdir(self.folder)):
                if name.endswith(".log"):
                    text = self.log(name[:-4]).strip()
                    if text:
                        print(f"--- {name}\n{text[-1500:]}", file=sys.stderr)
            print(f"all of it is in {self.folder}", file=sys.stderr)
        else:
            subprocess.run(["rm", "-rf", self.folder], check=False)
