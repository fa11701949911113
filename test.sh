#!/usr/bin/env bash
# All tests: format, lints, unit, property and end-to-end tests, emulated boards. Installs what it needs first. Ends with the tests that
# were skipped, by reason, and `N passed, M failed, K skipped`.
#   ./test.sh           everything
#   ./test.sh --quick   without format and lints
set -euo pipefail
cd "$(dirname "$0")"

# The same random cases every time: a red run means the change, not the dice. Vary it to search for more.
export PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-1}"

# What lacks its data, an emulator or a tool adds a line here (tests/skip), so that nothing is left out in silence.
results=$(mktemp -d)
export OFFSHOOT_SKIPPED="$results/skipped"
touch "$OFFSHOOT_SKIPPED" "$results/log"
summary() {
    status=$?
    echo
    # Lines are "TEST: REASON". Tests with the same reason stand together.
    sort -u "$OFFSHOOT_SKIPPED" | awk '
        { at = index($0, ": "); test = substr($0, 1, at - 1); reason = substr($0, at + 2)
          between = (reason in tests) ? ", " : ""; tests[reason] = tests[reason] between test; all[test] = 1 }
        END { for (reason in tests) printf "skipped: %s: %s\n", reason, tests[reason] | "sort"; close("sort")
              n = 0; for (test in all) n++; printf "%d skipped\n", n > "'"$results/count"'" }'
    awk '/^test result:/ { passed += $4; failed += $6 } END { printf "%d passed, %d failed, ", passed, failed }' "$results/log"
    cat "$results/count"
    rm -r "$results"
    [ "$status" -eq 0 ] || echo "test.sh: stopped with exit code $status" >&2
    exit "$status"
}
trap summary EXIT

scripts/install-deps.sh

if [ "${1:-}" != "--quick" ]; then
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --quiet -- -D warnings
fi
scripts/aarch64.sh --check
firmware/build.sh
cargo build -p offshoot-cli
cargo test --workspace 2>&1 | tee "$results/log"
scripts/python.sh --check 2>&1 | tee -a "$results/log"
scripts/web.sh --check 2>&1 | tee -a "$results/log"
# The feature takes away what the tests above need, and firmware has its own workspace.
(cd firmware && cargo test -p offshoot-app && cargo test -p offshoot-app --features signed) 2>&1 | tee -a "$results/log"
