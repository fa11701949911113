//! Every verb as users call it: right input, and wrong input of every kind. Wrong input ends in a message that says
//! what to do, an exit code that is not 0, and no half-written file.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ndarray::{ArrayD, IxDyn};
use offshoot_data::npy;
use serde_json::Value;

/// A folder with a shipped model compiled in it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.folder.path()).unwrap().count()
    }

    fn save(&self, name: &str, shape: &[usize], values: impl Fn(usize) -> f32) -> PathBuf {
        let n: usize = shape.iter().product();
        let array = ArrayD::from_shape_vec(IxDyn(shape), (0..n).map(values).collect()).unwrap();
        npy::write(&self.path(name), &array.into()).unwrap();
        self.path(name)
    }

    fn compiled(&self) -> PathBuf {
        let out = self.path("m.off");
        let m = model("glyphs");
        ok(&["compile", s(&m.join("model.onnx")), "-o", s(&out), "--calib", s(&m.join("calibration_x.npy"))]);
        out
    }
}

fn model(name: &str) -> PathBuf {
    offshoot_tests::root().join("models").join(name)
}

fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn offshoot(args: &[&str]) -> Output {
    // The binary stands beside the test's own: target/<profile>/deps/<test> → target/<profile>/offshoot.
    let exe = std::env::current_exe().unwrap();
    let bin = exe.parent().unwrap().parent().unwrap().join("offshoot");
    assert!(bin.exists(), "{} is missing: run `cargo build --workspace` first", bin.display());
    Command::new(bin).args(args).output().unwrap()
}

fn ok(args: &[&str]) -> Value {
    let mut all = args.to_vec();
    all.push("--json");
    let out = offshoot(&all);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(out.status.success(), "{args:?}: {text} {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: no JSON ({e}): {text}"))
}

/// Runs what must fail; the error's kind, message and help.
fn fails(args: &[&str]) -> (String, String, String) {
    let human = offshoot(args);
    assert!(!human.status.success(), "{args:?} succeeded");
    let stderr = String::from_utf8(human.stderr).unwrap();
    assert!(stderr.contains("error: "), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    let mut all = args.to_vec();
    all.push("--json");
    let out = offshoot(&all);
    assert!(!out.status.success());
    let json: Value = serde_json::from_str(&String::from_utf8(out.stdout).unwrap()).unwrap();
    let field =
        |name: &str| json["error"][name].as_str().unwrap_or_else(|| panic!("no {name} in {json}")).to_owned();
    assert!(!field("help").is_empty(), "{args:?}: no help");
    (field("kind"), field("message"), field("help"))
}

#[test]
fn the_main_road() {
    let b = Bench::new();
    let m = model("glyphs");
    let off = b.path("m.off");
    let onnx = m.join("model.onnx");
    let calib = m.join("calibration_x.npy");
    let report = ok(&["compile", s(&onnx), "-o", s(&off), "--calib", s(&calib)]);
    for field in ["model_bytes", "weights_bytes", "arena_bytes", "arena_lower_bound_bytes", "macs"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}: {report}");
    }
    assert!(report["arena_bytes"].as_u64() >= report["arena_lower_bound_bytes"].as_u64());
    assert_eq!(report["model_bytes"].as_u64().unwrap(), std::fs::metadata(&off).unwrap().len());

    let x = m.join("test_x.npy");
    let eval = ok(&["eval", s(&off), "--input", s(&x), "--labels", s(&m.join("test_y.npy"))]);
    assert!(eval["value"].as_f64().unwrap() > 0.8, "{eval}");

    let y = b.path("y.npy");
    let run = ok(&["run", s(&off), "--input", s(&x), "-o", s(&y)]);
    assert_eq!(npy::read(&y).unwrap().shape()[0] as u64, run["count"].as_u64().unwrap());

    let verify = ok(&["verify", s(&onnx), s(&off), "--input", s(&x)]);
    assert_eq!(verify["equal"], true);
    // Alone, no operator departs from float, and one in the middle is nearer to it than along the network.
    let operators = verify["operators"].as_array().unwrap();
    let both = |o: &Value| o["alone_snr_db"].as_f64().zip(o["snr_db"].as_f64());
    let pairs: Vec<(f64, f64)> = operators.iter().filter_map(both).collect();
    assert!(pairs.len() > 3 && pairs.iter().all(|(alone, _)| *alone > 25.0), "{verify}");
    assert!(pairs.iter().any(|(alone, network)| alone > &(network + 3.0)), "{verify}");
    assert!(verify["first_difference"].is_null());

    assert!(!ok(&["inspect", s(&off)])["operators"].as_array().unwrap().is_empty());
    assert!(ok(&["inspect", s(&onnx)])["macs"].as_u64().unwrap() > 0);
    assert_eq!(ok(&["profile", s(&off), "--target", "host"])["target"], "host");
    assert!(ok(&["target", "list"])["targets"].as_array().unwrap().len() > 1);
}

