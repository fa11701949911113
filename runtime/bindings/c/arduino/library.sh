#!/usr/bin/env bash
# Lays out an Arduino library with the static libraries that scripts/c.sh has built. Its programs are not run by us.
#   runtime/bindings/c/arduino/library.sh FOLDER       FOLDER: Arduino/libraries/Offshoot, say
set -euo pipefail
out=${1:?usage: library.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
built=${OFFSHOOT_LIBRARIES:-$here/../../../../target/c}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$here/../../../../Cargo.toml")
mkdir -p "$out/src" "$out/examples/hello"
cp "$here/../include/offshoot.h" "$out/src/"
cp "$here/hello.ino" "$out/examples/hello/"
cat >"$out/library.properties" <<TEXT
name=Offshoot
version=$version
author=The Offshoot developers
maintainer=The Offshoot developers
sentence=Runs neural networks in .off files, and lets them learn on the device.
paragraph=No allocator, no global state, the same bits on every board.
category=Data Processing
url=https://example.org/offshoot
architectures=*
includes=offshoot.h
precompiled=true
ldflags=-loffshoot
TEXT
found=false
# Folders as the Arduino builder looks them up: build.mcu, and for processors with an FPU build.fpu and build.float-abi.
while read -r triple folder; do
    if [ -e "$built/$triple/liboffshoot.a" ]; then
        mkdir -p "$out/src/$folder"
        cp "$built/$triple/liboffshoot.a" "$out/src/$folder/"
        found=true
    else
        echo "arduino: no $built/$triple/liboffshoot.a: left out (scripts/c.sh --target $triple)"
    fi
done <<TEXT
thumbv6m-none-eabi cortex-m0plus
thumbv7m-none-eabi cortex-m3
thumbv7em-none-eabi cortex-m4
thumbv7em-none-eabihf cortex-m4/fpv4-sp-d16-hard
riscv32imc-unknown-none-elf esp32c3
TEXT
$found || { echo "arduino: no library was built" >&2; exit 1; }
echo "arduino: $out"
