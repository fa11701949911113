//! Examples of the runtime print an answer, in this repository and in a new crate; inputs and outputs are quantised as by the
//! host's tools.
//!
//! `cargo test -p offshoot-tests --test examples -- --ignored write` makes the examples' files anew, after a change of the file
//! format, say.

use std::path::{Path, PathBuf};
use std::process::Command;

use offshoot::{AlignedBytes, DType, Engine, Model};
use offshoot_cli::batch::{self, Inputs};
use offshoot_cli::files::OffFile;
use offshoot_cli::port::Port;
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_target::Target;
use offshoot_tests::{example_data, root, skip_emulated};

/// The crate of the runtime, from the root.
const RUNTIME: &str = "runtime/offshoot";

#[test]
#[ignore = "writes files of the repository"]
fn write_the_files_of_the_examples() {
    for (path, bytes) in example_data::quick().into_iter().chain([example_data::sub_networks()]) {
        let path = root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        println!("{}: {} bytes", path.display(), bytes.len());
    }
}

/// The compiler may find other forms for the same network: what counts is that they answer alike.
#[test]
fn the_files_of_the_examples_answer_as_fresh_ones() {
    for (path, fresh) in example_data::quick() {
        let committed = std::fs::read(root().join(&path)).unwrap();
        if path.extension().is_some_and(|e| e == "u8") {
            assert!(committed == fresh, "{}: run `write_the_files_of_the_examples`", path.display());
            continue;
        }
        let (committed, fresh) = (OffFile::from_bytes(&committed), OffFile::from_bytes(&fresh));
        let name = path.file_stem().unwrap().to_str().unwrap();
        let model = if name.starts_with("tones") { "tones" } else { "vibration" };
        let x = npy::read(&root().join("models").join(model).join("test_x.npy")).unwrap();
        let classes = |file: &OffFile| {
            let inputs = Inputs::encode(&file.model().unwrap(), std::slice::from_ref(&x), &["x".into()]);
            let outputs = batch::run(
                &Ui { json: true },
                file,
                &inputs.unwrap(),
                &Target::Host,
                batch::Sequences::default(),
            )
            .unwrap();
            let port = Port::from(file.model().unwrap().output(0).unwrap());
            let class = |sample: &Vec<Vec<u8>>| offshoot_cli::metrics::argmax(&port.decode(&sample[0]));
            outputs.iter().map(class).collect::<Vec<_>>()
        };
        let (ours, theirs) = (classes(&committed), classes(&fresh));
        let differ = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
        assert!(differ * 100 <= ours.len(), "{}: {differ} of {} differ", path.display(), ours.len());
    }
}

/// Real numbers become the bytes that the host's tools make of them, and outputs the numbers that they show.
#[test]
fn inputs_and_outputs_are_those_of_the_host() {
    for file in ["vibration.off", "tones.off", "tones_f32.off"] {
        let path = root().join(example_data::HOST).join(file);
        let off = OffFile::read(&path).unwrap();
        let model: Model<'_> = off.model().unwrap();
        let (input, output) = (model.input(0).unwrap(), model.output(0).unwrap());
        let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
        let mut engine = Engine::new(model, &mut arena).unwrap();
        // All over the range and beyond it, halves between two steps, the smallest numbers that there are.
        let scale = if input.dtype == DType::I8 { input.scale } else { 1.0 };
        let values: Vec<f32> = (0..input.elements())
            .map(|i| match i % 5 {
                0 => (i as f32 - 200.0) * scale,
                1 => (i as f32 - 199.5) * scale,
                2 => i as f32 * 1.37 - 100.0,
                3 => f32::from_bits(i as u32),
                _ => -1e30 * i as f32,
            })
            .collect();
        let port = Port::from(input);
        let array: Array =
            ndarray::ArrayD::from_shape_vec(ndarray::IxDyn(&port.shape), values.clone()).unwrap().into();
        let encoded = Inputs::encode(&model, &[array], &["x".into()]).unwrap();
        engine.write_input_f32(0, &values).unwrap();
        assert!(engine.input_mut(0).unwrap() == encoded.sample(0)[0], "{file}");
        engine.run().unwrap();
        let mut real = vec![0.0; output.elements()];
        engine.read_output_f32(0, &mut real).unwrap();
        let shown = Port::from(output).decode(engine.output(0).unwrap());
        assert!(
            real.iter().zip(&shown).all(|(a, b)| a.to_bits() == b.to_bits()),
            "{file}: {real:?} {shown:?}"
        );
        assert_eq!(engine.top1(0).unwrap(), offshoot_cli::metrics::argmax(&shown), "{file}");
        assert!(
            engine.write_input_f32(0, &values[1..]).is_err() && engine.write_input_f32(1, &values).is_err()
        );
        assert_eq!(engine.output_i8(0).is_ok(), output.dtype == DType::I8);
    }
}

