//! Two networks for images of 28 × 28 pixels, MNIST or Fashion-MNIST: what `scripts/learning-table.sh` begins with.
//!
//! `cargo run --release -p offshoot-train --example images -- DATA OUTPUT [EPOCHS]`: reads `train_x.npy`, `train_y.npy`,
//! `test_x.npy` and `test_y.npy`, trains on all training images but the last 1,000, and writes `perceptron.onnx`
//! (784-128-64-10), `cnn.onnx` (three convolutions and two fully connected layers, 39 kB of weights as int8), and `fresh.onnx`
//! (784-128-10), which it does not train.

use std::path::PathBuf;

use ndarray::{ArrayD, Axis, Slice};
use offshoot_data::npy;
use offshoot_ir::Graph;
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, accuracy, fit};

type Failure = Box<dyn std::error::Error>;

/// Images that the networks never see, from the end of the training set: a device's own.
const HELD_OUT: usize = 1000;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: images DATA OUTPUT [EPOCHS]".into());
    };
    let epochs: usize = arguments.next().map_or(Ok(3), |e| e.parse())?;
    let (data, output) = (PathBuf::from(data), PathBuf::from(output));
    std::fs::create_dir_all(&output)?;
    let read = |name: &str| -> Result<(ArrayD<f32>, Vec<i64>), Failure> {
        let x = npy::read(&data.join(format!("{name}_x.npy")))?.to_f32() / 255.0;
        let y = npy::read(&data.join(format!("{name}_y.npy")))?.to_i64()?;
        Ok((x.insert_axis(Axis(3)), y.into_iter().collect()))
    };
    let ((x, y), test) = (read("train")?, read("test")?);
    let kept = y.len().checked_sub(HELD_OUT).ok_or("too few training images")?;
    let x = x.slice_axis(Axis(0), Slice::from(..kept)).to_owned();
    let train = Dataset::new(x, Target::Labels(y[..kept].to_vec()));
    offshoot_report::write_atomically(&output.join("fresh.onnx"), &offshoot_import::emit(&fresh())?)?;
    for graph in [perceptron(), cnn()] {
        let options = FitOptions { epochs, ..FitOptions::default() };
        let (trained, _) = fit(&graph, &train, &options, &mut ())?;
        let name = trained.name.clone();
        let bytes = offshoot_import::emit(&trained)?;
        offshoot_report::write_atomically(&output.join(format!("{name}.onnx")), &bytes)?;
        let right = 100.0 * accuracy(&trained, &test.0, &test.1)?;
        println!("{name}: {right:.2} % of {} test images", test.1.len());
    }
    Ok(())
}

fn fresh() -> Graph {
    let net = Network::new("fresh", [28, 28, 1], 1).flatten("flat");
    net.dense("a", 128).relu("a.relu").dense("b", 10).softmax("softmax")
}

fn perceptron() -> Graph {
    let net = Network::new("perceptron", [28, 28, 1], 1).flatten("flat");
    let net = net.dense("a", 128).relu("a.relu").dense("b", 64).relu("b.relu");
    net.dense("c", 10).softmax("softmax")
}

fn cnn() -> Graph {
    let net = Network::new("cnn", [28, 28, 1], 1);
    let net = net.conv("a", 16, [3, 3], [2, 2], Edge::Same).normalise_relu("a");
    let net = net.conv("b", 24, [3, 3], [1, 1], Edge::Same).normalise_relu("b");
    let net = net.conv("c", 16, [3, 3], [2, 2], Edge::Same).normalise_relu("c");
    net.flatten("flat").dense("d", 40).relu("d.relu").dense("e", 10).softmax("softmax")
}
