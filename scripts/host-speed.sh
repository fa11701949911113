#!/usr/bin/env bash
# Speed on this machine, side by side: Offshoot, ONNX Runtime's int8 CPU provider and tract, on MLPerf Tiny's ResNet-8
# (int8, the same QDQ ONNX file for all three) over CIFAR-10's test images, one image a call. Prints a table, writes JSON.
# The peers come from PyPI into a virtual environment beside the build.
#   scripts/host-speed.sh [JSON] [--count 10000] [--repetitions 5]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
json=${1:-host-speed.json}
[ $# -gt 0 ] && shift
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
venv=${OFFSHOOT_PEERS:-$target/peers}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet numpy onnxruntime==1.32.0 tract==0.23.9
cargo build --release --quiet -p offshoot --example throughput
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet -p offshoot-cli
    OFFSHOOT=$target/release/offshoot
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$OFFSHOOT" compile "$data/mlperf_tiny/ic_int8.onnx" -o "$work/ic.off" >/dev/null
"$venv/bin/python" scripts/host_speed.py --throughput "$target/release/examples/throughput" --off "$work/ic.off" \
    --onnx "$data/mlperf_tiny/ic_int8.onnx" --images "$data/cifar10/test_x.npy" --labels "$data/cifar10/test_y.npy" \
    --json "$json" "$@"
