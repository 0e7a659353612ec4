"""The bench behind `make bench`. What is measured and how is told in docs/bench/README.md."""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent))
from harness.process import Process, free_port, get

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BIN = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
GATEWAY = os.environ.get("BENCH_GATEWAY", BIN / "manifold")
RESULTS = ROOT / "docs" / "bench" / "results.json"
QUICK = bool(os.environ.get("BENCH_QUICK"))
ROUNDS, WARM, SECONDS = (1, 1, 3) if QUICK else (5, 2, 8)
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "50000" if QUICK else "1000000"))
MESSAGES = '"messages":[{"role":"system","content":"You are brief."},{"role":"user","content":"How many pieces?"}]'
MODEL = "groq/llama-3.1-8b-instant"


def chat(model, more=""):
    """Body of the request that everybody answers."""
    return f'{{"model":"{model}",{MESSAGES}{more}}}'


PLAIN, STREAM = chat(MODEL), chat(MODEL, ',"stream":true')


class Candidate(NamedTuple):
    """Whom a turn measures: the process that is charged, if any, and what it is sent."""

    process: Process | None
    url: str
    body: str
    headers: dict = {}  # beside the key


class Bench:
    """The servers, started once and measured in turns."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.running = []
        self.nginx = None

    def start(self):
        self.address = self.run("upstream", [BIN / "upstream"]).first_line()
        self.gateway, self.url, self.management = self.start_gateway(self.folder / "data")
        self.key = (self.folder / "data" / "admin.key").read_text().strip()

    def run(self, name, command, env=None):
        process = Process(command, self.folder / f"{name}.log", env)
        self.running.append(process)
        return process

    def stop(self):
        for process in reversed(self.running):
            process.stop()

    def start_nginx(self):
        self.nginx_port = free_port()
        text = (HERE / "nginx.conf").read_text()
        facts = {"WORKERS": os.cpu_count(), "FOLDER": self.folder, "UPSTREAM": self.address, "PORT": self.nginx_port}
        for name, value in facts.items():
            text = text.replace(f"@{name}@", str(value))
        config = self.folder / "nginx.conf"
        config.write_text(text)
        self.nginx = self.run("nginx", ["nginx", "-p", self.folder, "-c", config])
        self.nginx.wait_for(f"http://127.0.0.1:{self.nginx_port}/count")

    def start_gateway(self, data):
        listen, management = free_port(), free_port()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "GROQ_API_KEY": "gsk_bench",
            "MANIFOLD_AI__PROVIDERS__GROQ__BASE_URL": f"http://{self.address}/openai/v1",
            # A limit that is always checked and never reached.
            "MANIFOLD_EDGE__LIMITS__PER_KEY__QUOTA": "36000000",
            "MANIFOLD_EDGE__LIMITS__PER_KEY__WINDOW": "1h",
            "MANIFOLD_DATA_DIR": str(data),
            "MANIFOLD_EDGE__LISTEN": f"127.0.0.1:{listen}",
            "MANIFOLD_MANAGEMENT__LISTEN": f"127.0.0.1:{management}",
        }
        env.update({name[len("BENCH_"):]: value for name, value in os.environ.items() if name.startswith("BENCH_MANIFOLD_")})
        gateway = self.run("manifold", [GATEWAY, "serve"], env)
        gateway.wait_for(f"http://127.0.0.1:{management}/readyz")
        return gateway, f"http://127.0.0.1:{listen}", f"http://127.0.0.1:{management}"

    def measure_starts(self):
        """Milliseconds to /readyz: on an empty folder, and on one that holds data."""
        times = {"first": [], "again": []}
        for n in range(1 if QUICK else 5):
            for kind in times:
                begun = time.monotonic()
                gateway, _, _ = self.start_gateway(self.folder / f"start{n}")
                times[kind].append(round((time.monotonic() - begun) * 1000, 1))
                gateway.stop()
        return {kind: statistics.median(values) for kind, values in times.items()}

    def drain(self):
        """Waits until every row is durable; gives the seconds it took."""
        begun = time.monotonic()
        while time.monotonic() - begun < 60:
            metrics = get(f"{self.management}/metrics") or ""
            depths = [line.rsplit(" ", 1)[1] for line in metrics.splitlines() if line.startswith("manifold_write_queue_depth")]
            if not depths:
                raise SystemExit("the gateway does not tell manifold_write_queue_depth")
            if all(float(depth) == 0 for depth in depths):
                return time.monotonic() - begun
            time.sleep(0.005)
        raise SystemExit("the write queue did not drain within a minute")

    def answered(self):
        return int(get(f"http://{self.address}/count"))

    def wrk(self, candidate, connections, seconds):
        headers = {"Authorization": f"Bearer {self.key}", **candidate.headers}
        env = dict(os.environ, BENCH_BODY=candidate.body,
                   BENCH_HEADERS="".join(f"{name}: {value}\n" for name, value in headers.items()))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "chat.lua", candidate.url]
        done = subprocess.run([str(c) for c in command], env=env, capture_output=True, text=True, check=False)
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        result = json.loads(line[7:]) if line else {"failed": 1}
        if result["failed"]:
            raise SystemExit(f"{candidate.url}: {done.stdout}{done.stderr}")
        return result

    def measure(self, name, connections):
        """One turn: warm up, load, wait until all is durable, then read rate and processor time."""
        candidate = self.candidates()[name]
        gateway = candidate.process
        self.wrk(candidate, connections, WARM)
        ours = gateway is self.gateway
        if ours:
            self.drain()
        cpu, answered = gateway.cpu_micros() if gateway else 0, self.answered()
        result = self.wrk(candidate, connections, SECONDS)
        seconds = result["seconds"] + (self.drain() if ours else 0)
        spent = (gateway.cpu_micros() if gateway else 0) - cpu
        if not result["requests"]:
            raise SystemExit(f"{name}: no request was answered")
        if self.answered() - answered < result["requests"]:
            raise SystemExit(f"{name}: fewer requests reached the provider than were answered")
        return {
            "rate": result["requests"] / seconds,
            "p50": result["p50"],
            "p99": result["p99"],
            "cpu": spent / result["requests"],
        }

    def candidates(self):
        """Whom to measure, by name."""
        path = "/v1/chat/completions"
        ours = {
            "manifold": Candidate(self.gateway, self.url + path, PLAIN),
            "manifold_stream": Candidate(self.gateway, self.url + path, STREAM),
        }
        if not self.nginx:
            return ours
        return {
            "direct": Candidate(None, f"http://{self.address}{path}", PLAIN),
            "nginx": Candidate(self.nginx, f"http://127.0.0.1:{self.nginx_port}{path}", PLAIN),
            **ours,
        }

    def rounds(self):
        """Interleaved, so that a slow minute of the machine hits everyone."""
        turns = {}
        for _ in range(ROUNDS):
            for connections in (16, 1):
                for name in self.candidates():
                    turns.setdefault((name, connections), []).append(self.measure(name, connections))
                    show(".", end="")
        show("")
        return {f"{name}_c{connections}": medians(of) for (name, connections), of in turns.items()}

    def load(self, name, requests, rate=None, connections=32):
        candidate = self.candidates()[name]
        command = [BIN / "load", "--url", candidate.url, "--requests", requests, "--connections", connections, "--body", candidate.body,
                   "--header", f"Authorization: Bearer {self.key}"]
        command += ["--rate", rate] if rate else []
        out = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout
        result = json.loads(out)
        if result["failures"]:
            raise SystemExit(f"{name}: {result['failures']} requests failed under load")
        return result

    def fixed_rates(self, closed_loop):
        """Latency from the intended send time, at shares of the gateway's peak; streams at shares of their own."""
        table = {}
        for share in (0.25, 0.5, 0.8):
            for name in self.candidates():
                peak = closed_loop["manifold_stream_c16" if name == "manifold_stream" else "manifold_c16"]["rate"]
                rate = int(peak * share)
                runs = [self.load(name, rate * SECONDS, rate) for _ in range(1 if QUICK else 3)]
                self.drain()
                table.setdefault(name, {})[str(int(share * 100))] = {
                    "rate": rate, **{field: statistics.median(run[field] for run in runs) for field in ("p50", "p99", "p999")}}
        return table

    def memory(self):
        """Resident memory while many requests pass, in ten equal parts."""
        samples = [self.gateway.rss_kib()]
        for _ in range(10):
            self.load("manifold", REQUESTS // 10, connections=16)
            self.drain()
            samples.append(self.gateway.rss_kib())
        half = samples[5:]
        slope = (half[-1] - half[0]) / (REQUESTS / 2) * 1_000_000
        return {"requests": REQUESTS, "before_kib": samples[0], "after_kib": samples[-1],
                "slope_kib_per_million": round(slope), "samples_kib": samples}


def medians(turns):
    return {field: round(statistics.median(turn[field] for turn in turns), 1) for field in turns[0]}


def show(text, end="\n"):
    print(text, end=end, flush=True)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), "unknown")
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(),
            "rustc": version(["rustc", "--version"]), "nginx": version(["nginx", "-v"])}


