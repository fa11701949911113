#!/usr/bin/env bash
# Compares the public interface of every published crate with the last release, by cargo-semver-checks.
# Before the first tag, or without the tool, there is nothing to do, and it says so.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true)
[ -n "$tag" ] || { echo "semver: skipped: no release yet (no tag v…)"; exit 0; }
cargo semver-checks --version >/dev/null 2>&1 ||
    { echo "semver: skipped: cargo install cargo-semver-checks"; exit 0; }
flags=()
for name in $(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys; [print(p["name"]) for p in json.load(sys.stdin)["packages"] if p["publish"] != []]'); do
    flags+=(-p "$name")
done
[ ${#flags[@]} -gt 0 ] || { echo "semver: skipped: no crate is published"; exit 0; }
cargo semver-checks check-release --baseline-rev "$tag" "${flags[@]}"
