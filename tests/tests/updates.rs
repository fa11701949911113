//! Updates of models: deltas of networks whose last layer learned, and the program for a Cortex-M4 that takes one.

use std::path::{Path, PathBuf};
use std::process::Command;

use offshoot_tests::{data, root, skip_emulated};
use serde_json::Value;

fn s(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn offshoot(args: &[&str]) -> Value {
    // target/<profile>/deps/<test> → target/<profile>/offshoot.
    let exe = std::env::current_exe().unwrap();
    let bin = exe.parent().unwrap().parent().unwrap().join("offshoot");
    assert!(bin.exists(), "{} is missing: run `cargo build --workspace` first", bin.display());
    let out = Command::new(bin).args(args).arg("--json").output().unwrap();
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
}

/// Files before and after the last layer learned: for inference, and to learn on.
fn learned(folder: &Path, compile: &[&str], train: [&Path; 2]) -> [[PathBuf; 2]; 2] {
    let [plan, base, learns] = ["last.toml", "base.off", "learns.off"].map(|name| folder.join(name));
    std::fs::write(&plan, "layers = [\"last\"]\n").unwrap();
    offshoot(&[&["compile"], compile, &["-o", s(&base)]].concat());
    offshoot(&[&["compile"], compile, &["-o", s(&learns), "--learn", s(&plan)]].concat());
    let [alone, on] = ["alone.off", "on.off"].map(|name| folder.join(name));
    let [x, y] = train.map(s);
    offshoot(&["learn", s(&learns), "--train", x, y, "--fit", "--inference", s(&alone), "-o", s(&on)]);
    [[base, alone], [learns, on]]
}

/// Makes a delta, applies it on the host, and gives its bytes and those of the new file.
fn delta(old: &Path, new: &Path, to: &Path) -> (usize, usize) {
    let again = to.with_extension("again");
    offshoot(&["delta", s(old), s(new), "-o", s(to)]);
    let report = offshoot(&["delta", s(old), s(to), "--apply", "-o", s(&again)]);
    let (made, wanted) = (std::fs::read(again).unwrap(), std::fs::read(new).unwrap());
    assert!(made == wanted, "{report}");
    let wrong = offshoot(&["delta", s(new), s(to), "--apply", "-o", s(&to.with_extension("wrong"))]);
    assert_eq!(wrong["error"]["kind"], "mismatch", "{wrong}");
    (std::fs::metadata(to).unwrap().len() as usize, wanted.len())
}

#[test]
fn a_last_layer_that_learned_is_a_small_delta() {
    let Some(x) = data("keywords/x_i8.npy") else { return };
    let (Some(y), Some(onnx)) = (data("keywords/y.npy"), data("mlperf_tiny/kws_int8.onnx")) else { return };
    let folder = tempfile::tempdir().unwrap();
    for ([old, new], what) in learned(folder.path(), &[s(&onnx)], [&x, &y]).iter().zip(["alone", "learns on"])
    {
        let (delta, all) = delta(old, new, &folder.path().join("kws.delta"));
        let share = 100.0 * delta as f64 / all as f64;
        println!("kws, last layer learned, {what}: {all} bytes, delta {delta} ({share:.1} %)");
        assert!(share <= 15.0);
    }
}

/// Folder of the program that takes an update, and the model that it begins with.
const PROGRAM: &str = "firmware/examples/update";
const FACTORY: &str = "firmware/examples/update/model.off";

/// Vibration before and after its last layer learned.
fn vibration(folder: &Path) -> [[PathBuf; 2]; 2] {
    let model = |name: &str| root().join("models/vibration").join(name);
    let [onnx, calibration, x, y] =
        ["model.onnx", "calibration_x.npy", "shifted_train_x.npy", "shifted_train_y.npy"].map(model);
    learned(folder, &[s(&onnx), "--calib", s(&calibration)], [&x, &y])
}

#[test]
#[ignore = "writes files of the repository"]
fn write_the_files_of_the_example() {
    let folder = tempfile::tempdir().unwrap();
    let [[old, new], _] = vibration(folder.path());
    std::fs::copy(old, root().join(FACTORY)).unwrap();
    let to = root().join(PROGRAM).join("next.delta");
    println!("{}", offshoot(&["delta", s(&root().join(FACTORY)), s(&new), "-o", s(&to)]));
}

#[test]
fn the_shipped_model_whose_last_layer_learned_is_a_small_delta() {
    let folder = tempfile::tempdir().unwrap();
    for ([old, new], what) in vibration(folder.path()).iter().zip(["alone", "learns on"]) {
        let (delta, all) = delta(old, new, &folder.path().join("vibration.delta"));
        println!("vibration, last layer learned, {what}: {all} bytes, delta {delta}");
        assert!(delta * 100 <= all * 15);
    }
    // The committed one, which other releases may have made.
    let (made, next) = (root().join(PROGRAM).join("next.delta"), folder.path().join("next.off"));
    offshoot(&["delta", s(&root().join(FACTORY)), s(&made), "--apply", "-o", s(&next)]);
    assert_eq!(offshoot(&["inspect", s(&next)])["error"], Value::Null);
}

/// What cargo prints in the program's folder.
fn cargo(what: &str) -> String {
    let script = format!(
        "source ../../../scripts/toolchain.sh && eval \"$(toolchain_env thumbv7em-none-eabihf)\" && \
         unset RUSTFLAGS RUSTC CARGO && cargo {what} --quiet $OFFSHOOT_BUILD_STD"
    );
    let mut command = Command::new("bash");
    let build = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cortex-m-example");
    command.args(["-euc", &script]).env("CARGO_TARGET_DIR", build).current_dir(root().join(PROGRAM));
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// It links only if no panic can be reached.
#[test]
fn stores_slots_and_deltas_cannot_panic() {
    if !skip_emulated() {
        cargo("build --profile single --bin prove --features prove");
    }
}

#[test]
fn a_cortex_m_takes_an_update() {
    if skip_emulated() {
        return;
    }
    let printed = cargo("run --release");
    println!("{printed}");
    let lines: Vec<&str> = printed.lines().collect();
    let [first, took, after, refused, last] = lines[..] else { panic!("five lines") };
    assert!(first.starts_with("at first: slot A") && !first.contains("self-test"));
    assert!(after.starts_with("after a reset: slot B") && after.ends_with("passed its self-test"));
    assert!(refused.contains("SHA-256 is another"));
    assert!(last.starts_with("after that: slot B") && !last.contains("self-test"));
    let stack: usize = took.split("took ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(stack <= 4096, "RAM of an update");
}
