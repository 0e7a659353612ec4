#!/usr/bin/env bash
# Measures LiteLLM, TensorZero and Portkey beside Manifold, nginx and no gateway at all, on this machine; prints a table and
# writes docs/bench/peers.json. The peers are installed into .tools; who cannot be is told and left out, and the exit code is 1.
# The variables of scripts/bench.sh work here too.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

for peer in tensorzero portkey litellm; do
    say "installing $peer, unless it is there"
    scripts/tools.sh "$peer" || say "$peer could not be installed"
done
exec scripts/bench.sh tests/bench/peers.py
