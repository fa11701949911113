//! Every verb that changes a network, on networks as exporters write them: PyTorch and Keras, one and three channels,
//! with and without batch normalisation, with a dynamic batch. `tests/fixtures/exports/make.py` makes them.

use std::path::{Path, PathBuf};
use std::process::Command;

use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

/// Samples in the layout of the file, and their classes: the brightest quadrant. Keras takes its images channels last.
fn data(folder: &Path, network: &str, channels: usize) -> [PathBuf; 2] {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let last = network.starts_with("keras");
    let shape = if last { [160, 12, 12, channels] } else { [160, channels, 12, 12] };
    let x = ArrayD::from_shape_fn(IxDyn(&shape), |i| {
        let [h, w] = if last { [i[1], i[2]] } else { [i[2], i[3]] };
        random() + if (h / 6 * 2 + w / 6) == i[0] % 4 { 0.8 } else { 0.0 }
    });
    let y = ArrayD::from_shape_fn(IxDyn(&[160]), |i| (i[0] % 4) as i64);
    let paths = ["x.npy", "y.npy"].map(|name| folder.join(name));
    offshoot_data::npy::write(&paths[0], &x.into()).expect("writes");
    offshoot_data::npy::write(&paths[1], &y.into()).expect("writes");
    paths
}

fn offshoot(words: &[&str]) -> Value {
    let run =
        Command::new(env!("CARGO_BIN_EXE_offshoot")).arg("--json").args(words).output().expect("starts");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "offshoot {}: {out}\n{err}", words.join(" "));
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

fn array<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("{name}: {value}"))
}

/// What every report of `compress` must show: real operators, all of them there unless they were taken out, and the
/// budget kept.
fn check(case: &str, report: &Value, share: f64) {
    let points = array(report, "points");
    let flash = |p: &Value| p["flash"].as_f64().expect("a number");
    let (first, last) = (flash(&points[0]), flash(points.last().expect("two points")));
    assert!(last <= first * share, "{case}: {first} became {last}");
    assert!(!array(report, "operators").is_empty(), "{case}");
    let erased = report["done"].to_string().contains("erase: ");
    for o in array(report, "operators") {
        let pair = |name: &str| [&o[name][0], &o[name][1]].map(|v| v.as_u64().expect("a count"));
        let ([before, after], [weights, left]) = (pair("channels"), pair("weights"));
        assert!(weights > 0 && before > 0, "{case}: {o}");
        assert!(erased || (left > 0 && after > 0 && after <= before), "{case}: {o}");
    }
}

/// Runs every verb on a network of the fixtures, which takes `channels` channels.
fn every_verb_takes(network: &str, channels: usize) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/exports");
    let folder = tempfile::tempdir().expect("a folder");
    let paths = data(folder.path(), network, channels);
    let [x, y] = paths.each_ref().map(|p| p.to_str().expect("text"));
    let model = fixtures.join(format!("{network}.onnx"));
    let model = model.to_str().expect("text");
    let place = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let named: Vec<String> = array(&offshoot(&["inspect", model]), "constants")
        .iter()
        .map(|c| c["operator"].as_str().expect("a name").to_owned())
        .collect();
    for (method, share, more) in [
        ("auto", 0.7, &["--epochs", "1", "--rounded-epochs", "1"][..]),
        ("prune", 0.8, &["--fade-epochs", "1"]),
        ("erase,prune,bits", 0.85, &[]),
        ("bits", 0.9, &["--fewest-bits", "2"]),
    ] {
        let case = format!("{network}, {method}");
        let out = place(&method.replace(',', "-"));
        let limit = format!("{}%", share * 100.0);
        let words =
            ["compress", model, "--data", x, y, "-o", &out, "--method", method, "--max-flash", &limit];
        let report = offshoot(&[&words[..], &["--periods", "2"], more].concat());
        check(&case, &report, share);
        let bits = report["weight_bits"].as_object().expect("a table");
        assert!(bits.keys().all(|layer| named.contains(layer)), "{case}: {bits:?}");
        // What is written can be taken up again by the others, and is what was judged.
        offshoot(&["eval", &format!("{out}/model.off"), "--input", x, "--labels", y]);
        let (off, policy) = (place("again.off"), format!("{out}/policy.toml"));
        let small = format!("{out}/model.onnx");
        offshoot(&["compile", &small, "-o", &off, "--calib", x, "--precision", &policy]);
        let bytes = |path: &str| std::fs::read(path).expect("was written");
        assert!(bytes(&off) == bytes(&format!("{out}/model.off")), "{case}: compiled to another file");
    }
    let policy = place("policy.toml");
    let found = offshoot(&["sensitivity", model, "--data", x, y, "--max-flash", "90%", "-o", &policy]);
    for t in array(&found, "trials") {
        assert!(named.iter().any(|n| *n == t["layer"]) && t["weights"].as_u64() > Some(0), "{network}: {t}");
    }
    let trained = place("trained");
    offshoot(&[
        "qat",
        model,
        "--data",
        x,
        y,
        "-o",
        &trained,
        "--precision",
        &policy,
        "--epochs",
        "1",
        "--held-out",
        "40",
    ]);
    let curves = place("curves");
    offshoot(&[
        "rank",
        model,
        "--data",
        x,
        y,
        "-o",
        &curves,
        "--shares",
        "100,60",
        "--epochs",
        "1",
        "--held-out",
        "40",
        "--methods",
        "svd,aware,maestro",
    ]);
    let space = folder.path().join("space.toml");
    let text = format!(
        "onnx = {model:?}\n[elastic]\nwidth = [0.5, 1.0]\nbits = [2, 4, 8]\n[training]\nepochs = 1\n"
    );
    std::fs::write(&space, text).expect("writes");
    let (space, searched) = (place("space.toml"), place("searched"));
    let words = ["search", &space, "--data", x, y, "-o", &searched, "--evaluations", "12"];
    let report =
        offshoot(&[&words[..], &["--objectives", "accuracy,flash", "--strategy", "random"]].concat());
    assert_eq!(report["failed"], 0, "{network}: {}", report["failures"]);
}

