#!/usr/bin/env bash
# Does what a newcomer does: a fresh clone, an empty home, and every `quickstart` block of the README as it is written.
# README_TREE=work takes the files as they are instead of the last commit.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
need curl curl
need git git
need make make

# The place stays the same, so that a second run does not build everything again.
place=$PWD/target/readme
mkdir -p "$place"
(cd "$place" && rm -rf clone home && mkdir home)
if [ "${README_TREE:-}" = work ]; then
    mkdir "$place/clone"
    git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$place/clone" 2>/dev/null || true
else
    git clone --quiet --no-hardlinks . "$place/clone"
fi

# Cargo and its toolchain are what the machine has; nothing else of the caller is visible.
exec env -i \
    PATH="$PATH" HOME="$place/home" LANG=C.UTF-8 \
    CARGO_HOME="${CARGO_HOME:-$HOME/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" \
    CARGO_TARGET_DIR="$place/target" \
    python3 "$place/clone/scripts/readme_test.py"
