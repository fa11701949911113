//! The int8 MLPerf Tiny networks give TFLite Micro's output bytes, and if not: the first operator that departs.
//!
//! Import of the QDQ file, lossless passes, export, engine: the whole way to the bytes that the device computes.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use offshoot::trace::{NoObserver, Observer, OpInfo};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_data::npy::{self, Array};
use offshoot_export::{CompileOptions, Compiled, Prefer, compile};
use offshoot_ir::{Graph, passes};
use offshoot_tests::data;

/// Bytes beyond weights and biases allowed: 5 a channel, 24 an operator, 256.
const OVERHEAD: (u64, u64, u64) = (5, 24, 256);

#[test]
fn kws() {
    equals_golden("kws", "keywords/x_i8.npy", "keywords/golden_i8.npy");
}

#[test]
fn ic() {
    equals_golden("ic", "cifar10/test_x.npy", "cifar10/golden_ic_i8_first1000.npy");
}

#[test]
fn vww() {
    equals_golden("vww", "golden_vww/x_i8.npy", "golden_vww/y_i8.npy");
}

#[test]
fn ad() {
    equals_golden("ad", "golden_ad/x_i8.npy", "golden_ad/y_i8.npy");
}

#[test]
fn sww() {
    equals_golden("sww", "golden_sww/x_i8.npy", "golden_sww/y_i8.npy");
}

/// Runs a network over the eight inputs whose every operator's output is known, then over all golden inputs.
fn equals_golden(network: &str, inputs: &str, outputs: &str) {
    let Some(onnx) = data(&format!("mlperf_tiny/{network}_int8.onnx")) else {
        return;
    };
    for prefer in [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash] {
        let (graph, compiled) = build(&onnx, prefer);
        print_sizes(&format!("{network} {prefer:?}"), &compiled);
        if prefer != Prefer::Speed {
            check_overhead(network, &graph, &compiled);
            check_sizes(network, &compiled, prefer);
        }
        // All inputs once; the other plans on a few.
        let most = if prefer == Prefer::Balanced { usize::MAX } else { 16 };
        check_outputs(network, &compiled, inputs, outputs, most);
    }
}

/// Bytes that the file and the arena may take: the file less than half of what other tools take beyond the weights, the
/// arena within 5 % of the bound for execution below tensor granularity.
const SIZES: [(&str, u64, u64); 5] = [
    ("kws", 28_000, 8_531),
    ("ic", 81_500, 34_960),
    ("vww", 46_500, 38_707),
    ("ad", 272_000, 806),
    ("sww", 54_500, 3_763),
];

/// The anomaly detector with `prefer flash`: its weights are coded, those of the others would not become smaller.
const CODED_AD: u64 = 190_000;

/// `prefer flash` leaves plain operators where arranged weights would take more, and plain ones do not overwrite their
/// input: the arena's bound is not for it.
fn check_sizes(network: &str, compiled: &Compiled, prefer: Prefer) {
    let (_, file, arena) = SIZES.into_iter().find(|s| s.0 == network).unwrap();
    let small_arena = prefer != Prefer::Flash;
    let file = if network == "ad" && !small_arena { CODED_AD } else { file };
    let r = &compiled.report;
    assert!(r.model_bytes <= file, "{network}: file of {} B, {file} allowed", r.model_bytes);
    assert!(
        !small_arena || r.arena_bytes <= arena,
        "{network}: arena of {} B, {arena} allowed",
        r.arena_bytes
    );
}

fn check_outputs(network: &str, compiled: &Compiled, inputs: &str, outputs: &str, most: usize) {
    let model = AlignedBytes::copy_of(&compiled.bytes);

    let operators = |suffix: &str| data(&format!("golden_operators/{network}_{suffix}"));
    if let (Some(x), Some(layers)) = (operators("in.npy"), operators("layers.npz")) {
        let layers = read_npz(&layers);
        for (i, x) in rows(&x).iter().enumerate() {
            let golden: Vec<&[i8]> = layers.values().map(|l| l[i].as_slice()).collect();
            check_operators(network, i, &model, x, &golden);
        }
    }
    if let (Some(x), Some(y)) = (data(inputs), data(outputs)) {
        let (x, y) = (rows(&x), rows(&y));
        let wrong: Vec<usize> =
            (0..y.len().min(most)).filter(|&i| run(&model, &x[i], &mut NoObserver) != y[i]).collect();
        assert!(
            wrong.is_empty(),
            "{network}: {} of {} outputs depart, first {:?}",
            wrong.len(),
            y.len(),
            wrong[0]
        );
    }
}

