"""The main job through five real processes: speech in one language becomes speech in another."""
import base64
import io
import json
import unittest
import wave

from stack import Stack, recording


def read(path):
    with open(path, "rb") as file:
        return file.read()


def wav_seconds(data):
    with wave.open(io.BytesIO(data)) as wav:
        return wav.getnframes() / wav.getframerate()


def words(text):
    return "".join(c if c.isalnum() else " " for c in text.lower()).split()


class Chain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.stack.standard_workers()
        cls.client = cls.stack.client

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def test_english_speech_becomes_portuguese(self):
        answer = self.client.interpret(read(recording("0870")), to="pt", **{"from": "en"})
        self.assertEqual(answer.status, 200, answer.body)
        result = answer.json
        self.assertIn("john dashwood", result["transcript"].lower())
        self.assertIn("john dashwood", result["translation"].lower())
        self.assertIn("poder", words(result["translation"]))
        self.assertGreater(wav_seconds(base64.b64decode(result["audio"]["data"])), 3)

    def test_portuguese_speech_becomes_english(self):
        spoken = self.client.post_json("/v1/audio/speech", {
            "model": "espeak", "voice": "pt", "input": "Amanhã eu vou comprar um livro para a minha mãe.",
            "response_format": "wav"})
        self.assertEqual(spoken.status, 200, spoken.body)
        answer = self.client.interpret(spoken.body, to="en", **{"from": "pt"})
        self.assertEqual(answer.status, 200, answer.body)
        result = answer.json
        self.assertEqual(result["source"], "pt")
        self.assertLessEqual({"buy", "book", "mother"}, set(words(result["translation"])), result)
        self.assertGreater(wav_seconds(base64.b64decode(result["audio"]["data"])), 1)

    def test_what_tts_says_asr_hears(self):
        text = "The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore."
        spoken = self.client.post_json("/v1/audio/speech", {
            "model": "tts-1", "voice": "en_US-joe-medium", "input": text, "response_format": "wav"})
        self.assertEqual(spoken.status, 200, spoken.body)
        heard = self.client.upload("/v1/audio/transcriptions", spoken.body, model="whisper-1", language="en")
        self.assertEqual(heard.status, 200, heard.body)
        missing = set(words(text)) - set(words(heard.json["text"]))
        self.assertLessEqual(len(missing), 3, f"heard {heard.json['text']!r}")

    def test_audio_itself_is_the_answer(self):
        answer = self.client.interpret(read(recording("0880")), to="pt", response_format="wav")
        self.assertEqual(answer.status, 200, answer.body[:300])
        self.assertEqual(answer.headers["Content-Type".lower()] if "content-type" in answer.headers
                         else answer.headers["Content-Type"], "audio/wav")
        self.assertEqual(answer.body[:4], b"RIFF")

    def test_events_arrive_in_the_order_of_the_chain(self):
        answer = self.client.interpret(read(recording("0870")), to="pt", stream="true")
        events = [json.loads(line[6:]) for line in answer.body.decode().splitlines() if line.startswith("data: {")]
        types = [event["type"] for event in events]
        self.assertTrue(types, answer.body[:300])
        first = {}
        for i, kind in enumerate(types):
            first.setdefault(kind, i)
        segment = min(i for kind, i in first.items() if "segment" in kind)
        sentence = min(i for kind, i in first.items() if "sentence" in kind)
        audio = min(i for kind, i in first.items() if "audio" in kind)
        self.assertLess(segment, sentence)
        self.assertLess(sentence, audio)
        self.assertIn("done", types[-1])


if __name__ == "__main__":
    unittest.main(verbosity=2)
