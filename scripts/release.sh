#!/usr/bin/env bash
# Builds the program as it is shipped, into target/release/manifold: first a build that counts what it does while it answers
# some chats, then one that the compiler lays out by these counts. A profile is kept until the sources change.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
need python3 python3
need "llvm-profdata-$llvm" "llvm-$llvm"

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/profiled
program=$work/$host/release/manifold
sources=$({ rustc -vV; find crates proto .cargo Cargo.toml Cargo.lock tests/bench/train.py -type f -print0 | sort -z | xargs -0 sha256sum; } | sha256sum)
profile=$work/${sources:0:16}.profdata

# build FLAGS: only the program itself is compiled with them, not what runs while it is built.
build() {
    RUSTFLAGS=$1 CARGO_TARGET_DIR=$work cargo build --release --locked --target "$host" -p manifold
}

if [ ! -f "$profile" ]; then
    cargo build --release --locked -p manifold-tests
    rm -rf "$work/counts" "$work"/*.profdata
    build "-Cprofile-generate=$work/counts"
    python3 tests/bench/train.py "$program"
    "llvm-profdata-$llvm" merge -o "$profile.new" "$work"/counts/*.profraw
    mv "$profile.new" "$profile"
fi
build "-Cprofile-use=$profile"
install -D "$program" "$target/release/manifold"
say "built target/release/manifold"
