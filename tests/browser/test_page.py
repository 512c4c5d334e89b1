"""The page in a real Chromium: takes a file, records from a microphone, shows, plays, and says what is wrong."""
import os
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from stack import Stack, recording
from webdriver import Browser


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.stack.worker("asr", "whisper-tiny.en")
        cls.stack.worker("translate", "marian-en-pt")
        cls.stack.worker("tts", None, "--engine=espeak")
        cls.stack.wait_models(3)
        # The microphone of this browser hears the recording, over and over.
        cls.browser = Browser("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                              f"--use-file-for-fake-audio-capture={recording('0870')}",
                              "--autoplay-policy=no-user-gesture-required")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.stack.stop()

    def setUp(self):
        self.browser.problems()  # what an earlier test has caused on purpose
        self.browser.open(f"http://127.0.0.1:{self.stack.port}/")
        self.browser.wait(lambda: self.browser.run("return document.querySelector('#to').options.length") > 0, 30,
                          "the list of languages")
        self.browser.run("for (const [id, v] of [['from', 'en'], ['to', 'pt']]) {"
                         "const e = document.getElementById(id); e.value = v; e.dispatchEvent(new Event('change')) }")

    def done(self):
        self.browser.wait(lambda: self.browser.text("#status") == "Done.", 60, "the end")
        self.browser.wait(lambda: (self.browser.run("return document.querySelector('#player').duration") or 0) > 1, 10,
                          "the player's audio")

    def test_a_file(self):
        self.browser.type("#file", recording("0870"))
        self.done()
        self.assertIn("John Dashwood", self.browser.text("#transcript"))
        self.assertIn("John Dashwood", self.browser.text("#translation"))
        self.assertIn("poder", self.browser.text("#translation"))
        self.assertIn("first sound after", self.browser.text("#stages"))
        self.assertEqual(self.browser.problems(), [])

    def test_the_microphone(self):
        self.browser.click("#record")
        self.browser.wait(lambda: self.browser.text("#status").startswith("Recording"), 10, "the recording")
        time.sleep(8)
        self.browser.click("#record")
        self.done()
        self.assertIn("Dashwood", self.browser.text("#transcript"))
        self.assertEqual(self.browser.problems(), [])

    def test_a_file_that_is_no_audio(self):
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            file.write(b"this is no audio at all\n" * 40)
            file.flush()
            self.browser.type("#file", file.name)
            self.browser.wait(lambda: self.browser.run(
                "return document.querySelector('#status').classList.contains('error')"), 20, "the error")
        self.assertIn("audio", self.browser.text("#status"))

    def test_every_control_has_a_name(self):
        nameless = self.browser.run(
            "return [...document.querySelectorAll('button, select, input')].filter(e => !e.labels?.length &&"
            " !e.textContent.trim() && !e.ariaLabel).map(e => e.id)")
        self.assertEqual(nameless, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
