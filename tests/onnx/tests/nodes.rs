//! The ONNX standard's node tests that suit inference, compiled to float32 and run: none gives a wrong answer, and what
//! passed once passes for ever.
//!
//! `nodes.py` takes the tests from the Python package `onnx`. `nodes.txt` lists every test with its result: `pass` or `refused: …`.
//! `OFFSHOOT_WRITE_FIXTURES=1 cargo test -p offshoot-onnx-tests` writes it anew.
//! `OFFSHOOT_PYTHON` names the interpreter; `OFFSHOOT_NODE=softmax` runs the tests whose name contains that, and prints them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use offshoot::format::record::{DType, Declared, IoRepr};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_data::npy;
use offshoot_export::{CompileOptions, compile};
use offshoot_import::ImportError;
use offshoot_ir::passes;
use offshoot_skip::skip;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    operator: String,
    forms: Vec<Form>,
    outputs: Vec<String>,
    relative: f32,
    absolute: f32,
}

#[derive(Deserialize)]
struct Form {
    form: String,
    model: String,
    inputs: Vec<String>,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq)]
enum Outcome {
    Pass,
    Refused(String),
    Wrong(String),
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pass => write!(f, "pass"),
            Self::Refused(reason) => write!(f, "refused: {reason}"),
            Self::Wrong(reason) => write!(f, "wrong: {reason}"),
        }
    }
}

#[test]
fn no_answer_is_wrong() {
    let Some(folder) = cases() else { return };
    let text = std::fs::read_to_string(folder.join("cases.json")).unwrap();
    let mut cases: Vec<Case> = serde_json::from_str(&text).unwrap();
    let chosen = std::env::var("OFFSHOOT_NODE").ok();
    if let Some(chosen) = &chosen {
        cases.retain(|case| case.name.contains(chosen.as_str()));
    }
    std::panic::set_hook(Box::new(|_| {}));
    let results = run_all(&folder, &cases);
    let _ = std::panic::take_hook();
    let count = |is: fn(&Outcome) -> bool| results.values().filter(|outcome| is(outcome)).count();
    let passed = count(|o| *o == Outcome::Pass);
    let wrong: Vec<String> = (results.iter())
        .filter(|(_, outcome)| matches!(outcome, Outcome::Wrong(_)))
        .map(|(name, outcome)| format!("{name}: {outcome}"))
        .collect();
    println!("{} node tests: {passed} pass, {} wrong", results.len(), wrong.len());
    let plain: Vec<&Outcome> =
        results.iter().filter(|(name, _)| !name.contains("_expanded")).map(|(_, outcome)| outcome).collect();
    let passed = plain.iter().filter(|outcome| ***outcome == Outcome::Pass).count();
    println!("{} of them without their expansions: {passed} pass", plain.len());
    if chosen.is_some() {
        results.iter().for_each(|(name, outcome)| println!("{name}: {outcome}"));
        return;
    }
    let list = here("nodes.txt");
    if std::env::var_os("OFFSHOOT_WRITE_FIXTURES").is_some() {
        write_list(&list, &results);
    }
    assert!(wrong.is_empty(), "wrong answers:\n{}", wrong.join("\n"));
    let lost: Vec<String> = (listed_passes(&list).iter())
        .filter_map(|name| match results.get(name) {
            Some(Outcome::Pass) => None,
            Some(other) => Some(format!("{name}: {other}")),
            // Another version of the package may lack a test.
            None => None,
        })
        .collect();
    assert!(lost.is_empty(), "these passed before:\n{}", lost.join("\n"));
}

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The folder of the tests, which Python writes; `None` if it cannot.
fn cases() -> Option<PathBuf> {
    let python = std::env::var("OFFSHOOT_PYTHON").unwrap_or_else(|_| "python3".into());
    let cache = here("../../target/onnx_nodes");
    std::fs::create_dir_all(&cache).unwrap();
    let run = Command::new(&python).arg(here("nodes.py")).arg(&cache).output();
    let output = match run {
        Ok(output) => output,
        Err(error) => {
            skip(format_args!("the node tests of ONNX: {python}: {error}"));
            return None;
        }
    };
    if output.status.code() == Some(3) {
        skip(
            "the node tests of ONNX: Python lacks the package `onnx` (OFFSHOOT_PYTHON names another interpreter)",
        );
        return None;
    }
    assert!(output.status.success(), "nodes.py: {}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8_lossy(&output.stdout);
    Some(PathBuf::from(printed.lines().last().unwrap_or_default()))
}

fn run_all(folder: &Path, cases: &[Case]) -> BTreeMap<String, Outcome> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = std::time::Instant::now();
                    let outcome = run_case(folder, case);
                    let seconds = start.elapsed().as_secs();
                    if seconds >= 5 {
                        println!("{}: {seconds} s", case.name);
                    }
                    results.lock().unwrap().insert(case.name.clone(), outcome);
                }
            });
        }
    });
    results.into_inner().unwrap()
}

