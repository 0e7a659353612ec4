"""The product as a user runs it, in one process or in two, with played providers behind it."""

import json
import os
import secrets
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.append(str(HERE.parent))
from harness.process import Process, free_port

BINARY = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "manifold"
PROVIDERS = ("groq", "mistral", "gemini", "openrouter", "ollama")
# Where each provider's API begins, below its host.
PATHS = {"groq": "/openai/v1", "mistral": "/v1", "gemini": "/v1beta", "openrouter": "/api/v1", "ollama": ""}
KEYS = {f"{name.upper()}_API_KEY": f"{name}-key-nobody-may-see" for name in PROVIDERS if name != "ollama"}


class Stack:
    """What was started in a folder, until the `with` ends; `environment` is what the tests need to know."""

    def __init__(self, shape, folder, postgres=None):
        self.shape, self.folder, self.postgres = shape, Path(folder), postgres
        self.running = []
        # Of each gateway: what its command line must know.
        self.settings = {}
        self.environment = {"BLACKBOX_SHAPE": shape, "BLACKBOX_BINARY": str(BINARY)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.running):
            process.stop()

    def run(self, name, command, env=None):
        process = Process(command, self.folder / f"{name}.log", env)
        self.running.append(process)
        return process

    def start(self):
        """Two gateways and their providers: played by aimock, and by our own script."""
        aimock = self.run("aimock", [node(), HERE / "aimock.mjs", *PROVIDERS])
        hosts = json.loads(aimock.first_line())
        port = free_port()
        scripted = f"http://127.0.0.1:{port}"
        self.run("vendors", [sys.executable, HERE / "vendors.py", port]).wait_for(f"{scripted}/requests")
        self.gateway("aimock", hosts)
        self.gateway("scripted", {name: f"{scripted}/{name}" for name in PROVIDERS})
        self.environment["BLACKBOX_SCRIPTED_UPSTREAM"] = scripted

    def gateway(self, name, hosts):
        """One gateway whose providers live at `hosts`."""
        url, data = self.house(name, router=providers_at(hosts))
        prefix = f"BLACKBOX_{name.upper()}"
        self.environment[f"{prefix}_URL"] = f"{url}/v1"
        self.environment[f"{prefix}_DATA"] = str(data)
        self.environment[f"{prefix}_KEY"] = (data / "admin.key").read_text().strip()

    def house(self, name, edge=None, router=None):
        """Address and data folder of a gateway in one process or in two, with settings of its two sides."""
        edge, router = edge or {}, router or {}
        if self.shape == "one":
            url, data = self.serve(f"gateway-{name}", edge | router, [])
        else:
            store = {"MANIFOLD_STORE__URL": self.database(name), "MANIFOLD_MESH__SECRET": secrets.token_hex(32)}
            mesh = free_port()
            router = {**router, **store, "MANIFOLD_GRPC__LISTEN": f"127.0.0.1:{mesh}"}
            self.serve(f"ai-router-{name}", router, ["--services", "ai-router"])
            edge = {
                **edge,
                **store,
                "MANIFOLD_MESH__AI_ROUTER": f"http://127.0.0.1:{mesh}",
                "MANIFOLD_GRPC__LISTEN": f"127.0.0.1:{free_port()}",
            }
            url, data = self.serve(f"edge-{name}", edge, ["--services", "edge"])
        return url, data

    def serve(self, name, settings, arguments):
        """One process of the gateway, ready to answer."""
        listen, management, data = free_port(), free_port(), self.folder / name
        env = clean_environment(self.folder) | settings | {
            "MANIFOLD_DATA_DIR": str(data),
            "MANIFOLD_EDGE__LISTEN": f"127.0.0.1:{listen}",
            "MANIFOLD_MANAGEMENT__LISTEN": f"127.0.0.1:{management}",
        }
        self.settings[name.partition("-")[2]] = env
        process = self.run(name, [BINARY, "serve", *arguments], env)
        process.wait_for(f"http://127.0.0.1:{management}/readyz")
        return f"http://127.0.0.1:{listen}", data

    def database(self, name):
        """A fresh database beside the one that was given."""
        base, _, _ = self.postgres.rpartition("/")
        fresh = f"blackbox_{name}_{secrets.token_hex(4)}"
        subprocess.run([psql(), "-q", "-d", self.postgres, "-c", f"CREATE DATABASE {fresh}"], check=True, stdin=subprocess.DEVNULL)
        return f"{base}/{fresh}"


def providers_at(hosts):
    """Settings with which providers are found where they are played."""
    return {f"MANIFOLD_AI__PROVIDERS__{p.upper()}__BASE_URL": hosts[p] + PATHS[p] for p in PROVIDERS} | KEYS


def clean_environment(home):
    """Nothing of the caller's own keys and settings."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "RUST_BACKTRACE": "1"}


def node():
    """The Node that scripts/test.sh chose."""
    return os.environ.get("BLACKBOX_NODE", "node")


def psql():
    """The client that belongs to the throw-away server."""
    return os.environ.get("BLACKBOX_PSQL", "psql")
