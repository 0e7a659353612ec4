"""What `make release` learns from: chats, whole and streamed, as fast as they are answered and one at a time."""

import os
import shutil
import sys
import tempfile

os.environ["BENCH_GATEWAY"] = sys.argv[1]

from bench import Bench

folder = tempfile.mkdtemp(prefix="manifold-train-")
bench = Bench(folder)
try:
    bench.start()
    for name in ("manifold", "manifold_stream"):
        for connections, requests in ((16, 100_000), (1, 10_000)):
            bench.load(name, requests, connections=connections)
    bench.drain()
finally:
    bench.stop()
    shutil.rmtree(folder, ignore_errors=True)
