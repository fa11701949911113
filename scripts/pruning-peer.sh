#!/usr/bin/env bash
# `offshoot compress` against torch-pruning on one small residual network of PyTorch: half of flash and of instructions on the
# emulated Cortex-M4, the same samples, epochs, rate and distillation; both are judged as int8 files on the 10,000 test images.
#   scripts/pruning-peer.sh [mnist|gray]     gray (default): CIFAR-10 in grey, 28 × 28
# SEEDS (default "1 2 3"), EPOCHS (4), SAMPLES (8000), SHARE (50). More arguments of `compress`: ARGUMENTS. PyTorch comes from
# the system (Debian: python3-torch), torch-pruning from PyPI. OFFSHOOT: the binary, else it is built. OFFSHOOT_DATA: the
# folder with the data sets. OUT keeps networks and results: what is there is not computed again.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-gray}
data=${OFFSHOOT_DATA:-../shared/data}
target=${CARGO_TARGET_DIR:-target}
out=${OUT:-$target/pruning-peer}/$kind
epochs=${EPOCHS:-4} samples=${SAMPLES:-8000} share=${SHARE:-50}
mkdir -p "$out"
venv=${OFFSHOOT_PEERS:-$target/pruning-peers}
if [ ! -x "$venv/bin/python" ]; then
    "${TORCH_PYTHON:-/usr/bin/python3}" -m venv --system-site-packages "$venv"
    "$venv/bin/pip" install --quiet --no-deps torch-pruning==1.4.1
fi
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet -p offshoot-cli
    OFFSHOOT=$target/release/offshoot
fi
python() { "$venv/bin/python" scripts/pruning_peer.py "$@"; }
field() { grep -o "\"$1\": *[0-9.]*" "$2" | head -1 | sed 's/.*: *//'; }
row() { # NAME FILE.off
    "$OFFSHOOT" eval "$2" --input "$out/test_x.npy" --labels "$out/test_y.npy" --json >"$out/eval.json"
    "$OFFSHOOT" profile "$2" --target qemu:cortex-m4 --json >"$out/profile.json"
    echo "| $1 | $(stat -c %s "$2") | $(field instructions "$out/profile.json") | $(field value "$out/eval.json") |"
}
[ -f "$out/test_y.npy" ] || python data "$kind" "$data" "$out" "$samples"
echo "| network | flash, bytes | instructions | accuracy |"
echo "|---|---|---|---|"
for seed in ${SEEDS:-1 2 3}; do
    at=$out/$seed
    mkdir -p "$at"
    [ -f "$at/whole.onnx" ] || python train "$out" "$at" "$seed" >&2
    [ -f "$at/whole.off" ] ||
        "$OFFSHOOT" compile "$at/whole.onnx" -o "$at/whole.off" --calib "$out/calib.npy" --json >"$at/whole.json"
    row "uncompressed, seed $seed" "$at/whole.off"
    [ -f "$at/peer.off" ] || python prune "$out" "$at" "$seed" "$OFFSHOOT" "$share" "$epochs" >&2
    row "torch-pruning, seed $seed" "$at/peer.off"
    if [ ! -f "$at/ours/model.off" ]; then
        # shellcheck disable=SC2086
        "$OFFSHOOT" compress "$at/whole.onnx" --data "$out/train_x.npy" "$out/train_y.npy" -o "$at/ours" --target qemu:cortex-m4 \
            --max-flash "$share%" --max-instructions "$share%" --epochs "$epochs" --held-out 500 --seed "$seed" ${ARGUMENTS:-} \
            --json >"$at/ours.json"
    fi
    row "offshoot, seed $seed" "$at/ours/model.off"
done
