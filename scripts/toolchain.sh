#!/usr/bin/env bash
# Which Rust builds for a microcontroller here, and how. To be sourced; or run, to print the environment:
#   eval "$(scripts/toolchain.sh thumbv7em-none-eabihf)"
#   cargo build $OFFSHOOT_BUILD_STD --target thumbv7em-none-eabihf
# In this order: the active toolchain with a prebuilt core library; the active toolchain with the library's source; the
# system's (/usr/bin) with either. Building from source needs RUSTC_BOOTSTRAP, because `-Zbuild-std` is not stable yet.

OFFSHOOT_FIRMWARE_TARGETS=(
    thumbv6m-none-eabi thumbv7m-none-eabi thumbv7em-none-eabihf thumbv8m.main-none-eabihf riscv32imac-unknown-none-elf
)

# core_at RUSTC TARGET: prebuilt, source or none
core_at() {
    local sysroot
    sysroot=$("$1" --print sysroot 2>/dev/null) || { echo none; return; }
    if compgen -G "$sysroot/lib/rustlib/$2/lib/libcore-*.rlib" >/dev/null; then
        echo prebuilt
    elif [ -e "$sysroot/lib/rustlib/src/rust/library/Cargo.lock" ] && linker_at "$1" >/dev/null; then
        echo source
    else
        echo none
    fi
}

# linker_at RUSTC: the linker to set, or nothing if rustc has its own; fails if there is none
linker_at() {
    local sysroot host name
    sysroot=$("$1" --print sysroot) && host=$("$1" -vV | sed -n 's/^host: //p')
    [ -x "$sysroot/lib/rustlib/$host/bin/rust-lld" ] && return 0
    for name in ld.lld-19 ld.lld $(compgen -c ld.lld- | sort -V -r); do
        if command -v "$name" >/dev/null; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

# core_source TARGET: "HOW BIN", HOW is prebuilt or source and BIN the folder of cargo and rustc (empty: as found in
# PATH); or none
core_source() {
    local how
    how=$(core_at rustc "$1")
    [ "$how" != none ] && { echo "$how"; return; }
    if [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ]; then
        how=$(core_at /usr/bin/rustc "$1")
        [ "$how" != none ] && { echo "$how /usr/bin"; return; }
    fi
    echo none
}

# toolchain_env TARGET: the environment as lines for `eval`; fails with advice if nothing here can build for it
toolchain_env() {
    local target=$1 how bin linker variable
    read -r how bin <<<"$(core_source "$target")"
    if [ "$how" = none ]; then
        echo "toolchain: no core library for $target: run scripts/install-deps.sh, or: rustup target add $target" >&2
        return 1
    fi
    [ -n "$bin" ] && echo "export PATH=$bin:\$PATH"
    if [ "$how" = source ]; then
        echo "export RUSTC_BOOTSTRAP=1"
        echo "export OFFSHOOT_BUILD_STD=-Zbuild-std=core"
    else
        echo "export OFFSHOOT_BUILD_STD="
    fi
    linker=$(linker_at "${bin:+$bin/}rustc") || return 1
    variable=CARGO_TARGET_$(echo "$target" | tr 'a-z.-' 'A-Z__')_LINKER
    [ -z "$linker" ] || echo "export $variable=$linker"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -euo pipefail
    toolchain_env "${1:?usage: toolchain.sh TARGET}"
fi
