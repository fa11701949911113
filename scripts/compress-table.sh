#!/usr/bin/env bash
# Networks compressed by `offshoot compress`, judged on samples that nothing was fitted or chosen on: flash, arena,
# instructions on the emulated Cortex-M4, accuracy of the file that is deployed.
#   scripts/compress-table.sh resnet8        half of flash and of instructions; a quarter of flash
#   scripts/compress-table.sh digits         DS-CNN trained on spoken digits, half of both
#   scripts/compress-table.sh kws            the keyword network, tuned on 500 of the 1,000 keywords, judged on the others
#   scripts/compress-table.sh scores         magnitude, Taylor, HESSO and CRIC at the same MACs, one-shot, three networks
#   scripts/compress-table.sh ablation       ResNet-8 at half of flash and of MACs, LIMIT images: what each part of training adds
#   scripts/compress-table.sh fading         the same with channels that fade (HESSO's hybrid training)
# SEEDS (default "1"), EPOCHS and FADE override the passes over the data. OFFSHOOT, MATERIALS: binaries, else they are built.
# OFFSHOOT_DATA: the folder with cifar10/, keywords/, spoken_digits/ and mlperf_tiny/. OUT keeps results: what is there is
# not computed again, and what was interrupted goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${OFFSHOOT_DATA:-../shared/data}
mode=${1:-digits}
out=${OUT:-target/compress-table}
mkdir -p "$out"
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
materials() { # SEED
    [ -f "$out/materials$1/digits.onnx" ] && return
    if [ -z "${MATERIALS:-}" ]; then
        cargo build --release --quiet -p offshoot-train --example materials
        MATERIALS=target/release/examples/materials
    fi
    "$MATERIALS" "$data" "$out/materials$1" "$1" >&2
}
# The first field of that name: the whole model's, not an operator's.
field() { grep -o "\"$1\": *[0-9.]*" "$2" | head -1 | sed 's/.*: *//'; }
row() { # NAME FILE.off X Y
    local j="$out/row"
    "$OFFSHOOT" eval "$2" --input "$3" --labels "$4" --json >"$j.eval"
    "$OFFSHOOT" profile "$2" --target qemu:cortex-m4 --json >"$j.profile"
    echo "| $1 | $(stat -c %s "$2") | $(field arena_bytes "$j.profile") | $(field instructions "$j.profile") | $(field value "$j.eval") |"
}
# NAME MODEL X Y CALIB TEST_X TEST_Y ARGUMENTS…: a row, and the uncompressed one before the first of a network
compress() {
    local name=$1 model=$2 x=$3 y=$4 test_x=$5 test_y=$6
    shift 6
    local to="$out/${name// /-}"
    if [ ! -f "$to/model.off" ]; then
        if ! "$OFFSHOOT" compress "$model" --data "$x" "$y" -o "$to" --json "$@" >"$to.json" 2>"$to.err"; then
            echo "| $name | $(cat "$to.json") |"
            return
        fi
    fi
    row "$name" "$to/model.off" "$test_x" "$test_y"
}
echo "| network | flash, bytes | arena, bytes | instructions | accuracy |"
echo "|---|---|---|---|---|"
cifar=("$data/mlperf_tiny/ic_f32.onnx" "$data/cifar10/train_x.npy" "$data/cifar10/train_y.npy" "$data/cifar10/test_x.npy" "$data/cifar10/test_y.npy")
for seed in ${SEEDS:-1}; do
    case $mode in
    resnet8)
        train=(--epochs "${EPOCHS:-12}" --fade-epochs "${FADE:-1}" --rounded-epochs 2 --rate 1.5e-3 --augment images --held-out 500 --seed "$seed")
        compress "ResNet-8 int8 seed $seed" "${cifar[@]}" --max-flash 100% --held-out 500 --method prune --seed "$seed"
        compress "ResNet-8 half seed $seed" "${cifar[@]}" --max-flash 50% --max-macs 43% "${train[@]}"
        compress "ResNet-8 quarter seed $seed" "${cifar[@]}" --max-flash 25% "${train[@]}"
        ;;
    digits)
        materials "$seed"
        m="$out/materials$seed"
        digits=("$m/digits.onnx" "$m/digits_train_x.npy" "$m/digits_train_y.npy" "$m/digits_test_x.npy" "$m/digits_test_y.npy")
        compress "digits int8 seed $seed" "${digits[@]}" --max-flash 100% --method prune --seed "$seed"
        compress "digits half seed $seed" "${digits[@]}" --max-flash 50% --max-instructions 50% --target qemu:cortex-m4 \
            --epochs "${EPOCHS:-10}" --fade-epochs "${FADE:-2}" --rounded-epochs 2 --augment series --held-out 100 --seed "$seed"
        ;;
    kws)
        materials "$seed"
        m="$out/materials$seed"
        kws=("$data/mlperf_tiny/kws_f32.onnx" "$m/kws_tune_x.npy" "$m/kws_tune_y.npy" "$m/kws_judge_x.npy" "$m/kws_judge_y.npy")
        compress "KWS int8 seed $seed" "${kws[@]}" --max-flash 100% --method prune --seed "$seed"
        # In multiply-accumulates: under limits of both, channels go until the forms of the layers at that time fit.
        compress "KWS 60 % seed $seed" "${kws[@]}" --method prune --max-macs 56% \
            --epochs "${EPOCHS:-400}" --fade-epochs "${FADE:-20}" --augment series --held-out 50 --seed "$seed"
        ;;
    ablation)
        more=(--max-flash 50% --max-macs 50% --epochs "${EPOCHS:-5}" --held-out 500 --limit "${LIMIT:-3500}" --seed "$seed")
        compress "all seed $seed" "${cifar[@]}" "${more[@]}"
        compress "no normalisation seed $seed" "${cifar[@]}" "${more[@]}" --no-normalisation
        compress "no distillation seed $seed" "${cifar[@]}" "${more[@]}" --distil 0
        compress "no refit seed $seed" "${cifar[@]}" "${more[@]}" --refit-samples 0
        compress "smoothed labels seed $seed" "${cifar[@]}" "${more[@]}" --smoothing 0.1
        compress "thrice the rate seed $seed" "${cifar[@]}" "${more[@]}" --rate 3e-3
        compress "one period seed $seed" "${cifar[@]}" "${more[@]}" --periods 1
        compress "faded seed $seed" "${cifar[@]}" "${more[@]}" --fade-epochs 1
        ;;
    scores | fading)
        materials "$seed"
        m="$out/materials$seed"
        more=(--method prune --max-macs 70% --held-out 50 --seed "$seed" --limit "${LIMIT:-500}" --refit-samples 128)
        [ "$mode" = fading ] && more+=(--fade-epochs "${FADE:-1}" --augment series --epochs "${EPOCHS:-2}")
        for score in magnitude taylor hesso cric; do
            compress "$mode ResNet-8 $score seed $seed" "${cifar[@]}" "${more[@]}" --score $score
            compress "$mode KWS $score seed $seed" "$data/mlperf_tiny/kws_f32.onnx" "$m/kws_tune_x.npy" "$m/kws_tune_y.npy" \
                "$m/kws_judge_x.npy" "$m/kws_judge_y.npy" "${more[@]}" --score $score
            compress "$mode digits $score seed $seed" "$m/digits.onnx" "$m/digits_train_x.npy" "$m/digits_train_y.npy" \
                "$m/digits_test_x.npy" "$m/digits_test_y.npy" "${more[@]}" --score $score
        done
        ;;
    esac
done