#[test]
fn float_is_a_full_second_path() {
    let b = Bench::new();
    let m = model("glyphs");
    let off = b.path("f.off");
    ok(&["compile", s(&m.join("model.onnx")), "-o", s(&off), "--precision", "f32"]);
    let (x, y) = (m.join("test_x.npy"), m.join("test_y.npy"));
    let eval = ok(&["eval", s(&off), "--input", s(&x), "--labels", s(&y)]);
    assert!(eval["value"].as_f64().unwrap() > 0.8, "{eval}");
    let verify = ok(&["verify", s(&m.join("model.onnx")), s(&off), "--input", s(&x)]);
    assert!(verify["max_abs_error"].as_f64().unwrap() < 1e-3, "{verify}");
}

#[test]
fn no_epochs_train_nothing() {
    let b = Bench::new();
    let m = model("vibration");
    let (off, plan) = (b.path("l.off"), b.path("plan.toml"));
    std::fs::write(&plan, "rule = \"drtp\"\n").unwrap();
    let onnx = m.join("model.onnx");
    ok(&["compile", s(&onnx), "-o", s(&off), "--precision", "f32", "--learn", s(&plan)]);
    let files = ["train_x", "train_y", "test_x", "test_y"].map(|name| m.join(format!("shifted_{name}.npy")));
    let [train_x, train_y, test_x, test_y] = files.each_ref().map(|f| s(f));
    let data = ["learn", s(&off), "--train", train_x, train_y, "--test", test_x, test_y];
    let learn = |epochs: &str| ok(&[&data[..], &["--steps", "20", "--epochs", epochs]].concat());
    let (none, once) = (learn("0"), learn("1"));
    assert_eq!(none["steps"], 0);
    assert_eq!(none["accuracy_after"], none["accuracy_before"]);
    assert_eq!(once["steps"], 20);
    assert_eq!(once["accuracy_before"], none["accuracy_before"]);
    assert_ne!(once["digest"], none["digest"]);
}

#[test]
fn compiling_twice_gives_the_same_file() {
    let b = Bench::new();
    let first = std::fs::read(b.compiled()).unwrap();
    let second = std::fs::read(b.compiled()).unwrap();
    assert_eq!(first, second);
}

#[test]
fn missing_files() {
    let b = Bench::new();
    let off = b.path("m.off");
    let (kind, message, _) = fails(&["compile", "none.onnx", "-o", s(&off)]);
    assert_eq!(kind, "not_found");
    assert!(message.contains("none.onnx"));
    assert_eq!(fails(&["run", "none.off", "--input", "x.npy", "-o", s(&off)]).0, "not_found");
    let folder = model("glyphs");
    let (_, message, help) = fails(&["compile", s(&folder), "-o", s(&off)]);
    assert!(message.contains("this is a folder") && help.contains("the file in it"), "{message}: {help}");
    assert_eq!(b.files(), 0);
}

#[test]
fn a_float_network_without_calibration() {
    let b = Bench::new();
    let onnx = model("glyphs").join("model.onnx");
    let (kind, _, help) = fails(&["compile", s(&onnx), "-o", s(&b.path("m.off"))]);
    assert_eq!(kind, "calibration");
    assert!(help.contains("--calib") && help.contains("f32"), "{help}");
    assert_eq!(b.files(), 0);
}

#[test]
fn calibration_that_cannot_be_used() {
    let b = Bench::new();
    let onnx = model("glyphs").join("model.onnx");
    let shape = npy::read(&model("glyphs").join("calibration_x.npy")).unwrap().shape().to_vec();
    let size: usize = shape[1..].iter().product();
    let nan = b.save("nan.npy", &shape, |i| if i == size + 3 { f32::NAN } else { 0.5 });
    let wrong = b.save("wrong.npy", &[4, 7, 7], |_| 0.0);
    let off = b.path("m.off");
    let (kind, message, _) = fails(&["compile", s(&onnx), "-o", s(&off), "--calib", s(&nan)]);
    assert_eq!(kind, "calibration");
    assert!(message.contains("sample 1") && message.contains("NaN"), "{message}");
    let (kind, message, _) = fails(&["compile", s(&onnx), "-o", s(&off), "--calib", s(&wrong)]);
    assert_eq!(kind, "shape");
    assert!(message.contains("[4, 7, 7]"), "{message}");
    assert!(!off.exists());
}

