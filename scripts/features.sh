#!/usr/bin/env bash
# Feature combinations of the runtime that must compile, without a warning. The list is explicit: what is here is what we promise.
#   scripts/features.sh            the list below
#   scripts/features.sh --each     then every feature by itself too (by cargo-hack where it is installed, else one after another)
#   scripts/features.sh --list     only prints the combinations
set -euo pipefail
cd "$(dirname "$0")/.."

# Features of crate `offshoot`, without the default ones. "-" is none.
combinations=(
    "-"
    "default"
    # An int8 network, as `firmware/single` links it.
    "op-conv-single-multiply,op-depthwise-single-multiply,op-pool,op-fully-connected"
    "op-conv-tiled,pairs-positive,vector"
    "op-depthwise-planar,planar-any"
    "op-fully-connected-sparse,sparse-blocks"
    "op-recurrent"
    "op-history"
    "op-recurrent-sparse,sparse-nibbles"
    "op-fused-rows,op-conv-single-multiply"
    # float32 alone.
    "f32,op-conv2d,op-depthwise,op-fully-connected,op-pool,op-softmax,op-unary,op-binary"
    "all-ops"
    "all-ops,f32"
    # What a board may leave out.
    "all-ops,f32,learn"
    "all-ops,learn"
    "all-ops,nested"
    "all-ops,store"
    "learn,nested,store,op-fully-connected"
    "store,slots"
    "all-ops,slots,signed"
    "default,std"
    "default,defmt"
    "default,arm-dsp"
    "default,signed"
    "all-ops,signed"
    "all-ops,learn,store,signed"
)

each=false
case "${1:-}" in
    --list) printf '%s\n' "${combinations[@]}"; exit 0 ;;
    --each) each=true ;;
esac

# One folder of its own: a change of RUSTFLAGS would build everything else anew.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/features" RUSTFLAGS="${RUSTFLAGS:-} -D warnings"
failed=()
check() {
    local name=$1
    shift
    if cargo check --quiet -p offshoot --lib --no-default-features "$@"; then
        echo "features: ok      $name"
    else
        echo "features: FAILED  $name"
        failed+=("$name")
    fi
}
for combination in "${combinations[@]}"; do
    if [ "$combination" = "-" ]; then check none; else check "$combination" --features "$combination"; fi
done
if $each; then
    if cargo hack --version >/dev/null 2>&1; then
        cargo hack check --quiet -p offshoot --lib --each-feature || failed+=("--each-feature")
    else
        echo "features: cargo-hack is not installed: plain cargo, one feature after another"
        for feature in $(cargo metadata --no-deps --format-version 1 |
            python3 -c 'import json, sys
[print(f) for p in json.load(sys.stdin)["packages"] if p["name"] == "offshoot" for f in sorted(p["features"])]'); do
            check "$feature" --features "$feature"
        done
    fi
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'features: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
echo "features: ${#combinations[@]} combinations compile$($each && echo ', and each feature by itself')"