def version(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def table(results):
    rows = [("", "16 connections", "", "", "1 connection", ""),
            ("", "requests/s", "p50 µs", "p99 µs", "p50 µs", "CPU µs per request")]
    for name in ("direct", "nginx", "manifold", "manifold_stream"):
        many, one = results["closed_loop"][f"{name}_c16"], results["closed_loop"][f"{name}_c1"]
        cpu = f"{many['cpu']:.1f}" if name != "direct" else "-"
        rows.append((name, f"{many['rate']:,.0f}", f"{many['p50']:.0f}", f"{many['p99']:.0f}", f"{one['p50']:.0f}", cpu))
    for row in rows:
        show("{:<16} {:>14} {:>8} {:>8} {:>12} {:>20}".format(*row))
    show("")
    for name, shares in results["fixed_rate"].items():
        line = "   ".join(f"{share} %: {at['p50']:.0f} / {at['p99']:.0f}" for share, at in shares.items())
        show(f"{name:<16} p50 / p99 µs at a share of the peak:   {line}")
    memory, start = results["memory"], results["start_ms"]
    show(f"\nmemory {results['idle_kib'] / 1024:.1f} MiB idle, {memory['before_kib'] / 1024:.1f} before and "
         f"{memory['after_kib'] / 1024:.1f} after {memory['requests']:,} requests "
         f"({memory['slope_kib_per_million']:+} KiB per million in the second half)")
    show(f"start {start['first']:.0f} ms on an empty folder, {start['again']:.0f} ms on one with data")


def keep(results):
    """Puts results beside those of other benches."""
    # One short round is a hint, not a number to publish.
    path = BIN.parent / "bench-quick.json" if QUICK else RESULTS
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **results}, indent=2) + "\n")
    show(f"written to {os.path.relpath(path)}")


def main():
    folder = tempfile.mkdtemp(prefix="manifold-bench-")
    os.chmod(folder, 0o755)
    bench = Bench(folder)
    try:
        bench.start()
        time.sleep(2)
        results = {"machine": machine(), "quick": QUICK, "rounds": ROUNDS, "seconds": SECONDS,
                   "idle_kib": bench.gateway.rss_kib(), "start_ms": bench.measure_starts()}
        bench.start_nginx()
        results["closed_loop"] = bench.rounds()
        results["fixed_rate"] = bench.fixed_rates(results["closed_loop"])
        results["memory"] = bench.memory()
    finally:
        bench.stop()
        shutil.rmtree(folder, ignore_errors=True)
    table(results)
    keep(results)


if __name__ == "__main__":
    sys.exit(main())