#[test]
fn a_truncated_network() {
    let b = Bench::new();
    let bytes = std::fs::read(model("glyphs").join("model.onnx")).unwrap();
    let short = b.path("short.onnx");
    let off = b.path("m.off");
    for cut in [0, 1, bytes.len() / 3, bytes.len() - 5] {
        std::fs::write(&short, &bytes[..cut]).unwrap();
        let (kind, ..) = fails(&["compile", s(&short), "-o", s(&off), "--precision", "f32"]);
        assert!(["format", "unsupported"].contains(&kind.as_str()), "cut at {cut}: {kind}");
    }
    assert_eq!(b.files(), 1);
}

#[test]
fn a_text_is_no_delta() {
    let bench = Bench::new();
    let (old, notes, new) = (bench.compiled(), bench.path("notes.txt"), bench.path("new.off"));
    std::fs::write(&notes, "the delta is on the other machine\n".repeat(20)).unwrap();
    let (kind, message, help) = fails(&["delta", s(&old), s(&notes), "--apply", "-o", s(&new)]);
    assert_eq!(kind, "format");
    assert!(message.contains("notes.txt") && help.contains("offshoot delta"), "{message} {help}");
    assert!(!new.exists());
}

#[test]
fn a_damaged_off_file() {
    let b = Bench::new();
    let off = b.compiled();
    let mut bytes = std::fs::read(&off).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&off, &bytes).unwrap();
    let x = model("glyphs").join("test_x.npy");
    let (kind, message, help) = fails(&["run", s(&off), "--input", s(&x), "-o", s(&b.path("y.npy"))]);
    assert_eq!(kind, "format");
    assert!(message.contains("checksum") && help.contains("compile"), "{message} {help}");
    assert!(!b.path("y.npy").exists());
}

#[test]
fn inputs_of_the_wrong_shape_and_type() {
    let b = Bench::new();
    let off = b.compiled();
    let y = b.path("y.npy");
    let wrong = b.save("x.npy", &[3, 5], |_| 0.0);
    assert_eq!(fails(&["run", s(&off), "--input", s(&wrong), "-o", s(&y)]).0, "shape");
    let text = b.path("text.npy");
    std::fs::write(&text, "not an array").unwrap();
    assert_eq!(fails(&["run", s(&off), "--input", s(&text), "-o", s(&y)]).0, "format");
    let nowhere = b.path("none").join("y.npy");
    let x = model("glyphs").join("test_x.npy");
    assert_eq!(fails(&["run", s(&off), "--input", s(&x), "-o", s(&nowhere)]).0, "io");
    let labels = b.save("l.npy", &[3], |_| 0.0);
    assert_eq!(fails(&["eval", s(&off), "--input", s(&x), "--labels", s(&labels)]).0, "shape");
    assert!(!y.exists());
}

#[test]
fn budgets_that_cannot_be_met() {
    let b = Bench::new();
    let m = model("glyphs");
    let off = b.path("m.off");
    let (onnx, calib) = (m.join("model.onnx"), m.join("calibration_x.npy"));
    for limit in ["--max-flash", "--max-ram"] {
        let args = ["compile", s(&onnx), "-o", s(&off), "--calib", s(&calib), limit, "100"];
        let (kind, message, _) = fails(&args);
        assert_eq!(kind, "budget", "{message}");
        assert!(message.contains("100"), "{message}");
    }
    assert!(!off.exists());
}

#[test]
fn files_that_do_not_belong_together() {
    let b = Bench::new();
    let off = b.compiled();
    let x = model("glyphs").join("test_x.npy");
    let other = model("vibration").join("model.onnx");
    assert_eq!(fails(&["verify", s(&other), s(&off), "--input", s(&x)]).0, "mismatch");
}

#[test]
fn targets_that_are_not_there() {
    let b = Bench::new();
    let off = b.compiled();
    let (kind, _, help) = fails(&["profile", s(&off), "--target", "qemu:cortex-m99"]);
    assert_eq!(kind, "device");
    assert!(help.contains("target list"));
    let (_, message, _) = fails(&["profile", s(&off), "--target", "cortex-m4"]);
    assert!(message.contains("did you mean `qemu:cortex-m4`?"), "{message}");
    assert_eq!(fails(&["profile", s(&off), "--target", "serial:/dev/none"]).0, "device");
}

