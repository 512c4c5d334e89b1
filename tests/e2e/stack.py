"""A real stack for tests: five kinds of process on free loopback ports, and a small HTTP client."""
import contextlib
import glob
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid

BUILD = os.environ["DRAGOMAN_BUILD"]
MODELS = os.environ.get("DRAGOMAN_MODELS") or os.path.expanduser("~/.local/share/dragoman/models")
LIBRIVOX = glob.glob("/usr/share/pocketsphinx/test/data/librivox")[0]


def recording(number):
    return os.path.join(LIBRIVOX, f"sense_and_sensibility_01_austen_64kb-{number}.wav")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


def multipart(fields, files):
    boundary = uuid.uuid4().hex
    body = b""
    for name, value in fields.items():
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for name, (filename, data) in files.items():
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
                 "Content-Type: application/octet-stream\r\n\r\n").encode() + data + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Client:
    def __init__(self, port):
        self.port = port

    def request(self, method, path, body=None, content_type=None, timeout=120):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        answer = connection.getresponse()
        response = Response(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()
        return response

    def get(self, path):
        return self.request("GET", path)

    def post_json(self, path, value):
        return self.request("POST", path, json.dumps(value).encode(), "application/json")

    def upload(self, path, data, filename="a.wav", timeout=120, **fields):
        body, content_type = multipart(fields, {"file": (filename, data)})
        return self.request("POST", path, body, content_type, timeout)

    def interpret(self, data, **fields):
        return self.upload("/v1/interpret", data, **fields)


class Stack:
    """Broker, workers and gateway as processes of their own; each logs to a file in `folder`."""

    def __init__(self, broker_flags=(), gateway_flags=()):
        self.folder = tempfile.mkdtemp(prefix="dragoman-e2e-")
        self.processes = {}
        self.front, self.back, self.port = free_port(), free_port(), free_port()
        self.start("broker", f"--front=tcp://127.0.0.1:{self.front}",
                   f"--back=tcp://127.0.0.1:{self.back}", *broker_flags)
        self.start("gateway", f"--listen=127.0.0.1:{self.port}",
                   f"--broker=tcp://127.0.0.1:{self.front}", *gateway_flags)
        self.client = Client(self.port)

    def start(self, room, *flags, name=None):
        with open(os.path.join(self.folder, (name or room) + ".log"), "ab") as log:
            process = subprocess.Popen([os.path.join(BUILD, room, f"dragoman-{room}"), *flags],
                                       stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes[name or room] = process
        return process

    def worker(self, room, model=None, *flags, name=None):
        model_flags = [f"--model={os.path.join(MODELS, model)}"] if model else []
        return self.start(room, f"--broker=tcp://127.0.0.1:{self.back}", *model_flags, *flags,
                          name=name or f"{room}-{model or 'espeak'}")

    def standard_workers(self):
        self.worker("asr", "whisper-tiny.en")
        self.worker("asr", "whisper-base")
        self.worker("translate", "marian-en-pt")
        self.worker("translate", "marian-pt-en")
        self.worker("tts", "piper-en_US-joe-medium")
        self.worker("tts", None, "--engine=espeak")
        self.wait_models(6)

    def wait_models(self, count, timeout=120):
        """Until /v1/models names that many (each voice engine and model is one worker at least)."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                answer = self.client.get("/v1/models")
                if answer.status == 200 and len(answer.json["data"]) >= count:
                    return
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise AssertionError(f"{name} exited with {process.returncode}: {self.log(name)}")
            time.sleep(0.05)
        raise AssertionError(f"not {count} models after {timeout} s: {answer.body}")

    def log(self, name):
        with open(os.path.join(self.folder, name + ".log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def signal(self, name, number):
        self.processes[name].send_signal(number)

    def stop(self):
        """SIGTERM to all, workers first; every one must drain and exit with 0."""
        failed = []
        for name in sorted(self.processes, key=lambda name: name in ("broker", "gateway")):
            process = self.processes[name]
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(40)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    failed.append(f"{name} did not stop on SIGTERM")
                if process.returncode != 0:
                    failed.append(f"{name} exited with {process.returncode}: {self.log(name)[-2000:]}")
        if failed:
            raise AssertionError("\n".join(failed))

    def forget(self, name):
        """A process that the test itself has killed."""
        self.processes.pop(name).wait()

    def kill(self, name):
        self.signal(name, signal.SIGKILL)
        self.forget(name)
