"""`dragoman keys`, and the processes that use what it makes: CURVE from the command line."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

from command import BINARY, dragoman, environment, free_port, start

BUILD = os.environ["DRAGOMAN_BUILD"]
BROKER = os.path.join(BUILD, "broker", "dragoman-broker")


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def text(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def new(self, name, *more):
        result = dragoman("keys", "new", name, "-o", self.folder, *more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result


class Keys(Folder):
    def test_new_writes_a_secret_and_a_certificate(self):
        result = self.new("asr", "--services", "dragoman.asr.*", "--services", "a.b.C")
        self.assertIn("asr.key", result.stdout)
        self.assertEqual(os.stat(self.path("asr.key")).st_mode & 0o777, 0o600)
        public = self.text("asr.cert")
        self.assertNotIn("secret-key", public)
        self.assertIn('name = "asr"', public)
        shown = dragoman("keys", "show", self.path("asr.cert"))
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("dragoman.asr.* a.b.C", shown.stdout)
        self.assertRegex(shown.stdout, r"public key  \S{40}\n")
        secret = dragoman("keys", "show", self.path("asr.key"))
        hidden = re.search(r'secret-key = "(.*)"', self.text("asr.key")).group(1)
        self.assertNotIn(hidden, secret.stdout + secret.stderr)
        self.assertIn("secret key  is in this file", secret.stdout)

    def test_never_overwrites(self):
        self.new("asr")
        before = self.text("asr.key")
        for lost in (None, "asr.cert", "asr.key"):
            if lost:
                os.rename(self.path(lost), self.path("away"))
            result = dragoman("keys", "new", "asr", "-o", self.folder)
            self.assertEqual(result.returncode, 1)
            self.assertIn("never overwritten", result.stderr)
            if lost:
                self.assertFalse(os.path.exists(self.path(lost)))
                os.rename(self.path("away"), self.path(lost))
        self.assertEqual(self.text("asr.key"), before)

    def test_bad_usage(self):
        for why, args in (("give 'new NAME'", ["keys"]), ("give 'new NAME'", ["keys", "make", "x"]),
                          ("is no name", ["keys", "new", "../x"]), ("is no name", ["keys", "new", "a b"]),
                          ("are no services", ["keys", "new", "x", "--services", "a*b"])):
            result = dragoman(*args)
            self.assertEqual(result.returncode, 2, args)
            self.assertIn(why, result.stderr)
            self.assertEqual(len(result.stderr.splitlines()), 1, args)

    def test_show_says_what_is_wrong(self):
        with open(self.path("x.cert"), "w", encoding="utf-8") as file:
            file.write("curve\n    public-key = \"short\"\n")
        result = dragoman("keys", "show", self.path("x.cert"))
        self.assertEqual(result.returncode, 1)
        self.assertIn("line 2", result.stderr)


class Flags(Folder):
    """Every process refuses what cannot be right, with status 2, before it does anything."""

    def refused(self, why, program, *args):
        result = subprocess.run([program, *args], capture_output=True, text=True, timeout=20,
                                env=environment(), check=False)
        self.assertEqual(result.returncode, 2, (program, args, result.stderr))
        self.assertIn(why, result.stderr, (program, args))

    def test_of_who_connects(self):
        self.new("me")
        self.new("broker")
        key, cert = self.path("me.key"), self.path("broker.cert")
        open_key = shutil.copy(key, self.path("open.key"))
        os.chmod(open_key, 0o644)
        programs = [[os.path.join(BUILD, "cli", "dragoman"), "top", "--once"],
                    [os.path.join(BUILD, "cli", "dragoman"), "call", "a.B/C"],
                    [os.path.join(BUILD, "gateway", "dragoman-gateway")],
                    [os.path.join(BUILD, "asr", "dragoman-asr"), "--model", "none"]]
        for program in programs:
            if not os.path.exists(program[0]):
                continue
            self.refused("--key needs --broker-key", *program, "--key", key)
            self.refused("--broker-key needs --key", *program, "--broker-key", cert)
            self.refused("No such file", *program, "--key", key + "x", "--broker-key", cert)
            self.refused("chmod 600", *program, "--key", open_key, "--broker-key", cert)
            self.refused("no secret-key", *program, "--key", self.path("me.cert"), "--broker-key", cert)
            self.refused("is no certificate", *program, "--key", key, "--broker-key", __file__)

    def test_of_the_broker(self):
        self.new("broker")
        os.mkdir(self.path("callers"))
        os.mkdir(self.path("broken"))
        with open(self.path("broken", "x.cert"), "w", encoding="utf-8") as file:
            file.write("nonsense")
        key, callers = self.path("broker.key"), self.path("callers")
        self.refused("--key needs --callers", BROKER, "--key", key)
        self.refused("--key needs --workers", BROKER, "--key", key, "--callers", callers)
        self.refused("--workers needs --key", BROKER, "--workers", callers)
        self.refused("cannot read the folder", BROKER, "--key", key, "--callers", callers + "x",
                     "--workers", callers)
        self.refused("x.cert", BROKER, "--key", key, "--callers", self.path("broken"), "--workers", callers)


class Stack(Folder):
    """A broker of its own, spoken to over CURVE."""

    def setUp(self):
        super().setUp()
        for name in ("broker", "caller", "stranger"):
            self.new(name)
        for group in ("callers", "workers"):
            os.mkdir(self.path(group))
        shutil.copy(self.path("caller.cert"), self.path("callers"))
        self.front, back = free_port(), free_port()
        self.log = open(self.path("log"), "w+", encoding="utf-8")
        self.addCleanup(self.log.close)
        self.broker = subprocess.Popen(
            [BROKER, "--front", f"tcp://127.0.0.1:{self.front}", "--back", f"tcp://127.0.0.1:{back}",
             "--key", self.path("broker.key"), "--callers", self.path("callers"),
             "--workers", self.path("workers"), "--log-format", "text"],
            stderr=self.log, env=environment())
        self.addCleanup(self.stop)

    def stop(self):
        self.broker.kill()
        self.broker.wait()

    def top(self, name, **more):
        return dragoman("top", "--once", "--broker", f"tcp://127.0.0.1:{self.front}",
                        *(["--key", self.path(f"{name}.key"), "--broker-key", self.path("broker.cert")]
                          if name else []), **more)

    def logged(self, text):
        for _ in range(500):
            with open(self.path("log"), encoding="utf-8") as log:
                if text in log.read():
                    return
            time.sleep(0.02)
        self.fail(f"the broker never said '{text}'")

    def test_lets_in_who_is_known_and_no_one_else(self):
        result = self.top("caller")
        self.assertEqual(result.returncode, 0, result.stderr)
        result = self.top("stranger")
        self.assertEqual(result.returncode, 1)
        self.assertIn("refuses this key", result.stderr)
        self.logged("refused 127.0.0.1 at mesh.client")
        result = self.top(None)
        self.assertEqual(result.returncode, 1)
        self.assertIn("CURVE", result.stderr)

    def test_variables_do_as_flags_do(self):
        result = self.top(None, DRAGOMAN_KEY=self.path("caller.key"),
                          DRAGOMAN_BROKER_KEY=self.path("broker.cert"))
        self.assertEqual(result.returncode, 0, result.stderr)

    def test_reads_its_folders_again_on_sighup(self):
        self.assertEqual(self.top("stranger").returncode, 1)
        shutil.copy(self.path("stranger.cert"), self.path("callers"))
        self.broker.send_signal(signal.SIGHUP)
        self.logged("2 certificates are in")
        self.assertEqual(self.top("stranger").returncode, 0)
        os.remove(self.path("callers", "stranger.cert"))
        with open(self.path("callers", "broken.cert"), "w", encoding="utf-8") as file:
            file.write("curve\n")
        self.broker.send_signal(signal.SIGHUP)
        self.logged("broken.cert")
        self.assertEqual(self.top("stranger").returncode, 0)  # the old set stays
        os.remove(self.path("callers", "broken.cert"))
        self.broker.send_signal(signal.SIGHUP)
        self.logged("1 that were are no longer")
        self.assertEqual(self.top("stranger").returncode, 1)
        self.assertEqual(self.top("caller").returncode, 0)


class Up(Folder):
    """Everything in one process: only the door for others has a lock."""

    def test_locks_its_front(self):
        for name in ("broker", "caller", "stranger"):
            self.new(name)
        os.mkdir(self.path("callers"))
        os.mkdir(self.path("models"))
        shutil.copy(self.path("caller.cert"), self.path("callers"))
        front = f"tcp://127.0.0.1:{free_port()}"
        process = start("up", "--tts", "espeak", "--listen", f"127.0.0.1:{free_port()}", "--models", self.path("models"),
                        "--broker-front", front, "--key", self.path("broker.key"),
                        "--callers", self.path("callers"))
        self.addCleanup(process.communicate)
        self.addCleanup(process.terminate)
        self.assertIn("ready after", process.stdout.readline())
        for name, status in (("caller", 0), ("stranger", 1)):
            result = dragoman("top", "--once", "--broker", front, "--key", self.path(f"{name}.key"),
                              "--broker-key", self.path("broker.cert"))
            self.assertEqual(result.returncode, status, result.stderr)
        self.assertIn("refuses this key", result.stderr)


class WholeStack(Folder):
    """What scripts/keys.sh makes is all that broker, voice and gateway need to talk over CURVE."""

    def start(self, program, *args):
        process = subprocess.Popen([os.path.join(BUILD, *program.split("/")), *args],
                                   stderr=subprocess.DEVNULL, env=environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def wait_unready(self, port, why):
        """Until /readyz says so; the process may not even listen yet."""
        said = ""
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
                    said = answer.read().decode()
            except urllib.error.HTTPError as error:
                said = error.read().decode()
            except OSError as error:
                said = str(error)
            if why in said:
                return
            time.sleep(0.05)
        self.fail(f"/readyz never said '{why}', but '{said}'")

    def key(self, name):
        return ["--key", self.path("keys", f"{name}.key"), "--broker-key", self.path("keys", "broker.cert")]

    def test_speaks(self):
        script = os.path.join(os.path.dirname(__file__), "..", "..", "scripts", "keys.sh")
        for made in (6, 0):  # what is there stays
            result = subprocess.run([script, self.path("keys")], capture_output=True, text=True, check=True,
                                    env=environment(DRAGOMAN=BINARY))
            self.assertEqual(len(result.stdout.splitlines()), made, result.stderr)
        front, back, http = free_port(), free_port(), free_port()
        self.start("broker/dragoman-broker", "--front", f"tcp://127.0.0.1:{front}",
                   "--back", f"tcp://127.0.0.1:{back}", "--key", self.path("keys", "broker.key"),
                   "--callers", self.path("keys", "callers"), "--workers", self.path("keys", "workers"))
        voice = ["--engine", "espeak", "--broker", f"tcp://127.0.0.1:{back}"]
        self.start("tts/dragoman-tts", *voice, *self.key("asr"))  # whose certificate allows no voice
        self.start("gateway/dragoman-gateway", "--listen", f"127.0.0.1:{http}",
                   "--broker", f"tcp://127.0.0.1:{front}", *self.key("gateway"))
        operator = ["--broker", f"tcp://127.0.0.1:{front}", *self.key("operator")]
        time.sleep(1)
        self.assertNotIn("Synthesizer", dragoman("top", "--once", *operator).stdout)
        self.start("tts/dragoman-tts", *voice, *self.key("tts"))
        admin = free_port()
        dragoman("keys", "new", "stranger", "-o", self.path("keys"))
        self.start("tts/dragoman-tts", *voice, *self.key("stranger"), "--admin", f"127.0.0.1:{admin}")
        for _ in range(50):
            result = dragoman("speak", "good morning", "--voice", "en", "-o", self.path("out.wav"),
                              "--server", f"http://127.0.0.1:{http}")
            if result.returncode == 0:
                break
            time.sleep(0.2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertGreater(os.path.getsize(self.path("out.wav")), 10000)
        self.assertIn("dragoman.tts.v1", dragoman("top", "--once", *operator).stdout)
        self.wait_unready(admin, "the peer refuses this key")


if __name__ == "__main__":
    unittest.main()
