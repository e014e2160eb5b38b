#!/bin/sh
# Builds Tinsmith where needed, compiles digits.onnx to a static library, links it into main.c, and classifies
# the sample images, or those given as arguments.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/out/digits

cargo build --release --manifest-path "$root/Cargo.toml" --bin tinsmith
"$root/target/release/tinsmith" compile "$here/digits.onnx" -o "$out"
"${CC:-cc}" -std=c11 -O2 -I"$out" "$here/main.c" "$out/libdigits.a" -o "$out/digits"

[ $# -gt 0 ] || set -- "$here"/samples/*.pgm
exec "$out/digits" "$@"
