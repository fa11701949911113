#!/usr/bin/env bash
# Networks of many architectures, exported by PyTorch, compiled to float32 and int8 and compared with ONNX Runtime: the small ones of
# tests/architectures, and definitions of torchvision and timm. Fails if one is not whole (80 dB in float32; 20 dB in int8 of the small ones).
#   scripts/architectures.sh OUT [--public] [--float] [--opset N]... [--dynamic] [WORD]...
# PyTorch comes from the system (Debian: python3-torch), the others from PyPI.
# OFFSHOOT: the binary, else it is built. TORCH_PYTHON: an interpreter with torch.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:?a folder for networks and results}
shift
python=${TORCH_PYTHON:-/usr/bin/python3}
if ! "$python" -c 'import torch' 2>/dev/null; then
    echo "skipped: $python lacks torch (TORCH_PYTHON names another interpreter)"
    exit 0
fi
target=${CARGO_TARGET_DIR:-target}
venv=$target/architectures
[ -x "$venv/bin/python" ] || "$python" -m venv --system-site-packages "$venv"
if ! "$venv/bin/python" -c 'import onnx, onnxruntime, timm' 2>/dev/null; then
    "$venv/bin/pip" install --quiet 'numpy<2' onnx==1.19.0 onnxruntime==1.23.2 pyyaml safetensors huggingface_hub
    # Their own requirement is another torch; the definitions need none of its compiled operators.
    "$venv/bin/pip" install --quiet --no-deps torchvision==0.15.1 timm==1.0.15 pillow
fi
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet -p offshoot-cli
    OFFSHOOT=$target/release/offshoot
fi
exec "$venv/bin/python" tests/architectures/architectures.py "$OFFSHOOT" "$out" "$@"
