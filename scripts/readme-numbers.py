#!/usr/bin/env python3
"""Writes the tables of numbers in README.md from docs/bench/*.json. With --check it only compares."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


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


def where(results):
    machine = results["machine"]
    return f"{machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel'].split('-')[0]}; median of {results['rounds']} rounds."


def numbers(results):
    lines = ["| `make bench` | nginx, plain proxy | Manifold | Manifold, streaming |", "|---|---:|---:|---:|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(results)]
    return [*lines, "", where(results)]


def peers(results):
    """A line per gateway: what it reaches, what it costs, and what it did for it."""
    yield "| `make bench-peers` | requests/s | slowest 1 % | CPU per request | CPU per stream | memory | key check | limits | usage rows |"
    yield "|---|---:|---:|---:|---:|---:|---|---|---|"
    for gateway in results["gateways"].values():
        whole, stream, rss = gateway["whole"], gateway["stream"], gateway["rss_kib"]
        cells = [
            " ".join(filter(None, (gateway["label"], gateway["version"]))),
            f"{whole['rate']:,.0f}", f"{whole['p99'] / 1000:,.1f} ms", f"{whole['cpu']:,.0f} µs" if rss else "",
            f"{stream['cpu']:,.0f} µs" if stream else "", f"{rss / 1024:,.0f} MiB" if rss else "",
            *(gateway[field] or "no" for field in ("key_check", "limits", "usage_rows")),
        ]
        yield f"| {' | '.join(cells)} |"
    yield from ("", where(results))


def block(text, name, render):
    """The text with the block of that name written anew, or as it is if nothing was measured."""
    file = f"docs/bench/{name}.json"
    start, end = f"<!-- from {file} by scripts/readme-numbers.py -->", f"<!-- end of {file} -->"
    if not (ROOT / file).exists():
        return text
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    lines = "\n".join(render(json.loads((ROOT / file).read_text())))
    return f"{before}{start}\n{lines}\n{end}{after}"


def main():
    readme = ROOT / "README.md"
    text = readme.read_text()
    fresh = block(block(text, "results", numbers), "peers", peers)
    if "--check" not in sys.argv:
        readme.write_text(fresh)
    elif fresh != text:
        print("the numbers in README.md are not those of docs/bench: run scripts/readme-numbers.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
