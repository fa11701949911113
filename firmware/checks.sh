#!/usr/bin/env bash
# Compares the assembly kernels with the portable ones on random shapes, on an emulated board:
#   firmware/checks.sh [--board cortex-m3|cortex-m4|cortex-m55] [--counts]
# Bytes around every buffer must stay as they are. Prints each kind of kernel and the number of its cases. Without --board:
# the Cortex-M55, with its vectors. --counts prints the instructions of int16 and float32 kernels instead.
set -euo pipefail
board=cortex-m55
if [ "${1:-}" = --board ]; then board=${2:-}; shift 2; fi
options=() clock=()
if [ "${1:-}" = --counts ]; then options=(--features counts) clock=(-icount shift=6); fi
case $board in
    cortex-m3) target=thumbv7m-none-eabi machine=mps2-an385 map=an38x flags='' ;;
    cortex-m4) target=thumbv7em-none-eabihf machine=mps2-an386 map=an38x flags='' ;;
    cortex-m55) target=thumbv8m.main-none-eabihf machine=mps3-an547 map=an547 flags='-C target-cpu=cortex-m33' options+=(--features vectors) ;;
    *) sed -n '2,5s/^# \?//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")"
# shellcheck source=scripts/toolchain.sh
. ../scripts/toolchain.sh
unset CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC CARGO RUSTUP_TOOLCHAIN
eval "$(toolchain_env "$target")"
export CARGO_TARGET_DIR="$PWD/target/checks" RUSTFLAGS="$flags" OFFSHOOT_MEMORY_MAP="$map"
export CARGO_PROFILE_RELEASE_LTO=off
# shellcheck disable=SC2086  # empty where the core library is prebuilt
cargo build --release --quiet ${OFFSHOOT_BUILD_STD} --target "$target" -p offshoot-checks "${options[@]}"
exec timeout 300 qemu-system-arm -M "$machine" "${clock[@]}" -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$CARGO_TARGET_DIR/$target/release/offshoot-checks"
