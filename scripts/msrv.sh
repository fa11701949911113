#!/usr/bin/env bash
# Compiles every package with the oldest Rust that it promises (`rust-version`). Installs that toolchain if rustup can.
#   scripts/msrv.sh              every package; a toolchain that cannot be had is skipped, and said
#   scripts/msrv.sh --require    the same, but a missing toolchain is an error
set -euo pipefail
cd "$(dirname "$0")/.."
require=false
[ "${1:-}" = --require ] && require=true

# Lines "VERSION PACKAGE…", one for each promised version.
versions=$(cargo metadata --no-deps --format-version 1 | python3 -c '
import collections, json, sys
by = collections.defaultdict(list)
for package in json.load(sys.stdin)["packages"]:
    assert package["rust_version"], package["name"] + ": no rust-version"
    by[package["rust_version"]].append(package["name"])
for version in sorted(by):
    print(version, *sorted(by[version]))')

skipped=0
while read -r version packages; do
    if ! rustup run "$version" rustc --version >/dev/null 2>&1 &&
        ! rustup toolchain install "$version" --profile minimal --no-self-update >/dev/null 2>&1; then
        echo "msrv: skipped: Rust $version cannot be installed here: $packages"
        skipped=$((skipped + 1))
        continue
    fi
    flags=()
    for package in $packages; do flags+=(-p "$package"); done
    # Away from the other builds: the compiler is another.
    RUSTFLAGS="" cargo "+$version" check --quiet --locked --target-dir "target/msrv-$version" "${flags[@]}"
    echo "msrv: Rust $version: $packages"
done <<<"$versions"
if $require && [ "$skipped" -gt 0 ]; then exit 1; fi
