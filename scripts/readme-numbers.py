#!/usr/bin/env python3
"""Writes the table of numbers in README.md from docs/bench/results.json. With --check it only compares."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START = "<!-- numbers: written by scripts/readme-numbers.py from docs/bench/results.json -->"
END = "<!-- end of numbers -->"


def rows(results):
    """What is measured, nginx as a plain proxy, Manifold, Manifold streaming."""
    loop, rate = results["closed_loop"], results["fixed_rate"]
    memory, start = results["memory"], results["start_ms"]

    def over(name, field, digits):
        added = (loop[f"{name}_c1"][field] - loop["direct_c1"][field]) / 1000
        return f"{added:.{digits}f} ms"

    yield "requests/s, 16 connections", *(f"{loop[f'{n}_c16']['rate']:,.0f}" for n in ("nginx", "manifold", "manifold_stream"))
    yield "CPU per request", *(f"{loop[f'{n}_c16']['cpu']:.0f} µs" for n in ("nginx", "manifold", "manifold_stream"))
    yield "added to a call, median, 1 connection", *(over(n, "p50", 2) for n in ("nginx", "manifold", "manifold_stream"))
    yield "slowest 1 % at half of Manifold's peak, fixed rate", *(f"{rate[n]['50']['p99'] / 1000:.2f} ms" for n in ("nginx", "manifold", "manifold_stream"))
    yield "memory idle", "", f"{results['idle_kib'] / 1024:.0f} MiB", ""
    yield f"memory after {memory['requests']:,} requests", "", f"{memory['after_kib'] / 1024:.0f} MiB", ""
    yield "start to ready, empty folder", "", f"{start['first']:.0f} ms", ""


def render(results):
    machine = results["machine"]
    lines = ["| `make bench` | nginx, plain proxy | Manifold | Manifold, streaming |", "|---|---:|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(results)]
    lines += ["", f"{machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel'].split('-')[0]}; median of {results['rounds']} rounds."]
    return "\n".join(lines)


def main():
    readme = ROOT / "README.md"
    text = readme.read_text()
    results = json.loads((ROOT / "docs" / "bench" / "results.json").read_text())
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    fresh = f"{before}{START}\n{render(results)}\n{END}{after}"
    if "--check" not in sys.argv:
        readme.write_text(fresh)
    elif fresh != text:
        print("the numbers in README.md are not those of docs/bench/results.json: run scripts/readme-numbers.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
