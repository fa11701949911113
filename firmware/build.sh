#!/usr/bin/env bash
# Builds the firmware of the boards; extra arguments go to cargo:
#   firmware/build.sh                     all boards
#   firmware/build.sh --features defmt    with log lines
# ELF files: firmware/target/TARGET/release/offshoot-mps2 (thumbv7em-none-eabihf: Cortex-M4 and M7; thumbv7m-none-eabi: M3)
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=scripts/toolchain.sh
. ../scripts/toolchain.sh

# The host's settings do not fit here.
unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC CARGO RUSTUP_TOOLCHAIN
export CARGO_TARGET_DIR="$PWD/target"
export DEFMT_LOG=${DEFMT_LOG:-info}

for target in "${OFFSHOOT_FIRMWARE_TARGETS[@]}"; do
    (
        environment=$(toolchain_env "$target")
        eval "$environment"
        # shellcheck disable=SC2086  # empty where the core library is prebuilt
        cargo build --release --quiet ${OFFSHOOT_BUILD_STD} --target "$target" -p offshoot-mps2 "$@"
    )
    echo "firmware: firmware/target/$target/release/offshoot-mps2"
done
