#!/usr/bin/env bash
# Passes every test, set-up included: what the machine lacks is installed by package name and version.
#
#     testsuite/run.sh          all of it
#     testsuite/run.sh quick    cargo's tests only, with what the machine has
set -euo pipefail
cd "$(dirname "$0")/.."

has() { command -v "$1" >/dev/null 2>&1; }

if [ "${1:-}" != quick ] && has apt-get; then
    as_root=
    [ "$(id -u)" = 0 ] || as_root="sudo -n"
    wanted=()
    has cc || wanted+=(gcc libc6-dev)
    has g++ || wanted+=(g++)
    has aarch64-linux-gnu-gcc || wanted+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    has qemu-aarch64 || wanted+=(qemu-user)
    has pkg-config || wanted+=(pkg-config)
    has cmake || wanted+=(cmake)
    if [ ${#wanted[@]} -gt 0 ]; then
        $as_root apt-get update -qq || true
        # A package that cannot be had leaves its tests skipped, by name.
        for package in "${wanted[@]}"; do
            DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$package" >/dev/null || echo "cannot install $package" >&2
        done
    fi
fi

cargo test --workspace
[ "${1:-}" != quick ] || exit 0

cargo build --release --bin tinsmith
echo "== the pool's hand-offs and idle time, on a machine with nothing else to do"
cargo test --release -p tinsmith-runtime -- --ignored
echo "== the ONNX backend tests: none of those that passed before may fail"
testsuite/scripts/conformance.sh --check
echo "== operators of other domains, against onnxruntime"
target/venv/bin/python testsuite/scripts/verify_contrib.py
echo "== trained models, at every instruction set level that this machine has"
python=target/venv/bin/python
[ -e target/models/manifest.json ] || $python testsuite/scripts/fetch_models.py
$python testsuite/scripts/verify_models.py --cpu all
echo "== models as static libraries in C programs, natively and for aarch64 under an emulator"
$python testsuite/scripts/verify_library.py --only ppocr_cls,mtcnn_pnet,silero_vad_static --levels x86-64-v1,x86-64-v3,aarch64
echo "== sizes"
$python testsuite/scripts/measure_sizes.py --models target/models
echo "== the digits example"
examples/digits/run.sh | tail -n 1
