#!/usr/bin/env bash
# All tests: format, lints, unit, property and end-to-end tests, emulated boards. Installs what it needs first.
#   ./test.sh           everything
#   ./test.sh --quick   without the lints and without the training crate (which builds an autodiff library)
set -euo pipefail
cd "$(dirname "$0")"

quick=false
[ "${1:-}" = "--quick" ] && quick=true

scripts/install-deps.sh

packages=(--workspace)
$quick && packages+=(--exclude offshoot-train)

if ! $quick; then
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
fi
firmware/build.sh
cargo build -p offshoot-cli
cargo test "${packages[@]}"
