#!/usr/bin/env bash
# LeNet-300-100 dense and as lottery tickets: bytes of the int8 file, instructions on the emulated Cortex-M4, accuracy of the
# int8 file. Networks are those that the example `lottery` has left in a folder:
#   cargo run --release -p offshoot-compress --example lottery -- --out tickets --seeds 3
#   scripts/sparse-table.sh tickets
# PREFER: what to compile for (default "balanced"). LIMIT: test images (default all).
# OFFSHOOT: the binary, else it is built.
set -euo pipefail
folder=$(realpath "${1:?a folder of tickets}")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "${OFFSHOOT:-}" ]; then
    cargo build --release --quiet
    OFFSHOOT=target/release/offshoot
fi
# The first field of that name: the whole model's, not an operator's.
field() { grep -o "\"$1\":[0-9.]*" "$2" | head -1 | cut -d: -f2; }
echo "| network | weights stored | file, bytes | instructions | accuracy, int8 |"
echo "|---|---|---|---|---|"
for model in "$folder"/dense-*.onnx "$folder"/ticket-*.onnx "$folder"/random-*.onnx; do
    [ -e "$model" ] || continue
    "$OFFSHOOT" compile "$model" -o "$work/m.off" --calib "$folder/calibration_x.npy" \
        --prefer "${PREFER:-balanced}" --json >"$work/c.json"
    "$OFFSHOOT" inspect "$work/m.off" --json >"$work/i.json"
    "$OFFSHOOT" profile "$work/m.off" --target qemu:cortex-m4 --json >"$work/p.json"
    "$OFFSHOOT" eval "$work/m.off" --input "$folder/test_x.npy" --labels "$folder/test_y.npy" \
        ${LIMIT:+--limit "$LIMIT"} --json >"$work/e.json"
    echo "| $(basename "$model" .onnx) | $(field weights "$work/i.json") | $(stat -c %s "$work/m.off")" \
        "| $(field instructions "$work/p.json") | $(field value "$work/e.json") |"
done