/// Runs a command in a folder, in a build folder of its own; gives what it prints.
fn printed(command: &mut Command, folder: &Path, what: &str) -> String {
    let output = command.current_dir(folder).output().unwrap_or_else(|e| panic!("{what}: {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}:\n{stdout}\n{stderr}");
    println!("{what}:\n{stdout}");
    stdout.into_owned()
}

fn cargo(build: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    command.env("CARGO_TARGET_DIR", build).env_remove("RUSTFLAGS");
    command
}

/// Where crates that a test makes are built: kept from run to run.
fn builds(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn host_examples_print_an_answer() {
    let build = builds("host-examples");
    let run = |name: &str| {
        let mut command = cargo(&build);
        command.args(["run", "--quiet", "--package", "offshoot", "--example", name]);
        printed(&mut command, &root(), name)
    };
    assert!(run("hello").contains("state: imbalance"));
    assert!(run("float").contains("heard: rising (score 1.000)"));
    assert!(run("two_models").contains("state of the machine: 3, sound: 3"));
    let paced = run("paced");
    assert!(paced.matches("state 0").count() == 3 && !paced.contains("blinked 0 times"), "{paced}");
    assert!(run("sub_networks").contains("sound 7: class 7"));
    let learning = run("learn");
    let right: Vec<usize> = (learning.lines())
        .filter_map(|line| line.split(": ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    let [before, after, resumed] = right[..] else { panic!("{learning}") };
    assert!(after >= before + 10 && resumed == after, "{learning}");
}

#[test]
fn the_cortex_m_example_prints_an_answer() {
    if skip_emulated() {
        return;
    }
    let script = "source ../../../scripts/toolchain.sh && eval \"$(toolchain_env thumbv7em-none-eabihf)\" && \
                  unset RUSTFLAGS RUSTC CARGO && cargo run --release --quiet $OFFSHOOT_BUILD_STD";
    let mut command = Command::new("bash");
    command.args(["-euc", script]).env("CARGO_TARGET_DIR", builds("cortex-m-example"));
    for variable in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(variable);
    }
    let printed = printed(&mut command, &root().join(example_data::DEVICE), "hello on a Cortex-M4");
    assert_eq!(printed.trim(), "the machine is in state: normal");
}

/// A new crate that depends on the crates of this repository by path.
fn new_crate(folder: &Path, manifest: &str, files: &[(&str, &[u8])]) {
    let header = "[package]\nname = \"newcomer\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n";
    std::fs::create_dir_all(folder.join("src")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), format!("{header}{manifest}")).unwrap();
    // The versions that are there already.
    std::fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// The code block of a document that begins with this line.
fn code(document: &str, first: &str) -> String {
    let text = std::fs::read_to_string(root().join(document)).unwrap();
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| Some(block.split_once('\n')?.1));
    let found: Vec<&str> = blocks.filter(|block| block.starts_with(first)).collect();
    let [block] = found[..] else { panic!("{document}: {} blocks begin with `{first}`", found.len()) };
    block.to_owned()
}

/// What a reader pastes into a new crate prints an answer.
#[test]
fn the_code_of_the_readme_prints_an_answer() {
    let main = code(&format!("{RUNTIME}/README.md"), "offshoot::include_model!");
    assert!(main.lines().filter(|line| !line.is_empty()).count() <= 12, "{main}");
    assert_eq!(main, code("README.md", "offshoot::include_model!"), "both READMEs show the same code");
    let folder = tempfile::tempdir().unwrap();
    let runtime = root().join(RUNTIME).canonicalize().unwrap();
    let manifest = format!("[dependencies]\noffshoot = {{ path = {runtime:?} }}\n");
    let off = std::fs::read(root().join(example_data::HOST).join("vibration.off")).unwrap();
    new_crate(folder.path(), &manifest, &[("src/main.rs", main.as_bytes()), ("src/model.off", &off)]);
    let mut command = cargo(&builds("readme"));
    let printed = printed(command.args(["run", "--quiet", "--offline"]), folder.path(), "the README's code");
    assert!(printed.starts_with("class "), "{printed}");
}

/// What cannot be embedded fails the build with a reason.
#[test]
fn another_file_than_an_off_file_is_a_compile_error() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = root().join(RUNTIME).canonicalize().unwrap();
    let manifest = format!("[dependencies]\noffshoot = {{ path = {runtime:?} }}\n");
    let main = "offshoot::include_model!(Network, \"model.off\");\n\nfn main() {}\n";
    let onnx = std::fs::read(root().join("models/tones/model.onnx")).unwrap();
    let mut version = std::fs::read(root().join(example_data::HOST).join("tones.off")).unwrap();
    version[4] = version[4].wrapping_add(1);
    for (file, why) in [(onnx, "not an .off file"), (version, "another format version")] {
        new_crate(folder.path(), &manifest, &[("src/main.rs", main.as_bytes()), ("src/model.off", &file)]);
        let mut command = cargo(&builds("readme"));
        let output =
            command.args(["check", "--quiet", "--offline"]).current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(why), "{stderr}");
    }
}

