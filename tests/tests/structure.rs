//! Data flows one way through the runtime: between its crates, and between the modules of each. The order is declared here; an
//! import against it is named by file and line.
//!
//! Comments and `#[cfg(test)]` modules are left out. A module may import only modules that stand before it in its crate's list,
//! and nothing from the crate's root, which re-exports what others use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The crates of the runtime, each after those that it may depend on, with its modules in their order.
const ORDER: [(&str, &[&str]); 10] = [
    ("base", &["crc", "error", "element", "span", "memory"]),
    (
        "format",
        &[
            "types",
            "tag",
            "extended",
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
            "huffman",
            "packed",
            "row_major",
            "weight_only",
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
            "plane",
            "wide",
            "neon",
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
            "matmul",
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
            "dispatch",
            "rows",
            "fused_rows",
            "parts",
        ],
    ),
    ("sign", &["ed25519", "envelope", "release", "seal", "session", "verify"]),
    ("store", &["record", "ring", "ram"]),
    ("wire", &["protocol", "cobs", "message", "frame", "authority"]),
    (
        "offshoot",
        &[
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
        &["magnitude", "softmax", "step", "sparse", "update", "motion", "errors", "parts", "block"],
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
            // `super` is the crate's root in a file at the top and in the `mod.rs` of a folder.
            let top = parts.len() == 1 || parts.len() == 2 && parts[1] == "mod";
            for (line, target) in imports(&fs::read_to_string(&file).unwrap(), top) {
                let allowed = target == *own || modules[..place].contains(&target.as_str());
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
            let text = fs::read_to_string(&file).unwrap();
            let siblings =
                imports(&text, true).into_iter().filter(|(_, name)| modules.contains(&name.as_str()));
            for (line, target) in siblings.filter(|(_, name)| !modules[..place].contains(&name.as_str())) {
                wrong.push(format!("runtime/{folder}/{own}.rs:{line}: {own} imports {target}"));
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

/// The first segments behind `crate::`, and behind `super::` where that is the root, with their lines. Macros and
/// visibilities are no imports.
fn imports(text: &str, super_is_root: bool) -> Vec<(usize, String)> {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let text = text.split("\n#[cfg(any(test, feature = \"testing\"))]\npub mod ").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        code.push_str(line.split("//").next().unwrap());
        code.push('\n');
    }
    let mut found = vec![];
    for prefix in ["crate::", "super::"] {
        if prefix == "super::" && !super_is_root {
            continue;
        }
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            // `pub(in crate::…)`, `$crate::…`, `super::super::…`, `offshoot_crate::…`.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == ':')
                || code[..at].ends_with("in ")
            {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + prefix.len()..];
            for name in first_segments(rest) {
                found.push((line, name));
            }
        }
    }
    found
}

/// `a::b` gives `a`; `{a::b, c}` gives `a` and `c`.
fn first_segments(rest: &str) -> Vec<String> {
    let word =
        |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut items, mut start) = (0, vec![], 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(word(&list[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(word(&list[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    items.retain(|item| !item.is_empty() && item != "self");
    items
}

#[test]
fn an_import_is_read_in_all_its_forms() {
    let text = "use crate::a::{b, c};\nuse crate::{d, e::{f, g}};\n// use crate::h;\npub(in crate::i) fn x() { crate::j::k() }\n";
    let names: Vec<String> = imports(text, false).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "d", "e", "j"]);
    assert_eq!(imports("use super::l;", true), [(1, "l".to_string())]);
    assert_eq!(imports("use super::l;", false), []);
    assert_eq!(imports("fn x() {}\n#[cfg(test)]\nmod tests { use super::y; }", true), []);
    let order: BTreeMap<&str, usize> = ORDER.iter().map(|(name, modules)| (*name, modules.len())).collect();
    assert_eq!(order.len(), ORDER.len());
}