/// Passes if one form passes and none is wrong.
fn run_case(folder: &Path, case: &Case) -> Outcome {
    let mut found = Outcome::Refused(format!("{} has no form", case.operator));
    for form in &case.forms {
        let outcome = catch_unwind(AssertUnwindSafe(|| run_form(folder, case, form)));
        let outcome = outcome.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Outcome::Wrong(format!("panic: {}", text.unwrap_or_default()))
        });
        match (&found, outcome) {
            (_, Outcome::Wrong(reason)) => return Outcome::Wrong(format!("{}: {reason}", form.form)),
            (_, Outcome::Pass) => found = Outcome::Pass,
            (Outcome::Pass, Outcome::Refused(_)) => {}
            (_, refused) => found = refused,
        }
    }
    found
}

fn run_form(folder: &Path, case: &Case, form: &Form) -> Outcome {
    let bytes = std::fs::read(folder.join(&form.model)).unwrap();
    let graph = match offshoot_import::import_bytes(&bytes, &case.name) {
        Ok(graph) => graph,
        Err(error) => return Outcome::Refused(reason(&error)),
    };
    let graph = match passes::lossless(graph) {
        Ok((graph, _)) => graph,
        Err(error) => return Outcome::Wrong(line(&format!("a pass: {error}"))),
    };
    // What the arena's plan costs in time is not the question here.
    let mut options = CompileOptions::default();
    (options.plan.order_budget, options.plan.offset_budget) = (500, 500);
    let compiled = match compile(&graph, &options) {
        Ok(compiled) => compiled,
        Err(error) => return Outcome::Refused(line(&error.to_string())),
    };
    let file = AlignedBytes::copy_of(&compiled.bytes);
    let model = Model::open(file.bytes()).unwrap();
    let read = |name: &String| npy::read(&folder.join(name)).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    for (i, name) in form.inputs.iter().enumerate() {
        let bytes = encode(&Port::from(model.input(i).unwrap()), &read(name));
        engine.input_mut(i).unwrap().copy_from_slice(&bytes);
    }
    engine.run().unwrap();
    let outputs: Vec<_> = (0..case.outputs.len()).map(|i| engine.output(i).map(<[u8]>::to_vec)).collect();
    for (i, (bytes, name)) in outputs.iter().zip(&case.outputs).enumerate() {
        let Ok(bytes) = bytes else { return Outcome::Wrong(format!("output {i} is missing")) };
        let wanted = read(name).to_f32();
        let port = Port::from(model.output(i).unwrap());
        let extents = |shape: &[usize]| shape.iter().copied().filter(|d| *d != 1).collect::<Vec<_>>();
        if extents(&port.outside_shape()) != extents(wanted.shape()) {
            let found = port.outside_shape();
            return Outcome::Wrong(format!("output {i} is {found:?} instead of {:?}", wanted.shape()));
        }
        let found = outside(&port, &port.decode(bytes));
        let bound = |w: f32| case.absolute.max(1e-6) + case.relative * w.abs();
        let equal = |f: f32, w: f32| f == w || f.is_nan() && w.is_nan() || (f - w).abs() <= bound(w);
        let departs = found.iter().zip(wanted.iter()).position(|(f, w)| !equal(*f, *w));
        if let Some(at) = departs {
            let wanted = wanted.iter().nth(at).copied().unwrap_or_default();
            return Outcome::Wrong(format!("output {i}[{at}] is {} instead of {wanted}", found[at]));
        }
    }
    Outcome::Pass
}

