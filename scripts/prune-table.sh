#!/usr/bin/env bash
# ResNet-8 on CIFAR-10 pruned to shares of its flash: accuracy of the int8 file on test images that nothing was fitted or
# chosen on, flash, arena, and instructions on the emulated Cortex-M4.
#   scripts/prune-table.sh scores            the three scores with refit, no training, at 75 and 50 % of flash
#   scripts/prune-table.sh tuned [EPOCHS]    Taylor scores with fine-tuning at 75, 50 and 25 % (default 4 epochs)
# TEST: test images (default 2000). LIMIT: training images, of which a fifth is kept apart (default 5000).
# OFFSHOOT: the binary, else it is built. OFFSHOOT_DATA: the folder with cifar10/ and mlperf_tiny/.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
mode=${1:-scores}
epochs=${2:-4}
limit=${LIMIT:-5000}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
# The first field of that name: the whole model's, not an operator's.
field() { grep -o "\"$1\":[0-9.]*" "$2" | head -1 | cut -d: -f2; }
row() { # NAME FILE.off
    "$OFFSHOOT" eval "$2" --input "$data/cifar10/test_x.npy" --labels "$data/cifar10/test_y.npy" \
        --limit "${TEST:-2000}" --json >"$work/e.json"
    "$OFFSHOOT" profile "$2" --target qemu:cortex-m4 --json >"$work/p.json"
    echo "| $1 | $(stat -c %s "$2") | $(field instructions "$work/p.json") | $(field value "$work/e.json") |"
}
compress() { # SHARE SCORE EPOCHS
    "$OFFSHOOT" compress "$data/mlperf_tiny/ic_f32.onnx" --data "$data/cifar10/train_x.npy" \
        "$data/cifar10/train_y.npy" --max-flash "$1%" --score "$2" --epochs "$3" --limit "$limit" --held-out 100 \
        --method prune --seed 1 -o "$work/out" --json >"$work/c.json"
}
echo "| ResNet-8 | flash, bytes | instructions | accuracy |"
echo "|---|---|---|---|"
compress 100 magnitude 0
row "uncompressed" "$work/out/model.off"
if [ "$mode" = scores ]; then
    for share in 75 50; do
        for score in magnitude taylor hesso; do
            compress "$share" "$score" 0
            row "$share %, $score" "$work/out/model.off"
        done
    done
else
    for share in ${SHARES:-75 50 25}; do
        start=$SECONDS
        compress "$share" taylor "$epochs"
        seconds=$((SECONDS - start))
        row "$share %, taylor, $epochs epochs ($seconds s)" "$work/out/model.off"
    done
fi
