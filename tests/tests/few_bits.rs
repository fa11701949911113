//! Weights of few bits on real networks and an emulated board: what training wins back, what the file and a run take, and that
//! the board computes what training saw.

use std::path::{Path, PathBuf};

use clap::Parser;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::{qat, verify};
use offshoot_cli::ui::{Outcome, Ui};
use offshoot_tests::{data, skip_emulated};

const UI: Ui = Ui { json: true };

#[derive(Parser)]
struct Line<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn parse<A: clap::Args>(line: &[&str]) -> A {
    Line::parse_from(std::iter::once("verb").chain(line.iter().copied())).args
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Every intermediate tensor has the same bits on the host and on the emulated Cortex-M4.
fn same_on_board(onnx: &Path, off: &Path, x: &Path) {
    let line = [text(onnx), text(off), "--input", text(x), "--target", "qemu:cortex-m4", "--limit", "2"];
    let report = verify::run(&UI, &parse(&line)).unwrap();
    assert!(report.equal, "{:?}", report.first_difference);
}

#[test]
fn keywords_of_four_bits() {
    let (Some(onnx), Some(x), Some(y)) =
        (data("mlperf_tiny/kws_f32.onnx"), data("keywords/x_f32.npy"), data("keywords/y.npy"))
    else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("kws");
    let mut line = vec![text(&onnx), "--data", text(&x), text(&y), "--held-out", "500", "--epochs", "8"];
    line.extend(["--batch", "32", "--rate", "5e-4", "--calibration", "64", "-o", text(&out)]);
    let emulated = !skip_emulated();
    if emulated {
        line.extend(["--target", "qemu:cortex-m4"]);
    }
    let report = qat::run(&UI, &parse(&line)).unwrap();
    println!("KWS, trained on one half of the keywords, judged on the other:\n{}", report.render());
    let (eight, after) = (report.eight, report.after);
    assert!(after.accuracy >= eight.accuracy - 0.01, "{} and {}", after.accuracy, eight.accuracy);
    assert!(after.flash * 100 <= eight.flash * 66, "{} of {}", after.flash, eight.flash);
    if emulated {
        assert!(after.instructions.unwrap() * 10 <= eight.instructions.unwrap() * 11);
        same_on_board(&out.join("model.onnx"), &out.join("model.off"), &x);
    }
}

#[test]
fn mixed_policies_and_codebooks_run_on_the_board() {
    let (Some(onnx), Some(x)) = (data("mlperf_tiny/kws_f32.onnx"), data("keywords/x_f32.npy")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (graph, _) = offshoot_cli::files::read_graph(&onnx).unwrap();
    let packed: Vec<&str> = (graph.nodes.iter())
        .filter(|n| {
            matches!(n.op, offshoot_ir::Op::Conv2d { groups: 1, .. } | offshoot_ir::Op::FullyConnected { .. })
        })
        .map(|n| n.name.as_str())
        .collect();
    let mut policy = String::from("weights = 4\n[levels]\n");
    policy += &format!("{:?} = 16\n{:?} = 4\n", packed[1], packed[2]);
    policy += &format!("[layers]\n{:?} = 8\n{:?} = 2\n", packed[0], packed[3]);
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, policy).unwrap();
    let array = offshoot_data::npy::read(&x).unwrap();
    let some: PathBuf = folder.path().join("calibration.npy");
    let head = array.to_f32().slice_axis(ndarray::Axis(0), (0..32).into()).to_owned();
    offshoot_data::npy::write(&some, &head.into()).unwrap();
    let output = folder.path().join("mixed.off");
    let args = compile::Args {
        model: onnx.clone(),
        output: output.clone(),
        calib: vec![some],
        clipping: compile::Clipping::MinMax,
        precision: Some(Precision::Policy(path)),
        ..compile::Args::default()
    };
    let report = compile::run(&UI, &args).unwrap();
    println!("KWS with 8, 4 and 2 bits and codebooks of 16 and 4: {} bytes", report.compiled.model_bytes);
    assert!(report.compiled.model_bytes < 18_000);
    if !skip_emulated() {
        same_on_board(&onnx, &output, &x);
    }
}
