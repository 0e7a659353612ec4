"""House rules that no compiler knows: no address of anybody's machine, every setting documented."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

# Somebody's own folders; where packages come from is the business of each machine. Cargo.lock is as cargo writes it.
PRIVATE = [
    (r"/(root|work|Users/\w+|home/\w+)/", "path of somebody's machine"),
    (r"\b(registry|index|static|mirrors?|deb|files|packages)[.][a-z0-9-]+[.](org|io|com|net|dev)\b|\bpypi[.]|crates[.]io|npmjs[.]", "host of a package registry"),
]
NOT_TEXT = {".png", ".ico", ".woff2", ".pb"}


def files():
    """Everything that is or would be committed."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], capture_output=True, check=True)
    paths = [Path(name) for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and path.suffix not in NOT_TEXT]


def private_words(paths):
    for path in paths:
        if path.name in ("Cargo.lock", "house_rules.py"):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for pattern, what in PRIVATE:
                if re.search(pattern, line):
                    yield f"{path}:{number}: {what}: {line.strip()[:100]}"


def settings(table, prefix=""):
    """Names of all settings as they are written in the environment."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from settings(value, f"{prefix}{name.upper()}__")
        else:
            yield prefix + name.upper()


def environment_example():
    """Every customary key of the catalogue is in .env.example, and every line of it is commented out."""
    text = Path(".env.example").read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if line and not line.startswith("#"):
            yield f".env.example:{number}: must be commented out"
    defaults = Path("crates/manifold/config.default.toml").read_text()
    for setting in settings(tomllib.loads(defaults)):
        if f"# MANIFOLD_{setting}=" not in text:
            yield f".env.example: MANIFOLD_{setting} is missing"
    catalogue = tomllib.loads(Path("crates/ai-router/catalog/providers.toml").read_text())
    for provider in catalogue["provider"]:
        if "key" in provider and f"# {provider['key']}=" not in text:
            yield f".env.example: {provider['key']} is missing"


def main():
    paths = files()
    problems = [*private_words(paths), *environment_example()]
    print("\n".join(problems) or f"{len(paths)} files keep the house rules")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
