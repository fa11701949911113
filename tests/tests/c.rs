//! The runtime for C: programs in C give the bytes of the host's engine, learning included, on the host and on an emulated Cortex-M4.
//!
//! `scripts/c.sh` builds libraries and programs; a first run takes minutes, later ones seconds.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use offshoot::{AlignedBytes, Engine, Error, Model, heads, wire};
use offshoot_tests::{example_data, root, skip, skip_emulated};

/// Steps that the emulated program takes (`STEPS` in scripts/c.sh).
const STEPS: usize = 20;

fn data(name: &str) -> Vec<u8> {
    std::fs::read(root().join(example_data::HOST).join(name)).unwrap()
}

/// Samples as real numbers, and their labels.
fn samples(x: &str, y: &str, elements: usize) -> Vec<(Vec<f32>, u16)> {
    let x = data(x);
    let x = x.chunks_exact(elements).map(|x| x.iter().map(|&v| v.into()).collect());
    x.zip(data(y)).map(|(x, y)| (x, y.into())).collect()
}

/// What `scripts/c.sh MODE` prints; it builds in a folder that is kept from run to run.
fn script(mode: &[&str]) -> String {
    let mut command = Command::new("bash");
    command.arg("scripts/c.sh").args(mode).current_dir(root());
    command.env("CARGO_TARGET_DIR", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("c"));
    for variable in
        ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS"]
    {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "scripts/c.sh {mode:?}:\n{stdout}\n{stderr}");
    println!("{stdout}");
    stdout.into_owned()
}

/// Whether a program is there; the test is skipped if not.
fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        skip(format_args!("{program} is not there"));
    }
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, " {byte:02x}").unwrap();
        text
    })
}

#[test]
fn the_header_is_what_cbindgen_writes() {
    if has("cbindgen") {
        script(&["--header", "--check"]);
    }
}

/// What examples/hello.c prints.
fn expected_hello() -> Result<String, Error> {
    let file = AlignedBytes::copy_of(&data("vibration.off"));
    let model = Model::open(&file)?;
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, &mut arena)?;
    let states = ["normal", "imbalance", "misalignment", "looseness", "bearing"];
    let mut text = String::new();
    for x in data("vibration_x.u8").chunks_exact(model.input(0).unwrap().elements()) {
        engine.write_input_f32(0, &x.iter().map(|&v| v.into()).collect::<Vec<_>>())?;
        engine.run()?;
        let state = engine.top1(0)?;
        writeln!(text, "state {state}, {}:{}", states[state], hex(engine.output(0)?)).unwrap();
    }
    writeln!(text, "{} bytes of flash, {} of RAM", model.file_len(), model.arena_bytes()).unwrap();
    Ok(text)
}

/// What examples/learn.c prints.
fn expected_learn() -> Result<String, Error> {
    let file = AlignedBytes::copy_of(&data("vibration_learns.off"));
    let model = Model::open(&file)?;
    let mut arena = AlignedBytes::zeroed(model.train_arena_bytes().unwrap() as usize);
    let mut engine = Engine::learning(model, &mut arena)?;
    let samples = samples("shifted_x.u8", "shifted_y.u8", model.input(0).unwrap().elements());
    let (stream, test) = samples.split_at(samples.len() / 2);
    let right = |engine: &mut Engine<'_, '_>| {
        let mut right = 0;
        for (x, label) in test {
            engine.write_input_f32(0, x)?;
            engine.run()?;
            let learned = engine.scores().filter(|scores| scores.iter().any(|s| s.is_finite()));
            let class = learned.and_then(heads::best).map_or_else(|| engine.top1(0), Ok)?;
            right += usize::from(class == usize::from(*label));
        }
        Ok::<_, Error>(format!("{right} of {} right", test.len()))
    };
    let before = right(&mut engine)?;
    for (x, label) in stream {
        engine.write_input_f32(0, x)?;
        engine.learn(*label)?;
    }
    let after = right(&mut engine)?;
    assert_ne!(before, after);
    let learned = engine.learned().unwrap();
    let (bytes, crc) = (learned.len(), wire::crc32(learned));
    Ok(format!(
        "before learning: {before}\nafter {} steps: {after}\nlearned: {bytes} bytes, checksum {crc:08x}\nafter a restart: {after}\n",
        stream.len()
    ))
}

#[test]
fn programs_on_the_host_give_the_engines_bytes() {
    if has("cc") {
        let printed = script(&["--examples"]);
        let expected = expected_hello().unwrap() + &expected_learn().unwrap();
        assert!(printed.ends_with(&expected), "expected:\n{expected}");
    }
}

/// What examples/cortex-m prints.
fn expected_emulated() -> Result<String, Error> {
    let file = AlignedBytes::copy_of(&data("vibration_learns.off"));
    let model = Model::open(&file)?;
    let mut arena = AlignedBytes::zeroed(model.train_arena_bytes().unwrap() as usize);
    let mut engine = Engine::learning(model, &mut arena)?;
    let samples = samples("shifted_x.u8", "shifted_y.u8", model.input(0).unwrap().elements());
    let mut text = String::new();
    for (x, label) in &samples[..STEPS] {
        engine.write_input_f32(0, x)?;
        engine.learn(*label)?;
        writeln!(text, "output:{}", hex(engine.output(0)?)).unwrap();
    }
    let saved = engine.learned().unwrap().to_vec();
    engine.forget()?;
    engine.restore(&saved)?;
    for (x, _) in &samples[..2] {
        engine.write_input_f32(0, x)?;
        engine.run()?;
        writeln!(text, "output:{}", hex(engine.output(0)?)).unwrap();
    }
    writeln!(text, "learned: {:08x}", wire::crc32(&saved)).unwrap();
    Ok(text)
}

#[test]
fn a_program_on_an_emulated_cortex_m4_gives_the_engines_bytes() {
    if skip_emulated() || !has("arm-none-eabi-gcc") || !has("qemu-system-arm") {
        return;
    }
    let printed = script(&["--emulated"]);
    let expected = expected_emulated().unwrap();
    assert!(printed.ends_with(&expected), "expected:\n{expected}");
}
