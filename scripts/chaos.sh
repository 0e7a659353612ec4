#!/usr/bin/env bash
# Kills under load: the process on SQLite, the router and the door on Postgres, and with NATS all of them and the server
# itself. ROUNDS=N kills N times in each shape instead of 200. After each kill: no answered call is lost beyond the last batch,
# no key is lost; at the end every event took effect once.
# Outages under load: Redis, NATS and Postgres go away for OUTAGE seconds (60), or Postgres falls silent. Chats go on, what is
# refused is refused clearly, everything recovers by itself and every call is counted once.
# Limits: of REQUESTS requests (1,000,000) of three processes never more are admitted than the limit allows, also while Redis is
# cut off from them.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# shellcheck source=scripts/services.sh
. scripts/services.sh

need cc gcc
need python3 python3
PATH=$PATH:/usr/sbin
need nats-server nats-server
[ -n "${MANIFOLD_TEST_POSTGRES:-}" ] || start_postgres
[ -n "${MANIFOLD_TEST_REDIS:-}" ] || start_redis
export MANIFOLD_TEST_ROUNDS=${ROUNDS:-200} MANIFOLD_TEST_OUTAGE=${OUTAGE:-60} MANIFOLD_TEST_REQUESTS=${REQUESTS:-1000000}

cargo test --locked -p manifold --test process --no-run
cargo test --locked -p manifold-cache --test it --no-run
# One after the other, so that each has the machine for itself.
cargo test --locked -p manifold --test process -- --test-threads=1 --nocapture kill:: again:: outage::
cargo test --locked -p manifold-cache --test it -- --test-threads=1 --nocapture bounds::