/// A program whose build script compiles its network.
#[test]
fn a_build_script_compiles_a_network() {
    let build =
        "fn main() {\n    offshoot_build::compile(\"model.onnx\").calibration(\"samples.npy\").write();\n}\n";
    let main = "offshoot::include_model!(Network, concat!(env!(\"OUT_DIR\"), \"/model.off\"));\n\n\
                fn main() -> Result<(), offshoot::Error> {\n    \
                let mut arena = offshoot::Arena::<{ Network::ARENA_BYTES }>::new();\n    \
                let mut engine = Network::engine(&mut arena)?;\n    \
                engine.write_input_f32(0, &[128.0; Network::INPUTS[0].elements()])?;\n    \
                engine.run()?;\n    println!(\"class {}\", engine.top1(0)?);\n    Ok(())\n}\n";
    let folder = tempfile::tempdir().unwrap();
    let path = |relative: &str| root().join(relative).canonicalize().unwrap();
    let manifest = format!(
        "[dependencies]\noffshoot = {{ path = {:?} }}\n\n[build-dependencies]\noffshoot-build = {{ path = {:?} }}\n",
        path(RUNTIME),
        path("tools/build")
    );
    let model = |name: &str| std::fs::read(root().join("models/tones").join(name)).unwrap();
    new_crate(
        folder.path(),
        &manifest,
        &[
            ("build.rs", build.as_bytes()),
            ("src/main.rs", main.as_bytes()),
            ("model.onnx", &model("model.onnx")),
            ("samples.npy", &model("calibration_x.npy")),
        ],
    );
    let mut command = cargo(&builds("build-script"));
    let printed = printed(command.args(["run", "--quiet", "--offline"]), folder.path(), "a build script");
    assert!(printed.starts_with("class "), "{printed}");
}
