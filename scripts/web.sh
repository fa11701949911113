#!/usr/bin/env bash
# The runtime for browsers and Node (runtime/bindings/wasm) and the page that learns (tools/web); the guide is docs/src/web.md.
#   scripts/web.sh --package            the npm package: target/web/package
#   scripts/web.sh --page               the page: target/web/page, to be served or put anywhere
#   scripts/web.sh --check              both, and their tests: in Node, and in Chromium
#   scripts/web.sh --model MODEL.off    the size of a module with the operators of that model alone
#   scripts/web.sh --speed              ResNet-8 in Chromium, beside onnxruntime-web; OFFSHOOT_DATA, else ../shared/data, holds the network
# What cannot be had here is skipped, and said. CARGO_TARGET_DIR stands for target, OFFSHOOT names the command line.
set -euo pipefail
cd "$(dirname "$0")/.."

build=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$build/web
package=runtime/bindings/wasm/package
triple=wasm32-unknown-unknown
export OFFSHOOT=${OFFSHOOT:-$build/debug/offshoot}

skip() {
    echo "skipped: $1"
    echo "scripts/web.sh: $1" >>"${OFFSHOOT_SKIPPED:-/dev/null}"
    exit 0
}

needs() {
    for program in "$@"; do
        command -v "$program" >/dev/null || skip "no $program"
    done
}

# module CRATE NAME FEATURES...: target/web/NAME, with SIMD128
module() {
    local crate=$1 name=$2
    shift 2
    [ -d "$(rustc --print sysroot)/lib/rustlib/$triple" ] || skip "no core library for $triple (rustup target add $triple)"
    mkdir -p "$out"
    (
        # The host's settings do not fit.
        unset RUSTFLAGS CARGO_BUILD_TARGET CARGO_ENCODED_RUSTFLAGS
        RUSTFLAGS='-C target-feature=+simd128' cargo rustc --quiet --profile wasm --target $triple --target-dir "$out/build" \
            -p "$crate" --lib --crate-type cdylib "$@"
    )
    cp "$out/build/$triple/wasm/${crate//-/_}.wasm" "$out/$name"
    size_of "$out/$name"
}

size_of() {
    echo "web: $1: $(stat -c %s "$1") bytes, $(gzip -9 -c "$1" | wc -c) with gzip"
}

package() {
    module offshoot-wasm offshoot.wasm
    module offshoot-web offshoot-files.wasm
    mkdir -p "$out/package"
    cp $package/* runtime/bindings/wasm/README.md runtime/bindings/wasm/LICENSE-* "$out/package/"
    cp "$out/offshoot.wasm" "$out/offshoot-files.wasm" "$out/package/"
    echo "web: $out/package"
}

page() {
    needs node
    [ -x "$OFFSHOOT" ] || cargo build --quiet -p offshoot-cli
    package
    node tools/web/build.mjs "$out/package" "$out/page"
}

# modules NAME...: packages of npm for the tests, outside the repository
modules() {
    needs npm
    [ -d "$out/npm/node_modules/${1%@*}" ] || npm install --silent --no-audit --no-fund --prefix "$out/npm" "$@" >&2 ||
        skip "npm cannot install $*"
    export OFFSHOOT_NPM=$out/npm/node_modules
}

browser() {
    for program in chromium chromium-browser google-chrome; do
        OFFSHOOT_CHROMIUM=$(command -v $program) || continue
        export OFFSHOOT_CHROMIUM
        return
    done
    skip "no chromium"
}

# tests FILE...: by Node, and their numbers in the form of cargo's, which test.sh adds up
tests() {
    local log status=0
    log=$(mktemp)
    node --test --test-reporter=tap "$@" >"$log" || status=$?
    awk '/^(not )?ok |^    not ok |^  *(error|message|stack):/' "$log"
    awk -v result="$([ $status = 0 ] && echo ok || echo FAILED)" '/^# pass/ { passed = $3 } /^# fail/ { failed = $3 } /^# skipped/ { skipped = $3 }
        END { printf "test result: %s. %d passed; %d failed; %d ignored\n", result, passed, failed, skipped }' "$log"
    [ $status = 0 ] || cat "$log" >&2
    rm "$log"
    return $status
}

check() {
    page
    export OFFSHOOT_PACKAGE=$out/package OFFSHOOT_PAGE=$out/page
    tests tools/web/tests/runtime.test.mjs
    browser
    modules playwright-core@1
    modules axe-core@4
    tests tools/web/tests/page.test.mjs
}

speed() {
    local onnx=${OFFSHOOT_DATA:-../shared/data}/mlperf_tiny/ic_int8.onnx
    [ -e "$onnx" ] || skip "no MLPerf Tiny networks"
    page
    browser
    modules playwright-core@1
    modules onnxruntime-web@1
    "$OFFSHOOT" compile "$onnx" -o "$out/resnet8.off" >/dev/null
    OFFSHOOT_PAGE=$out/page node tools/web/tests/speed.mjs "$out/resnet8.off" "$onnx"
}

# The operators of one model, by the features that its records name.
alone() {
    local features
    features=$("$OFFSHOOT" inspect "$1" --json |
        node -e 'const chunks = []; process.stdin.on("data", (c) => chunks.push(c)).on("end", () => console.log(JSON.parse(chunks.join("")).runtime_features.map((f) => "offshoot/" + f).join(",")))')
    module offshoot-wasm alone.wasm --no-default-features --features "$features"
}

case ${1:---check} in
    --package) package ;;
    --page) page ;;
    --check) check ;;
    --speed) speed ;;
    --model) alone "$(realpath "${2:?}")" ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