#[test]
fn every_verb_takes_one_channel_of_pytorch() {
    every_verb_takes("torch_gray", 1);
}

#[test]
fn every_verb_takes_folded_normalisation_of_pytorch() {
    every_verb_takes("torch_gray_norm_folded", 1);
}

#[test]
fn every_verb_takes_normalisation_of_pytorch() {
    every_verb_takes("torch_rgb_norm", 3);
}

#[test]
fn every_verb_takes_separable_convolutions_of_pytorch() {
    every_verb_takes("torch_rgb_separable", 3);
}

#[test]
fn every_verb_takes_keras() {
    every_verb_takes("keras", 1);
}

#[test]
fn every_verb_takes_normalisation_of_keras() {
    every_verb_takes("keras_norm", 3);
}

#[test]
fn a_plan_is_written_edited_and_run_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let paths = data(folder.path(), "torch_rgb_norm", 3);
    let [x, y] = paths.each_ref().map(|p| p.to_str().expect("text"));
    let model =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/exports/torch_rgb_norm.onnx");
    let model = model.to_str().expect("text");
    let place = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let out = place("first");
    let first = offshoot(&[
        "compress",
        model,
        "--data",
        x,
        y,
        "-o",
        &out,
        "--max-flash",
        "60%",
        "--periods",
        "2",
        "--test",
        x,
        y,
    ]);
    assert_eq!(first["test"]["samples"], 160, "{first}");
    let plan = std::fs::read_to_string(format!("{out}/plan.toml")).expect("is written");
    let sizes = |report: &Value| -> Vec<(Value, Value)> {
        array(report, "operators").iter().map(|o| (o["channels"][1].clone(), o["bits"].clone())).collect()
    };
    // The plan gives the same channels and bits again, without a limit.
    let (again, file) = (place("again"), format!("{out}/plan.toml"));
    let second = offshoot(&["compress", model, "--data", x, y, "-o", &again, "--plan", &file]);
    assert_eq!(sizes(&first), sizes(&second), "{plan}");
    // An edited one gives what it says.
    let mut table: toml::Table = plan.parse().expect("is TOML");
    let channels = table["channels"].as_table_mut().expect("a table");
    let name = channels.iter().find(|(_, n)| n.as_integer() > Some(3)).expect("a layer").0.clone();
    channels[&name] = toml::Value::Integer(3);
    let file = place("edited.toml");
    std::fs::write(&file, table.to_string()).expect("writes");
    let third = offshoot(&["compress", model, "--data", x, y, "-o", &place("third"), "--plan", &file]);
    let row = array(&third, "operators").iter().find(|o| o["name"] == name).expect("the layer is there");
    assert_eq!(row["channels"][1], 3, "{row}");
    // A name that is wrong brings the right one.
    std::fs::write(&file, format!("[channels]\n\"{name}x\" = 4\n")).expect("writes");
    let run = Command::new(env!("CARGO_BIN_EXE_offshoot"))
        .args(["compress", model, "--data", x, y, "-o", &place("fourth"), "--plan", &file])
        .output()
        .expect("starts");
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert!(!run.status.success() && said.contains("did you mean") && said.contains(&name), "{said}");
}
