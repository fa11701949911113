#!/usr/bin/env bash
# The runtime for C: libraries, header, examples (runtime/bindings/c; the guide is docs/src/c.md).
#   scripts/c.sh                       all of the following; what cannot be had here is skipped, and said
#   scripts/c.sh --header [--check]    writes include/offshoot.h by cbindgen, or checks that it is what cbindgen writes
#   scripts/c.sh --host                libraries for this machine: static and shared
#   scripts/c.sh --target TRIPLE       a static library for that target
#   scripts/c.sh --examples            the examples on this machine
#   scripts/c.sh --emulated [TRIPLE]   the example for a bare Cortex-M with that library, in QEMU; thumbv7em-none-eabihf if none is named
#   scripts/c.sh --aarch64             the examples on aarch64, in user-mode QEMU
#   … --model MODEL.off                before these: libraries with the operators of that model alone, with offshoot on the path
# Libraries: target/c/TRIPLE/liboffshoot.a, for this machine also liboffshoot.so. CARGO_TARGET_DIR stands for target.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

crate=runtime/bindings/c
data=runtime/offshoot/examples/data
build=${CARGO_TARGET_DIR:-target}
host=$(rustc -vV | sed -n 's/^host: //p')
targets=(thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabi thumbv7em-none-eabihf thumbv8m.main-none-eabihf
    riscv32imc-unknown-none-elf)
features=()

skip() {
    echo "skipped: $1"
    echo "scripts/c.sh: $1" >>"${OFFSHOOT_SKIPPED:-/dev/null}"
}

header() {
    if ! command -v cbindgen >/dev/null; then
        skip "no cbindgen (cargo install cbindgen --version 0.29.4 --locked)"
        return
    fi
    local written
    written=$(mktemp)
    cbindgen --quiet --config $crate/cbindgen.toml --crate offshoot-c --output "$written" $crate
    if [ "${1:-}" = --check ]; then
        diff -u $crate/include/offshoot.h "$written" || { echo "c: run scripts/c.sh --header" >&2; exit 1; }
        echo "c: the header is what cbindgen writes"
    else
        # Only a changed header is written, so that nothing is built anew.
        cmp -s "$written" $crate/include/offshoot.h || cp "$written" $crate/include/offshoot.h
    fi
    rm "$written"
}

# library TRIPLE: target/c/TRIPLE/liboffshoot.a, and the shared library for this machine
library() {
    local triple=$1 kinds=staticlib settings=() environment='OFFSHOOT_BUILD_STD=' folder made
    [ "$triple" = "$host" ] || environment=$(toolchain_env "$triple") || return 1
    folder=$build/c/$triple made=$build/c/build/$triple/c
    mkdir -p "$folder"
    (
        # The host's settings do not fit other targets.
        unset CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS RUSTC CARGO RUSTUP_TOOLCHAIN
        eval "$environment"
        case $triple in
            *-none-*)
                # What takes time is in the kernels; of the rest flash counts.
                for package in offshoot-c offshoot offshoot-base offshoot-format offshoot-learn offshoot-operators offshoot-wire; do
                    settings+=(--config "profile.c.package.$package.opt-level=\"s\"")
                done
                ;;
            "$host") kinds=staticlib,cdylib ;;
            *) [ -z "$OFFSHOOT_BUILD_STD" ] || OFFSHOOT_BUILD_STD=-Zbuild-std=std,panic_abort ;;
        esac
        [ "$triple" != thumbv8m.main-none-eabihf ] || settings+=(--features arm-dsp)
        # shellcheck disable=SC2086  # empty where the core library is prebuilt
        cargo rustc --quiet ${OFFSHOOT_BUILD_STD} --profile c --target "$triple" --target-dir "$build/c/build" -p offshoot-c --lib \
            --crate-type "$kinds" ${settings[@]+"${settings[@]}"} ${features[@]+"${features[@]}"}
    )
    cp "$made/liboffshoot_c.a" "$folder/liboffshoot.a"
    [ ! -e "$made/liboffshoot_c.so" ] || cp "$made/liboffshoot_c.so" "$folder/liboffshoot.so"
    [ ! -e "$made/liboffshoot_c.dylib" ] || cp "$made/liboffshoot_c.dylib" "$folder/liboffshoot.dylib"
    size_of "$triple" "$folder"
}

# size_of TRIPLE FOLDER: what a program takes that opens, runs, learns, saves and restores
size_of() {
    local linker sum=unknown program
    linker=$(rustc --print sysroot)/lib/rustlib/$host/bin/rust-lld
    case $1 in
        *-none-*)
            if [ -x "$linker" ] && command -v size >/dev/null; then
                program=$2/size.elf
                "$linker" -flavor gnu --gc-sections -e offshoot_run -u offshoot_open_learning -u offshoot_learn -u offshoot_save \
                    -u offshoot_restore -u offshoot_input -u offshoot_output -u offshoot_write_input_f32 -u offshoot_class \
                    -o "$program" "$2/liboffshoot.a" 2>/dev/null && sum="$(size "$program" 2>/dev/null | awk 'NR == 2 { print $1 }') bytes"
            fi
            echo "c: $2/liboffshoot.a: code and constants of a program that learns: $sum"
            ;;
        *) echo "c: $2/liboffshoot.a: $(stat -c %s "$2/liboffshoot.a") bytes" ;;
    esac
}

