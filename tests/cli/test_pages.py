"""The pages that show commands are true: docs/call.md is run, what docs/service.md quotes is in the example."""
import os
import re
import subprocess
import tempfile
import unittest

from command import environment, free_port

BUILD = os.environ["DRAGOMAN_BUILD"]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAMS = ["cli/dragoman", "broker/dragoman-broker", "examples/echo/example-echo"]
MARK = "----8<----"


def page(name):
    with open(os.path.join(ROOT, "docs", name), encoding="utf-8") as stream:
        return stream.read()


def blocks(text):
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class CallPage(unittest.TestCase):
    def test_its_commands_print_what_it_says(self):
        text = page("call.md")
        for port in ("5601", "5602"):  # the only thing changed: other stacks may run on this machine
            text = text.replace(f":{port}", f":{free_port()}")
        steps = []  # (commands, what they print)
        for language, body in blocks(text):
            if language == "sh":
                steps.append([body, ""])
            else:
                self.assertEqual(language, "text")
                steps[-1][1] = body
        self.assertGreater(len(steps), 6)
        script = "set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + \
            "".join(f"{commands}\necho '{MARK}'\n" for commands, _ in steps)
        with tempfile.TemporaryDirectory(prefix="dragoman-pages-") as folder:
            programs = os.path.join(folder, "bin")
            os.mkdir(programs)
            for program in PROGRAMS:
                os.symlink(os.path.join(BUILD, program), os.path.join(programs, os.path.basename(program)))
            work = os.path.join(folder, "work")
            os.mkdir(work)
            result = subprocess.run(["bash", "-c", script], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    stdin=subprocess.DEVNULL, text=True, timeout=240, check=False,
                                    env=environment(PATH=f"{programs}:{os.environ['PATH']}"))
            logs = ""
            for log in ("broker.log", "echo.log"):
                if os.path.exists(os.path.join(work, log)):
                    with open(os.path.join(work, log), encoding="utf-8") as stream:
                        logs += stream.read()
        self.assertEqual(result.returncode, 0, result.stdout + logs)
        printed = result.stdout.split(MARK + "\n")
        self.assertEqual(len(printed), len(steps) + 1, result.stdout + logs)
        for (commands, expected), got in zip(steps, printed):
            if expected:
                self.assertEqual(got, expected, commands)


class ServicePage(unittest.TestCase):
    def test_what_it_quotes_is_in_the_example(self):
        folder = os.path.join(ROOT, "examples", "echo")
        sources = ""
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                sources += stream.read()
        quoted = [(language, body) for language, body in blocks(page("service.md")) if language in ("c", "proto", "cmake")]
        self.assertGreater(len(quoted), 4)
        for _, body in quoted:
            self.assertIn(body, sources)


if __name__ == "__main__":
    unittest.main()
