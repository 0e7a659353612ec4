"""What the policies cost: chats with key, permission and limits, beside a build that knows its one caller and asks nothing.

That build exists nowhere else: it is a copy of the sources in which the lines below are replaced.
"""

import shutil
import statistics
import subprocess
import tempfile

import bench

WORK = bench.BIN.parent / "policy"
PIPELINE = "crates/edge/src/pipeline.rs"
OFF = [
    ("edge.identity.refuse_blocked(client)?;", ""),
    ("edge.limits.charge_address(&asking, &mut scene.record.met).await?;", ""),
    ("Some(caller(edge, &parts, operation, client).await?)",
     "Some(KNOWN.get_or_try_init(|| caller(edge, &parts, operation, client)).await?.clone())"),
    ("let own = known.as_ref().filter(|caller| !exempt(caller));", "let _ = exempt;"),
    ("let own = own.map_or_else(Vec::new, |caller| edge.identity.limits_of(caller));", ""),
    ("edge.limits.charge_caller(&asking, &own, &mut scene.record.met).await?;", "let _ = asking;"),
    ("operation.authorise(&principal).inspect_err(", "Ok::<(), Error>(()).inspect_err("),
]
KNOWN = "\nstatic KNOWN: tokio::sync::OnceCell<Principal> = tokio::sync::OnceCell::const_new();\n"


def build(name, root):
    """Builds the program of these sources; without a profile, so that both are built alike."""
    command = ["cargo", "build", "--release", "--locked", "-p", "manifold"]
    subprocess.run(command, cwd=root, check=True, env={**bench.os.environ, "CARGO_TARGET_DIR": str(bench.BIN.parent)})
    shutil.copy2(bench.BIN / "manifold", WORK / name)


def take_policies_out():
    """A copy of the sources without policies."""
    root = WORK / "sources"
    shutil.rmtree(root, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=bench.ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(bench.ROOT / name, root / name)
    text = (root / PIPELINE).read_text()
    for before, after in OFF:
        if text.count(before) != 1:
            raise SystemExit(f"{PIPELINE} has this line {text.count(before)} times and not once: {before}")
        text = text.replace(before, after)
    (root / PIPELINE).write_text(text + KNOWN)
    return root


class Pair(bench.Bench):
    """Both programs, each with a data folder of its own."""

    def start(self):
        self.address = self.run("upstream", [bench.BIN / "upstream"]).first_line()
        self.pair = {}
        for name in ("on", "off"):
            bench.GATEWAY, data = WORK / name, self.folder / name
            self.pair[name] = self.start_gateway(data)
        self.keys = {name: (self.folder / name / "admin.key").read_text().strip() for name in self.pair}

    def turn(self, name):
        self.gateway, url, self.management = self.pair[name]
        self.key, self.one = self.keys[name], bench.Candidate(self.gateway, f"{url}/v1/chat/completions", bench.PLAIN)
        return self.measure(name, 16)

    def candidates(self):
        return {name: self.one for name in self.pair}


def measure():
    folder = tempfile.mkdtemp(prefix="manifold-bench-")
    pair, turns = Pair(folder), {"on": [], "off": []}
    try:
        pair.start()
        for _ in range(bench.ROUNDS):
            for name in ("on", "off", "off", "on"):
                turns[name].append(pair.turn(name))
                bench.show(".", end="")
    finally:
        pair.stop()
        shutil.rmtree(folder, ignore_errors=True)
    medians = {name: bench.medians(of) for name, of in turns.items()}
    tax = statistics.median(on["cpu"] / off["cpu"] for on, off in zip(turns["on"], turns["off"])) - 1
    return {**medians, "tax_percent": round(100 * tax, 1)}


def main():
    WORK.mkdir(parents=True, exist_ok=True)
    build("on", bench.ROOT)
    build("off", take_policies_out())
    found = measure()
    for name in ("on", "off"):
        one = found[name]
        bench.show(f"\npolicies {name}: {one['rate']:,.0f} requests/s, p99 {one['p99']:.0f} µs, {one['cpu']:.1f} µs of processor time", end="")
    bench.show(f"\npolicies cost {found['tax_percent']} % more processor time per request")
    bench.keep({"policy": found})


if __name__ == "__main__":
    main()
