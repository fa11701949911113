#!/usr/bin/env bash
# The Python package (tools/python; the guide is docs/src/python.md).
#   scripts/python.sh --check          builds the package as it is for development, and runs its tests
#   scripts/python.sh --wheel          the wheel, optimised: target/wheels
#   scripts/python.sh --installed      the wheel in an environment of its own: its tests, the example, and what a small run takes
# What cannot be had here is skipped, and said. PYTHON names the interpreter, CARGO_TARGET_DIR stands for target.
set -euo pipefail
cd "$(dirname "$0")/.."

package=tools/python
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")
python=${PYTHON:-python3}

skip() {
    echo "skipped: $1"
    echo "scripts/python.sh: $1" >>"${OFFSHOOT_SKIPPED:-/dev/null}"
    exit 0
}

# environment NAME NEEDED...: a virtual environment with these packages; what it lacks is installed
environment() {
    local folder=$build/python/$1
    shift
    command -v "$python" >/dev/null || skip "no $python"
    [ -x "$folder/bin/python" ] || "$python" -m venv "$folder" >/dev/null 2>&1 || skip "$python has no venv (apt-get install python3-venv)"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2 || skip "pip cannot install $*"
    export PATH="$folder/bin:$PATH" VIRTUAL_ENV=$folder
}

# tests ARGUMENTS...: pytest, and its numbers in the form of cargo's, which test.sh adds up
tests() {
    local report=$build/python/results.xml status=0
    rm -f "$report"
    python -m pytest "$package/tests" --quiet --junit-xml "$report" -p no:cacheprovider "$@" || status=$?
    python - "$report" <<'PYTHON'
import sys, xml.etree.ElementTree as tree
suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
tests, failed, skipped = (int(suite.get(name)) for name in ("tests", "failures", "skipped"))
failed += int(suite.get("errors"))
print(f"test result: {'FAILED' if failed else 'ok'}. {tests - failed - skipped} passed; {failed} failed; {skipped} ignored")
PYTHON
    return $status
}

check() {
    local folder=$build/python/package native
    # With the features that all tests have, so that nothing is compiled twice.
    cargo build --quiet --workspace --lib
    environment tests 'numpy>=1.22' onnx onnxruntime pytest
    mkdir -p "$folder"
    rm -rf "$folder/offshoot"
    cp -r $package/python/offshoot "$folder/"
    for native in "$build"/debug/liboffshoot_native.{so,dylib}; do
        [ ! -e "$native" ] || cp "$native" "$folder/offshoot/_native.abi3.so"
    done
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$folder tests
}

wheel() {
    environment build 'maturin>=1.9,<2'
    rm -f "$build"/wheels/offshoot-*.whl
    (cd $package && maturin build --quiet --out "$build/wheels")
    stat -c 'python: %n: %s bytes' "$build"/wheels/offshoot-*.whl
}

installed() {
    wheel
    rm -rf "$build/python/installed"
    environment installed "$build"/wheels/offshoot-*.whl onnx onnxruntime pandas pytest scikit-learn
    tests
    python $package/examples/speed.py
    if command -v qemu-system-arm >/dev/null; then
        (cd "$build/python" && python "$OLDPWD/$package/examples/first.py" "$OLDPWD/models/vibration")
    else
        skip "examples/first.py: no qemu-system-arm"
    fi
}

case ${1:-} in
    --check) check ;;
    --wheel) wheel ;;
    --installed) installed ;;
    *) sed -n '2,6s/^# \?//p' "$0" >&2; exit 2 ;;
esac
