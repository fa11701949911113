#!/usr/bin/env bash
# Packages every crate that is meant for others (`publish` is not false) and checks that it is complete: description, keywords, categories,
# readme, licence files, a size that fits.
#   scripts/package.sh            checks, lists and packages
#   scripts/package.sh --link     first links the repository's licence files into the folders that lack them
# Packages are not compiled again (`--no-verify`): the tests have done that.
set -euo pipefail
cd "$(dirname "$0")/.."

# Lines "NAME FOLDER" in the order of their names.
crates=$(cargo metadata --no-deps --format-version 1 | python3 -c '
import json, os, sys
for package in sorted(json.load(sys.stdin)["packages"], key=lambda p: p["name"]):
    if package["publish"] != []:
        print(package["name"], os.path.relpath(os.path.dirname(package["manifest_path"])))')
if [ -z "$crates" ]; then
    echo "package: no crate of the workspace is meant for others (publish = false everywhere)"
    exit 0
fi

if [ "${1:-}" = --link ]; then
    while read -r _ folder; do
        for licence in LICENSE-APACHE LICENSE-MIT; do
            # A package follows the link and holds the text.
            [ -e "$folder/$licence" ] || ln -s "$(realpath --relative-to="$folder" "$licence")" "$folder/$licence"
        done
    done <<<"$crates"
fi

cargo metadata --no-deps --format-version 1 | python3 -c '
import json, os, sys
problems = []
for package in json.load(sys.stdin)["packages"]:
    if package["publish"] == []:
        continue
    folder = os.path.dirname(package["manifest_path"])
    for field in ("description", "license", "repository", "readme", "rust_version", "keywords", "categories"):
        if not package[field]:
            problems.append(package["name"] + ": no " + field)
    if "//example." in (package["repository"] or ""):
        print("package: " + package["name"] + ": the repository is a placeholder; set it in Cargo.toml before publishing")
    if len(package["keywords"]) > 5 or len(package["categories"]) > 5:
        problems.append(package["name"] + ": more than five keywords or categories")
    if package["readme"] and not os.path.isfile(os.path.join(folder, package["readme"])):
        problems.append(package["name"] + ": its readme is not there")
    for dependency in package["dependencies"]:
        if dependency.get("path") and dependency["kind"] != "dev" and dependency["req"] == "*":
            problems.append(package["name"] + ": " + dependency["name"] + " has no version, which a registry needs")
print(*problems, sep="\n", end="\n" if problems else "")
sys.exit(1 if problems else 0)'

flags=()
while read -r name _; do
    flags+=(-p "$name")
    files=$(cargo package --list --allow-dirty -p "$name")
    for wanted in Cargo.toml README.md LICENSE-APACHE LICENSE-MIT; do
        grep -qx "$wanted" <<<"$files" || { echo "package: $name lacks $wanted (scripts/package.sh --link adds licences)" >&2; exit 1; }
    done
    echo "package: $name: $(wc -l <<<"$files") files"
done <<<"$crates"
# All at once: they depend on each other, and none is in a registry yet.
cargo package --quiet --no-verify --allow-dirty "${flags[@]}"
while read -r name _; do
    size=$(stat -c %s target/package/"$name"-[0-9]*.crate | tail -1)
    echo "package: $name: $size bytes"
    # The registry takes 10 MB; more than one is a data file that should not be there.
    [ "$size" -le 1000000 ] || { echo "package: $name is too large" >&2; exit 1; }
done <<<"$crates"
