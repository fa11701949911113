#!/usr/bin/env bash
# Builds the firmware of the boards:
#   firmware/build.sh [--image IMAGE]... [--features defmt]
#     --image      only this one (an385 an386 an505 an547 microbit virt-riscv32); default: all that this machine can build for
#     --features   with log lines: only where a board has a second line for them (all images but microbit and virt-riscv32)
# ELF files: firmware/target/IMAGE/TARGET/release/offshoot-*, but for
#   an385 (Cortex-M3)         firmware/target/thumbv7m-none-eabi/release/offshoot-mps2
#   an386 (Cortex-M4 and M7)  firmware/target/thumbv7em-none-eabihf/release/offshoot-mps2
# Those with log lines are in firmware/target/log in the place of firmware/target. To see the lines:
#   OFFSHOOT_FIRMWARE_DIR=firmware/target/log cargo run --features logs -- run MODEL.off --input X.npy --target qemu:cortex-m4
# An image that was not asked for by name and cannot be built is left out, with a message.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=scripts/toolchain.sh
. ../scripts/toolchain.sh

usage() { sed -n '2,4s/^# \?//p' "$0" >&2; exit 2; }
images=()
features=''
while [ $# -gt 0 ]; do
    case $1 in
        --image) images+=("${2:-}"); shift 2 || usage ;;
        --features) features=${2:-}; shift 2 || usage ;;
        *) usage ;;
    esac
done
asked=${#images[@]}
[ "$asked" -gt 0 ] || images=(an385 an386 an505 an547 microbit virt-riscv32)

# The host's settings do not fit here.
unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC CARGO RUSTUP_TOOLCHAIN
export DEFMT_LOG=${DEFMT_LOG:-info}

for image in "${images[@]}"; do
    folder=target/$image package=offshoot-mps2 flags='' options=() log=true level=''
    case $image in
        an385) target=thumbv7m-none-eabi folder=target ;;
        an386) target=thumbv7em-none-eabihf folder=target ;;
        an505) target=thumbv8m.main-none-eabihf flags='-C target-cpu=cortex-m33' options=(--features an505) ;;
        # Its vectors (Helium) are for the kernels in assembly alone: what the compiler makes of the portable kernels with them takes
        # five times the instructions of the DSP kernels, and vectors of floats flush what is very small to zero: not the host's
        # bits. The ITCM holds the whole runtime only if checks and loop drivers are built for size.
        an547) target=thumbv8m.main-none-eabihf flags='-C target-cpu=cortex-m33' options=(
            --features an547
            --config 'profile.release.package.offshoot-operators.opt-level="s"'
            --config 'profile.release.package.offshoot.opt-level="s"'
            --config 'profile.release.package.offshoot-format.opt-level="s"'
            --config 'profile.release.package.offshoot-learn.opt-level="s"'
            --config 'profile.release.package.offshoot-wire.opt-level="s"'
            --config 'profile.release.package.offshoot-store.opt-level="s"'
            --config 'profile.release.package.offshoot-app.opt-level="s"'
        ) ;;
        # What counts on the smallest board is flash: at levels 2 and 3 there is none left for models.
        microbit) target=thumbv6m-none-eabi package=offshoot-microbit log=false level=s ;;
        virt-riscv32) target=riscv32imac-unknown-none-elf package=offshoot-virt-riscv32 log=false ;;
        *) usage ;;
    esac
    if ! environment=$(toolchain_env "$target"); then
        [ "$asked" -eq 0 ] || exit 1
        echo "firmware: $image is left out" >&2
        continue
    fi
    if [ -n "$features" ]; then
        if ! $log; then
            echo "firmware: $image has no line for log lines: it is left out" >&2
            continue
        fi
        options+=(--features "$features")
        folder=target/log${folder#target}
    fi
    (
        eval "$environment"
        export CARGO_TARGET_DIR="$PWD/$folder" RUSTFLAGS="$flags"
        [ -z "$level" ] || export CARGO_PROFILE_RELEASE_OPT_LEVEL="$level"
        # shellcheck disable=SC2086  # empty where the core library is prebuilt
        cargo build --release --quiet ${OFFSHOOT_BUILD_STD} --target "$target" -p "$package" \
            ${options[@]+"${options[@]}"}
    )
    echo "firmware: firmware/$folder/$target/release/$package"
done
