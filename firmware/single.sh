#!/usr/bin/env bash
# Builds a firmware that runs one model from flash, with just the operators that it uses and no log or protocol:
#   firmware/single.sh MODEL.off [--board cortex-m3|cortex-m4|cortex-m7] [--key KEY.pub.pem] [--no-panic]
# With --key, only a model that this key has signed for the board opens.
# --no-panic: links only if no panic can be reached, which proves that the firmware cannot panic.
# ELF file: firmware/target/single/TARGET/single/offshoot-single. A sample's bytes go in on UART0, the output's come out.
# `cargo xtask single MODEL.off` also says how large it is, and runs it.
set -euo pipefail
usage() { sed -n '2,7s/^# \?//p' "$0" >&2; exit 2; }
model='' board=cortex-m4 key='' own=''
while [ $# -gt 0 ]; do
    case $1 in
        --board) board=${2:-}; shift 2 || usage ;;
        --key) key=${2:-}; shift 2 || usage ;;
        --no-panic) own=' offshoot-single/no-panic'; shift ;;
        -*) usage ;;
        *) model=$1; shift ;;
    esac
done
[ -f "$model" ] || usage
case $board in
    cortex-m3) target=thumbv7m-none-eabi ;;
    cortex-m4 | cortex-m7) target=thumbv7em-none-eabihf ;;
    *) usage ;;
esac
OFFSHOOT_MODEL=$(realpath "$model")
export OFFSHOOT_MODEL
[ -z "$key" ] || key=$(realpath "$key")
cd "$(dirname "$0")"
# shellcheck source=scripts/toolchain.sh
. ../scripts/toolchain.sh

# What of the runtime the model needs, unless the caller knows.
if [ -z "${OFFSHOOT_FEATURES+known}" ]; then
    inspected=$(cd .. && cargo run --release --quiet -- inspect "$OFFSHOOT_MODEL" --json)
    OFFSHOOT_FEATURES=$(sed -n 's/.*"runtime_features":\[\([^]]*\)\].*/\1/p' <<<"$inspected" | tr -d '"' | tr ',' ' ')
fi
# shellcheck disable=SC2086  # a list of words
features=$(printf 'offshoot/%s ' $OFFSHOOT_FEATURES)$own
if [ -n "$key" ]; then
    # A PEM file of an Ed25519 key ends in its 32 bytes.
    mkdir -p target
    OFFSHOOT_KEY=$PWD/target/single.key
    sed '/-----/d' "$key" | base64 -d | tail -c 32 >"$OFFSHOOT_KEY"
    [ "$(wc -c <"$OFFSHOOT_KEY")" -eq 32 ] || { echo "$key is no public key (PEM)" >&2; exit 1; }
    export OFFSHOOT_KEY OFFSHOOT_BOARD=$board
    features+=" signed ${OFFSHOOT_COUNT:+count}"
fi
# The host's settings do not fit here.
unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC CARGO RUSTUP_TOOLCHAIN
export CARGO_TARGET_DIR="$PWD/target/single"
eval "$(toolchain_env "$target")"
# shellcheck disable=SC2086  # empty where the core library is prebuilt
cargo build --profile single --quiet ${OFFSHOOT_BUILD_STD} --target "$target" -p offshoot-single --features "$features"
echo "$CARGO_TARGET_DIR/$target/single/offshoot-single"