fn build(onnx: &Path, prefer: Prefer) -> (Graph, Compiled) {
    let graph = offshoot_import::import(onnx).unwrap_or_else(|e| panic!("{}: {e}", onnx.display()));
    let (graph, _) = passes::lossless(graph).unwrap_or_else(|e| panic!("{}: {e}", onnx.display()));
    let options = CompileOptions { prefer, ..CompileOptions::default() };
    let compiled = compile(&graph, &options).unwrap_or_else(|e| panic!("{}: {e}", onnx.display()));
    (graph, compiled)
}

fn print_sizes(network: &str, compiled: &Compiled) {
    let r = &compiled.report;
    println!(
        "{network}: model {} B (weights {}, bias {}, rest {}), arena {} B (bound {}, optimal {}), {} MACs, {} operators",
        r.model_bytes,
        r.weights_bytes,
        r.bias_bytes,
        r.overhead_bytes,
        r.arena_bytes,
        r.arena_lower_bound_bytes,
        r.arena_optimal,
        r.macs,
        r.operators.len(),
    );
}

fn check_overhead(network: &str, graph: &Graph, compiled: &Compiled) {
    let channels: u64 = compiled.report.bias_bytes / 4;
    let operators = compiled.report.operators.len() as u64;
    let allowed = OVERHEAD.0 * channels + OVERHEAD.1 * operators + OVERHEAD.2;
    let found = compiled.report.overhead_bytes;
    assert!(
        found <= allowed,
        "{network} ({} nodes): {found} B beyond weights and biases, {allowed} allowed",
        graph.nodes.len()
    );
    assert!(compiled.report.fallbacks.is_empty(), "{network}: {:?}", compiled.report.fallbacks);
}

/// One inference; the bytes of the first output.
fn run(model: &AlignedBytes, input: &[i8], observer: &mut impl Observer) -> Vec<i8> {
    let model = Model::open(model.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let bytes: Vec<u8> = input.iter().map(|&q| q as u8).collect();
    engine.input_mut(0).unwrap().copy_from_slice(&bytes);
    engine.run_with(observer).unwrap();
    engine.output(0).unwrap().iter().map(|&b| b as i8).collect()
}

/// Keeps every operator's output.
#[derive(Default)]
struct Recorder(Vec<(OpInfo, Vec<i8>)>);

impl Observer for Recorder {
    fn after(&mut self, op: OpInfo, output: &[u8]) {
        self.0.push((op, output.iter().map(|&b| b as i8).collect()));
    }
}

/// The output must equal; if it does not, names the first operator whose output is that of no TFLite operator at
/// or after the last one found. (Operators that the passes took away or made smaller have no counterpart.)
fn check_operators(network: &str, input: usize, model: &AlignedBytes, x: &[i8], golden: &[&[i8]]) {
    let mut recorder = Recorder::default();
    let y = run(model, x, &mut recorder);
    if golden.last().is_some_and(|g| y == *g) {
        return;
    }
    let mut next = 0;
    for (op, output) in &recorder.0 {
        let same_size = golden[next..].iter().position(|g| g.len() == output.len());
        match golden[next..].iter().position(|g| g == output) {
            Some(at) => next += at + 1,
            None if same_size.is_none() => {}
            None => {
                let g = golden[next + same_size.unwrap_or(0)];
                let wrong = output.iter().zip(g).filter(|(a, b)| a != b).count();
                let first = output.iter().zip(g).position(|(a, b)| a != b);
                panic!(
                    "{network}, input {input}: operator {} ({}, value {}) departs: {wrong} of {} bytes, first {first:?}: {:?} not {:?}",
                    op.index,
                    op.tag.name(),
                    op.origin,
                    g.len(),
                    first.map(|i| output[i]),
                    first.map(|i| g[i]),
                );
            }
        }
    }
    panic!("{network}, input {input}: the output departs, no single operator does");
}

/// Rows of a two- or more-dimensional array along its first axis. uint8 images become int8 by subtracting 128.
fn rows(path: &Path) -> Vec<Vec<i8>> {
    split(npy::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

fn split(array: Array) -> Vec<Vec<i8>> {
    let (count, flat): (usize, Vec<i8>) = match array {
        Array::I8(a) => (a.shape()[0], a.iter().copied().collect()),
        Array::U8(a) => (a.shape()[0], a.iter().map(|&v| (i16::from(v) - 128) as i8).collect()),
        other => panic!("expected int8 or uint8, found {}", other.dtype()),
    };
    flat.chunks(flat.len() / count.max(1)).map(<[i8]>::to_vec).collect()
}

/// Arrays of an `.npz` by name.
fn read_npz(path: &Path) -> BTreeMap<String, Vec<Vec<i8>>> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    (0..archive.len())
        .map(|i| {
            let mut file = archive.by_index(i).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            (file.name().to_string(), split(npy::parse(&bytes).unwrap()))
        })
        .collect()
}