#[test]
fn a_command_line_that_is_not_understood() {
    let (kind, ..) = fails(&["compile"]);
    assert_eq!(kind, "usage");
    let (kind, message, _) =
        fails(&["eval", "m.off", "--input", "x.npy", "--labels", "y.npy", "--limit", "0"]);
    assert!(kind == "usage" && message.contains("at least 1"), "{message}");
    let (kind, message, _) = fails(&["compile", "m.onnx", "-o", "m.off", "--labels", "y.npy"]);
    assert!(kind == "usage" && message.contains("--learn"), "{message}");
    assert!(offshoot(&["--help"]).status.success());
}

#[test]
fn a_network_without_state_is_no_sequence() {
    let b = Bench::new();
    let m = model("glyphs");
    let (onnx, off) = (m.join("model.onnx"), b.path("m.off"));
    let stateful = ["compile", s(&onnx), "-o", s(&off), "--precision", "f32", "--stateful"];
    let (kind, message, _) = fails(&stateful);
    assert!(kind == "usage" && message.contains("no state"), "{message}");
    let (off, x, y) = (b.compiled(), m.join("test_x.npy"), b.path("y.npy"));
    let (kind, message, _) = fails(&["run", s(&off), "--input", s(&x), "-o", s(&y), "--reset-every", "3"]);
    assert!(kind == "usage" && message.contains("no state"), "{message}");
}

#[test]
fn inputs_are_not_written_over() {
    let b = Bench::new();
    let off = b.compiled();
    let x = b.path("x.npy");
    std::fs::copy(model("glyphs").join("test_x.npy"), &x).unwrap();
    let before = (std::fs::read(&off).unwrap(), std::fs::read(&x).unwrap());
    for output in [&off, &x] {
        let (kind, message, _) = fails(&["run", s(&off), "--input", s(&x), "-o", s(output)]);
        assert!(kind == "usage" && message.contains("overwrite"), "{message}");
    }
    assert_eq!(before, (std::fs::read(&off).unwrap(), std::fs::read(&x).unwrap()));
}

#[test]
fn a_wrong_name_to_keep_in_float_lists_the_right_ones() {
    let b = Bench::new();
    let m = model("glyphs");
    let (onnx, calib, out) = (m.join("model.onnx"), m.join("calibration_x.npy"), b.path("k.off"));
    let compile = |keep: &str| {
        ["compile", s(&onnx), "-o", s(&out), "--calib", s(&calib), "--keep-float", keep].map(str::to_owned)
    };
    let args = compile("Convv");
    let (kind, message, _) = fails(&args.each_ref().map(String::as_str));
    assert!(kind == "usage" && message.contains("conv2d (Conv)"), "{message}");
    // ONNX's kind is understood.
    let args = compile("Conv");
    let report = ok(&args.each_ref().map(String::as_str));
    let operators = report["quantisation"]["operators"].as_array().unwrap().clone();
    assert!(operators.iter().any(|o| o["kind"] == "conv2d" && o["float"] == true));
}

#[test]
fn samples_of_another_scale_are_named() {
    let b = Bench::new();
    let off = b.compiled();
    let m = model("glyphs");
    let x = npy::read(&m.join("test_x.npy")).unwrap().to_f32();
    let (wrong, y) = (b.path("wrong.npy"), b.path("y.npy"));
    npy::write(&wrong, &x.mapv(|v| 1000.0 * v).into()).unwrap();
    let report = ok(&["run", s(&off), "--input", s(&wrong), "-o", s(&y)]);
    let saturated = &report["saturated"][0];
    assert!(saturated["share"].as_f64().unwrap() > 0.01 && saturated["cause"].is_string(), "{report}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let exe = std::env::current_exe().unwrap();
    let bin = exe.parent().unwrap().parent().unwrap().join("offshoot");
    let out = Command::new(bin).args(["target", "list"]).stdout(full).output().unwrap();
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("standard output"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_on_standard_output_is_all_that_is_there() {
    let b = Bench::new();
    let off = b.compiled();
    let onnx = model("glyphs").join("model.onnx");
    let calib = model("glyphs").join("calibration_x.npy");
    for json in [&["--json"][..], &[]] {
        let words = ["compile", s(&onnx), "--calib", s(&calib), "-o", "/dev/stdout"];
        let out = offshoot(&[&words, json].concat());
        assert!(out.status.success());
        assert!(out.stdout == std::fs::read(&off).unwrap(), "{} bytes", out.stdout.len());
        assert!(String::from_utf8_lossy(&out.stderr).contains("MACs") || !json.is_empty());
    }
}
