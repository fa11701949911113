#!/usr/bin/env bash
# Learning on data that nobody tuned for, by the command line alone; one line a measurement.
#   scripts/learning-table.sh [ROW]…     ROW: memory resumed ordered formats outliers written cost defaults; all by default
# Networks are trained on MNIST, and on Fashion-MNIST if FASHION names a folder with train_x.npy, train_y.npy, test_x.npy and
# test_y.npy (uint8, 28 × 28). `cost` needs QEMU and the firmware of board an386 (firmware/build.sh --image an386).
# OFFSHOOT: the binary, else it is built. OFFSHOOT_DATA: the folder with the data sets. PYTHON: has numpy. SEEDS: 3 by default.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
out=${OUT:-target/learning-table}
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
networks() {
    [ -f "$2/cnn.onnx" ] || cargo run --release --quiet -p offshoot-train --example images -- "$1" "$2" "${EPOCHS:-3}"
}
networks "$data/mnist" "$out/mnist"
arguments=(--networks "$out/mnist" --fresh "$out/mnist/fresh.onnx")
if [ -n "${FASHION:-}" ]; then
    networks "$FASHION" "$out/fashion"
    arguments+=(--fashion "$FASHION" --fashion-networks "$out/fashion")
fi
"${PYTHON:-python3}" scripts/learning_table.py --offshoot "$OFFSHOOT" --mnist "$data/mnist" --out "$out" \
    --seeds "${SEEDS:-3}" "${arguments[@]}" "$@"
