"""The bench behind `make bench-peers`. What is measured and how is told in docs/bench/README.md."""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from bench import BIN, GATEWAY, HERE, QUICK, ROOT, ROUNDS, SECONDS, Bench, Candidate, chat, machine, medians, show, version
from harness.process import free_port

RESULTS = ROOT / "docs" / "bench" / "peers.json"
TOOLS = ROOT / ".tools"
NODE_MODULES = TOOLS / "portkey" / "node_modules"
CONNECTIONS = 16
STREAM = "_stream"

# Label, and what is done for each request beside passing it on: check of a key, limits, usage on a disk when it is over.
GATEWAYS = {
    "direct": ("no gateway", None, None, None),
    "nginx": ("nginx, plain proxy", None, None, None),
    "manifold": ("Manifold", "API key", "per key", "3 rows on disk"),
    "tensorzero": ("TensorZero", None, None, None),
    "portkey": ("Portkey", None, None, None),
    "litellm": ("LiteLLM", "master key", None, None),
}

TENSORZERO = """\
[gateway]
observability.enabled = false
disable_pseudonymous_usage_analytics = true
[models.bench]
routing = ["provider"]
[models.bench.providers.provider]
type = "openai"
model_name = "bench"
api_base = "http://{upstream}/openai/v1/"
api_key_location = "none"
"""

LITELLM = """\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://{upstream}/openai/v1
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  callbacks: []
  num_retries: 0
  request_timeout: 30
"""


class Peers(Bench):
    """Manifold, nginx and the peers in front of the same provider. Who fails is left out from then on."""

    def __init__(self, folder):
        super().__init__(folder)
        self.peers = {}
        self.versions = {}
        self.failures = set()

    def start_peers(self):
        for name, start in (("tensorzero", self.start_tensorzero), ("portkey", self.start_portkey), ("litellm", self.start_litellm)):
            before = len(self.running)
            try:
                start()
            except (OSError, SystemExit) as error:
                self.give_up(name, error)
                for process in self.running[before:]:
                    process.stop()

    def start_tensorzero(self):
        config = self.configure("tensorzero.toml", TENSORZERO)
        command = [TOOLS / "tensorzero/bin/python", "-W", "ignore", HERE / "tensorzero_gateway.py", config]
        process = self.run("tensorzero", command, environment(RUST_LOG="warn"))
        address = process.first_line()
        if not address.startswith("http://"):
            raise SystemExit(Path(process.log).read_text())
        self.add("tensorzero", python_package("tensorzero"), process, f"{address}/chat/completions", "tensorzero::model_name::bench")

    def start_portkey(self):
        node, package, port = NODE_MODULES / ".bin/node", NODE_MODULES / "@portkey-ai/gateway", free_port()
        command = [node, package / "build/start-server.js", f"--port={port}", "--headless"]
        process = self.run("portkey", command, environment(NODE_ENV="production"))
        process.wait_for(f"http://127.0.0.1:{port}/")
        installed = json.loads((package / "package.json").read_text())["version"]
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{self.address}/openai/v1"}
        self.add("portkey", f"{installed} on Node {version([node, '--version'])}", process,
                 f"http://127.0.0.1:{port}/v1/chat/completions", "bench", headers)

    def start_litellm(self):
        config, port = self.configure("litellm.yaml", LITELLM), free_port()
        command = [TOOLS / "litellm/bin/litellm", "--config", config, "--host", "127.0.0.1", "--port", port,
                   "--num_workers", os.cpu_count()]
        env = environment(LITELLM_MODE="PRODUCTION", LITELLM_LOG="ERROR", LITELLM_LOCAL_MODEL_COST_MAP="True")
        process = self.run("litellm", command, env)
        process.wait_for(f"http://127.0.0.1:{port}/health/liveliness", seconds=180)
        self.add("litellm", python_package("litellm"), process, f"http://127.0.0.1:{port}/v1/chat/completions", "bench")

    def configure(self, name, text):
        path = self.folder / name
        path.write_text(text.format(upstream=self.address, key=self.key))
        return path

    def add(self, name, installed, process, url, model, headers=None):
        """Adds a peer that answers, once it rests: then the last of its workers is up, and it takes nothing from the others."""
        deadline, used = time.monotonic() + 180, None
        while used is None or process.cpu_micros() - used > 50_000:
            if time.monotonic() > deadline:
                raise SystemExit("it does not come to rest")
            used = process.cpu_micros()
            time.sleep(1)
        self.versions[name] = installed
        for kind, more in (("", ""), (STREAM, ',"stream":true')):
            self.peers[name + kind] = Candidate(process, url, chat(model, more), headers or {})

    def give_up(self, name, error):
        self.failures.add(name)
        show(f"\n{name} is left out: {error}")

    def failed(self, name):
        return name in self.failures or name.removesuffix(STREAM) in self.failures

    def candidates(self):
        everyone = {**super().candidates(), **self.peers}
        return {name: candidate for name, candidate in everyone.items() if not self.failed(name)}

    def rounds(self):
        turns = {}
        for _ in range(ROUNDS):
            for name in self.candidates():
                if self.failed(name):
                    continue
                try:
                    turns.setdefault(name, []).append(self.measure(name, CONNECTIONS))
                    show(".", end="")
                except (OSError, SystemExit) as error:
                    self.give_up(name, error)
        show("")
        return {name: medians(of) for name, of in turns.items() if not self.failed(name)}

    def report(self):
        """What was measured of each gateway, beside what it did for it."""
        measured, candidates = self.rounds(), self.candidates()
        report = {}
        for name, (label, key, limits, usage) in GATEWAYS.items():
            if name in candidates:
                process = candidates[name].process
                report[name] = {
                    "label": label, "version": self.versions.get(name), "key_check": key, "limits": limits, "usage_rows": usage,
                    "whole": measured[name], "stream": measured.get(name + STREAM),
                    "rss_kib": process.rss_kib() if process else None,
                }
        return report


