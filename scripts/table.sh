#!/usr/bin/env bash
# Prints the README's table: the MLPerf Tiny int8 networks as compiled, and what they take on the emulated Cortex-M4.
#   scripts/table.sh [FOLDER WITH mlperf_tiny/]
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-${OFFSHOOT_DATA:-../shared/data}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cargo build --release --quiet
# The first field of that name: the whole model's, not an operator's.
field() { grep -o "\"$1\":[0-9]*" "$2" | head -1 | cut -d: -f2; }
echo "| network | .tflite, bytes | .off, bytes | arena, bytes | lower bound | MACs | instructions |"
echo "|---|---|---|---|---|---|---|"
for name in kws ic vww ad sww; do
    target/release/offshoot compile "$data/mlperf_tiny/${name}_int8.onnx" -o "$work/m.off" --json >"$work/c.json"
    target/release/offshoot profile "$work/m.off" --target qemu:cortex-m4 --json >"$work/p.json"
    echo "| $name | $(stat -c %s "$data/mlperf_tiny/${name}_int8.tflite") | $(field model_bytes "$work/c.json") |" \
        "$(field arena_bytes "$work/c.json") | $(field arena_lower_bound_bytes "$work/c.json") |" \
        "$(field macs "$work/c.json") | $(field instructions "$work/p.json") |"
done
