//! `offshoot compress` on a small network: what it writes, and what it says when a budget cannot be met.

use std::path::{Path, PathBuf};

use clap::Parser;
use ndarray::{Array, ArrayD};
use offshoot_cli::commands::compress;
use offshoot_cli::files::{OffFile, read_graph};
use offshoot_cli::{Failure, Kind, Ui};
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, fit};

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
    let graph = Network::new("quadrants", [8, 8, 1], 3)
        .conv("a", 16, [3, 3], [2, 2], Edge::Same)
        .relu("a.relu")
        .conv("b", 32, [3, 3], [2, 2], Edge::Same)
        .relu("b.relu")
        .conv("c", 16, [2, 2], [1, 1], Edge::Valid)
        .relu("c.relu")
        .global_average("average")
        .dense("head", 4)
        .softmax("softmax");
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
struct Line {
    #[command(flatten)]
    args: compress::Args,
}

fn run(paths: &[PathBuf; 3], output: &Path, more: &[&str]) -> Result<compress::Report, Failure> {
    let [model, x, y] = paths.each_ref().map(|p| p.to_str().unwrap());
    let fixed = ["compress", model, "--data", x, y, "-o", output.to_str().unwrap(), "--periods", "2"];
    let line = Line::parse_from([&fixed, more].concat());
    compress::run(&Ui { json: true }, &line.args)
}

#[test]
fn a_network_is_compressed_to_its_budget_or_the_nearest_point_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let paths = material(folder.path());
    let out = folder.path().join("out");
    let report =
        run(&paths, &out, &["--method", "prune", "--max-flash", "50%", "--max-loss", "20%", "--epochs", "3"])
            .unwrap();
    let (first, last) = (&report.points[0], report.points.last().unwrap());
    assert!(last.size.flash * 2 <= first.size.flash && last.size.macs < first.size.macs, "{report:?}");
    assert!(first.accuracy > 0.9 && last.accuracy > 0.7, "{report:?}");
    let file = OffFile::read(&out.join("model.off")).unwrap();
    assert_eq!(file.bytes().len() as u64, last.size.flash);
    let (small, _) = read_graph(&out.join("model.onnx")).unwrap();
    let weights =
        |g: &offshoot_ir::Graph| g.values.iter().filter(|v| v.data.is_some()).map(|v| v.len()).sum::<usize>();
    assert!(weights(&small) < weights(&read_graph(&paths[0]).unwrap().0) / 2);
    assert!(std::fs::read_to_string(out.join("report.html")).unwrap().contains("<svg"));
    assert!(!out.join("fine-tuning.checkpoint").exists());

    let none = folder.path().join("none");
    let fails = |more: &[&str]| run(&paths, &none, more).unwrap_err();
    let budget = fails(&["--max-flash", "100"]);
    assert_eq!(budget.kind, Kind::Budget);
    assert!(budget.message.contains("smallest that can be reached"), "{budget}");
    let prune = ["--method", "prune", "--refit-samples", "0", "--score", "magnitude"];
    let loss = fails(&[&prune[..], &["--max-flash", "40%", "--max-loss", "0%"]].concat());
    assert_eq!(loss.kind, Kind::Budget);
    assert!(loss.message.contains("nearest point reached"), "{loss}");
    assert_eq!(fails(&[]).kind, Kind::Usage);
    assert!(!none.join("model.off").exists());
}

#[test]
fn methods_are_combined_or_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let paths = material(folder.path());
    let out = folder.path().join("out");
    let auto = run(
        &paths,
        &out,
        &[
            "--max-flash",
            "45%",
            "--max-macs",
            "60%",
            "--epochs",
            "2",
            "--fade-epochs",
            "1",
            "--rounded-epochs",
            "1",
            "--augment",
            "images",
        ],
    )
    .unwrap();
    let (first, last) = (&auto.points[0], auto.points.last().unwrap());
    assert!(last.size.flash * 100 <= first.size.flash * 45 && last.size.macs * 10 <= first.size.macs * 6);
    assert!(auto.weight_bits.values().any(|b| *b == 4) && auto.done.len() == 2, "{auto:?}");
    assert!(first.accuracy > 0.9 && last.accuracy > 0.7, "{auto:?}");
    // The policy that is written gives the same file.
    let policy = std::fs::read_to_string(out.join("policy.toml")).unwrap();
    assert!(policy.contains("= 4"), "{policy}");

    let bits = run(&paths, &out, &["--method", "bits", "--max-flash", "75%"]).unwrap();
    let (first, last) = (&bits.points[0], bits.points.last().unwrap());
    assert!(last.size.macs == first.size.macs && last.size.flash * 4 <= first.size.flash * 3);
    let erased = run(&paths, &out, &["--method", "erase,prune", "--max-flash", "60%"]).unwrap();
    assert!(erased.done[0].starts_with("erase:") && erased.done[1].starts_with("prune:"), "{erased:?}");
    let failed = run(&paths, &out, &["--method", "bits", "--max-flash", "10%"]).unwrap_err();
    assert!(failed.kind == Kind::Budget && failed.message.contains("smallest that can be reached"));
    // Weights of 4 bits need room in the arena to be expanded: where there is none, channels go alone.
    let tight = run(&paths, &out, &["--max-flash", "80%", "--max-ram", "100%"]).unwrap();
    assert!(tight.points.last().unwrap().size.ram <= tight.points[0].size.ram, "{tight:?}");
    let failed = run(&paths, &out, &["--max-instructions", "50%"]).unwrap_err();
    assert_eq!(failed.kind, Kind::Usage);
}
