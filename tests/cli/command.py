"""Runs the real `dragoman` of a build, away from the user's own settings."""
import os
import socket
import subprocess

BINARY = os.path.join(os.environ["DRAGOMAN_BUILD"], "cli", "dragoman")
MODELS = os.environ.get("DRAGOMAN_MODELS") or os.path.expanduser("~/.local/share/dragoman/models")
RECORDINGS = "/usr/share/pocketsphinx/test/data/librivox"


def recording(number):
    return os.path.join(RECORDINGS, f"sense_and_sensibility_01_austen_64kb-{number}.wav")


def environment(**more):
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith("DRAGOMAN_") and name.lower() not in ("http_proxy", "all_proxy")}
    return {**kept, **more}


def dragoman(*args, text=None, timeout=240, **more):
    """Run to the end. The result has returncode, stdout and stderr."""
    return subprocess.run([BINARY, *map(str, args)], input=text, capture_output=True, text=True,
                          timeout=timeout, env=environment(**more), check=False)


def start(*args, **more):
    return subprocess.Popen([BINARY, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environment(**more))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
