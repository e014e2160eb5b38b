#!/usr/bin/env bash
# Builds the pool's object for each target that has one; the results are kept beside this script, because a compiler that is installed
# from source may be another one. A test says when the objects are older than their sources.
set -euo pipefail
cd "$(dirname "$0")"
rustc=${RUSTC:-/usr/bin/rustc}
[ -x "$rustc" ] || rustc=rustc
for target in x86_64-unknown-linux-gnu; do
    "$rustc" --edition 2024 --crate-name tinsmith_pool --crate-type lib --target "$target" --emit "obj=$target.o" \
        -C panic=abort -C opt-level=2 -C codegen-units=1 -C relocation-model=pic -C debuginfo=0 -C strip=debuginfo -A warnings \
        --remap-path-prefix "$(cd ../.. && pwd)=" ../src/pool/object.rs
    # Several models in one program bring the pool once each; any of them will do.
    objcopy --weaken-symbol=tinsmith_pool_create --weaken-symbol=tinsmith_pool_destroy "$target.o"
done
cat ../src/pool/object.rs ../src/pool/job.rs ../src/pool/sync.rs ../src/pool/threads.rs ../../targets/src/abi.rs | sha256sum | cut -d' ' -f1 > sources.sha256
