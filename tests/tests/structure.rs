//! Data flows one way through the runtime: between its crates, and between the modules of each. The order is declared here; an
//! import against it is named by file and line.
//!
//! Comments and items for tests are left out. A module may import only modules that stand before it in its crate's list,
//! and nothing from the crate's root, which re-exports what others use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The crates of the runtime, each after those that it may depend on, with its modules in their order.
const ORDER: [(&str, &[&str]); 11] = [
    ("base", &["crc", "error", "element", "span", "memory"]),
    (
        "format",
        &[
            "types",
            "tag",
            "extended",
            "branch",
            "tiled",
            "sparse",
            "recurrent",
            "fused_rows",
            "branch",
            "weighted",
            "elementwise",
            "elementary",
            "indexed",
            "movement",
            "quantize",
            "reduce",
            "int16",
            "huffman",
            "packed",
            "row_major",
            "weight_only",
            "spectral",
            "micro_frontend",
            "single_multiply",
            "nested",
            "kinds",
            "learn",
            "decode",
            "codec",
            "record",
            "header",
            "embedded",
        ],
    ),
    (
        "kernels",
        &[
            "random",
            "requant",
            "geometry",
            "sparse",
            "layer",
            "tiles",
            "gradient",
            "portable",
            "pooling",
            "plane",
            "wide",
            "neon",
            "wasm",
            "x86",
            "arm_dsp",
            "arm_mve",
            "scalar",
            "host",
            "dispatch",
            "sparse_products",
            "recurrent",
            "accumulate",
            "testing",
        ],
    ),
    (
        "learn",
        &[
            "target_projection",
            "rules",
            "schedule",
            "step",
            "weights",
            "layers",
            "input_normalizer",
            "heads",
            "descent",
            "float",
            "integer",
            "sequence",
        ],
    ),
    (
        "operators",
        &[
            "operator",
            "branch",
            "shape",
            "weights",
            "drivers",
            "conv",
            "elementwise",
            "elementary",
            "branch",
            "grid_sample",
            "history",
            "indexed",
            "int16",
            "matmul",
            "micro_frontend",
            "movement",
            "norm",
            "pool",
            "quantize",
            "reduce",
            "resize",
            "recurrent",
            "tiled",
            "weight_only",
            "planar",
            "winograd",
            "huffman",
            "packed",
            "row_major",
            "single_multiply",
            "nested",
            "sparse",
            "spectrum",
            "banded",
            "dispatch",
            "rows",
            "fused_rows",
            "parts",
        ],
    ),
    ("sign", &["ed25519", "envelope", "release", "seal", "session", "verify"]),
    ("store", &["error", "wear", "bad", "record", "ring", "journal", "slots", "ram"]),
    ("wire", &["protocol", "cobs", "message", "frame", "authority"]),
    (
        "offshoot",
        &[
            "detect",
            "trace",
            "model",
            "engine",
            "aligned",
            "arena",
            "tensor",
            "heads",
            "learning",
            "open_error",
            "release_counter",
            "include",
        ],
    ),
    ("bindings/c", &["status", "border", "object", "info", "tensor", "run", "learn"]),
    ("bindings/wasm", &["memory", "describe", "profile"]),
];

/// Folders whose own modules have an order too: `super` in a file of theirs is the folder.
const FOLDERS: [(&str, &[&str]); 2] = [
    (
        "offshoot/src/engine",
        &[
            "pieces",
            "numbers",
            "classifier",
            "outlier",
            "stream",
            "state",
            "execute",
            "recurrent",
            "train_step",
            "inference",
            "learn",
            "keep",
            "steps",
        ],
    ),
    (
        "learn/src/integer",
        &["magnitude", "softmax", "layer", "step", "sparse", "update", "motion", "errors", "parts", "block"],
    ),
];

fn runtime() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime")
}

