#!/usr/bin/env bash
# Measures the gateway against nginx and against no gateway at all, on this machine; prints a table and writes
# docs/bench/results.json. BENCH_QUICK=1 takes one short round; BENCH_REQUESTS=N shortens the long run.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need wrk wrk
need python3 python3
PATH=$PATH:/usr/sbin
need nginx nginx-light

cargo build --release --locked -p manifold -p manifold-tests
exec python3 tests/bench/bench.py "$@"
