"""One request through every process is one trace: a collector of the test's own looks at its spans."""
import http.server
import json
import os
import re
import subprocess
import tempfile
import threading
import time
import unittest

import stack
from stack import Client, Stack, recording

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CHAIN = {"dragoman.asr.v1.Recognizer": "asr", "dragoman.translate.v1.Translator": "translate",
         "dragoman.tts.v1.Synthesizer": "tts"}


class Collector:
    """Takes OTLP/JSON as the real ones do: refuses what is not, keeps the spans."""

    def __init__(self):
        self.spans, self.refused, self.posts, self.busy = [], [], 0, 0
        self.lock = threading.Lock()
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = collector.take(self.path, self.headers["Content-Type"], body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, path, content_type, body):
        with self.lock:
            self.posts += 1
            if self.busy > 0:
                self.busy -= 1
                return 503
            if path != "/v1/traces" or content_type != "application/json":
                self.refused.append((path, content_type))
                return 404
            for resource in json.loads(body)["resourceSpans"]:
                attributes = flatten(resource["resource"])
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        check_form(span)
                        self.spans.append({**span, "process": attributes["service.name"]})
        return 200

    def wait(self, enough, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with self.lock:
                if enough(self.spans):
                    return list(self.spans)
            time.sleep(0.05)
        with self.lock:
            return list(self.spans)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def flatten(part):
    values = {}
    for attribute in part["attributes"]:
        value = attribute["value"]
        values[attribute["key"]] = int(value["intValue"]) if "intValue" in value else value["stringValue"]
    return values


def check_form(span):
    assert re.fullmatch("[0-9a-f]{32}", span["traceId"]), span
    assert re.fullmatch("[0-9a-f]{16}", span["spanId"]), span
    assert re.fullmatch("[0-9a-f]{16}", span.get("parentSpanId", "0" * 16)), span
    assert 1_600_000_000 < int(span["startTimeUnixNano"]) / 1e9 <= int(span["endTimeUnixNano"]) / 1e9 < 5_000_000_000
    assert span["kind"] in (1, 2, 3) and span["name"], span


class Traces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.collector = Collector()
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = cls.collector.url
        cls.stack = Stack()
        cls.stack.worker("asr", "whisper-tiny.en")
        cls.stack.worker("translate", "marian-en-pt")
        cls.stack.worker("tts", None, "--engine=espeak")
        cls.stack.wait_models(3)
        with open(recording("0880"), "rb") as stream:
            cls.audio = stream.read()

    @classmethod
    def tearDownClass(cls):
        os.environ.pop("OTEL_EXPORTER_OTLP_ENDPOINT")
        cls.stack.stop()
        cls.collector.stop()

    def interpret(self, traceparent=None):
        body, content_type = stack.multipart({"from": "en", "to": "pt"}, {"file": ("a.wav", self.audio)})
        connection = stack.http.client.HTTPConnection("127.0.0.1", self.stack.port, timeout=120)
        headers = {"Content-Type": content_type, **({"traceparent": traceparent} if traceparent else {})}
        connection.request("POST", "/v1/interpret", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        self.assertEqual(answer.status, 200, text[:500])
        return answer.headers["X-Request-ID"]

    def tree(self, trace_id, parent):
        """The spans of a finished trace, by id; all but the root have their parent among them."""
        def whole(spans):
            mine = [span for span in spans if span["traceId"] == trace_id]
            return any(span["name"] == "POST /v1/interpret" for span in mine) and \
                all(any(span["name"].startswith(f"{kind}.{service}.") for span in mine)
                    for service in CHAIN for kind in ("Sent", "Attempt", "Recv")) and \
                sum(span["name"] == "mesh.queue" for span in mine) >= len(CHAIN) and \
                sum(span["name"].startswith("Recv.") for span in mine) == \
                sum(span["name"].startswith("Attempt.") for span in mine)
        spans = {span["spanId"]: span for span in self.collector.wait(whole) if span["traceId"] == trace_id}
        roots = [span for span in spans.values() if span.get("parentSpanId", "") == parent]
        self.assertEqual([span["name"] for span in roots], ["POST /v1/interpret"], list(spans.values()))
        for span in spans.values():
            if span is not roots[0]:
                self.assertIn(span["parentSpanId"], spans, span)
        return spans, roots[0]

    def check_tree(self, spans, root):
        self.assertEqual((root["process"], root["kind"]), ("dragoman-gateway", 2))
        self.assertEqual(flatten(root)["http.response.status_code"], 200)
        self.assertEqual(flatten(root)["http.route"], "/v1/interpret")
        for service, process in CHAIN.items():
            of = lambda prefix: [span for span in spans.values() if span["name"].startswith(f"{prefix}.{service}.")]
            parent = lambda span: spans[span["parentSpanId"]]
            self.assertTrue(of("Sent"))
            for span in of("Sent"):
                self.assertEqual((span["process"], span["parentSpanId"]), ("dragoman-gateway", root["spanId"]))
            for span in of("Attempt"):
                self.assertEqual(span["kind"], 3)
                self.assertTrue(parent(span)["name"].startswith(f"Sent.{service}."))
                self.assertEqual(flatten(span)["rpc.grpc.status_code"], 0)
            for span in of("Recv"):
                self.assertEqual((span["process"], span["kind"]), (process, 2))
                self.assertTrue(parent(span)["name"].startswith(f"Attempt.{service}."))
                self.assertGreaterEqual(int(span["startTimeUnixNano"]), int(parent(span)["startTimeUnixNano"]) - 50_000_000)
            events = [event["name"] for span in of("Recv") for event in span.get("events", [])]
            self.assertIn("Inbound message", events)
            self.assertIn("Outbound message", events)
        for span in spans.values():
            if span["name"] == "mesh.queue":
                self.assertEqual(span["process"], "dragoman-broker")
                attempt = spans[span["parentSpanId"]]
                self.assertTrue(attempt["name"].startswith("Attempt." + flatten(span)["rpc.service"]), attempt)

    def test_a_request_is_one_tree_over_all_processes(self):
        trace_id = self.interpret()
        spans, root = self.tree(trace_id, "")
        self.check_tree(spans, root)
        self.assertEqual({span["process"] for span in spans.values()},
                         {"dragoman-gateway", "dragoman-broker", "asr", "translate", "tts"})

    def test_it_continues_the_callers_trace(self):
        self.assertEqual(self.interpret(f"00-{TRACE}-{PARENT}-01"), TRACE)
        spans, root = self.tree(TRACE, PARENT)
        self.check_tree(spans, root)

    def test_an_unsampled_trace_leaves_nothing(self):
        trace_id = "1" * 32
        self.assertEqual(self.interpret(f"00-{trace_id}-{PARENT}-00"), trace_id)
        later = self.interpret()
        self.tree(later, "")
        self.assertEqual([span for span in self.collector.spans if span["traceId"] == trace_id], [])

    def test_log_lines_carry_the_trace(self):
        trace_id = self.interpret()
        self.assertIn(f'"trace":"{trace_id}"', self.stack.log("gateway"))

    def test_a_busy_collector_is_tried_again(self):
        with self.collector.lock:
            self.collector.busy = 3
        spans, root = self.tree(self.interpret(), "")
        self.check_tree(spans, root)

    def test_probes_are_no_traces(self):
        for path in ("/healthz", "/metrics", "/nowhere"):
            Client(self.stack.port).get(path)
        self.tree(self.interpret(), "")
        self.assertEqual([span["name"] for span in self.collector.spans if "healthz" in span["name"]], [])
        page = Client(self.stack.port).get("/metrics").body.decode()
        self.assertRegex(page, r'dragoman_trace_spans_total\{result="exported"\} [1-9]')
        self.assertEqual(self.collector.refused, [])


class FromTheShell(unittest.TestCase):
    def test_a_call_is_a_trace_of_its_own(self):
        collector = Collector()
        with tempfile.TemporaryDirectory(prefix="dragoman-traces-") as folder:
            front, back = f"ipc://{folder}/front", f"ipc://{folder}/back"
            environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
            commands = [["broker/dragoman-broker", "--front", front, "--back", back],
                        ["examples/echo/example-echo", "--broker", back],
                        ["cli/dragoman", "call", "--broker", front, "--wait", "--timeout", "60",
                         "example.echo.v1.Echo/Say", '{"text": ""}']]
            processes = [subprocess.Popen([os.path.join(stack.BUILD, command[0]), *command[1:]], env=environment,
                                          stderr=subprocess.DEVNULL) for command in commands]
            self.assertEqual(processes[2].wait(timeout=90), 1)
            for process in (processes[1], processes[0]):  # what they still have is sent at their end
                process.terminate()
                self.assertEqual(process.wait(timeout=30), 0)
        collector.stop()
        spans = {span["name"].split(".")[0]: span for span in collector.spans}
        self.assertEqual(sorted(spans), ["Attempt", "Recv", "Sent", "mesh"])
        self.assertEqual(len(collector.spans), 4)
        self.assertNotIn("parentSpanId", spans["Sent"])
        for child, parent in (("Attempt", "Sent"), ("mesh", "Attempt"), ("Recv", "Attempt")):
            self.assertEqual(spans[child]["parentSpanId"], spans[parent]["spanId"])
        for name in ("Sent", "Attempt", "Recv"):
            self.assertEqual(spans[name]["status"], {"code": 2, "message": "INVALID_ARGUMENT: there is nothing to say"})


class Stopping(unittest.TestCase):
    def test_a_dead_collector_holds_nobody_up(self):
        echo = os.path.join(stack.BUILD, "examples/echo/example-echo")
        process = subprocess.Popen([echo, "--otlp-endpoint", f"http://127.0.0.1:{stack.free_port()}"],
                                   stderr=subprocess.DEVNULL)
        time.sleep(0.3)
        process.terminate()
        self.assertEqual(process.wait(timeout=10), 0)


if __name__ == "__main__":
    unittest.main()
