#!/usr/bin/env bash
# Quantised exports of one small network on MNIST (ONNX Runtime: ten QDQ settings, 4 and 16 bits, QOperator, dynamic; PyTorch with fake
# quantisation; Brevitas):
# classes of the compiled file against the source's on 2,000 samples, bytes, and instructions on the emulated Cortex-M4.
# Fails below 99.5 % agreement (but for the one whose source saturates). PyTorch comes from the system (Debian: python3-torch, 1.13), the others from PyPI; Brevitas 0.10.2
# works with that PyTorch.
#   scripts/quantised-exports.sh [OUT]
# OFFSHOOT: the binary, else it is built. OFFSHOOT_DATA: the folder with the data sets. TORCH_PYTHON: an interpreter with torch.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}/mnist
target=${CARGO_TARGET_DIR:-target}
out=${1:-$target/quantised-exports}
mkdir -p "$out"
venv=${OFFSHOOT_PEERS:-$target/peers}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import onnx, onnxruntime' 2>/dev/null || "$venv/bin/pip" install --quiet numpy onnx onnxruntime==1.32.0
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet -p offshoot-cli
    OFFSHOOT=$target/release/offshoot
fi
# Brevitas comes without its dependencies, which would replace the system's PyTorch.
with_torch=$target/peers-torch
if [ ! -f "$out/brevitas_w8a8.onnx" ]; then
    [ -x "$with_torch/bin/python" ] || "${TORCH_PYTHON:-/usr/bin/python3}" -m venv --system-site-packages "$with_torch"
    if ! "$with_torch/bin/python" -c 'import brevitas.export' 2>/dev/null; then
        "$with_torch/bin/pip" install --quiet --no-deps brevitas==0.10.2 dependencies==2.0.1
        "$with_torch/bin/pip" install --quiet packaging typing_extensions 'setuptools<70' onnx==1.17.0 'numpy<2' onnxoptimizer
    fi
    "$with_torch/bin/python" scripts/quantised_exports.py torch "$data" "$out"
fi
"$venv/bin/python" scripts/quantised_exports.py onnxruntime "$data" "$out"
"$venv/bin/python" scripts/quantised_exports.py compare "$data" "$out" "$OFFSHOOT"
