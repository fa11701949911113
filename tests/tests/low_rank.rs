//! The curve of rank against accuracy, flash and instructions on real data: spoken digits, a small perceptron.

use clap::Parser;
use ndarray::{ArrayD, Axis};
use offshoot_cli::commands::rank::{self, Method};
use offshoot_cli::ui::{Outcome, Ui};
use offshoot_data::npy::{self, Array};
use offshoot_tests::{data, skip_emulated};
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, fit};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: rank::Args,
}

#[test]
fn curves_of_a_perceptron() {
    let (Some(x), Some(y), Some(take)) =
        (data("spoken_digits/x.npy"), data("spoken_digits/y.npy"), data("spoken_digits/take.npy"))
    else {
        return;
    };
    let x = npy::read(&x).unwrap().to_f32().insert_axis(Axis(3));
    let [y, take] =
        [y, take].map(|p| -> Vec<i64> { npy::read(&p).unwrap().to_i64().unwrap().into_iter().collect() });
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let part = |test: bool| -> (ArrayD<f32>, Vec<i64>) {
        let chosen: Vec<usize> = (0..y.len()).filter(|&i| (take[i] < 5) == test).collect();
        (x.select(Axis(0), &chosen), chosen.iter().map(|&i| y[i]).collect())
    };
    for (name, test) in [("train", false), ("test", true)] {
        let (x, y) = part(test);
        npy::write(file(&format!("{name}_x.npy")).as_ref(), &Array::from(x)).unwrap();
        let y = ArrayD::from_shape_vec(vec![y.len()], y).unwrap();
        npy::write(file(&format!("{name}_y.npy")).as_ref(), &Array::from(y)).unwrap();
    }
    let net =
        Network::new("mlp", [49, 10, 1], 1).conv("a", 96, [49, 10], [1, 1], Edge::Valid).normalise_relu("a");
    let net = net.conv("b", 64, [1, 1], [1, 1], Edge::Valid).normalise_relu("b");
    let graph = net.global_average("flat").dense("c", 10).softmax("softmax");
    let (x, labels) = part(false);
    let options = FitOptions { epochs: 10, smoothing: 0.1, ..FitOptions::default() };
    let (trained, _) = fit(&graph, &Dataset::new(x, Target::Labels(labels)), &options, &mut ()).unwrap();
    std::fs::write(file("mlp.onnx"), offshoot_import::emit(&trained).unwrap()).unwrap();

    let [net, out] = [file("mlp.onnx"), file("curves")];
    let files = ["train_x.npy", "train_y.npy", "test_x.npy", "test_y.npy"].map(file);
    let mut line =
        vec!["rank", &net, "--data", &files[0], &files[1], "--test", &files[2], &files[3], "-o", &out];
    line.extend(["--epochs", "8", "--rate", "2e-3", "--shares", "100,40,20,10,5", "--calibration", "64"]);
    let emulated = !skip_emulated();
    if emulated {
        line.extend(["--target", "qemu:cortex-m4"]);
    }
    let report = rank::run(&Ui { json: true }, &Line::parse_from(line).args).unwrap();
    println!("{}", report.render());
    let accuracy = |method: Method, share: f64| {
        let point = report.points.iter().find(|p| p.method == method && p.share == share).unwrap();
        point.measured.accuracy
    };
    // What was trained to be cut stands being cut.
    assert!(accuracy(Method::Maestro, 10.0) > accuracy(Method::Svd, 10.0));
    assert!(accuracy(Method::Aware, 10.0) > accuracy(Method::Svd, 10.0) - 0.02);
    for points in report.points.chunks(5) {
        assert!(points[4].measured.flash * 4 < points[0].measured.flash);
        if emulated {
            assert!(points[4].measured.instructions.unwrap() * 2 < points[0].measured.instructions.unwrap());
        }
    }
}
