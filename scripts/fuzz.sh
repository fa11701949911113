#!/usr/bin/env bash
# Coverage-guided fuzzing of everything that reads untrusted bytes.
#   scripts/fuzz.sh --check             all targets compile, and their mutator keeps containers right (stable Rust, no C++ compiler)
#   scripts/fuzz.sh TARGET [SECONDS]    runs one (cargo-fuzz and nightly Rust); targets: off_open_run off_learn off_same_bits store slots wire onnx tflite
# A corpus begins with the fixtures of the format and the shipped networks.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:---check}" = --check ]; then
    # Without the feature `link`, libFuzzer is not compiled.
    cargo check --quiet --locked --manifest-path fuzz/Cargo.toml --no-default-features --all-targets
    cargo test --quiet --locked --manifest-path fuzz/Cargo.toml --no-default-features --lib
    exit 0
fi
target=$1
corpus=fuzz/corpus/$target
mkdir -p "$corpus"
case "$target" in
    off_*) cp tests/fixtures/format/v*/*.off "$corpus" ;;
    onnx) for model in models/*/model.onnx; do cp "$model" "$corpus/$(basename "$(dirname "$model")").onnx"; done ;;
    tflite) unzip -qo tests/fixtures/tflite/operators.zip '*.tflite' -d "$corpus" ;;
esac
# Addresses are checked too; a mutated file may not ask for more memory than a device has.
exec cargo +nightly fuzz run "$target" -- -max_total_time="${2:-60}" -rss_limit_mb=2048 -timeout=20 -max_len=65536
