#!/usr/bin/env bash
# What CI checks beside test.sh: features, oldest Rust, packages, public interfaces, the wheel for Python, fuzz targets, dependencies,
# documentation. A check whose tool is not installed says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/features.sh
scripts/fuzz.sh --check
RUSTDOCFLAGS="-D warnings" cargo doc -p offshoot --no-deps --features std
scripts/package.sh
scripts/msrv.sh
scripts/semver.sh
scripts/python.sh --installed
if cargo deny --version >/dev/null 2>&1; then
    for workspace in . firmware fuzz; do
        cargo deny --manifest-path "$workspace/Cargo.toml" --all-features --config deny.toml check
    done
else
    echo "deny: skipped: cargo install cargo-deny"
fi
