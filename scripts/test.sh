#!/usr/bin/env bash
# The tests: `test.sh` runs everything, `test.sh unit` only what stands beside the code. Needs no input and no open port;
# what it starts it stops.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# shellcheck source=scripts/services.sh
. scripts/services.sh

cargo_tests() {
    if cargo nextest --version >/dev/null 2>&1; then
        cargo nextest run --locked --no-fail-fast "$@" </dev/null
    else
        cargo test --locked --no-fail-fast "$@" </dev/null
    fi
}

if [ "${1:-}" = unit ]; then
    cargo_tests --workspace --lib --bins
    exit
fi

need cc gcc
need python3 python3
PATH=$PATH:/usr/sbin
need nats-server nats-server
need nginx nginx-light
need oathtool oathtool
scripts/tools.sh client-tests
if [ -z "${MANIFOLD_TEST_POSTGRES:-}" ]; then
    start_postgres
fi
if [ -z "${MANIFOLD_TEST_REDIS:-}" ]; then
    start_redis
fi

failed=()
cargo_tests --workspace || failed+=("rust")
cargo build --locked -p manifold </dev/null || failed+=("build")

BLACKBOX_NODE=$PWD/tests/blackbox/node_modules/.bin/node
[ -x "$BLACKBOX_NODE" ] || BLACKBOX_NODE=$(command -v node)
export BLACKBOX_NODE
.tools/client-tests/bin/python tests/blackbox/run.py </dev/null || failed+=("clients")
scripts/readme-test.sh </dev/null || failed+=("readme")

if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
