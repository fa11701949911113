#!/usr/bin/env bash
# What the tool itself takes on large models, with random weights: seconds of CPU (user time, the least of three runs) to quantise
# MobileNetV2 at 224 × 224 with 8 samples and a dense layer of 1,024, and peak memory of compile and eval against the size of their file.
# Fails if memory exceeds three times the model for compile, or twice the samples for eval; seconds depend on the machine.
#   scripts/tool-cost.sh [OUT]
# OFFSHOOT: the binary, else it is built. OFFSHOOT_PEERS: a virtual environment for ONNX.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
out=${1:-$target/tool-cost}
mkdir -p "$out"
venv=${OFFSHOOT_PEERS:-$target/peers}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/python" -c 'import onnx' 2>/dev/null || "$venv/bin/pip" install --quiet numpy onnx
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=$target/release/offshoot
fi
"$venv/bin/python" scripts/tool_cost_models.py "$out"
"$venv/bin/python" scripts/tool_cost.py "$out" "$OFFSHOOT"
