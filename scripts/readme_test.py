"""Runs the `quickstart` blocks of README.md in this clone; started by readme-test.sh.

A block whose command stays in the foreground goes on in the background; the next one begins when the server is ready. The
answer of a command must contain what the following `quickstart-expect` block says.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
HOME = Path(os.environ["HOME"])
READY = "http://127.0.0.1:8080/readyz"
BUILD_SECONDS = 1500
ANSWER_SECONDS = 20
FENCE = re.compile(r"^```(sh quickstart|json quickstart-expect)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Failure(Exception):
    """What a newcomer would have stumbled over."""


def contains(answer, expected):
    """Whether `expected` is a part of `answer`: objects by their keys, lists by position."""
    if isinstance(expected, dict):
        return isinstance(answer, dict) and all(key in answer and contains(answer[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return isinstance(answer, list) and len(answer) >= len(expected) and all(map(contains, answer, expected))
    return answer == expected


def ready():
    try:
        with urllib.request.urlopen(READY, timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def start(command, log):
    """Runs what stays in the foreground until the server is ready."""
    with open(log, "wb") as out:
        server = subprocess.Popen(["bash", "-c", command], cwd=CLONE, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + BUILD_SECONDS
    while not ready():
        if server.poll() is not None or time.monotonic() > deadline:
            stop(server)
            raise Failure(f"`{command.strip()}` did not bring up a server:\n{Path(log).read_text()[-3000:]}")
        time.sleep(0.2)
    return server


def stop(server):
    """What Ctrl-C does: everything the command started gets it."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(40)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            raise Failure("the server did not stop on Ctrl-C") from None


def ask(command):
    done = subprocess.run(["bash", "-c", command], cwd=CLONE, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False)
    if done.returncode != 0:
        raise Failure(f"`{command.strip()}` left with {done.returncode}: {done.stderr[-1000:]}")
    return done.stdout


def run(blocks):
    """Goes through the blocks in order; gives the number of checked answers."""
    server, answer, checked = None, None, 0
    try:
        for kind, text in blocks:
            if kind == "json quickstart-expect":
                if not contains(json.loads(answer), json.loads(text)):
                    raise Failure(f"the README promises {text.strip()}\nbut the answer is {answer.strip()}")
                checked += 1
            elif text.startswith("make run"):
                server = start(text, CLONE.parent / "server.log")
            else:
                answer = ask(text)
    finally:
        if server:
            stop(server)
    return checked


def links():
    """Files that the README points to are there."""
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", (CLONE / "README.md").read_text()):
        if not (CLONE / target).exists():
            yield f"README.md points to {target}, which is not there"


def main():
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8080)) == 0:
            print("something else listens on port 8080, where the README's commands go: stop it first")
            return 1
    problems = list(links())
    checked = 0
    try:
        checked = run(FENCE.findall((CLONE / "README.md").read_text()))
        if not checked:
            problems.append("the README has no quickstart with an expected answer")
    except (Failure, subprocess.TimeoutExpired, json.JSONDecodeError) as failure:
        problems.append(str(failure))
    if any(HOME.iterdir()):
        problems.append(f"written outside the clone: {sorted(path.name for path in HOME.iterdir())}")
    for problem in problems:
        print(problem)
    print(f"readme: {checked} passed, {len(problems)} failed")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
