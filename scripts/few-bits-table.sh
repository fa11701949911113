#!/usr/bin/env bash
# Weights of few bits before and after quantisation-aware training: flash, instructions on the emulated Cortex-M4, accuracy.
#   scripts/few-bits-table.sh kws|ic|dscnn FORMAT [SEED…]     FORMAT: int4, int2, or a policy file; seeds 0 1 2 by default
# kws: trained on one half of the 1,000 keywords, judged on the other. ic: trained on LIMIT CIFAR-10 images (default 5000),
# judged on all 10,000 test images. dscnn: spoken digits.
# OFFSHOOT: the binary, else it is built. OFFSHOOT_DATA: the folder with the data sets. EPOCHS, RATE: of training.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
net=$1
format=$2
shift 2
out=${OUT:-target/few-bits}
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
mkdir -p "$out"
case $net in
kws) set -- "$data/mlperf_tiny/kws_f32.onnx" --data "$data/keywords/x_f32.npy" "$data/keywords/y.npy" --held-out 500 \
    --epochs "${EPOCHS:-20}" --rate "${RATE:-1e-3}" --batch 32 -- "$@" ;;
ic) set -- "$data/mlperf_tiny/ic_f32.onnx" --data "$data/cifar10/train_x.npy" "$data/cifar10/train_y.npy" \
    --test "$data/cifar10/test_x.npy" "$data/cifar10/test_y.npy" --limit "${LIMIT:-5000}" \
    --epochs "${EPOCHS:-3}" --rate "${RATE:-1e-3}" -- "$@" ;;
dscnn)
    [ -f "$out/dscnn.onnx" ] || cargo run --release --quiet -p offshoot-train --example digits -- "$data/spoken_digits" "$out"
    set -- "$out/dscnn.onnx" --data "$out/train_x.npy" "$out/train_y.npy" --test "$out/test_x.npy" "$out/test_y.npy" \
        --epochs "${EPOCHS:-6}" --rate "${RATE:-1e-3}" -- "$@" ;;
*) echo "kws, ic or dscnn, not $net" >&2; exit 2 ;;
esac
arguments=()
while [ "$1" != -- ]; do arguments+=("$1"); shift; done
shift
[ $# -gt 0 ] || set -- 0 1 2
for seed in "$@"; do
    echo "$net, $format, seed $seed"
    "$OFFSHOOT" qat "${arguments[@]}" --precision "$format" --seed "$seed" --target qemu:cortex-m4 -o "$out/$net-$(basename "$format")-$seed"
done
