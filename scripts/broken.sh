#!/usr/bin/env bash
# Tests that would not notice a broken safeguard are no tests: breaks one safeguard after the other in a copy of the source and
# demands that the tests named for it fail. The table is breaks.py. `broken.sh NAME...` tries only these.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# shellcheck source=scripts/services.sh
. scripts/services.sh

need cc gcc
need python3 python3
need oathtool oathtool
[ -n "${MANIFOLD_TEST_POSTGRES:-}" ] || start_postgres
[ -n "${MANIFOLD_TEST_REDIS:-}" ] || start_redis
python3 scripts/broken.py "$@"
