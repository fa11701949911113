#!/usr/bin/env bash
# Installs what the tests of emulated boards need: QEMU and a way to build for microcontrollers. Does nothing where all
# is there. Says what it installs.
#   scripts/install-deps.sh [--check]     --check: only say what is missing; exit code 1 if something is
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh

check=false
[ "${1:-}" = "--check" ] && check=true

missing=()
need_qemu=false
need_riscv=false
need_core=false
command -v qemu-system-arm >/dev/null || { need_qemu=true; missing+=("qemu-system-arm (emulates the Arm boards)"); }
command -v qemu-system-riscv32 >/dev/null ||
    { need_riscv=true; missing+=("qemu-system-riscv32 (emulates the RISC-V board)"); }

for target in "${OFFSHOOT_FIRMWARE_TARGETS[@]}"; do
    if [ "$(core_source "$target")" = none ]; then
        if ! $check && command -v rustup >/dev/null; then
            echo "install: rustup target add $target"
            rustup target add "$target" || echo "install: rustup could not; looking for a source of the core library"
        fi
        [ "$(core_source "$target")" = none ] && { need_core=true; missing+=("Rust's core library for $target"); }
    fi
done

if [ ${#missing[@]} -eq 0 ]; then
    echo "install: nothing to do"
    exit 0
fi
printf 'install: missing: %s\n' "${missing[@]}"
$check && exit 1

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

if command -v apt-get >/dev/null; then
    packages=()
    $need_qemu && packages+=(qemu-system-arm)
    $need_riscv && packages+=(qemu-system-misc)
    # Debian's own Rust with the source of `core`, where rustup cannot reach its server. Names of Debian 12.
    $need_core && packages+=(rustc-web cargo-web rust-web-src lld-19)
    echo "install: apt-get install ${packages[*]}"
    as_root apt-get update -qq
    # Without recommended packages: they pull in desktop parts, and on some systems conflict.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
elif command -v brew >/dev/null && { $need_qemu || $need_riscv; }; then
    echo "install: brew install qemu"
    brew install qemu
else
    cat >&2 <<TEXT
install: this script knows apt-get and brew only. Install by hand:
  QEMU for Arm and RISC-V  Fedora: dnf install qemu-system-arm qemu-system-riscv
                           Arch: pacman -S qemu-system-arm qemu-system-riscv
                           Alpine: apk add qemu-system-arm qemu-system-riscv32
  Rust targets             rustup target add ${OFFSHOOT_FIRMWARE_TARGETS[*]}
TEXT
    exit 1
fi
exec scripts/install-deps.sh --check
