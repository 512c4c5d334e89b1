"""`dragoman call` against a real broker and the example worker, each a process of its own."""
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest

from command import dragoman, environment, free_port, start

BUILD = os.environ["DRAGOMAN_BUILD"]
ECHO = "example.echo.v1.Echo"


class Stack:
    """A broker and the echo worker, on sockets in a folder of their own."""

    def __init__(self, worker="examples/echo/example-echo", broker=()):
        self.folder = tempfile.TemporaryDirectory(prefix="dragoman-call-")
        self.front = f"ipc://{self.folder.name}/front"
        back = f"ipc://{self.folder.name}/back"
        self.log = open(os.path.join(self.folder.name, "log"), "w", encoding="utf-8")
        self.processes = [self.run("broker/dragoman-broker", "--front", self.front, "--back", back, *broker),
                          self.run(worker, "--broker", back)]

    def run(self, binary, *args):
        return subprocess.Popen([os.path.join(BUILD, binary), *args], env=environment(), stderr=self.log)

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(timeout=30)
        self.log.close()
        self.folder.cleanup()


class Call(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()
        cls.addClassCleanup(cls.stack.stop)
        ready = cls.call("--wait", "--timeout", "30", f"{ECHO}/Say", '{"text": "ready"}')
        if ready.returncode != 0:
            raise AssertionError(ready.stderr)

    @classmethod
    def call(cls, *args, text="", **more):
        return dragoman("call", "--broker", cls.stack.front, *args, text=text, **more)

    def answers(self, result):
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return [json.loads(line) for line in result.stdout.splitlines()]

    def test_one_in_one_out(self):
        text = 'Grüße, "你好"\n😈'
        request = json.dumps({"text": text})
        for result in (self.call(f"{ECHO}/Say", request), self.call(f"/{ECHO}/Say", request),
                       self.call(f"{ECHO}/Say", text=request), self.call(f"{ECHO}/Say", "-", text=request),
                       self.call(f"{ECHO}/Say", text=json.dumps({"text": text}, indent=4))):
            self.assertEqual(self.answers(result), [{"text": text}])

    def test_a_request_from_a_file(self):
        path = os.path.join(self.stack.folder.name, "request.json")
        with open(path, "w", encoding="utf-8") as stream:
            json.dump({"text": "from a file"}, stream)
        self.assertEqual(self.answers(self.call(f"{ECHO}/Say", f"@{path}")), [{"text": "from a file"}])
        result = self.call(f"{ECHO}/Say", "@/nowhere/request.json")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "error: cannot read '/nowhere/request.json': No such file or directory\n")

    def test_large_messages(self):
        text = "x" * 5_000_000
        self.assertEqual(self.answers(self.call(f"{ECHO}/Say", text=json.dumps({"text": text}))), [{"text": text}])

    def test_streams_are_lines(self):
        lines = '{"text": "a"}\n\n  \n{"text": "b"}\n{"text": "c"}'
        self.assertEqual(self.answers(self.call(f"{ECHO}/Spell", '{"text": "aé😈"}')),
                         [{"text": "a"}, {"text": "é"}, {"text": "😈"}])
        self.assertEqual(self.answers(self.call(f"{ECHO}/Join", text=lines)), [{"text": "abc"}])
        self.assertEqual(self.answers(self.call(f"{ECHO}/Chat", text=lines)),
                         [{"text": "a"}, {"text": "b"}, {"text": "c"}])
        self.assertEqual(self.answers(self.call(f"{ECHO}/Chat")), [])
        many = "".join(f'{{"text": "{i}"}}\n' for i in range(2000))
        self.assertEqual([answer["text"] for answer in self.answers(self.call(f"{ECHO}/Chat", text=many))],
                         [str(i) for i in range(2000)])

    def test_a_conversation_answers_as_it_goes(self):
        process = subprocess.Popen([os.path.join(BUILD, "cli/dragoman"), "call", "--broker", self.stack.front,
                                    f"{ECHO}/Chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                   env=environment())
        guard = threading.Timer(60, process.kill)
        guard.start()
        for word in ("one", "two", "three"):
            process.stdin.write(json.dumps({"text": word}) + "\n")
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline()), {"text": word})
        process.stdin.close()
        self.assertEqual(process.wait(timeout=60), 0)
        process.stdout.close()
        guard.cancel()

    def test_an_ended_call_does_not_wait_for_more_input(self):
        process = subprocess.Popen([os.path.join(BUILD, "cli/dragoman"), "call", "--broker", self.stack.front,
                                    "--timeout", "0.3", f"{ECHO}/Chat"], stdin=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=environment())
        begun = time.monotonic()
        self.assertEqual(process.wait(timeout=60), 1)
        self.assertGreaterEqual(time.monotonic() - begun, 0.3)
        self.assertTrue(process.stderr.read().startswith("DEADLINE_EXCEEDED: "))
        process.stdin.close()
        process.stderr.close()

    def test_what_is_there(self):
        services = self.call("--list").stdout.split()
        self.assertEqual(services, sorted(services))
        for service in (ECHO, "dragoman.mesh.v1.Health", "dragoman.mesh.v1.Directory", "dragoman.mesh.v1.Reflection"):
            self.assertIn(service, services)
        self.assertEqual(self.call("--list", ECHO).stdout,
                         f"{ECHO}/Say(Text) returns (Text)\n{ECHO}/Spell(Text) returns (stream Text)\n"
                         f"{ECHO}/Join(stream Text) returns (Text)\n{ECHO}/Chat(stream Text) returns (stream Text)\n")
        described = self.call("--describe", ECHO).stdout
        self.assertIn("  rpc Chat(stream example.echo.v1.Text) returns (stream example.echo.v1.Text);\n", described)
        self.assertIn("message example.echo.v1.Text {\n  string text = 1;\n}\n", described)

    def test_the_brokers_own_services(self):
        state = self.answers(self.call("--json-defaults", "dragoman.mesh.v1.Directory/List"))[0]
        echo = next(service for service in state["services"] if service["name"] == ECHO)
        self.assertEqual((echo["capacity"], echo["queued"]), (4, 0))
        self.assertEqual(self.answers(self.call("dragoman.mesh.v1.Health/Check", json.dumps({"service": ECHO}))),
                         [{"status": "SERVING"}])

    def failed(self, code, why, *args, text=""):
        result = self.call(*args, text=text)
        self.assertEqual((result.returncode, result.stdout), (code, ""), result.stderr)
        self.assertIn(why, result.stderr)

    def test_statuses_are_told_by_name(self):
        self.failed(1, 'INVALID_ARGUMENT: there is nothing to say\n'
                       'details example.echo.v1.Refusal: {"field":"text","rule":"not empty"}\n', f"{ECHO}/Say")
        self.failed(1, "NOT_FOUND: ", "no.such.Service/Method")
        self.failed(1, f"UNIMPLEMENTED: service '{ECHO}' has no method 'Sing': 'dragoman call --list {ECHO}'",
                    f"{ECHO}/Sing")
        self.failed(1, "UNAVAILABLE: ", "--selector", "lang=xx", f"{ECHO}/Say", '{"text": "x"}')
        self.failed(1, "DEADLINE_EXCEEDED: ", "--selector", "lang=xx", "--wait", "--timeout", "0.2", f"{ECHO}/Say",
                    '{"text": "x"}')

    def test_nothing_moves_the_cursor(self):
        self.failed(1, "has no method '\\u001b[2J'", f"{ECHO}/\x1b[2J")
        with tempfile.TemporaryDirectory(prefix="dragoman-call-") as folder:
            front, back = f"ipc://{folder}/front", f"ipc://{folder}/back"
            processes = [subprocess.Popen([os.path.join(BUILD, command[0]), *command[1:]], env=environment(),
                                          stderr=subprocess.DEVNULL)
                         for command in (["broker/dragoman-broker", "--front", front, "--back", back],
                                         ["examples/echo/example-echo", "--broker", back, "--name", "e\x1b[2Jho"])]
            dragoman("call", "--broker", front, "--wait", "--timeout", "60", f"{ECHO}/Say", '{"text": "x"}')
            shown = dragoman("top", "--once", "--broker", front).stdout
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=30)
        self.assertIn("e?[2Jho", shown)
        self.assertNotIn("\x1b", shown)

    def test_bad_json_names_the_place(self):
        self.failed(2, "error: the request: text: expected a string, not 3\n", f"{ECHO}/Say", '{"text": 3}')
        self.failed(2, "error: the request: example.echo.v1.Text has no field 'txt'; it has text\n", f"{ECHO}/Say",
                    '{"txt": ""}')
        self.failed(2, "error: the request: not JSON: ", f"{ECHO}/Say", '{"text')
        self.failed(2, "not JSON", f"{ECHO}/Chat", text='{"text": "a"\n')
        self.assertEqual(self.answers(self.call("--ignore-unknown", f"{ECHO}/Say", '{"text": "x", "txt": 1}')),
                         [{"text": "x"}])

    def test_bad_usage_is_told(self):
        self.failed(2, "give a method, package.Service/Method")
        self.failed(2, "'Say' is no method", "Say", "{}")
        self.failed(2, "quote it for the shell", f"{ECHO}/Say", '{"text":', '"x"}')
        self.failed(2, "--metadata: 'x' is not allowed: give KEY=VALUE", "--metadata", "x", f"{ECHO}/Say", "{}")
        self.failed(2, "--metadata: 'X Y=1'", "--metadata", "X Y=1", f"{ECHO}/Say", "{}")
        self.failed(2, "--selector: 'x' is not allowed", "--selector", "x", f"{ECHO}/Say", "{}")
        self.failed(2, "one of --list and --describe", "--list", "--describe", ECHO)
        self.failed(2, "from 0 to", "--timeout", "-1", f"{ECHO}/Say")

    def test_a_missing_broker_is_named(self):
        broker = f"tcp://127.0.0.1:{free_port()}"
        result = dragoman("call", "--broker", broker, "--timeout", "0.5", f"{ECHO}/Say", "{}", text="")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, f"UNAVAILABLE: no broker answers at {broker}: start one with "
                                        "'dragoman-broker', or name another by --broker\n")

    def test_the_callers_program(self):
        say = os.path.join(BUILD, "examples/echo/example-say")
        result = subprocess.run([say, self.stack.front, "hello"], capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(result.stdout, "hello\n")
        result = subprocess.run([say, self.stack.front, ""], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((result.returncode, result.stderr), (1, "INVALID_ARGUMENT: there is nothing to say\n"
                                                                   "'text' must be: not empty\n"))


class Details(unittest.TestCase):
    def test_what_a_status_says_besides(self):
        stack = Stack("tests/cli/test_cli_details_worker")
        self.addCleanup(stack.stop)
        size = len('it says "\x1b[2J"')
        for form, told in (("known", 'details example.echo.v1.Text: {"text":"it says \\"\\u001b[2J\\""}\n'),
                           ("unknown", "details dragoman.mesh.v1.Label: 6 bytes; reflection does not know this type\n"),
                           ("cut", f"details example.echo.v1.Text: {size} bytes that are none\n"),
                           ("bytes", "details: 4 bytes without a type\n"),
                           ("none", "")):
            result = dragoman("call", "--broker", stack.front, "--wait", "--timeout", "60", f"{ECHO}/Say",
                              json.dumps({"text": form}))
            self.assertEqual((result.returncode, result.stdout, result.stderr),
                             (1, "", "ABORTED: as was asked for\n" + told), form)


class MaxSessionAge(unittest.TestCase):
    def test_a_caller_that_stays_is_asked_to_come_anew(self):
        stack = Stack(broker=("--max-session-age", "1", "--log-level", "debug"))
        self.addCleanup(stack.stop)
        process = subprocess.Popen([os.path.join(BUILD, "cli/dragoman"), "call", "--broker", stack.front, "--wait",
                                    "--timeout", "60", f"{ECHO}/Chat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   text=True, env=environment())
        guard = threading.Timer(60, process.kill)
        guard.start()
        asked, words = False, 0
        while not asked or words < 3:  # and the conversation goes on
            process.stdin.write(json.dumps({"text": f"word {words}"}) + "\n")
            process.stdin.flush()
            self.assertEqual(json.loads(process.stdout.readline()), {"text": f"word {words}"})
            words += 1
            time.sleep(0.1)
            with open(stack.log.name, encoding="utf-8") as stream:
                asked = "caller 'call' has stayed for long: it is asked to come anew" in stream.read()
        process.stdin.close()
        self.assertEqual(process.wait(timeout=60), 0)
        process.stdout.close()
        guard.cancel()


class DebugLog(unittest.TestCase):
    def test_a_worker_can_log_each_call(self):
        with tempfile.TemporaryDirectory(prefix="dragoman-call-") as folder:
            front, back, log = f"ipc://{folder}/front", f"ipc://{folder}/back", os.path.join(folder, "log")
            with open(log, "w", encoding="utf-8") as stream:
                processes = [subprocess.Popen([os.path.join(BUILD, "broker/dragoman-broker"), "--front", front, "--back",
                                               back], env=environment(), stderr=subprocess.DEVNULL),
                             subprocess.Popen([os.path.join(BUILD, "examples/echo/example-echo"), "--broker", back,
                                               "--log-level", "debug"], env=environment(), stderr=stream)]
            for text in ("x", ""):
                dragoman("call", "--broker", front, "--wait", "--timeout", "60", f"{ECHO}/Say", json.dumps({"text": text}))
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=30)
            with open(log, encoding="utf-8") as stream:
                lines = [json.loads(line) for line in stream]
        told = [line for line in lines if line["message"].startswith(f"answered {ECHO}/Say: ")]
        self.assertEqual([line["message"].split(": ", 1)[1].split(",")[0] for line in told],
                         ["OK", "INVALID_ARGUMENT: there is nothing to say"])
        for line in told:
            self.assertRegex(line["trace"], "^[0-9a-f]{32}$")
        self.assertNotEqual(told[0]["trace"], told[1]["trace"])


class UntilAWorkerComes(unittest.TestCase):
    def test_wait_outlasts_a_late_broker_and_a_late_worker(self):
        with tempfile.TemporaryDirectory(prefix="dragoman-call-") as folder:
            front, back = f"ipc://{folder}/front", f"ipc://{folder}/back"
            caller = start("call", "--broker", front, "--wait", "--timeout", "60", f"{ECHO}/Say", '{"text": "at last"}')
            processes = []
            for command in (["broker/dragoman-broker", "--front", front, "--back", back],
                            ["examples/echo/example-echo", "--broker", back]):
                time.sleep(0.3)
                processes.append(subprocess.Popen([os.path.join(BUILD, command[0]), *command[1:]], env=environment(),
                                                  stderr=subprocess.DEVNULL))
            out, err = caller.communicate(timeout=90)
            for process in reversed(processes):
                process.terminate()
                process.wait(timeout=30)
            self.assertEqual((caller.returncode, err, json.loads(out or "{}")), (0, "", {"text": "at last"}))


if __name__ == "__main__":
    unittest.main()
