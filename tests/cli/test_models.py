"""`dragoman models` with a catalogue of its own and a server on the loopback interface."""
import hashlib
import http.server
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from command import BINARY, dragoman, environment, free_port, start

BIG = bytes(i * i >> 5 & 255 for i in range(3_000_000))
FILES = {"weights.bin": BIG, "notes.txt": b"hello\n"}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pause = 0.0  # between pieces
    begun = threading.Event()

    def do_GET(self):
        body = FILES.get(os.path.basename(self.path))
        if body is None:
            self.send_error(404)
            return
        ranged = self.headers.get("Range", "")
        offset = int(ranged.removeprefix("bytes=").rstrip("-")) if ranged else 0
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(body) - offset))
        self.end_headers()
        try:
            for at in range(offset, len(body), 100_000):
                self.wfile.write(body[at:at + 100_000])
                self.begun.set()
                time.sleep(self.pause)
        except OSError:
            self.close_connection = True

    def log_message(self, *args):
        pass


class Models(unittest.TestCase):
    def setUp(self):
        Handler.pause = 0
        Handler.begun.clear()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.folder = tempfile.TemporaryDirectory(prefix="dragoman-cli-")
        self.store = os.path.join(self.folder.name, "models")
        self.environment = {"DRAGOMAN_MODELS": self.store, "DRAGOMAN_CATALOGUE": self.catalogue()}

    def tearDown(self):
        self.server.shutdown()
        self.server.server_close()
        self.folder.cleanup()

    def catalogue(self):
        url = f"http://127.0.0.1:{self.server.server_port}/"
        files = [{"name": name, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
                 for name, body in FILES.items()]
        entry = {"kind": "asr", "engine": "whisper", "languages": "en", "summary": "for a test",
                 "licence": "MIT", "files": files, "sources": [{"kind": "hub", "base": url}]}
        gone = f"http://127.0.0.1:{free_port()}/"
        path = os.path.join(self.folder.name, "catalogue.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"models": [{"name": "one", "default": True, **entry}, {"name": "two", **entry},
                                  {"name": "lost", **entry, "sources": [{"kind": "hub", "base": gone}]}]},
                      file)
        return path

    def models(self, *args):
        return dragoman("models", *args, **self.environment)

    def states(self):
        return {row["name"]: row["state"] for row in json.loads(self.models("list", "--json").stdout)}

    def test_a_life_of_a_model(self):
        self.assertEqual(self.states(), {"one": "-", "two": "-", "lost": "-"})
        self.assertEqual(self.models("path", "one").returncode, 1)

        pulled = self.models("pull", "--default")
        self.assertEqual((pulled.returncode, pulled.stdout), (0, "one: pulled\n"))
        self.assertNotIn("\033", pulled.stderr)  # no bar where there is no terminal
        self.assertIn("one: 3.0 of 3.0 MB", pulled.stderr)
        self.assertEqual(self.states(), {"one": "here", "two": "-", "lost": "-"})
        self.assertEqual(self.models("pull", "one").stdout, "one: is here\n")
        path = self.models("path", "one").stdout.strip()
        self.assertEqual(sorted(os.listdir(path)), ["notes.txt", "weights.bin"])
        self.assertEqual(self.models("verify").stdout, "one: good\n")

        with open(os.path.join(path, "notes.txt"), "w", encoding="utf-8") as file:
            file.write("hullo\n")
        damaged = self.models("verify")
        self.assertEqual(damaged.returncode, 1)
        self.assertIn("'notes.txt' is damaged", damaged.stderr)
        self.assertIn("dragoman models pull one", damaged.stderr)
        self.assertEqual(self.models("pull", "one").stdout, "one: pulled\n")
        self.assertEqual(self.models("verify", "one").returncode, 0)

        self.assertEqual(self.models("remove", "one").stdout, "one: removed\n")
        self.assertEqual(os.listdir(self.store), [".lock"])
        self.assertEqual(self.models("remove", "one").returncode, 1)

    def test_one_that_fails_does_not_stop_the_others(self):
        result = self.models("pull", "--all")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stdout, "one: pulled\ntwo: pulled\n")
        self.assertIn("error: cannot pull 'lost': ", result.stderr)

    def test_an_unknown_name_changes_nothing(self):
        result = self.models("pull", "one", "three")
        self.assertEqual(result.returncode, 1)
        self.assertIn("no model 'three'", result.stderr)
        self.assertFalse(os.path.exists(self.store))

    def test_an_interrupt_stops_at_once_and_the_rest_comes_later(self):
        Handler.pause = 0.1
        process = start("models", "pull", "one", **self.environment)
        self.assertTrue(Handler.begun.wait(30))
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        self.assertLess(time.monotonic() - begin, 2)
        self.assertEqual(process.returncode, -signal.SIGINT)
        self.assertEqual(self.states()["one"], "-")
        Handler.pause = 0
        self.assertEqual(self.models("pull", "one").stdout, "one: pulled\n")

    def test_a_bar_on_a_terminal(self):
        Handler.pause = 0.02
        command = BINARY + " models pull one"
        result = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, timeout=60,
                                env=environment(**self.environment), check=False)
        self.assertEqual(result.returncode, 0)
        self.assertRegex(result.stdout, rb"one +\[#+ +\] \d\.\d of 3\.0 MB")
        self.assertTrue(result.stdout.endswith(b"\r\033[Kone: pulled\r\n"), result.stdout[-60:])

    def test_a_read_only_folder_is_enough_for_what_is_here(self):
        self.models("pull", "one")
        os.chmod(self.store, 0o555)
        self.assertEqual(self.models("pull", "one").stdout, "one: is here\n")
        os.chmod(self.store, 0o755)


if __name__ == "__main__":
    unittest.main()
