"""The whole job, us and the Python chain in turn: total time, first audio, time to ready, peak memory.

bench.py --dragoman BINARY --models FOLDER --recording WAV [--rounds N] [--threads N] [--json FILE]

Each round starts both anew (which gives ready times), then lets them interpret the recording in turn.
Ratios are us / peer, the median over rounds; below 1 we are ahead.
"""
import argparse
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
VOICE = "en_US-joe-medium"


def peak_memory_mb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) / 1024


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Dragoman:
    """dragoman up: one process, over HTTP."""

    def __init__(self, args):
        self.url = f"http://127.0.0.1:{free_port()}"
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [args.dragoman, "up", "--listen", self.url.removeprefix("http://"),
             "--threads", str(args.threads), "--models", args.models, "--asr", "whisper-tiny.en",
             "--translate", "marian-en-pt", "--tts", f"piper-{VOICE}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                urllib.request.urlopen(self.url + "/readyz", timeout=5).read()
                break
            except OSError:
                if self.process.poll() is not None or time.perf_counter() - begin > 60:
                    sys.exit("dragoman up does not get ready")
                time.sleep(0.002)
        self.ready_s = time.perf_counter() - begin

    def interpret(self, path):
        boundary = uuid.uuid4().hex
        fields = {"from": "en", "to": "pt", "voice": VOICE, "model": "whisper-tiny.en", "stream": "true"}
        body = b"".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items())
        with open(path, "rb") as file:
            body += (f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
                     "Content-Type: audio/wav\r\n\r\n").encode() + file.read() + f"\r\n--{boundary}--\r\n".encode()
        request = urllib.request.Request(
            self.url + "/v1/interpret", body,
            {"Content-Type": f"multipart/form-data; boundary={boundary}"})
        begin = time.perf_counter()
        result = {"audio_bytes": 0, "first_audio_s": None}
        with urllib.request.urlopen(request, timeout=120) as response:
            for line in response:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[len(b"data: "):])
                if "audio" in event.get("type", "") and event.get("audio"):
                    result["first_audio_s"] = result["first_audio_s"] or time.perf_counter() - begin
                    result["audio_bytes"] += len(base64.b64decode(event["audio"]))
                result.update({key: event[key] for key in ("transcript", "translation", "stages") if key in event})
        result["total_s"] = time.perf_counter() - begin
        return result

    def stop(self):
        peak = peak_memory_mb(self.process.pid)
        self.process.terminate()
        self.process.wait()
        return peak


class Peer:
    def __init__(self, args):
        begin = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "peer.py"), str(args.threads),
             os.path.join(args.models, "whisper-tiny.en"),
             os.path.join(args.models, f"piper-{VOICE}", f"{VOICE}.onnx")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if self.process.stdout.readline().strip() != "ready":
            sys.exit("the peer does not get ready")
        self.ready_s = time.perf_counter() - begin

    def interpret(self, path):
        print(path, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def stop(self):
        peak = peak_memory_mb(self.process.pid)
        self.process.stdin.close()
        self.process.wait()
        return peak


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dragoman", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--recording", required=True)
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes")
    parser.add_argument("--passes", type=int, default=5, help="interpretations a round, after a warm-up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="chain.json")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])

    figures = {"total_s": [], "first_audio_s": [], "ready_s": [], "peak_mb": [], "first_audio_to_peer_total": []}
    for _ in range(args.rounds):
        ours, peer = Dragoman(args), Peer(args)
        figures["ready_s"].append((ours.ready_s, peer.ready_s))
        ours.interpret(args.recording), peer.interpret(args.recording)
        for _ in range(args.passes):
            us, them = ours.interpret(args.recording), peer.interpret(args.recording)
            figures["total_s"].append((us["total_s"], them["total_s"]))
            figures["first_audio_s"].append((us["first_audio_s"], them["first_audio_s"]))
            figures["first_audio_to_peer_total"].append((us["first_audio_s"], them["total_s"]))
        figures["peak_mb"].append((ours.stop(), peer.stop()))

    report = {"threads": args.threads, "ours": us, "peer": them, "figures": {}}
    print(f"{args.threads} thread(s), {args.rounds} rounds of {args.passes}; ours / peer = median of ratios")
    for name, pairs in figures.items():
        a, b = (statistics.median(column) for column in zip(*pairs))
        ratio = statistics.median(x / y for x, y in pairs)
        report["figures"][name] = {"ours": a, "peer": b, "ratio": ratio, "pairs": pairs}
        print(f"  {name:26} {a:9.3f} / {b:9.3f} = {ratio:.2f}")
    with open(args.json, "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1, ensure_ascii=False)


main()
