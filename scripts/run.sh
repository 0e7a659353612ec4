#!/usr/bin/env bash
# Builds the server and runs it in the foreground on ./data.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -f .env ]; then
    set -a
    # shellcheck disable=SC1091
    . ./.env
    set +a
fi
cargo build --release --locked -p manifold
exec "${CARGO_TARGET_DIR:-target}/release/manifold" serve --data-dir "${MANIFOLD_DATA_DIR:-data}" "$@"
