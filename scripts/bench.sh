#!/usr/bin/env bash
# Measures the gateway against nginx and against no gateway at all, on this machine; prints a table and writes
# docs/bench/results.json. BENCH_QUICK=1 takes one short round; BENCH_REQUESTS=N shortens the long run.
# bench.sh PROGRAM runs another bench than tests/bench/bench.py.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

need wrk wrk
need python3 python3
PATH=$PATH:/usr/sbin
need nginx nginx-light

cargo build --release --locked -p manifold-tests
# A short round is no measurement, so it does with a build that takes half the time.
if [ -n "${BENCH_QUICK:-}" ]; then
    cargo build --release --locked -p manifold
elif [ -z "${BENCH_GATEWAY:-}" ]; then
    scripts/release.sh
fi
if [ $# -gt 0 ]; then
    exec python3 "$1"
fi
python3 tests/bench/bench.py
python3 tests/bench/logins.py