#[test]
fn crates_depend_on_those_before_them() {
    let names: Vec<String> = ORDER.iter().map(|(name, _)| package(name)).collect();
    for (at, (name, _)) in ORDER.iter().enumerate() {
        let manifest = fs::read_to_string(runtime().join(name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let dependencies = manifest["dependencies"].as_table().unwrap();
        for dependency in dependencies.keys().filter(|d| *d == "offshoot" || d.starts_with("offshoot-")) {
            let place = names.iter().position(|n| n == dependency);
            assert!(place.is_some_and(|place| place < at), "runtime/{name} depends on {dependency}");
        }
    }
}

fn package(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if name == "offshoot" { name.into() } else { format!("offshoot-{last}") }
}

#[test]
fn modules_import_those_before_them() {
    let mut wrong = vec![];
    for (name, modules) in ORDER {
        let src = runtime().join(name).join("src");
        let mut files = vec![];
        collect(&src, &mut files);
        for file in files {
            let inner = file.strip_prefix(&src).unwrap().to_path_buf();
            let parts: Vec<String> =
                inner.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
            let own = &parts[0];
            if own == "lib" || parts.last().is_some_and(|last| last == "tests") {
                continue;
            }
            let place = modules.iter().position(|m| m == own);
            let Some(place) = place else {
                wrong.push(format!("runtime/{name}: module {own} has no place in the order"));
                continue;
            };
            let module: Vec<&str> = parts.iter().map(String::as_str).filter(|part| *part != "mod").collect();
            for (line, path) in imports(&fs::read_to_string(&file).unwrap(), &module) {
                let target = path.first().map_or("the crate's root", String::as_str);
                let allowed = target == own || modules[..place].contains(&target);
                if !allowed {
                    wrong.push(format!(
                        "runtime/{name}/src/{}:{line}: {own} imports {target}",
                        inner.display()
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports against the order:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn files_of_a_folder_import_those_before_them() {
    let mut wrong = vec![];
    for (folder, modules) in FOLDERS {
        let mut files = vec![];
        collect(&runtime().join(folder), &mut files);
        for file in files {
            let own = file.file_stem().unwrap().to_string_lossy().into_owned();
            let Some(place) = modules.iter().position(|m| *m == own) else {
                if own != "mod" {
                    wrong.push(format!("runtime/{folder}: module {own} has no place in the order"));
                }
                continue;
            };
            let inside: Vec<&str> = folder.split("/src/").last().unwrap().split('/').collect();
            let module = [&inside[..], &[own.as_str()]].concat();
            for (line, path) in imports(&fs::read_to_string(&file).unwrap(), &module) {
                // What `mod.rs` gives on, too, lies in one of its files.
                let Some(rest) =
                    path.strip_prefix(&inside.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
                else {
                    continue;
                };
                let target = rest.first().map_or("the folder's root", String::as_str);
                if target != own && !modules[..place].contains(&target) {
                    wrong.push(format!("runtime/{folder}/{own}.rs:{line}: {own} imports {target}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} imports against the order:\n{}", wrong.len(), wrong.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// What a file imports by `crate::` and `super::`, as paths from the crate's root, with their lines. `module` is the file's own
/// path. Items for tests are left out, and so are visibilities and the paths of macros (`$crate`).
fn imports(text: &str, module: &[&str]) -> Vec<(usize, Vec<String>)> {
    let mut found = vec![];
    scan(text.parse().unwrap(), &module.iter().map(ToString::to_string).collect::<Vec<_>>(), &mut found);
    found
}

/// Finds the imports of tokens that lie in a module.
fn scan(tokens: TokenStream, module: &[String], found: &mut Vec<(usize, Vec<String>)>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Punct(hash) if hash.as_char() == '#' && is_for_tests(tokens.get(at)) => {
                // The item ends with a block or a semicolon.
                let end = tokens[at..].iter().skip(1).position(|token| match token {
                    TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
                    other => is_punct(Some(other), ';'),
                });
                at = end.map_or(tokens.len(), |end| at + end + 2);
            }
            TokenTree::Ident(name) if name == "mod" => {
                if let (Some(TokenTree::Ident(inner)), Some(TokenTree::Group(body))) =
                    (tokens.get(at), tokens.get(at + 1))
                {
                    scan(body.stream(), &[module, &[inner.to_string()]].concat(), found);
                    at += 2;
                }
            }
            TokenTree::Ident(name) if name == "crate" || name == "super" => {
                let before = at.checked_sub(2).and_then(|before| tokens.get(before));
                let is_other =
                    is_punct(before, '$') || matches!(before, Some(TokenTree::Ident(i)) if i == "in");
                let mut base = if name == "crate" { vec![] } else { parent(module) };
                let start = at;
                let (mut next, is_path) = after_colons(&tokens, at);
                while let Some(TokenTree::Ident(again)) = tokens.get(next).filter(|_| is_path)
                    && again == "super"
                {
                    base = parent(&base);
                    let (after, _) = after_colons(&tokens, next + 1);
                    next = after;
                }
                let line = name.span().start().line;
                if is_path && !is_other {
                    at = leaves(&tokens, next, &base, &mut |path| found.push((line, path)));
                } else if matches!(before, Some(TokenTree::Ident(i)) if i == "use") && !is_path {
                    found.push((line, base)); // `use crate as root`
                }
                at = at.max(start);
            }
            TokenTree::Group(group) => scan(group.stream(), module, found),
            _ => {}
        }
    }
}

fn parent(module: &[String]) -> Vec<String> {
    module[..module.len().saturating_sub(1)].to_vec()
}

fn is_punct(token: Option<&TokenTree>, c: char) -> bool {
    matches!(token, Some(TokenTree::Punct(p)) if p.as_char() == c)
}

/// The position behind `::`, and whether it is there.
fn after_colons(tokens: &[TokenTree], at: usize) -> (usize, bool) {
    let is_there = is_punct(tokens.get(at), ':') && is_punct(tokens.get(at + 1), ':');
    (if is_there { at + 2 } else { at }, is_there)
}

/// Whether an attribute leaves an item out of what is shipped: `#[cfg(test)]`, `#[cfg(any(test, …))]`, `#[test]`.
fn is_for_tests(attribute: Option<&TokenTree>) -> bool {
    let Some(TokenTree::Group(group)) = attribute else { return false };
    let text: String = group.stream().to_string().split_whitespace().collect();
    ["test", "cfg(test)"].contains(&text.as_str()) || text.starts_with("cfg(any(test,")
}

/// Gives every path that begins with `base` and goes on at `tokens[at]`; returns the position behind.
fn leaves(
    tokens: &[TokenTree],
    mut at: usize,
    base: &[String],
    found: &mut impl FnMut(Vec<String>),
) -> usize {
    let mut path = base.to_vec();
    loop {
        match tokens.get(at) {
            Some(TokenTree::Group(list)) if list.delimiter() == Delimiter::Brace => {
                let list: Vec<TokenTree> = list.stream().into_iter().collect();
                let mut inner = 0;
                while inner < list.len() {
                    inner = leaves(&list, inner, &path, found);
                    while inner < list.len() && !is_punct(list.get(inner), ',') {
                        inner += 1; // `as name`
                    }
                    inner += 1;
                }
                return at + 1;
            }
            Some(TokenTree::Ident(name)) if name == "self" => at += 1,
            Some(TokenTree::Ident(name)) => {
                path.push(name.to_string());
                at += 1;
            }
            Some(TokenTree::Punct(star)) if star.as_char() == '*' => at += 1,
            _ => {}
        }
        let (next, goes_on) = after_colons(tokens, at);
        if !goes_on {
            found(path);
            return at;
        }
        at = next;
    }
}

#[test]
fn an_import_is_read_in_all_its_forms() {
    let of = |text: &str| -> Vec<String> {
        imports(text, &["m", "n"]).into_iter().map(|(_, path)| path.join("::")).collect()
    };
    let text = "use crate::a::{b, c};\nuse crate::{d, e::{f, g as h}};\n// use crate::h;\npub(in crate::i) fn x() { crate::j::k() }\n";
    assert_eq!(of(text), ["a::b", "a::c", "d", "e::f", "e::g", "j::k"]);
    // The root itself is the empty path.
    for root in [
        "use crate::{self as root};",
        "use crate::*;",
        "use crate::{*};",
        "use crate as root;",
        "use super::super::*;",
    ] {
        assert_eq!(of(root), [""], "{root}");
    }
    assert_eq!(
        of("use crate ::heads::best; use super::l; use super::super::o::p;"),
        ["heads::best", "m::l", "o::p"]
    );
    assert_eq!(
        of("mod inner { use super::a; use super::super::b; } use super::c;"),
        ["m::n::a", "m::b", "m::c"]
    );
    assert_eq!(of("#[cfg(test)] mod tests { use super::y; } use crate::z;"), ["z"]);
    assert_eq!(
        of(
            "#[cfg(test)]\nmod tests;\n#[cfg(any(test, feature = \"testing\"))] pub mod t { use super::y; } use crate::z;"
        ),
        ["z"]
    );
    assert_eq!(of("fn f() -> T<crate::a::B> { m!(super::c(), $crate::d) }"), ["a::B", "m::c"]);
    assert_eq!(imports("\n\nuse crate::a;", &["m"]), [(3, vec!["a".to_owned()])]);
    let order: BTreeMap<&str, usize> = ORDER.iter().map(|(name, modules)| (*name, modules.len())).collect();
    assert_eq!(order.len(), ORDER.len());
}
