"""What breaks, breaks small: the right status, a message that names the remedy, everybody else served."""
import os
import random
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
import wave

from stack import BUILD, MODELS, Stack, free_port, multipart, recording


def read(path):
    with open(path, "rb") as file:
        return file.read()


def long_recording(repeats):
    """The five LibriVox samples, over and over: about 25 s a repeat, as WAV bytes."""
    samples = b""
    for number in ("0870", "0880", "0890", "0920", "0930"):
        with wave.open(recording(number)) as wav:
            samples += wav.readframes(wav.getnframes()) + bytes(16000)
    samples *= repeats
    return struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(samples), b"WAVE", b"fmt ", 16, 1, 1, 16000,
                       32000, 2, 16, b"data", len(samples)) + samples


def metric(port, name, *labels):
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in page.splitlines()
               if line.startswith(name) and all(label in line for label in labels))


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.admin = free_port()
        cls.stack = Stack(broker_flags=["--queue-limit=2"])
        cls.stack.worker("asr", "whisper-tiny.en", "--capacity=1", f"--admin=127.0.0.1:{cls.admin}", name="asr")
        cls.stack.worker("translate", "marian-en-pt", name="translate")
        cls.stack.worker("tts", None, "--engine=espeak", name="tts")
        cls.stack.wait_models(3)
        cls.client = cls.stack.client

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def tearDown(self):
        self.assertEqual(self.client.get("/healthz").status, 200)
        for name, process in self.stack.processes.items():
            self.assertIsNone(process.poll(), f"{name} died: {self.stack.log(name)[-2000:]}")

    def openai_error(self, answer, status, *phrases):
        self.assertEqual(answer.status, status, answer.body[:500])
        error = answer.json["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        for phrase in phrases:
            self.assertIn(phrase, error["message"])
        return error

    def transcribe(self, data, **fields):
        return self.client.upload("/v1/audio/transcriptions", data, model="whisper-1", **fields)

    def restart_asr(self):
        self.stack.worker("asr", "whisper-tiny.en", "--capacity=1", f"--admin=127.0.0.1:{self.admin}", name="asr")
        self.stack.wait_models(3)

    def test_killed_recogniser(self):
        answers = []
        caller = threading.Thread(target=lambda: answers.append(self.transcribe(long_recording(8))))
        caller.start()
        time.sleep(1.5)
        self.stack.kill("asr")
        begin = time.monotonic()
        self.assertEqual(self.client.get("/translate?source_lang=en&target_lang=pt&text=Good%20morning.").status, 200)
        caller.join(30)
        self.assertTrue(answers, "the call whose worker died never ended")
        self.openai_error(answers[0], 503)
        self.assertLess(time.monotonic() - begin, 10)
        self.openai_error(self.transcribe(read(recording("0880"))), 503)
        self.restart_asr()
        self.assertEqual(self.transcribe(read(recording("0880"))).status, 200)

    def test_full_queue(self):
        answers = []
        audio = long_recording(2)
        callers = [threading.Thread(target=lambda: answers.append(self.transcribe(audio))) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(180)
        self.assertEqual(len(answers), 8)
        refused = [answer for answer in answers if answer.status == 429]
        served = [answer for answer in answers if answer.status == 200]
        self.assertEqual(len(refused) + len(served), 8, [answer.status for answer in answers])
        self.assertTrue(served)
        self.assertTrue(refused)
        for answer in refused:
            self.openai_error(answer, 429)
            self.assertGreaterEqual(int(answer.headers.get("Retry-After") or answer.headers["retry-after"]), 1)

    def test_client_hangs_up(self):
        before = metric(self.admin, "grpc_server_call_duration_seconds_count", 'CANCELLED')
        body, content_type = multipart({"model": "whisper-1"}, {"file": ("a.wav", long_recording(8))})
        with socket.create_connection(("127.0.0.1", self.stack.port)) as caller:
            caller.sendall((f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
                            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n").encode() + body)
            time.sleep(1)
        deadline = time.monotonic() + 10
        while metric(self.admin, "grpc_server_call_duration_seconds_count", 'CANCELLED') == before:
            self.assertLess(time.monotonic(), deadline, "the recogniser still works for a client that left")
            time.sleep(0.05)
        self.assertEqual(self.transcribe(read(recording("0880"))).status, 200)

    def test_hostile_audio(self):
        noise = random.Random(1).randbytes(5000)
        wav = read(recording("0880"))
        for name, data in {
            "empty": b"", "noise": noise, "text": b"this is no audio at all\n" * 40, "header only": wav[:44],
            "half a header": wav[:20], "flac magic": b"fLaC" + noise, "ogg magic": b"OggS" + noise,
            "mp3 magic": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + noise,
            "size that lies": wav[:40] + b"\xff\xff\xff\xff" + noise[:101],
        }.items():
            with self.subTest(name):
                answer = self.transcribe(data)
                self.assertIn(answer.status, (200, 400), answer.body[:300])
                if answer.status == 400:
                    self.openai_error(answer, 400)
        self.openai_error(self.transcribe(noise), 400, "a.wav")

    def test_hostile_text(self):
        for text in ("", " ", "\x00", "a" * 20000, "𝔘" * 500, "\u202e\u0301" * 200, "<script>" * 50, "." * 3000):
            with self.subTest(text[:10]):
                answer = self.client.post_json("/translate", {"text": text, "source_lang": "en", "target_lang": "pt"})
                self.assertIn(answer.status, (200, 400, 403), answer.body[:300])
        answer = self.client.request("POST", "/translate", b'{"text": "\xff\xfe", "target_lang": "pt"}', "application/json")
        self.assertIn(answer.status, (400, 403, 422))
        answer = self.client.request("POST", "/translate", b'{"text": ' + b"[" * 100000, "application/json")
        self.assertIn(answer.status, (400, 403, 413, 422))
        speech = {"model": "tts-1", "voice": "alloy", "response_format": "wav"}
        self.openai_error(self.client.post_json("/v1/audio/speech", {**speech, "input": "x" * 5000}), 400, "4096")
        self.openai_error(self.client.post_json("/v1/audio/speech", {**speech, "input": 7}), 400, "input")

    def test_a_language_nobody_serves(self):
        answer = self.client.interpret(read(recording("0880")), to="fi")
        self.openai_error(answer, 400, "fi", "pt")

    def test_a_file_over_the_limit(self):
        with socket.create_connection(("127.0.0.1", self.stack.port)) as caller:
            caller.sendall(b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\n"
                           b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99999999999\r\n\r\n")
            caller.settimeout(10)
            self.assertIn(b" 413 ", caller.recv(4096).split(b"\r\n")[0])


class WrongModels(unittest.TestCase):
    """A service whose model is missing or damaged says so and exits with 1."""

    def damaged(self, model, file, change):
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        copy = os.path.join(folder, model)
        shutil.copytree(os.path.join(MODELS, model), copy)
        path = os.path.join(copy, file)
        data = read(path)
        with open(path, "wb") as out:
            out.write(change(data))
        return copy

    def refused(self, room, folder, *phrases):
        run = subprocess.run([os.path.join(BUILD, room, f"dragoman-{room}"), "--broker=tcp://127.0.0.1:1",
                              f"--model={folder}"], capture_output=True, text=True, timeout=120)
        self.assertEqual(run.returncode, 1, run.stderr)
        for phrase in phrases:
            self.assertIn(phrase, run.stderr)

    def test_missing(self):
        for room, model in (("asr", "whisper-tiny.en"), ("translate", "marian-en-pt"),
                            ("tts", "piper-en_US-joe-medium")):
            with self.subTest(room):
                self.refused(room, f"/nonexistent/{model}", model, "dragoman models pull")

    def test_damaged(self):
        for room, model, file in (("asr", "whisper-tiny.en", "model.bin"), ("asr", "whisper-tiny.en", "tokenizer.json"),
                                  ("translate", "marian-en-pt", "model.enpt.intgemm.alphas.bin"),
                                  ("translate", "marian-en-pt", "lex.50.50.enpt.s2t.bin"),
                                  ("tts", "piper-en_US-joe-medium", "en_US-joe-medium.onnx"),
                                  ("tts", "piper-en_US-joe-medium", "en_US-joe-medium.onnx.json")):
            for name, change in {"cut": lambda data: data[:len(data) // 2], "empty": lambda data: b"",
                                 "noise": lambda data: random.Random(2).randbytes(4096)}.items():
                with self.subTest(f"{file} {name}"):
                    self.refused(room, self.damaged(model, file, change), file)


if __name__ == "__main__":
    unittest.main(verbosity=2)
