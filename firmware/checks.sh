#!/usr/bin/env bash
# Compares the kernels for the Cortex-M55's vectors with the portable ones on random shapes, on the emulated board:
#   firmware/checks.sh
# Bytes around every buffer must stay as they are. Prints each kind of kernel and the number of its cases.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=scripts/toolchain.sh
. ../scripts/toolchain.sh
unset CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC CARGO RUSTUP_TOOLCHAIN
target=thumbv8m.main-none-eabihf
eval "$(toolchain_env "$target")"
export CARGO_TARGET_DIR="$PWD/target/checks" RUSTFLAGS='-C target-cpu=cortex-m33'
export CARGO_PROFILE_RELEASE_LTO=off
# shellcheck disable=SC2086  # empty where the core library is prebuilt
cargo build --release --quiet ${OFFSHOOT_BUILD_STD} --target "$target" -p offshoot-checks
exec timeout 300 qemu-system-arm -M mps3-an547 -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$CARGO_TARGET_DIR/$target/release/offshoot-checks"
