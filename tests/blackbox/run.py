"""Runs the black-box suites against the running binary: `run.py [one|two …]`, both shapes by default.

`two` needs MANIFOLD_TEST_POSTGRES. Leaves with 0 only if every suite passed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from stack import BINARY, HERE, Stack, node

SUITES = {
    "python": lambda: [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", HERE / "python"],
    "node": lambda: [node(), "--test", *sorted((HERE / "node").glob("*.test.mjs"))],
}


def run(shape, postgres):
    """The names of the suites that failed."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="manifold-blackbox-") as folder:
        with Stack(shape, folder, postgres) as stack:
            stack.start()
            for name, command in SUITES.items():
                print(f"\nblack-box suite {name}, processes: {shape}", flush=True)
                env = {**os.environ, **stack.environment}
                done = subprocess.run([str(c) for c in command()], env=env, cwd=HERE, stdin=subprocess.DEVNULL, check=False)
                if done.returncode != 0:
                    failed.append(f"{name} ({shape})")
        if failed:
            show_logs(folder)
    return failed


def show_logs(folder):
    for log in sorted(Path(folder).glob("*.log")):
        print(f"\nend of {log.name}:\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)


def main():
    shapes = sys.argv[1:] or ["one", "two"]
    postgres = os.environ.get("MANIFOLD_TEST_POSTGRES")
    if "two" in shapes and not postgres:
        sys.exit("two processes share a Postgres: set MANIFOLD_TEST_POSTGRES, or run `make test`")
    if not BINARY.exists():
        sys.exit(f"{BINARY.relative_to(Path.cwd()) if BINARY.is_relative_to(Path.cwd()) else BINARY} is missing: build it first")
    failed = [name for shape in shapes for name in run(shape, postgres)]
    print(f"suites: {len(shapes) * len(SUITES) - len(failed)} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
