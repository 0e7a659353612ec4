"""Breaks one safeguard after the other in a copy of the source; the tests named for it must fail, each of them.

What is broken, breaks.py lists; every case of docs/attack-cases.md that has tests has a break that one of them must notice. Before
its breaks and after them all those tests of a suite pass in the copy, and a break that does not compile is no proof. The copy stays
in target/broken, so that the next time only what has changed is compiled.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from breaks import BREAKS


def cases():
    """The tests that hold each case of hostile input, where there are any."""
    rows = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", Path("docs/attack-cases.md").read_text(), re.M)
    held = {int(number): set(re.findall(r"`(\w+)`", proof)) for number, proof in rows if not proof.startswith("not here: ")}
    return {number: names for number, names in held.items() if names}


def faults():
    """What is wrong with the table."""
    held, broken = cases(), set()
    for name, numbers, file, old, _, names in (row for rows in BREAKS.values() for row in rows):
        broken.update(numbers)
        n = Path(file).read_text().count(old)
        if n != 1:
            yield f"{name}: {file} holds this {n} times instead of once: {old}"
        for number in numbers:
            if not held.get(number, set()) & set(names):
                yield f"{name}: none of its tests stands in case {number}"
        for test in names:
            if numbers and not any(test in held.get(number, set()) for number in numbers):
                yield f"{name}: {test} stands in none of its cases"
    for number in sorted(held.keys() - broken):
        yield f"case {number}: nothing is broken for it"


def tests(tree, env, suite, names, compile_only=False):
    """Exit code of nextest: 0 = passed, 100 = some failed, anything else is no proof of anything."""
    wanted = " | ".join(f"test({name})" for name in names)
    command = ["cargo", "nextest", "run", "--locked", "-p", *suite, "-E", wanted, "--no-run" if compile_only else "--no-fail-fast"]
    done = subprocess.run(command, cwd=tree, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def copy(tree):
    """What is or would be committed. What is as it was keeps its time, by which cargo knows it."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and os.path.isfile(name)]
    known = set(names)
    for old in [path for path in tree.rglob("*") if path.is_file()]:
        if str(old.relative_to(tree)) not in known:
            old.unlink()
    for name in names:
        new = Path(tree, name)
        new.parent.mkdir(parents=True, exist_ok=True)
        if not new.exists() or new.read_bytes() != Path(name).read_bytes():
            shutil.copy(name, new)


def tried(tree, env, suite, row):
    """What came of one break, and what was printed."""
    _, _, file, old, new, names = row
    path = Path(tree, file)
    text = path.read_text()
    path.write_text(text.replace(old, new))
    try:
        code, output = tests(tree, env, suite, names, compile_only=True)
        if code != 0:
            return "does not compile", output
        code, output = tests(tree, env, suite, names)
        if code not in (0, 100):
            return f"no verdict, nextest ended with {code}", output
        blind = [name for name in names if not re.search(rf"^ *(FAIL|TIMEOUT|SIG\w+|ABORT) .*\b{name}\b", output, re.M)]
        return "NOT NOTICED by " + ", ".join(blind) if blind else "noticed", output
    finally:
        path.write_text(text)


def demand_whole(tree, env, suite, rows, when):
    """Ends the program unless all tests of these rows pass."""
    code, output = tests(tree, env, suite, [name for row in rows for name in row[-1]])
    if code != 0:
        raise SystemExit(f"{output[-4000:]}\nthe tests of {suite[0]} do not pass {when}")


def main(only):
    wrong = list(faults())
    if wrong:
        raise SystemExit("\n".join(wrong))
    folder = Path("target/broken").resolve()
    tree, env = folder / "tree", {"CARGO_TARGET_DIR": str(folder), **os.environ}
    copy(tree)
    n, unnoticed = 0, []
    for suite, all_rows in BREAKS.items():
        rows = [row for row in all_rows if not only or row[0] in only]
        if not rows:
            continue
        demand_whole(tree, env, suite, rows, "before anything is broken")
        for row in rows:
            began = time.monotonic()
            verdict, output = tried(tree, env, suite, row)
            print(f"{verdict:16} {row[0]} ({time.monotonic() - began:.0f} s)", flush=True)
            n += 1
            if verdict != "noticed":
                print(output[-2000:], flush=True)
                unnoticed.append(row[0])
        # Else it may have been a server that failed.
        demand_whole(tree, env, suite, rows, "when nothing is broken any more")
    print(f"{n - len(unnoticed)} of {n} were noticed")
    if unnoticed:
        raise SystemExit("not noticed: " + ", ".join(unnoticed))


if __name__ == "__main__":
    main(set(sys.argv[1:]))
