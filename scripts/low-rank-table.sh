#!/usr/bin/env bash
# Low rank: rank against accuracy, flash and instructions on the emulated Cortex-M4, by singular values of the weights, of the
# outputs, of a network that was trained as long (frozen order), and by Maestro. A perceptron on spoken digits, means of
# SEEDS seeds (default 3); the test set is that of the data set.
#   scripts/low-rank-table.sh [OUTPUT]     curve.json and curve.svg go there (default target/low-rank)
# OFFSHOOT: the binary, else it is built. OFFSHOOT_DATA: the folder with spoken_digits/. EPOCHS: of Maestro (default 16).
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
out=${1:-target/low-rank}
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
mkdir -p "$out"
[ -f "$out/mlp.onnx" ] || cargo run --release --quiet -p offshoot-train --example digits -- "$data/spoken_digits" "$out"
"$OFFSHOOT" rank "$out/${NET:-mlp}.onnx" --data "$out/train_x.npy" "$out/train_y.npy" --test "$out/test_x.npy" "$out/test_y.npy" \
    --seeds "${SEEDS:-3}" --epochs "${EPOCHS:-16}" --rate 2e-3 --target qemu:cortex-m4 -o "$out"