def environment(**more):
    """What a peer sees of the environment: nobody's keys and settings."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **more}


def python_package(name):
    program = f"import importlib.metadata, platform; print(importlib.metadata.version('{name}'), 'on Python', platform.python_version())"
    return version([TOOLS / name / "bin/python", "-c", program])


def table(results):
    rows = [("", "requests/s", "p50 µs", "p99 µs", "CPU µs", "streams/s", "CPU µs", "RSS MiB", "key check", "limits", "usage rows")]
    for gateway in results["gateways"].values():
        whole, stream, rss = gateway["whole"], gateway["stream"], gateway["rss_kib"]
        rows.append((
            gateway["label"], *(f"{whole[field]:,.0f}" for field in ("rate", "p50", "p99")),
            f"{whole['cpu']:,.0f}" if rss else "-", f"{stream['rate']:,.0f}" if stream else "-", f"{stream['cpu']:,.0f}" if stream else "-",
            f"{rss / 1024:,.0f}" if rss else "-", *(gateway[field] or "-" for field in ("key_check", "limits", "usage_rows")),
        ))
    for row in rows:
        show("{:<18} {:>10} {:>8} {:>9} {:>7} {:>10} {:>7} {:>8}  {:<10} {:<8} {}".format(*row))


def main():
    folder = tempfile.mkdtemp(prefix="manifold-peers-")
    os.chmod(folder, 0o755)
    bench = Peers(folder)
    try:
        bench.start()
        bench.start_nginx()
        bench.start_peers()
        facts = machine()
        bench.versions |= {"nginx": facts.pop("nginx").rsplit("/", 1)[-1], "manifold": version([GATEWAY, "--version"]).split()[-1]}
        results = {"machine": facts, "quick": QUICK, "rounds": ROUNDS, "seconds": SECONDS, "connections": CONNECTIONS,
                   "gateways": bench.report(), "left_out": sorted(bench.failures)}
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    table(results)
    # One short round is a hint, not a number to publish.
    kept = BIN.parent / "peers-quick.json" if QUICK else RESULTS
    kept.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    show(f"written to {os.path.relpath(kept)}")
    return 1 if bench.failures else 0


if __name__ == "__main__":
    sys.exit(main())
