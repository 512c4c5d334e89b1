#!/usr/bin/env python3
"""Break the code on purpose, one rule at a time: the test that guards the rule must then fail.

    mutate.py BUILD LIST.py [NAME...]     all mutations of the list, or those named
    mutate.py BUILD LIST.py --check       only that each still applies

BUILD is a Ninja build in which the tests are built. LIST.py has MUTATIONS, a list of dicts:

    name    what is broken, as "slot freed by CANCEL"
    rule    the invariant that this breaks: "I6" (docs/testing.md)
    file    the source, from the repository's root
    old     text that the file has exactly once; whoever changes it is told to look here
    new     what stands there instead
    target  the executable that is linked anew with the broken source, as in the build folder:
            "tests/broker/test_broker_simulation"
    run     optional: the command, "{binary}" in it is that executable; else the executable alone
    env     optional: variables of the command
    says    optional: text that must be in the output, so that the right check has failed
    limit_s optional: how long it may run (default 300)
    tries   optional: how often it may run until it notices, where real processes race (default 1)
    hangs   optional: True when never ending is how this one is noticed

The targets are brought up to date first. Then only the broken source is compiled and its target linked, in
a second or less each and elsewhere: the build keeps what it has.
"""
import concurrent.futures
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
JOBS = 2


class Broken(Exception):
    """The mutation itself cannot be made: its list is to be mended."""


def mutant_source(mutation):
    """The text with the mutation in it."""
    path = os.path.join(ROOT, mutation["file"])
    with open(path, encoding="utf-8") as file:
        text = file.read()
    count = text.count(mutation["old"])
    if count != 1:
        raise Broken(f"{mutation['file']} has {count} times what is to be broken once:\n"
                     f"{mutation['old']}")
    return text.replace(mutation["old"], mutation["new"])


def commands_of(build, target):
    result = subprocess.run(["ninja", "-C", build, "-t", "commands", target], check=False,
                            capture_output=True, text=True)
    if result.returncode != 0:
        raise Broken(f"the build has no target '{target}': {result.stderr or result.stdout}")
    return result.stdout.splitlines()


def compile_command(commands, source, mutant, out):
    """As the build compiles it, but another file, to another place, in haste; and the sound object."""
    for command in commands:
        words = shlex.split(command)
        if "-c" not in words or words[words.index("-c") + 1] != source:
            continue
        sound = words[words.index("-o") + 1]
        words = [word for word in words if word != "-MD"]
        for flag in ("-MT", "-MF", "-o", "-c"):
            at = words.index(flag)
            del words[at:at + 2]
        folder = "-I" + os.path.dirname(source)
        return words + ["-w", "-O1", "-g0", folder, "-o", out, "-c", mutant], sound
    raise Broken(f"the target is not made of '{source}'")


def link_command(commands, target, sound, mutant, out):
    """In place of the sound object, or before the library that has it, so that this is not taken."""
    words = shlex.split(re.sub(r"^: && | && :$", "", commands[-1]))
    if "-o" not in words or words[words.index("-o") + 1] != target:
        raise Broken(f"'{target}' is not linked by the last command of its build")
    words[words.index("-o") + 1] = out
    first = next(i for i, word in enumerate(words) if word.endswith(".o"))
    return words[:first] + [mutant] + [word for word in words[first:] if word != sound]


def bring_up_to_date(build, mutations):
    targets = sorted({mutation["target"] for mutation in mutations})
    if subprocess.run(["cmake", "--build", build, "--target", *targets], check=False,
                      stdout=subprocess.DEVNULL).returncode != 0:
        sys.exit("the build does not build")


def run_or_break(words, build):
    result = subprocess.run(words, check=False, cwd=build, capture_output=True, text=True)
    if result.returncode != 0:
        raise Broken(f"cannot build it: {result.stderr[-2000:]}")


def make(build, mutation, folder):
    source = os.path.join(ROOT, mutation["file"])
    mutant = os.path.join(folder, os.path.basename(source))
    binary = os.path.join(folder, os.path.basename(mutation["target"]))
    commands = commands_of(build, mutation["target"])
    with open(mutant, "w", encoding="utf-8") as file:
        file.write(mutant_source(mutation))
    words, sound = compile_command(commands, source, mutant, mutant + ".o")
    run_or_break(words, build)
    run_or_break(link_command(commands, mutation["target"], sound, mutant + ".o", binary), build)
    return binary


def test_mutant(mutation, binary, folder):
    """Whether the test fails as it must; and by what, or what is wrong."""
    command = [word.replace("{binary}", binary) for word in mutation.get("run", ["{binary}"])]
    env = dict(os.environ, **mutation.get("env", {}))
    try:
        result = subprocess.run(command, check=False, cwd=folder, env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
                                timeout=mutation.get("limit_s", 300))
    except subprocess.TimeoutExpired:
        return mutation.get("hangs", False), "it does not end"
    if result.returncode == 0:
        return False, "nothing has failed:\n" + result.stdout[-2000:]
    for line in result.stdout.splitlines():
        if mutation.get("says", "") in line:
            return True, line.strip()
    return False, f"it failed otherwise than by '{mutation['says']}':\n" + result.stdout[-2000:]


def attempt(build, mutation):
    try:
        with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
            binary = make(build, mutation, folder)
            for _ in range(mutation.get("tries", 1)):
                noticed, text = test_mutant(mutation, binary, folder)
                if noticed:
                    break
            return noticed, text
    except Broken as error:
        return False, f"the mutation is to be mended: {error}"


def check(mutation):
    try:
        mutant_source(mutation)
        return True, "it applies"
    except Broken as error:
        return False, str(error)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    build, names = os.path.abspath(sys.argv[1]), sys.argv[3:]
    mutations = runpy.run_path(sys.argv[2])["MUTATIONS"]
    only_check = names == ["--check"]
    if names and not only_check:
        mutations = [mutation for mutation in mutations if mutation["name"] in names]
    if not mutations:
        sys.exit(f"no such mutation: {names}")
    if not only_check:
        bring_up_to_date(build, mutations)
    failures = 0
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        work = check if only_check else lambda mutation: attempt(build, mutation)
        for mutation, (noticed, text) in zip(mutations, pool.map(work, mutations)):
            failures += not noticed
            print(f"{'ok  ' if noticed else 'FAIL'} {mutation['rule']:4} {mutation['name']}\n"
                  f"     {text}", flush=True)
    print(f"{len(mutations) - failures} of {len(mutations)} mutations "
          + ("apply" if only_check else "are noticed"))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
