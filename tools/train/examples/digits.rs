//! Two networks for spoken digits and their data as files: what `scripts/low-rank-table.sh` and `scripts/few-bits-table.sh`
//! begin with.
//!
//! `cargo run --release -p offshoot-train --example digits -- SPOKEN_DIGITS OUTPUT [EPOCHS]`: reads `x.npy`, `y.npy` and
//! `take.npy` of the Free Spoken Digit Dataset's features (take < 5 is the test set), writes `train_x.npy`, `train_y.npy`,
//! `test_x.npy`, `test_y.npy`, `mlp.onnx` (490-256-128-10) and `dscnn.onnx` (DS-CNN, Zhang et al. 2017).

use std::path::{Path, PathBuf};

use ndarray::{Array1, ArrayD, Axis};
use offshoot_data::npy::{self, Array};
use offshoot_ir::Graph;
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, accuracy, fit};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(source), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: digits SPOKEN_DIGITS OUTPUT [EPOCHS]".into());
    };
    let epochs: usize = arguments.next().map_or(Ok(30), |e| e.parse())?;
    let (source, output) = (PathBuf::from(source), PathBuf::from(output));
    std::fs::create_dir_all(&output)?;
    let read = |name: &str| npy::read(&source.join(name));
    let x = read("x.npy")?.to_f32().insert_axis(Axis(3));
    let y: Vec<i64> = read("y.npy")?.to_i64()?.into_iter().collect();
    let take: Vec<i64> = read("take.npy")?.to_i64()?.into_iter().collect();
    let part = |test: bool| {
        let chosen: Vec<usize> = (0..y.len()).filter(|&i| (take[i] < 5) == test).collect();
        (x.select(Axis(0), &chosen), chosen.iter().map(|&i| y[i]).collect::<Vec<i64>>())
    };
    let (train, test) = (part(false), part(true));
    for (name, (x, y)) in [("train", &train), ("test", &test)] {
        npy::write(&output.join(format!("{name}_x.npy")), &Array::from(x.clone()))?;
        let labels: Array1<i64> = y.iter().copied().collect();
        npy::write(&output.join(format!("{name}_y.npy")), &Array::from(labels.into_dyn()))?;
    }
    make(&output, mlp(), epochs, &train, &test)?;
    make(&output, dscnn(), epochs, &train, &test)
}

fn mlp() -> Graph {
    let net = Network::new("mlp", [49, 10, 1], 1);
    let net = net.conv("a", 256, [49, 10], [1, 1], Edge::Valid).normalise_relu("a");
    let net = net.conv("b", 128, [1, 1], [1, 1], Edge::Valid).normalise_relu("b");
    net.global_average("flat").dense("c", 10).softmax("softmax")
}

fn dscnn() -> Graph {
    let mut net = Network::new("dscnn", [49, 10, 1], 1)
        .conv("stem", 64, [10, 4], [2, 2], Edge::Same)
        .normalise_relu("stem");
    for i in 0..4 {
        let (deep, point) = (format!("block{i}.depthwise"), format!("block{i}.pointwise"));
        net = net.depthwise(&deep, [3, 3], [1, 1], Edge::Same).normalise_relu(&deep);
        net = net.conv(&point, 64, [1, 1], [1, 1], Edge::Valid).normalise_relu(&point);
    }
    net.global_average("pool").dense("head", 10).softmax("softmax")
}

type Part = (ArrayD<f32>, Vec<i64>);

fn make(folder: &Path, graph: Graph, epochs: usize, train: &Part, test: &Part) -> Result<(), Failure> {
    let data = Dataset::new(train.0.clone(), Target::Labels(train.1.clone()));
    let options = FitOptions { epochs, smoothing: 0.1, ..FitOptions::default() };
    let (trained, _) = fit(&graph, &data, &options, &mut ())?;
    let name = trained.name.clone();
    offshoot_report::write_atomically(
        &folder.join(format!("{name}.onnx")),
        &offshoot_import::emit(&trained)?,
    )?;
    println!(
        "{name}: {:.2} % of {} test samples",
        100.0 * accuracy(&trained, &test.0, &test.1)?,
        test.1.len()
    );
    Ok(())
}
