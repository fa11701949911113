#!/usr/bin/env bash
# The kernels of aarch64 (NEON, dot products) against the portable ones, in user-mode QEMU: on a processor with dot products, and
# on one without. Takes minutes, so it is no part of test.sh.
#   scripts/aarch64.sh [TEST FILTER]
#   scripts/aarch64.sh --check          only compiles them; skipped, and said, where Rust's library for aarch64 is missing
# Needs qemu-aarch64, a linker for aarch64 and Rust's library for it. Debian: apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross;
# then: rustup target add aarch64-unknown-linux-gnu (or the library's source: rust-src, Debian's rust-web-src).
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/toolchain.sh
. scripts/toolchain.sh
target=aarch64-unknown-linux-gnu
if [ "${1:-}" = --check ]; then
    if [ "$(core_source "$target")" = none ]; then
        echo "skipped: aarch64: rustup target add $target"
        echo "scripts/aarch64.sh: no library for aarch64 (rustup target add $target)" >>"${OFFSHOOT_SKIPPED:-/dev/null}"
        exit 0
    fi
    eval "$(toolchain_env "$target")"
    # Away from the other builds: the compiler may be another.
    # shellcheck disable=SC2086  # empty where the library is prebuilt
    exec cargo check --quiet ${OFFSHOOT_BUILD_STD} --target "$target" --target-dir target/aarch64 -p offshoot
fi
for program in qemu-aarch64 aarch64-linux-gnu-gcc; do
    command -v "$program" >/dev/null ||
        { echo "aarch64: no $program: apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2; exit 1; }
done
eval "$(toolchain_env "$target")"
[ -z "$OFFSHOOT_BUILD_STD" ] || OFFSHOOT_BUILD_STD=-Zbuild-std=std,panic_abort
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-1}"
for processor in max cortex-a53; do
    echo "aarch64: $processor"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $processor -L /usr/aarch64-linux-gnu"
    # shellcheck disable=SC2086  # empty where the library is prebuilt
    cargo test --quiet ${OFFSHOOT_BUILD_STD} --target "$target" -p offshoot-kernels -p offshoot-operators --lib "${1:-}"
done
