//! Float networks quantised by the project, judged as the device computes them: accuracy of the compiled `.off`.

use std::path::Path;

use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_cli::batch::{self, Inputs};
use offshoot_cli::commands::compile::Precision;
use offshoot_cli::commands::{compile, eval};
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_target::Target;
use offshoot_tests::data;

const UI: Ui = Ui { json: true };

/// Top-1 accuracy of the float network at `onnx`, quantised to int8 with `calib`, on `x`.
fn accuracy(onnx: &Path, calib: Array, x: &Array, y: &Array) -> f64 {
    let (value, _) = quantised(onnx, Precision::Int8, calib, x, y);
    value
}

/// The same with other weights; and the bytes of the file.
fn quantised(onnx: &Path, precision: Precision, calib: Array, x: &Array, y: &Array) -> (f64, usize) {
    let (graph, _) = files::read_graph(onnx).unwrap();
    let samples = compile::calibration(&graph, &[calib], &["calibration".into()]).unwrap();
    let args = compile::Args { precision: Some(precision), ..compile::Args::default() };
    let made = compile::make(&UI, graph, &samples, &args, None).unwrap();
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let model = file.model().unwrap();
    let inputs = Inputs::encode(&model, std::slice::from_ref(x), &["x".into()]).unwrap();
    let results = batch::run(&UI, &file, &inputs, &Target::Host, batch::Sequences::default()).unwrap();
    let port = batch::output_port(&model, 0).unwrap();
    let outputs: Vec<Vec<f32>> = results.iter().map(|r| port.decode(&r[0])).collect();
    (eval::top1(&outputs, y).unwrap(), made.compiled.bytes.len())
}

/// Rows `from..to` as float32.
fn rows(array: &Array, from: usize, to: usize) -> Array {
    array.to_f32().slice_axis(Axis(0), (from..to).into()).to_owned().into()
}

/// Every `step`-th row, so that all classes take part.
fn every(array: &Array, step: usize) -> Array {
    let a = array.to_f32();
    let n = a.shape()[0].div_ceil(step);
    let mut shape = a.shape().to_vec();
    shape[0] = n;
    let values = a.axis_iter(Axis(0)).step_by(step).flat_map(|r| r.iter().copied().collect::<Vec<_>>());
    ArrayD::from_shape_vec(IxDyn(&shape), values.collect()).unwrap().into()
}

#[test]
fn keywords() {
    let (Some(onnx), Some(x), Some(y)) =
        (data("mlperf_tiny/kws_f32.onnx"), data("keywords/x_f32.npy"), data("keywords/y.npy"))
    else {
        return;
    };
    let (x, y) = (npy::read(&x).unwrap(), npy::read(&y).unwrap());
    // The set has no training part: 100 of the samples, without their labels, calibrate; they stay in the judged set, as
    // the goal is stated for all 1,000.
    let value = accuracy(&onnx, every(&x, 10), &x, &y);
    println!("KWS: {:.2} % of {} (goal 90.8, float 91.3)", 100.0 * value, y.shape()[0]);
    assert!(value >= 0.908, "{value}");
    let (value, bytes) = quantised(&onnx, Precision::Int4, every(&x, 10), &x, &y);
    println!("KWS, weights of four bits: {:.2} % in {bytes} bytes", 100.0 * value);
    assert!(value >= 0.903 && bytes <= 18_000, "{value} in {bytes} bytes");
}

#[test]
fn images() {
    let (Some(onnx), Some(train), Some(x), Some(y)) = (
        data("mlperf_tiny/ic_f32.onnx"),
        data("cifar10/train_x.npy"),
        data("cifar10/test_x.npy"),
        data("cifar10/test_y.npy"),
    ) else {
        return;
    };
    let (train, x, y) = (npy::read(&train).unwrap(), npy::read(&x).unwrap(), npy::read(&y).unwrap());
    let value = accuracy(&onnx, rows(&train, 0, 200), &x, &y);
    println!("ResNet-8: {:.2} % of {} (goal 86.7, float 87.19)", 100.0 * value, y.shape()[0]);
    assert!(value >= 0.867, "{value}");
    let (x, y) = (rows(&x, 0, 2000), rows(&y, 0, 2000));
    let (value, bytes) = quantised(&onnx, Precision::Int4, rows(&train, 0, 200), &x, &y);
    println!("ResNet-8, weights of four bits: {:.2} % of 2,000 in {bytes} bytes (int8 86.9)", 100.0 * value);
    assert!(value >= 0.855 && bytes <= 43_000, "{value} in {bytes} bytes");
}

#[test]
fn shipped_models_lose_little() {
    for name in ["glyphs", "vibration", "tones"] {
        let folder = offshoot_tests::root().join("models").join(name);
        let read = |file: &str| npy::read(&folder.join(file)).unwrap();
        let value = accuracy(
            &folder.join("model.onnx"),
            read("calibration_x.npy"),
            &read("test_x.npy"),
            &read("test_y.npy"),
        );
        println!("{name}: {:.2} %", 100.0 * value);
        assert!(value >= 0.93, "{name}: {value}");
    }
}
