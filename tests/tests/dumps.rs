//! `verify --dump` on what another runtime might have written for a shipped network: right tensors, and tensors that are wrong in the ways that
//! people meet. The first operator that departs must be named, whatever is wrong behind it.

use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_data::npy::Array;
use offshoot_data::{npy, npz};
use offshoot_ir::{Graph, Op, ValueId};
use offshoot_reference::Executor;
use serde_json::Value;

const SAMPLES: usize = 3;

fn model(name: &str) -> PathBuf {
    offshoot_tests::root().join("models").join(name)
}

fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `offshoot` prints with `--json`, and whether it succeeded.
fn offshoot(args: &[&str]) -> (bool, Value) {
    let exe = std::env::current_exe().unwrap();
    let bin = exe.parent().unwrap().parent().unwrap().join("offshoot");
    let out = Command::new(bin).args(args).arg("--json").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    (out.status.success(), serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}")))
}

/// A network as its file has it, and some of its samples.
struct Bench {
    folder: tempfile::TempDir,
    onnx: PathBuf,
    x: PathBuf,
    graph: Graph,
    samples: ArrayD<f32>,
}

/// Changes a tensor as it is computed.
type Fault<'a> = &'a dyn Fn(&Graph, ValueId, &mut ArrayD<f32>);

impl Bench {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let onnx = model(name).join("model.onnx");
        let graph = offshoot_import::import(&onnx).unwrap();
        let all = npy::read(&model(name).join("test_x.npy")).unwrap().to_f32();
        let samples = all.slice_axis(Axis(0), (0..SAMPLES).into()).to_owned();
        let x = folder.path().join("x.npy");
        npy::write(&x, &samples.clone().into()).unwrap();
        Self { folder, onnx, x, graph, samples }
    }

    /// Every tensor of every sample as another runtime writes it, by its name in the network.
    fn tensors(&self, fault: Fault<'_>) -> Vec<(String, Array)> {
        let executor = Executor::new(&self.graph).unwrap();
        let input = self.graph.inputs[0];
        let mut values: Vec<Vec<f32>> = vec![Vec::new(); self.graph.values.len()];
        for sample in self.samples.outer_iter() {
            let shape = IxDyn(&self.graph.value(input).shape);
            let sample = sample.to_owned().into_shape_with_order(shape).unwrap();
            let mut keep = |id: ValueId, array: &mut ArrayD<f32>| {
                fault(&self.graph, id, array);
                values[id.0 as usize].extend(array.iter());
            };
            executor.run_with(&[sample], &mut keep).unwrap();
        }
        let computed = self.graph.values.iter().zip(values).filter(|(_, v)| !v.is_empty());
        computed
            // What the importer added is no tensor of the file.
            .filter(|(value, _)| !value.name.ends_with("/nhwc"))
            .map(|(value, v)| {
                let shape = [&[SAMPLES], &value.shape[1..]].concat();
                (value.name.clone(), ArrayD::from_shape_vec(shape, v).unwrap().into())
            })
            .collect()
    }

    fn verify(&self, arrays: &[(String, Array)], more: &[&str]) -> (bool, Value) {
        let dump = self.folder.path().join("dump.npz");
        std::fs::write(&dump, npz::to_bytes(arrays).unwrap()).unwrap();
        let line = ["verify", s(&self.onnx), "--input", s(&self.x), "--dump", s(&dump)];
        offshoot(&[&line[..], more].concat())
    }

    fn departure(&self, arrays: &[(String, Array)]) -> Value {
        let (right, report) = self.verify(arrays, &[]);
        assert!(right, "{report}");
        report
    }

    /// The output of the `k`th convolution, in the file's order of axes.
    fn convolution(&self, k: usize) -> String {
        let mut outputs =
            self.graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d { .. })).map(|n| n.output);
        let name = self.graph.value(outputs.nth(k).unwrap()).name.clone();
        name.strip_suffix("/nhwc").unwrap_or(&name).to_owned()
    }
}

