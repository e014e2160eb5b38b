#!/usr/bin/env bash
# Makes the pool's object for each target, beside this script, where the compiler takes it from: Tinsmith itself then needs no cross compiler to be built.
# The same rustc and binutils give the same bytes; the kept ones are of Debian 12:
#
#     dpkg --add-architecture arm64 && apt-get update
#     apt-get install rustc-web libstd-rust-web-dev:arm64 binutils binutils-aarch64-linux-gnu
set -euo pipefail
cd "$(dirname "$0")"
rustc=${RUSTC:-/usr/bin/rustc}

build() { # TARGET OBJCOPY FLAG...
    local target=$1 objcopy=$2
    shift 2
    "$rustc" --edition 2024 --crate-name tinsmith_pool --crate-type lib --target "$target" --emit "obj=$target.o" \
        -C panic=abort -C opt-level=2 -C codegen-units=1 -C relocation-model=pic -C debuginfo=0 -C strip=debuginfo -A warnings \
        --remap-path-prefix "$(cd ../.. && pwd)=" "$@" ../src/pool/object.rs
    # Several models in one program bring the pool once each; any of them will do.
    "$objcopy" --weaken-symbol=tinsmith_pool_create --weaken-symbol=tinsmith_pool_destroy "$target.o"
}

build x86_64-unknown-linux-gnu objcopy
# Outlined atomics would need functions of libgcc.
build aarch64-unknown-linux-gnu aarch64-linux-gnu-objcopy -C target-feature=-outline-atomics

# A test says when the objects are older than their sources.
cat ../src/pool/object.rs ../src/pool/job.rs ../src/pool/sync.rs ../src/pool/threads.rs ../../targets/src/abi.rs | sha256sum | cut -d' ' -f1 > sources.sha256
