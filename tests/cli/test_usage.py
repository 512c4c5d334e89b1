"""What the command says of itself, and of wrong usage: exit 2, one line, with the remedy."""
import unittest

from command import dragoman, free_port, recording

COMMANDS = ["up", "interpret", "transcribe", "translate", "speak", "models", "top", "call", "keys"]


class Help(unittest.TestCase):
    def test_lists_every_command_and_the_first_steps(self):
        for words in (["--help"], ["help"], ["-h"]):
            result = dragoman(*words)
            self.assertEqual(result.returncode, 0)
            self.assertEqual(result.stderr, "")
            for command in COMMANDS:
                self.assertRegex(result.stdout, rf"(?m)^  {command} +\S")
            self.assertIn("dragoman models pull --default", result.stdout)

    def test_of_each_command_names_its_options_and_variables(self):
        wanted = {"up": "DRAGOMAN_LISTEN", "interpret": "--to LANG", "transcribe": "--format text|json",
                  "translate": "DRAGOMAN_SERVER", "speak": "--voice NAME", "models": "DRAGOMAN_INDEX_URL",
                  "top": "tcp://127.0.0.1:5601", "call": "--json-defaults",
                  "keys": "new NAME"}
        for command in COMMANDS:
            result = dragoman(command, "--help")
            self.assertEqual(result.returncode, 0, command)
            self.assertTrue(result.stdout.startswith(f"Usage: dragoman {command} "), command)
            self.assertIn(wanted[command], result.stdout)
            self.assertEqual(dragoman("help", command).stdout, result.stdout)
            longest = max(map(len, result.stdout.splitlines()))
            self.assertLessEqual(longest, 110, command)

    def test_version(self):
        self.assertRegex(dragoman("--version").stdout, r"^dragoman \d+\.\d+\.\d+\n$")


class BadUsage(unittest.TestCase):
    def refused(self, why, *args):
        result = dragoman(*args)
        self.assertEqual(result.returncode, 2, args)
        self.assertEqual(result.stdout, "", args)
        self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
        self.assertIn(why, result.stderr)

    def test_is_told_with_the_remedy(self):
        self.refused("'dragoman --help' lists them", "frobnicate")
        self.refused("did you mean '--to'?", "translate", "--too", "pt", "x")
        self.refused("--to needs a value", "translate", "x", "--to")
        self.refused("--to is needed", "interpret", "a.wav")
        self.refused("give one recording", "interpret", "--to", "pt")
        self.refused("give one recording", "transcribe", "a.wav", "b.wav")
        self.refused("-o is needed", "speak", "hello")
        self.refused("from 0.25 to 4", "speak", "hello", "-o", "x.wav", "--speed", "9")
        self.refused("nothing may follow", "up", "now")
        self.refused("whole number", "up", "--threads", "many")
        self.refused("text|json|verbose_json|srt|vtt", "transcribe", "a.wav", "--format", "doc")
        self.refused("list, pull, verify, remove or path", "models")
        self.refused("list, pull, verify, remove or path", "models", "fetch")
        self.refused("--default or --all", "models", "pull")

    def test_without_a_command_help_is_shown(self):
        result = dragoman()
        self.assertEqual(result.returncode, 2)
        self.assertIn("Usage: dragoman COMMAND", result.stdout)

    def test_a_bad_variable_is_named(self):
        result = dragoman("up", DRAGOMAN_THREADS="many")
        self.assertEqual(result.returncode, 2)
        self.assertIn("DRAGOMAN_THREADS", result.stderr)


class NobodyThere(unittest.TestCase):
    """Failures that are not the usage's: exit 1."""

    def test_commands_say_what_to_start(self):
        server = f"http://127.0.0.1:{free_port()}"
        for args in (["interpret", recording("0880"), "--to", "pt"], ["transcribe", recording("0880")],
                     ["translate", "hello", "--to", "pt"], ["speak", "hello", "-o", "/dev/null"]):
            for result in (dragoman(*args, "--server", server), dragoman(*args, DRAGOMAN_SERVER=server)):
                self.assertEqual(result.returncode, 1)
                self.assertEqual(result.stdout, "")
                self.assertEqual(result.stderr, f"error: nothing answers at {server}: start it with "
                                                "'dragoman up', or name another --server\n")

    def test_top_says_what_to_start(self):
        result = dragoman("top", "--broker", f"tcp://127.0.0.1:{free_port()}")
        self.assertEqual(result.returncode, 1)
        self.assertIn("dragoman up --broker-front", result.stderr)

    def test_a_missing_recording_is_noticed_before_the_server(self):
        result = dragoman("transcribe", "/nowhere/talk.wav")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stderr, "error: cannot read '/nowhere/talk.wav': No such file or directory\n")


if __name__ == "__main__":
    unittest.main()
