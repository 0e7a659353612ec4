#!/usr/bin/env bash
# Which lines the Rust tests reach: a table here, HTML in target/llvm-cov/html.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# shellcheck source=scripts/services.sh
. scripts/services.sh

scripts/tools.sh coverage
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
LLVM_COV=$(command -v "llvm-cov-$llvm")
LLVM_PROFDATA=$(command -v "llvm-profdata-$llvm")
export LLVM_COV LLVM_PROFDATA
PATH=$PATH:/usr/sbin
need nats-server nats-server
need nginx nginx-light
need oathtool oathtool
[ -n "${MANIFOLD_TEST_POSTGRES:-}" ] || start_postgres
[ -n "${MANIFOLD_TEST_REDIS:-}" ] || start_redis

runner=(test)
cargo nextest --version >/dev/null 2>&1 && runner=(nextest)
PATH=$PWD/.tools/bin:$PATH
cargo llvm-cov "${runner[@]}" --workspace --locked --no-report </dev/null
cargo llvm-cov report --html
cargo llvm-cov report --summary-only