/// The first problem, which names the operator.
fn reason(error: &ImportError) -> String {
    match error {
        ImportError::Unsupported(problems) => {
            problems.first().map_or_else(String::new, |p| line(&format!("{}: {}", p.operator, p.reason)))
        }
        other => line(&other.to_string()),
    }
}

fn line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// An input or output: its shape in memory, and whether that is ONNX's with the channels last.
struct Port {
    shape: Vec<usize>,
    channels_first_outside: bool,
    dtype: DType,
    /// What int8 has less than the number that it stands for.
    less: i32,
}

impl From<IoRepr> for Port {
    fn from(io: IoRepr) -> Self {
        let rank = usize::from(io.rank).min(io.shape.len());
        Self {
            shape: io.shape[..rank].iter().map(|d| usize::from(*d)).collect(),
            channels_first_outside: io.channels_first_outside() && rank > 2,
            dtype: io.dtype,
            less: if io.declared() == Some(Declared::U8) { 128 } else { 0 },
        }
    }
}

impl Port {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn outside_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if self.channels_first_outside
            && let Some(channels) = shape.pop()
        {
            shape.insert(1, channels);
        }
        shape
    }

    fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        let words = || bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]);
        match self.dtype {
            DType::I8 => bytes.iter().map(|b| (i32::from(*b as i8) + self.less) as f32).collect(),
            DType::I16 => bytes
                .chunks_exact(2)
                .map(|b| (i32::from(i16::from_le_bytes([b[0], b[1]])) + self.less) as f32)
                .collect(),
            DType::F32 => words().map(f32::from_le_bytes).collect(),
            DType::I32 => words().map(|w| i32::from_le_bytes(w) as f32).collect(),
        }
    }
}

/// An array of the ONNX tensor's layout as the bytes of an input. Values may be infinite or NaN here.
fn encode(port: &Port, array: &npy::Array) -> Vec<u8> {
    let values: Vec<f32> = array.to_f32().iter().copied().collect();
    let mut inside = values.clone();
    for (from, to) in places(port).into_iter().enumerate() {
        inside[to] = values[from];
    }
    match port.dtype {
        DType::I8 => inside.iter().map(|v| (*v as i32 - port.less) as u8).collect(),
        DType::I16 => inside.iter().flat_map(|v| ((*v as i32 - port.less) as i16).to_le_bytes()).collect(),
        DType::F32 => inside.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I32 => inside.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect(),
    }
}

/// Values of an output in the ONNX tensor's layout.
fn outside(port: &Port, inside: &[f32]) -> Vec<f32> {
    places(port).into_iter().map(|at| inside[at]).collect()
}

/// The place in memory of each element of the ONNX tensor.
fn places(port: &Port) -> Vec<usize> {
    let count = port.len();
    if !port.channels_first_outside {
        return (0..count).collect();
    }
    let shape = port.outside_shape();
    let (channels, pixels) = (shape[1], shape[2..].iter().product::<usize>());
    let batch = channels * pixels;
    (0..count).map(|i| i / batch * batch + i % pixels * channels + i % batch / pixels).collect()
}

fn write_list(path: &Path, results: &BTreeMap<String, Outcome>) {
    let mut text = String::new();
    for (name, outcome) in results {
        writeln!(text, "{name}: {outcome}").unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// Names of the tests that the list has as passing.
fn listed_passes(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.strip_suffix(": pass")).map(str::to_owned).collect()
}
