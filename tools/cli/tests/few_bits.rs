//! `sensitivity`, `qat`, `rank` and `compile` with what they write, on a small network.

use std::path::{Path, PathBuf};

use clap::Parser;
use ndarray::{Array, ArrayD};
use offshoot_cli::commands::compile::Precision;
use offshoot_cli::commands::{compile, qat, rank, sensitivity};
use offshoot_cli::{Failure, Kind, Ui};
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, fit};

const UI: Ui = Ui { json: true };

/// A trained network that finds the brightest quadrant of an image, and its data, as files in `folder`.
fn material(folder: &Path) -> [PathBuf; 3] {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let labels: Vec<i64> = (0..300).map(|i| i % 4).collect();
    let x: ArrayD<f32> = Array::from_shape_fn((300, 8, 8, 1), |(i, h, w, _)| {
        let inside = (h / 4 * 2 + w / 4) as i64 == labels[i];
        random() + if inside { 0.6 } else { 0.0 }
    })
    .into_dyn();
    let net = Network::new("quadrants", [8, 8, 1], 3)
        .conv("a", 16, [3, 3], [2, 2], Edge::Same)
        .normalise_relu("a")
        .depthwise("b", [3, 3], [1, 1], Edge::Same)
        .normalise_relu("b")
        .conv("c", 32, [2, 2], [2, 2], Edge::Valid);
    let shortcut = net.last();
    let net = net.relu("c.relu").conv("d", 32, [1, 1], [1, 1], Edge::Valid).add("sum", shortcut);
    let net = net.conv("e", 16, [2, 2], [1, 1], Edge::Valid).relu("e.relu");
    let graph = net.global_average("average").dense("head", 4).softmax("softmax");
    let data = Dataset::new(x.clone(), Target::Labels(labels.clone()));
    let options = FitOptions { epochs: 12, batch: 32, ..FitOptions::default() };
    let (graph, _) = fit(&graph, &data, &options, &mut ()).unwrap();
    let paths = ["m.onnx", "x.npy", "y.npy"].map(|name| folder.join(name));
    std::fs::write(&paths[0], offshoot_import::emit(&graph).unwrap()).unwrap();
    offshoot_data::npy::write(&paths[1], &x.into()).unwrap();
    let labels = ArrayD::from_shape_vec(vec![labels.len()], labels).unwrap();
    offshoot_data::npy::write(&paths[2], &labels.into()).unwrap();
    paths
}

#[derive(Parser)]
struct Line<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn parse<A: clap::Args>(paths: &[PathBuf; 3], more: &[&str]) -> A {
    let [model, x, y] = paths.each_ref().map(|p| p.to_str().unwrap());
    let fixed = ["verb", model, "--data", x, y, "--held-out", "80"];
    Line::parse_from([&fixed, more].concat()).args
}

#[test]
fn a_policy_is_found_trained_and_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let paths = material(folder.path());
    let policy = folder.path().join("policy.toml");
    let at = policy.to_str().unwrap();
    let find = |more: &[&str]| -> Result<sensitivity::Report, Failure> {
        sensitivity::run(&UI, &parse(&paths, &[&["--codebooks"], more].concat()))
    };
    let found = find(&["--max-flash", "65%", "-o", at]).unwrap().found;
    assert_eq!(found.trials.len(), 5 * 4, "four convolutions of one group, a head");
    // Sizes depend a little on the numbers: equal scales of all channels are stored once.
    assert!(found.result.bytes <= found.whole.bytes * 65 / 100 + 64);
    assert!(found.trials.iter().any(|t| t.saved > 100));
    // Four bits are no worse than two.
    let loss = |bits| {
        found.trials.iter().filter(|t| t.bits == bits && t.levels.is_none()).map(|t| t.loss).sum::<f64>()
    };
    assert!(loss(4) <= loss(2) + 0.05, "{} {}", loss(4), loss(2));
    let free = find(&["--max-loss", "5%"]).unwrap().found;
    assert!(free.result.bytes < free.whole.bytes);
    assert!(free.whole.accuracy.unwrap() - free.result.accuracy.unwrap() <= 0.05);
    let refused = find(&["--max-flash", "10%", "--max-loss", "1%"]).unwrap_err();
    assert_eq!(refused.kind, Kind::Budget);
    assert!(refused.message.contains("nearest point"), "{}", refused.message);
    // `compile` takes the policy as it is, codebooks and all.
    let output = folder.path().join("policy.off");
    let args = compile::Args {
        model: paths[0].clone(),
        output: output.clone(),
        calib: vec![paths[1].clone()],
        precision: Some(Precision::Policy(policy)),
        ..compile::Args::default()
    };
    let made = compile::run(&UI, &args).unwrap();
    assert!(made.compiled.model_bytes <= found.whole.bytes * 66 / 100 + 64);

    let trained = folder.path().join("trained");
    let out = trained.to_str().unwrap();
    let line = ["--precision", "int2", "--epochs", "6", "--rate", "3e-3", "--batch", "16", "-o", out];
    let report = qat::run(&UI, &parse(&paths, &line)).unwrap();
    println!("{report:?}");
    assert!(
        report.after.accuracy >= report.before.accuracy - 0.05 && report.after.flash < report.eight.flash
    );
    // The written network compiles with the written numbers, without calibration, to the written bytes.
    let again = folder.path().join("again.off");
    let args = compile::Args {
        model: trained.join("model.onnx"),
        output: again.clone(),
        precision: Some(Precision::Policy(trained.join("policy.toml"))),
        ..compile::Args::default()
    };
    compile::run(&UI, &args).unwrap();
    assert!(std::fs::read(&again).unwrap() == std::fs::read(trained.join("model.off")).unwrap());
}

#[test]
fn curves_of_ranks_fall() {
    let folder = tempfile::tempdir().unwrap();
    let paths = material(folder.path());
    let out = folder.path().join("curves");
    let line = ["--shares", "100,40,15", "--epochs", "4", "--batch", "32", "-o", out.to_str().unwrap()];
    let report = rank::run(&UI, &parse(&paths, &line)).unwrap();
    assert_eq!(report.points.len(), 4 * 3);
    for points in report.points.chunks(3) {
        assert!(points[0].measured.flash > points[2].measured.flash, "{points:?}");
        assert!(points[0].measured.macs > points[2].measured.macs);
        assert!(
            points[0].ranks.iter().all(|(_, r)| r.is_none())
                && points[2].ranks.iter().any(|(_, r)| r.is_some())
        );
    }
    let text = std::fs::read_to_string(out.join("curve.svg")).unwrap();
    assert!(text.contains("maestro") && out.join("curve.json").exists());
}
