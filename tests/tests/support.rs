//! `docs/src/support.md` says what is supported: operators of ONNX and TensorFlow Lite with their limits, number formats, boards.
//!
//! `OFFSHOOT_WRITE_FIXTURES=1 cargo test -p offshoot-tests --test support` writes it. Operators and limits are those of the importer's
//! README, whose names its own tests hold against the code. Number formats (`onnx/formats.txt`) come from compiling graphs of one
//! operator each to int8; that needs the Python package `onnx` (`OFFSHOOT_PYTHON` names an interpreter). Boards are those of
//! `offshoot_target`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::files;
use offshoot_cli::ui::Ui;
use offshoot_data::npy;
use offshoot_skip::skip;
use offshoot_target::BOARDS;
use offshoot_tests::root;
use offshoot_xtask::graphs;
use serde::Deserialize;

const UI: Ui = Ui { json: true };

/// Rows (operators, limits) of the table of the importer's README behind these words.
fn table(behind: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("tools/import/README.md")).unwrap();
    let table = text.split(behind).nth(1).expect("the part of the README");
    let rows =
        table.lines().skip_while(|l| !l.starts_with("|---")).skip(1).take_while(|l| l.starts_with('|'));
    let cells = |row: &str| row.split('|').map(|c| c.trim().to_owned()).collect::<Vec<_>>();
    rows.map(cells).map(|c| (c[1].clone(), c[2].clone())).collect()
}

/// By operator what an int8 network computes of it in float32; nothing if it has an int8 form.
fn formats() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root().join("tests/onnx/formats.txt")).unwrap_or_default();
    let pair = |line: &str| line.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()));
    text.lines().filter_map(pair).collect()
}

fn page() -> String {
    let (first, last) = (offshoot_import::OPSETS.start(), offshoot_import::OPSETS.end());
    let mut page = format!(
        "# What is supported\n\nWhatever a network has that is not here is refused when it is compiled, all of it at once. `cargo test -p \
         offshoot-tests --test support` holds this page against the code.\n\n## ONNX\nOpsets {first} to {last}. What reads only constants is \
         computed by the importer, whatever its operator. Every operator has a float32 form. \"int8\" says what an int8 network has of \
         it: int8 arithmetic, or the parts that it computes in float32 between two conversions; a dash where that was not measured. \
         Attributes without a limit are supported with all their values.\n\n| Operators | Limits | int8 |\n|---|---|---|\n",
    );
    let formats = formats();
    for (operators, limits) in table("computed at run time.") {
        let found: Vec<(&str, &String)> =
            operators.split(", ").filter_map(|name| formats.get(name).map(|f| (name, f))).collect();
        let floats: Vec<String> =
            found.iter().filter(|(_, f)| *f != "int8").map(|(name, f)| format!("{name}: {f}")).collect();
        let int8 = match (found.is_empty(), floats.is_empty()) {
            (true, _) => "–".to_owned(),
            (_, true) => "int8".to_owned(),
            (_, false) if floats.len() == found.len() => floats.join("; "),
            _ => format!("int8; {}", floats.join("; ")),
        };
        writeln!(page, "| {operators} | {limits} | {int8} |").unwrap();
    }
    page.push_str(
        "\n## TensorFlow Lite\nfloat32, int8, uint8 and int16x8 files. Quantised operators give TensorFlow Lite Micro's bytes.\n\n| Operators | \
         Limits |\n|---|---|\n",
    );
    for (operators, limits) in table("## TensorFlow Lite") {
        writeln!(page, "| {operators} | {limits} |").unwrap();
    }
    page.push_str(
        "\n## Boards\nEvery firmware runs the same files with the same bits, if they fit. A firmware of one model (`cargo xtask single`) \
         has only what that model needs.\n\n| Board | Core | RAM for a model | float32 | Kernels for |\n|---|---|---|---|---|\n",
    );
    for board in BOARDS {
        let kernels = match board.core {
            core if core.mve => "Helium, DSP extension",
            core if core.dsp => "DSP extension",
            _ => "scalar cores",
        };
        let float = match (board.firmware.runtime.has("f32"), board.core.fpu) {
            (false, _) => "not in its firmware",
            (true, true) => "yes",
            (true, false) => "yes, without FPU",
        };
        let bytes = board.ram_bytes;
        writeln!(page, "| {} | {} | {bytes} bytes | {float} | {kernels} |", board.name, board.core.name)
            .unwrap();
    }
    page
}

#[derive(Deserialize)]
struct Case {
    name: String,
    main: String,
    inputs: usize,
}

/// IR operators that the graph computes in float32 although it is compiled to int8.
fn floats(folder: &Path, case: &Case) -> BTreeSet<String> {
    let (graph, _) = files::read_graph(&folder.join(format!("{}.onnx", case.name))).unwrap();
    let read = |i: usize| npy::read(&folder.join(format!("{}.c{i}.npy", case.name))).unwrap();
    let arrays: Vec<npy::Array> = (0..case.inputs).map(read).collect();
    let names = vec!["x".to_owned(); case.inputs];
    let samples = compile::calibration(&graph, &arrays, &names).unwrap();
    let precision = Some(Precision::Int8);
    let args = compile::Args { precision, strict_int8: true, ..compile::Args::default() };
    let made = compile::make(&UI, graph, &samples, &args, None).unwrap();
    let kept =
        made.quantisation.iter().flat_map(|q| &q.operators).filter(|o| o.float).map(|o| o.kind.to_owned());
    let all = made.compiled.report.fallbacks.iter().map(|f| f.operator.clone()).chain(kept);
    // Integers that are outputs leave the graph as float32.
    all.filter(|kind| kind != "cast" || case.main == "Cast").collect()
}

#[test]
fn number_formats_are_as_listed() {
    let folder = match graphs::script(&["each"]) {
        Ok(Some(folder)) => folder,
        Ok(None) => return skip("number formats of operators: Python lacks the package `onnx`"),
        Err(error) if error.to_string().contains("does not start") => {
            return skip(format_args!("number formats of operators: {error:#}"));
        }
        Err(error) => panic!("{error:#}"),
    };
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for case in &cases {
        found.entry(case.main.clone()).or_default().extend(floats(&folder, case));
    }
    let mut list = String::new();
    for (operator, floats) in found {
        let floats: Vec<String> = floats.into_iter().map(|f| f.replace('_', " ")).collect();
        let what =
            if floats.is_empty() { "int8".to_owned() } else { format!("{} in float32", floats.join(", ")) };
        writeln!(list, "{operator}: {what}").unwrap();
    }
    same(&root().join("tests/onnx/formats.txt"), &list);
}

#[test]
fn the_page_is_what_the_code_has() {
    same(&root().join("docs/src/support.md"), &page());
}

/// The file has this text; or gets it with `OFFSHOOT_WRITE_FIXTURES=1`.
fn same(path: &Path, text: &str) {
    if std::env::var_os("OFFSHOOT_WRITE_FIXTURES").is_some() {
        std::fs::write(path, text).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    let departs = there.lines().zip(text.lines()).find(|(a, b)| a != b);
    let file = path.display();
    assert!(
        there == text,
        "{file} is not what the code has: {departs:?}; \
         OFFSHOOT_WRITE_FIXTURES=1 cargo test -p offshoot-tests --test support writes it"
    );
}
