#!/bin/sh
# Runs the ONNX backend tests, set-up included: makes a Python environment and the tests under target/ where they
# are missing, builds Tinsmith, and hands its arguments to run_conformance.py.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/target/venv

if [ ! -e "$venv/ready" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
    touch "$venv/ready"
fi
[ -e "$root/target/conformance/tests.json" ] || "$venv/bin/python" "$here/fetch_conformance.py"
cargo build --release --manifest-path "$root/Cargo.toml" --bin tinsmith
exec "$venv/bin/python" "$here/run_conformance.py" "$@"
