"""`dragoman up` with real models, and every command against it."""
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import unittest
import wave

from command import MODELS, dragoman, free_port, recording, start

SMALL = ["--asr", "whisper-tiny.en", "--translate", "marian-en-pt", "--tts", "espeak"]


def started(*args):
    """`dragoman up` on a free port, ready. @return the process and its URL"""
    process = start("up", "--listen", "127.0.0.1:0", "--models", MODELS, *args)
    line = process.stdout.readline()
    match = re.fullmatch(r"ready after (\d+\.\d\d) s: (http://127\.0\.0\.1:\d+)/\n", line)
    if not match:
        process.kill()
        raise AssertionError(f"not ready: {line}{process.communicate()[1]}")
    return process, match[2]


def stopped(process, number=signal.SIGTERM):
    """@return the exit status, and how long it took"""
    begin = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=120)
    return process.returncode, time.monotonic() - begin


class Stack(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.front = f"tcp://127.0.0.1:{free_port()}"
        cls.process, cls.url = started(*SMALL, "--broker-front", cls.front)
        cls.folder = tempfile.TemporaryDirectory(prefix="dragoman-cli-")

    @classmethod
    def tearDownClass(cls):
        status, _ = stopped(cls.process)
        cls.folder.cleanup()
        assert status == 0, status

    def run_ok(self, *args, **more):
        result = dragoman(*args, DRAGOMAN_SERVER=self.url, **more)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def test_interprets_a_recording(self):
        out = self.path("pt.wav")
        shown = self.run_ok("interpret", recording("0880"), "--from", "en", "--to", "pt", "-o", out)
        self.assertRegex(shown, r"(?m)^transcript +He was not an .*young man\.$")
        self.assertRegex(shown, r"(?m)^translation +\S.*\.$")
        self.assertRegex(shown, r"(?m)^times +recognised \d+\.\d\d s, .*all done after \d+\.\d\d s$")
        with wave.open(out) as audio:
            self.assertEqual((audio.getnchannels(), audio.getsampwidth()), (1, 2))
            samples = audio.readframes(10_000_000)
        self.assertGreater(len(samples) / 2 / audio.getframerate(), 1)

    def test_interprets_as_json(self):
        answer = json.loads(self.run_ok("interpret", recording("0880"), "--from", "en", "--to", "pt",
                                        "--json"))
        self.assertEqual((answer["source"], answer["target"]), ("en", "pt"))
        self.assertIn("young man", answer["transcript"])
        self.assertGreater(answer["stages"]["total_ms"], 0)

    def test_transcribes(self):
        self.assertIn("young man.\n", self.run_ok("transcribe", recording("0880"), "--language", "en"))
        self.assertIn("00:00:00,000 --> ",
                      self.run_ok("transcribe", recording("0880"), "--language", "en", "--format", "srt"))

    def test_translates_operands_and_standard_input(self):
        good = self.run_ok("translate", "--from", "en", "--to", "pt", "Good morning.")
        self.assertEqual(good, "Bom dia.\n")
        self.assertEqual(self.run_ok("translate", "-", "--from", "en", "--to", "pt",
                                     text="Good morning.\n"), good)

    def test_speaks_into_files_of_each_kind(self):
        begins = {"wav": b"RIFF", "flac": b"fLaC", "ogg": b"OggS"}
        for kind, magic in begins.items():
            out = self.path(f"a.{kind}")
            self.run_ok("speak", "Good morning.", "--voice", "en", "-o", out)
            with open(out, "rb") as file:
                self.assertEqual(file.read(4), magic)

    def test_refusals_leave_no_file_behind(self):
        out = self.path("refused.wav")
        for args in (["interpret", recording("0880"), "--from", "en", "--to", "ja", "-o", out],
                     ["interpret", __file__, "--to", "pt", "-o", out],
                     ["speak", "hello", "--voice", "nobody", "-o", out]):
            result = dragoman(*args, DRAGOMAN_SERVER=self.url)
            self.assertEqual(result.returncode, 1, args)
            self.assertTrue(result.stderr.startswith("error: "), result.stderr)
            self.assertFalse(os.path.exists(out), args)

    def test_top_shows_every_worker_once(self):
        shown = dragoman("top", "--broker", self.front)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertNotIn("\033", shown.stdout)
        for row in (r"dragoman\.asr\.v1\.Recognizer +1 ", r"dragoman\.translate\.v1\.Translator +1 ",
                    r"dragoman\.tts\.v1\.Synthesizer +1 "):
            self.assertRegex(shown.stdout, rf"(?m)^{row}")
        self.assertEqual(shown.stdout.count("model=whisper-tiny.en"), 1)

    def test_a_port_that_is_taken(self):
        port = self.url.rsplit(":", 1)[1]
        result = dragoman("up", "--listen", f"127.0.0.1:{port}", "--models", MODELS, *SMALL)
        self.assertEqual(result.returncode, 1)
        self.assertIn("--listen", result.stderr)


class Start(unittest.TestCase):
    def test_everything_on_disk_is_served(self):
        process, url = started()
        try:
            back = dragoman("translate", "--from", "pt", "--to", "en", "Bom dia.", "--server", url)
            self.assertEqual(back.stdout, "Good morning.\n", back.stderr)
        finally:
            status, _ = stopped(process)
        self.assertEqual(status, 0)

    def test_both_signals_end_it_well_and_soon(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            process, _ = started(*SMALL)
            status, seconds = stopped(process, number)
            self.assertEqual(status, 0)
            self.assertLess(seconds, 5)

    def test_a_running_call_is_finished_first(self):
        front = f"tcp://127.0.0.1:{free_port()}"
        process, url = started(*SMALL, "--broker-front", front, "--grace-s", "100")
        client = start("interpret", recording("0870"), "--from", "en", "--to", "pt", "--server", url)
        running = r"(?m)^dragoman\.asr\.v1\.Recognizer +1 +1 "
        while client.poll() is None and not re.search(running, dragoman("top", "--broker", front).stdout):
            pass
        status, _ = stopped(process)
        out, err = client.communicate(timeout=120)
        self.assertEqual((status, client.returncode), (0, 0), err)
        self.assertIn("John Dashwood", out)

    def test_a_missing_model_names_the_remedy(self):
        with tempfile.TemporaryDirectory(prefix="dragoman-cli-") as empty:
            result = dragoman("up", "--listen", "127.0.0.1:0", "--models", empty)
            self.assertEqual(result.returncode, 1)
            self.assertIn("dragoman models pull --default", result.stderr)
            result = dragoman("up", "--listen", "127.0.0.1:0", "--models", empty, "--asr", "whisper-base")
            self.assertEqual(result.returncode, 1)
            self.assertIn("dragoman models pull whisper-base", result.stderr)

    def test_what_is_not_here_is_said(self):
        with tempfile.TemporaryDirectory(prefix="dragoman-cli-") as folder:
            os.symlink(os.path.join(MODELS, "marian-en-pt"), os.path.join(folder, "marian-en-pt"))
            process = start("up", "--listen", "127.0.0.1:0", "--models", folder)
            self.assertTrue(process.stdout.readline().startswith("ready"))
            process.send_signal(signal.SIGTERM)
            err = process.communicate(timeout=60)[1]
            self.assertIn("without whisper-tiny.en, whisper-base, marian-pt-en, piper-en_US-joe-medium: "
                          "'dragoman models pull --default' brings them", err)

    def test_a_damaged_model_is_named(self):
        with tempfile.TemporaryDirectory(prefix="dragoman-cli-") as folder:
            broken = os.path.join(folder, "marian-en-pt")
            subprocess.run(["cp", "-r", os.path.join(MODELS, "marian-en-pt"), broken], check=True)
            os.truncate(os.path.join(broken, "model.enpt.intgemm.alphas.bin"), 1000)
            result = dragoman("up", "--listen", "127.0.0.1:0", "--models", folder, "--translate",
                              "marian-en-pt")
            self.assertEqual(result.returncode, 1)
            self.assertIn("marian-en-pt", result.stderr)


if __name__ == "__main__":
    unittest.main()
