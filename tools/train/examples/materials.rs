//! Networks and data for `scripts/compress-table.sh`:
//! `cargo run --release -p offshoot-train --example materials -- DATA OUT [SEED]`.
//!
//! - `digits.onnx`: the keyword network of MLPerf Tiny (DS-CNN) with ten outputs, trained on spoken digits (takes 5 and on),
//!   with `digits_{train,test}_{x,y}.npy` (takes below 5 are the test set, as is usual);
//! - `kws_{tune,judge}_{x,y}.npy`: the 1,000 keywords in two halves.

use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayD, Axis};
use offshoot_data::npy::{self, Array};
use offshoot_train::augment::Series;
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, accuracy, fit, shuffled};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, data, out, seed @ ..] = &arguments[..] else { return Err("give DATA and OUT".into()) };
    let (data, out) = (Path::new(data), Path::new(out));
    let seed: u64 = seed.first().map_or(Ok(0), |s| s.parse())?;
    std::fs::create_dir_all(out)?;

    let x = npy::read(&data.join("keywords/x_f32.npy"))?.to_f32();
    let y = npy::read(&data.join("keywords/y.npy"))?.to_i64()?;
    let order = shuffled(y.len(), seed, 0);
    let (tune, judge) = order.split_at(y.len() / 2);
    for (name, part) in [("tune", tune), ("judge", judge)] {
        write(out, &format!("kws_{name}"), &x, &y, part)?;
    }

    let x = npy::read(&data.join("spoken_digits/x.npy"))?.to_f32();
    let shape = [x.shape(), &[1]].concat();
    let x = x.into_shape_with_order(shape)?;
    let y = npy::read(&data.join("spoken_digits/y.npy"))?.to_i64()?;
    let take: Vec<i64> = npy::read(&data.join("spoken_digits/take.npy"))?.to_i64()?.into_iter().collect();
    let of = |test: bool| -> Vec<usize> { (0..take.len()).filter(|&i| (take[i] < 5) == test).collect() };
    let (train, test) = (of(false), of(true));
    for (name, part) in [("train", &train), ("test", &test)] {
        write(out, &format!("digits_{name}"), &x, &y, part)?;
    }
    let labels = |part: &[usize]| -> Vec<i64> { y.select(Axis(0), part).into_iter().collect() };
    let samples = Dataset::new(x.select(Axis(0), &train), Target::Labels(labels(&train)));
    let options = FitOptions {
        epochs: 25,
        augment: Some(Arc::new(Series { shift: 4, noise: 0.1 })),
        seed,
        ..FitOptions::default()
    };
    let (graph, report) = fit(&network(seed), &samples, &options, &mut ())?;
    let (graph, _) = offshoot_ir::passes::lossless(graph)?;
    let found = accuracy(&graph, &x.select(Axis(0), &test), &labels(&test))?;
    println!(
        "digits.onnx: {:.2} % of {} test samples, loss {:.4}",
        100.0 * found,
        test.len(),
        report.epochs.last().map_or(0.0, |e| e.loss)
    );
    std::fs::write(out.join("digits.onnx"), offshoot_import::emit(&graph)?)?;
    Ok(())
}

fn write(
    out: &Path,
    name: &str,
    x: &ArrayD<f32>,
    y: &ArrayD<i64>,
    part: &[usize],
) -> Result<(), Box<dyn std::error::Error>> {
    npy::write(&out.join(format!("{name}_x.npy")), &Array::from(x.select(Axis(0), part)))?;
    npy::write(&out.join(format!("{name}_y.npy")), &Array::from(y.select(Axis(0), part)))?;
    Ok(())
}

/// DS-CNN (Zhang et al. 2017) as in MLPerf Tiny.
fn network(seed: u64) -> offshoot_ir::Graph {
    let mut net = Network::new("digits", [49, 10, 1], seed)
        .conv("stem", 64, [10, 4], [2, 2], Edge::Same)
        .normalise_relu("stem");
    for i in 0..4 {
        let (depthwise, pointwise) = (format!("block{i}.depthwise"), format!("block{i}.pointwise"));
        net = net
            .depthwise(&depthwise, [3, 3], [1, 1], Edge::Same)
            .normalise_relu(&depthwise)
            .conv(&pointwise, 64, [1, 1], [1, 1], Edge::Same)
            .normalise_relu(&pointwise);
    }
    net.global_average("pool").dense("head", 10).softmax("softmax")
}
