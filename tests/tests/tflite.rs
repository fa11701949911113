//! `.tflite` files give TensorFlow Lite Micro's bytes: single operators (`fixtures/tflite/make.py` and `int16.py` wrote them
//! with their answers), and MLPerf Tiny's five networks.

use offshoot::format::record::DType;
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_data::npy;
use offshoot_export::{CompileOptions, Compiled, Prefer, compile};
use offshoot_ir::passes;
use offshoot_tests::data;
use offshoot_tests::tflite::{columns, int16, operators, rows};
use std::collections::BTreeMap;

/// Largest difference of a float32 output, relative to its largest element: TensorFlow Lite Micro's float kernels sum in
/// another order.
const FLOAT: f32 = 2e-6;

/// The operators whose int8 form rounds once where TensorFlow Lite Micro rounds twice or interpolates its own tables; their
/// codes differ by at most one.
const ONE_STEP: [&str; 0] = [];

fn built(bytes: &[u8], name: &str, prefer: Prefer) -> Result<Compiled, String> {
    let graph = offshoot_import::import_bytes(bytes, name).map_err(|e| e.to_string())?;
    let (graph, _) = passes::lossless(graph).map_err(|e| e.to_string())?;
    compile(&graph, &CompileOptions { prefer, ..CompileOptions::default() }).map_err(|e| e.to_string())
}

/// The outputs for each sample, one after the other: a network with a state sees one sequence.
fn run(model: &AlignedBytes, samples: &[Vec<Vec<u8>>]) -> Vec<Vec<Vec<u8>>> {
    let model = Model::open(model.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let outputs = model.output_count();
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let mut answers = Vec::new();
    for inputs in samples {
        for (i, x) in inputs.iter().enumerate() {
            engine.input_mut(i).unwrap().copy_from_slice(x);
        }
        engine.run().unwrap();
        answers.push((0..outputs).map(|o| engine.output(o).unwrap().to_vec()).collect());
    }
    answers
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Why an output departs from the golden one.
fn difference(name: &str, dtype: DType, got: &[u8], want: &[u8]) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!("{} bytes, not {}", got.len(), want.len()));
    }
    if dtype == DType::F32 {
        let (got, want) = (floats(got), floats(want));
        let largest = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let worst = got.iter().zip(&want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        return (worst > FLOAT * largest).then(|| format!("differs by {worst} of {largest}"));
    }
    if dtype == DType::I16 {
        let half = |b: &[u8]| i16::from_le_bytes([b[0], b[1]]);
        let apart = |(a, b): (&[u8], &[u8])| half(a).abs_diff(half(b));
        let all = || got.chunks_exact(2).zip(want.chunks_exact(2)).map(apart);
        let wrong = all().filter(|d| *d > 0).count();
        let worst = all().max().unwrap_or(0);
        return (wrong > 0).then(|| format!("{wrong} of {} numbers differ, by up to {worst}", got.len() / 2));
    }
    let steps = usize::from(ONE_STEP.contains(&name));
    let apart = |(a, b): (&u8, &u8)| (i16::from(*a as i8) - i16::from(*b as i8)).unsigned_abs() as usize;
    let wrong = got.iter().zip(want).filter(|(a, b)| apart((a, b)) > steps).count();
    let worst = got.iter().zip(want).map(|(a, b)| apart((a, b))).max().unwrap_or(0);
    (wrong > 0).then(|| format!("{wrong} of {} bytes differ, by up to {worst}", got.len()))
}

#[test]
fn single_operators_give_the_bytes_of_tensorflow_lite_micro() {
    agree(&operators(), false);
}

#[test]
fn int16_activations_give_the_bytes_of_tensorflow_lite_micro() {
    agree(&int16(), true);
}

/// Compiles every network of an archive and compares its outputs; if `whole`, no operator may fall back to float32.
fn agree(files: &BTreeMap<String, Vec<u8>>, whole: bool) {
    let (mut tried, mut wrong) = (0, Vec::new());
    for (file, bytes) in files {
        let Some(name) = file.strip_suffix(".tflite").filter(|name| *name != "refused") else { continue };
        let (xs, ys) = (columns(files, name, "x"), columns(files, name, "y"));
        assert!(!xs.is_empty() && !ys.is_empty(), "{name}");
        for prefer in [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash] {
            tried += 1;
            let compiled = match built(bytes, name, prefer) {
                Ok(compiled) => compiled,
                Err(e) => {
                    wrong.push(format!("{name}: {e}"));
                    break;
                }
            };
            if whole && !compiled.report.fallbacks.is_empty() {
                wrong.push(format!("{name}: {:?}", compiled.report.fallbacks));
            }
            let aligned = AlignedBytes::copy_of(&compiled.bytes);
            let model = Model::open(aligned.bytes()).unwrap();
            let dtypes: Vec<DType> = (0..ys.len()).map(|o| model.output(o).unwrap().dtype).collect();
            let samples: Vec<Vec<Vec<u8>>> =
                (0..xs[0].len()).map(|i| xs.iter().map(|x| x[i].clone()).collect()).collect();
            let found = run(&aligned, &samples).iter().enumerate().find_map(|(i, outputs)| {
                let mut all = outputs.iter().zip(&ys).zip(&dtypes).enumerate();
                all.find_map(|(o, ((got, want), d))| {
                    difference(name, *d, got, &want[i]).map(|d| format!("output {o}: {d}"))
                })
            });
            if let Some(found) = found {
                wrong.push(format!("{name} ({prefer:?}): {found}"));
                break;
            }
        }
    }
    println!("{tried} files, {} depart", wrong.len());
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

#[test]
fn everything_that_is_refused_is_listed() {
    let error =
        offshoot_import::import_bytes(&operators()["refused.tflite"], "refused").unwrap_err().to_string();
    for part in [
        "3 node(s)",
        "custom operator AudioSpectrogram `0: t1`",
        "custom operator Mfcc `1: t2`",
        "UNIQUE `2: t3`",
    ] {
        assert!(error.contains(part), "{part} is not in\n{error}");
    }
}

#[test]
fn mlperf_tiny_gives_the_bytes_of_tensorflow_lite_micro() {
    for (network, inputs, outputs) in [
        ("kws", "keywords/x_i8.npy", "keywords/golden_i8.npy"),
        ("ic", "cifar10/test_x.npy", "cifar10/golden_ic_i8_first1000.npy"),
        ("vww", "golden_vww/x_i8.npy", "golden_vww/y_i8.npy"),
        ("ad", "golden_ad/x_i8.npy", "golden_ad/y_i8.npy"),
        ("sww", "golden_sww/x_i8.npy", "golden_sww/y_i8.npy"),
    ] {
        let (Some(model), Some(x), Some(y)) =
            (data(&format!("mlperf_tiny/{network}_int8.tflite")), data(inputs), data(outputs))
        else {
            return;
        };
        let compiled = built(&std::fs::read(model).unwrap(), network, Prefer::Balanced).unwrap();
        assert!(compiled.report.fallbacks.is_empty(), "{network}: {:?}", compiled.report.fallbacks);
        let model = AlignedBytes::copy_of(&compiled.bytes);
        let (x, y) = (rows(npy::read(&x).unwrap()), rows(npy::read(&y).unwrap()));
        let samples: Vec<Vec<Vec<u8>>> = x.into_iter().take(y.len()).map(|x| vec![x]).collect();
        let wrong = run(&model, &samples).iter().zip(&y).filter(|(got, y)| got[0] != **y).count();
        println!("{network}: {wrong} of {} outputs depart", y.len());
        assert_eq!(wrong, 0, "{network}");
    }
}