#[test]
fn right_tensors_depart_nowhere() {
    let bench = Bench::new("glyphs");
    let tensors = bench.tensors(&|_, _, _| {});
    let report = bench.departure(&tensors);
    assert_eq!(report["count"], SAMPLES, "{report}");
    assert!(
        report["first_departure"].is_null() && report["unknown"].as_array().unwrap().is_empty(),
        "{report}"
    );
    assert_eq!(report["tensors"].as_array().unwrap().len(), tensors.len());
    // The same as files, with names as file systems ask, laid out flat, beside the compiled network.
    let folder = bench.folder.path().join("dump");
    std::fs::create_dir(&folder).unwrap();
    for (name, array) in &tensors {
        let values: Vec<f32> = array.to_f32().iter().copied().collect();
        let flat = ArrayD::from_shape_vec(vec![values.len()], values).unwrap();
        npy::write(&folder.join(format!("{}.npy", name.replace(['/', ':'], "_"))), &flat.into()).unwrap();
    }
    let off = bench.folder.path().join("m.off");
    let calib = model("glyphs").join("calibration_x.npy");
    assert!(offshoot(&["compile", s(&bench.onnx), "-o", s(&off), "--calib", s(&calib)]).0);
    // The input is in the dump.
    let (right, report) = offshoot(&["verify", s(&bench.onnx), s(&off), "--dump", s(&folder)]);
    assert!(right && report["first_departure"].is_null(), "{report}");
    let rows = report["tensors"].as_array().unwrap();
    let compiled: Vec<f64> = rows.iter().filter_map(|t| t["compiled_snr_db"].as_f64()).collect();
    assert!(compiled.len() > 3 && compiled.iter().all(|v| *v > 15.0), "{report}");
}

#[test]
fn the_first_fault_is_named() {
    let bench = Bench::new("glyphs");
    let wrong = bench.convolution(1);
    let fault = |graph: &Graph, id: ValueId, array: &mut ArrayD<f32>| {
        if graph.value(id).name == wrong {
            // As of a kernel that forgets the padding on one side.
            array.index_axis_mut(Axis(3), 0).fill(0.0);
            array.mapv_inplace(|v| v * 0.5 + 0.25 * v.abs());
        }
    };
    let report = bench.departure(&bench.tensors(&fault));
    assert_eq!(report["first_departure"], Value::from(wrong.clone()), "{report}");
    // Behind it everything is wrong along the network, and right on the dump's own values.
    let departing = report["tensors"].as_array().unwrap().iter().filter(|t| t["departs"] == true).count();
    assert_eq!(departing, 1, "{report}");
}

#[test]
fn another_input_is_named_with_its_scale() {
    let bench = Bench::new("glyphs");
    let input = bench.graph.inputs[0];
    let fault = |_: &Graph, id: ValueId, array: &mut ArrayD<f32>| {
        if id == input {
            array.mapv_inplace(|v| v * 255.0 - 128.0);
        }
    };
    let report = bench.departure(&bench.tensors(&fault));
    assert_eq!(report["tensors"][0]["operator"], "input", "{report}");
    assert!(
        report["explanation"].as_str().unwrap().contains("255.0000 times the values less 128.0000"),
        "{report}"
    );
    let departing = report["tensors"].as_array().unwrap().iter().filter(|t| t["departs"] == true).count();
    assert_eq!(departing, 1, "{report}");
}

#[test]
fn channels_last_tensors_are_recognised() {
    let bench = Bench::new("glyphs");
    let moved = bench.tensors(&|_, _, _| {}).into_iter().map(|(name, array)| {
        let array = array.to_f32();
        match array.ndim() {
            4 => (name, array.permuted_axes(IxDyn(&[0, 2, 3, 1])).as_standard_layout().into_owned().into()),
            _ => (name, array.into()),
        }
    });
    let report = bench.departure(&moved.collect::<Vec<_>>());
    assert!(report["first_departure"].is_null(), "{report}");
}

#[test]
fn wrong_dumps_say_what_to_do() {
    let bench = Bench::new("glyphs");
    let tensors = bench.tensors(&|_, _, _| {});
    let (name, array) = tensors.last().unwrap().clone();
    let kind = |arrays: &[(String, Array)], more: &[&str]| {
        let (right, report) = bench.verify(arrays, more);
        assert!(!right, "{report}");
        (report["error"]["kind"].as_str().unwrap().to_owned(), report["error"]["message"].to_string())
    };
    let (failure, said) = kind(&[(format!("{name}x"), array.clone())], &[]);
    assert!(failure == "mismatch" && said.contains("did you mean") && said.contains(&name), "{said}");
    let short = ArrayD::from_shape_vec(vec![1, 7], vec![0.0f32; 7]).unwrap();
    assert_eq!(kind(&[(name.clone(), short.into())], &[]).0, "shape");
    let len = array.to_f32().len();
    let codes = ArrayD::from_shape_vec(vec![SAMPLES, len / SAMPLES], vec![1i8; len]).unwrap();
    assert_eq!(kind(&[(name.clone(), codes.into())], &[]).0, "dtype");
    assert_eq!(kind(&[], &[]).0, "format");
    let junk = bench.folder.path().join("junk.npz");
    std::fs::write(&junk, b"junk").unwrap();
    assert!(!offshoot(&["verify", s(&bench.onnx), "--input", s(&bench.x), "--dump", s(&junk)]).0);
    assert!(!offshoot(&["verify", s(&bench.onnx), "--input", s(&bench.x)]).0);
}
