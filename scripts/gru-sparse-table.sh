#!/usr/bin/env bash
# A GRU on spoken digits, dense and with 20 % of its weights: bytes of the int8 file, instructions on the emulated Cortex-M4,
# accuracy of the int8 file on takes that nothing was learned from.
#   scripts/gru-sparse-table.sh [FOLDER]     networks go there (default target/gru-sparse)
# SEEDS (default "0 1 2"), UNITS (default 64), DENSITY (default 0.2), EPOCHS of sparse training (default 60).
# OFFSHOOT: the binary, GRU_DIGITS, SPARSIFY: examples; else they are built. OFFSHOOT_DATA: the folder with spoken_digits/.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
out=${1:-target/gru-sparse}
mkdir -p "$out"
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
example() { # VARIABLE PACKAGE NAME
    [ -n "${!1:-}" ] && return
    cargo build --release --quiet -p "$2" --example "$3"
    printf -v "$1" target/release/examples/%s "$3"
}
example GRU_DIGITS offshoot-cli gru_digits
example SPARSIFY offshoot-compress sparsify
units=${UNITS:-64}
arrays=target/gru_digits
# The first field of that name: the whole model's, not an operator's.
field() { grep -o "\"$1\": *[0-9.]*" "$2" | head -1 | sed 's/.*: *//'; }
row() { # NAME MODEL.onnx
    "$OFFSHOOT" compile "$2" -o "$out/m.off" --calib "$arrays/train_x.npy" --json >"$out/c.json"
    "$OFFSHOOT" profile "$out/m.off" --target qemu:cortex-m4 --json >"$out/p.json"
    "$OFFSHOOT" eval "$out/m.off" --input "$arrays/test_x.npy" --labels "$arrays/test_y.npy" --json >"$out/e.json"
    echo "| $1 | $(stat -c %s "$out/m.off") | $(field instructions "$out/p.json") | $(field value "$out/e.json") |"
}
echo "| network | file, bytes | instructions | accuracy, int8 |"
echo "|---|---|---|---|"
for seed in ${SEEDS:-0 1 2}; do
    dense=target/gru_digits/gru$units-20-$seed.onnx
    [ -f "$dense" ] && [ -f $arrays/train_x.npy ] || "$GRU_DIGITS" "$data/spoken_digits" "$units" 20 "$seed" >"$out/dense-$seed.json" 2>"$out/dense-$seed.err"
    sparse=$out/sparse-$units-${DENSITY:-0.2}-$seed.onnx
    [ -f "$sparse" ] || "$SPARSIFY" "$dense" --data "$arrays/train_x.npy" "$arrays/train_y.npy" --test "$arrays/test_x.npy" \
        "$arrays/test_y.npy" --density "${DENSITY:-0.2}" --method gradual --steps 8 --epochs "${EPOCHS:-60}" --rate 4e-3 --seed "$seed" \
        -o "$sparse" >"$out/sparse-$seed.json"
    row "dense, seed $seed" "$dense"
    row "sparse, seed $seed" "$sparse"
done
