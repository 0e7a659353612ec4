#!/usr/bin/env bash
# Everything that can be judged without running the product. Goes through all checks and tells at the end what failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

failed=()
passed=0

step() {
    local name=$1
    shift
    printf '\n%s\n' "$name"
    if "$@"; then passed=$((passed + 1)); else failed+=("$name"); fi
}

dependencies() {
    scripts/tools.sh deny && cargo fetch --locked --quiet &&
        .tools/bin/cargo-deny --offline check --hide-inclusion-graph bans licenses sources
}

scripts_are_sound() {
    scripts/tools.sh lint && .tools/lint/bin/shellcheck --external-sources scripts/*.sh .ci/run
}

compose_files_are_sound() {
    scripts/tools.sh lint && .tools/lint/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose*.yaml
}

step "formatting" cargo fmt --all --check
step "clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step "dependencies" dependencies
step "shell scripts" scripts_are_sound
step "compose files" compose_files_are_sound
step "house rules" python3 scripts/house_rules.py
step "numbers of the README" python3 scripts/readme-numbers.py --check

printf '\nchecks: %d passed, %d failed\n' "$passed" "${#failed[@]}"
if [ "${#failed[@]}" -gt 0 ]; then
    printf 'failed: %s\n' "${failed[@]}"
    exit 1
fi