# programs COMPILER TRIPLE RUNNER…: builds the examples against the static library and runs them
programs() {
    local compiler=$1 folder=$build/c/$2 name
    shift 2
    for name in hello learn; do
        "$compiler" -std=c11 -O2 -Wall -Wextra -Werror -I $crate/include $crate/examples/$name.c "$folder/liboffshoot.a" \
            -lpthread -ldl -lm -o "$folder/$name"
    done
    "$@" "$folder/hello" $data/vibration.off $data/vibration_x.u8
    "$@" "$folder/learn" $data/vibration_learns.off $data/shifted_x.u8 $data/shifted_y.u8 "$folder/learned.bin"
}

examples() {
    command -v "${CC:-cc}" >/dev/null || { skip "no C compiler (CC, or cc)"; return; }
    library "$host" >&2
    programs "${CC:-cc}" "$host"
    # The header in C++, and the shared library.
    if command -v "${CXX:-c++}" >/dev/null; then
        echo '#include <offshoot.h>' | "${CXX:-c++}" -std=c++11 -Wall -Wextra -Werror -I $crate/include -x c++ -c - -o /dev/null
    fi
}

# emulated TRIPLE: the example for a bare Cortex-M with that library, in QEMU
emulated() {
    local triple=$1 machine flags folder=$build/c/$1 program
    case $triple in
        thumbv6m-none-eabi) machine=mps2-an385 flags='-mcpu=cortex-m0' ;;
        thumbv7m-none-eabi) machine=mps2-an385 flags='-mcpu=cortex-m3' ;;
        thumbv7em-none-eabi) machine=mps2-an386 flags='-mcpu=cortex-m4 -mfloat-abi=softfp -mfpu=fpv4-sp-d16' ;;
        thumbv7em-none-eabihf) machine=mps2-an386 flags='-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16' ;;
        *) echo "c: the example has no start-up code for $triple" >&2; return 1 ;;
    esac
    command -v arm-none-eabi-gcc >/dev/null || { skip "no arm-none-eabi-gcc (apt-get install gcc-arm-none-eabi)"; return; }
    command -v qemu-system-arm >/dev/null || { skip "no qemu-system-arm"; return; }
    library "$triple" >&2
    program=$folder/learn.elf
    # shellcheck disable=SC2086  # several flags
    arm-none-eabi-gcc -std=c11 -Os -Wall -Wextra -Werror $flags -mthumb -ffreestanding -ffunction-sections -fdata-sections \
        -Wa,--noexecstack -nostdlib -nostartfiles -Wl,--gc-sections -T $crate/examples/cortex-m/memory.ld \
        -DMODEL="\"$data/vibration_learns.off\"" -DX="\"$data/shifted_x.u8\"" -DY="\"$data/shifted_y.u8\"" \
        -DARENA_BYTES=16000 -DSTEPS=20 -I $crate/include $crate/examples/cortex-m/*.c "$folder/liboffshoot.a" -lgcc -o "$program"
    qemu-system-arm -machine $machine -display none -monitor none -serial none -chardev stdio,id=console,signal=off \
        -semihosting-config enable=on,target=native,chardev=console -kernel "$program" </dev/null
    arm-none-eabi-size "$program" |
        awk 'NR == 2 { print "c: " $1 " bytes of flash with model and samples, " $2 + $3 " of RAM without stack" }' >&2
}

# Every Cortex-M library prints the same bytes.
same_everywhere() {
    local triple printed first=''
    for triple in thumbv7em-none-eabihf thumbv7em-none-eabi thumbv7m-none-eabi thumbv6m-none-eabi; do
        [ "$(core_source "$triple")" != none ] || continue
        echo "c: $triple"
        printed=$(emulated "$triple")
        [ -n "$first" ] || echo "$printed"
        [ "${first:=$printed}" = "$printed" ] || { echo "c: $triple gives other bytes:" >&2; echo "$printed" >&2; exit 1; }
    done
}

aarch64() {
    local triple=aarch64-unknown-linux-gnu program
    for program in qemu-aarch64 aarch64-linux-gnu-gcc; do
        command -v $program >/dev/null || { skip "no $program (apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross)"; return; }
    done
    [ "$(core_source $triple)" != none ] || { skip "no library for aarch64 (rustup target add $triple)"; return; }
    library $triple >&2
    programs aarch64-linux-gnu-gcc $triple qemu-aarch64 -L /usr/aarch64-linux-gnu
}

if [ "${1:-}" = --model ]; then
    names=$(offshoot inspect "${2:?usage: c.sh --model MODEL.off …}" --json |
        python3 -c 'import json, sys; print(",".join("offshoot/" + f for f in json.load(sys.stdin)["runtime_features"]))')
    features=(--no-default-features --features "panic-handler,$names")
    shift 2
fi
case ${1:-} in
    --header) header "${2:-}" ;;
    --host) library "$host" ;;
    --target) library "${2:?usage: c.sh --target TRIPLE}" ;;
    --examples) examples ;;
    --emulated) emulated "${2:-thumbv7em-none-eabihf}" ;;
    --aarch64) aarch64 ;;
    '')
        header --check
        for target in "${targets[@]}"; do
            if [ "$(core_source "$target")" = none ]; then
                skip "no core library for $target (rustup target add $target)"
            else
                library "$target"
            fi
        done
        library "$host"
        examples
        same_everywhere
        aarch64
        ;;
    *) sed -n '2,11s/^# \?//p' "$0" >&2; exit 2 ;;
esac
