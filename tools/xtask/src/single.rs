//! `cargo xtask single`: a firmware with one model in flash, linked with only what that model needs (`firmware/single`,
//! built by `firmware/single.sh`). Measures its sizes and runs it on the emulated board: it reads the bytes of a sample
//! and writes the bytes of the output. The measured binary is the one that runs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::{inspect, profile, read_array};
use offshoot_cli::files::OffFile;
use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::qemu::Emulator;
use offshoot_target::transport::Transport;
use offshoot_target::{BOARDS, Board, firmware};
use serde::{Deserialize, Serialize};

/// Arguments of `single`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model (.off).
    pub model: PathBuf,
    /// Emulated board.
    #[arg(long, default_value = "qemu:cortex-m4")]
    pub target: String,
    /// Prove that the firmware cannot panic: it links only if no panic can be reached.
    #[arg(long)]
    pub no_panic: bool,
    /// A sample (.npy). Default: zeros.
    #[arg(long)]
    pub input: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Sizes of the firmware, and its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// File name of the model, without extension.
    pub model: String,
    /// Board.
    pub target: String,
    /// Cargo features of the runtime.
    pub features: Vec<String>,
    /// Bytes of code and constants without the model: vector table, text, read-only data, initial values.
    pub code_bytes: u64,
    /// Bytes of the model.
    pub model_bytes: u64,
    /// Bytes of statics: the arena and little else.
    pub ram_bytes: u64,
    /// Deepest stack from reset to the end of a run, in bytes.
    pub stack_bytes: u64,
    /// Bytes of the output.
    pub output: Vec<u8>,
}

/// Top of the boards' RAM, where the stack starts, and number of bytes below it that are searched for use.
const STACK: (u32, usize) = (0x2040_0000, 16 << 10);

/// Machines that the single-model firmware supports.
const SINGLE: [&str; 3] = ["mps2-an385", "mps2-an386", "mps2-an500"];

/// Byte in unused stack.
const PAINT: u8 = 0xA5;

/// Number of bytes that the firmware sends when it is ready for a sample.
const READY_BYTES: usize = 1;

/// Time limit of a run.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Builds the firmware, runs it and prints the report.
///
/// # Errors
/// As [`build`] and [`execute`]; also if the model or the sample cannot be read.
pub fn run(args: &Args) -> Result<()> {
    let file = OffFile::read(&args.model)?;
    let inputs = match &args.input {
        None => profile::zeros(&file)?,
        Some(path) => Inputs::encode(&file.model()?, &[read_array(path)?], &[path.display().to_string()])?,
    };
    if args.no_panic {
        prove_no_panic(&args.model, &args.target)?;
    }
    let elf = build(&args.model, &args.target)?;
    let report =
        execute(&elf, &args.model, &args.target, inputs.sample(0).first().copied().unwrap_or_default())?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    let mut table = Table::new(["", report.target.as_str()]);
    table
        .row(["code (flash) without the model, bytes", &thousands(report.code_bytes)])
        .row(["model (flash), bytes", &thousands(report.model_bytes)])
        .row(["statics (RAM), bytes", &thousands(report.ram_bytes)])
        .row(["deepest stack, bytes", &thousands(report.stack_bytes)]);
    println!("{table}\n{}\nlinked: {}", elf.display(), report.features.join(" "));
    if args.no_panic {
        println!("no panic can be reached");
    }
    Ok(())
}

fn board(target: &str) -> Result<&'static Board> {
    BOARDS.iter().find(|b| b.name == target).with_context(|| format!("there is no emulated board `{target}`"))
}

fn features(model: &Path) -> Result<Vec<String>> {
    let ui = offshoot_cli::ui::Ui { json: true };
    Ok(inspect::run(&ui, &inspect::Args { file: model.into() })?.runtime_features)
}

/// Builds the firmware of a model for a board; returns its ELF file.
///
/// # Errors
/// The model cannot be read, or the build fails.
pub fn build(model: &Path, target: &str) -> Result<PathBuf> {
    build_with(model, target, &[])
}

/// Links the firmware of a model with a panic handler that does not exist. That it links proves that no panic can be
/// reached.
///
/// # Errors
/// A panic can be reached; or as [`build`].
pub fn prove_no_panic(model: &Path, target: &str) -> Result<()> {
    build_with(model, target, &["--no-panic"]).map(drop).context("a panic can be reached")
}

fn build_with(model: &Path, target: &str, flags: &[&str]) -> Result<PathBuf> {
    let board = board(target)?;
    if !SINGLE.contains(&board.machine) {
        bail!("{target}: the single-model firmware supports MPS2 boards only ({})", SINGLE.join(", "));
    }
    let script = crate::bench::root().join("firmware/single.sh");
    let output = Command::new(&script)
        .arg(model)
        .args(["--board", board.name.trim_start_matches("qemu:")])
        .args(flags)
        .env("OFFSHOOT_FEATURES", features(model)?.join(" "))
        .output()
        .with_context(|| script.display().to_string())?;
    if !output.status.success() {
        bail!("{}: {}", script.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// Runs the firmware on a sample's bytes, and measures it.
///
/// # Errors
/// The emulator fails or does not answer.
pub fn execute(elf: &Path, model: &Path, target: &str, sample: &[u8]) -> Result<Report> {
    let board = board(target)?;
    let file = OffFile::read(model)?;
    let output = file.model()?.output(0).context("the model has no output")?;
    let axes = output.shape.iter().take(usize::from(output.rank)).map(|&d| usize::from(d));
    let len = axes.product::<usize>() * output.dtype.size();
    let bottom = STACK.0 - STACK.1 as u32;
    let mut emulator = Emulator::start(board, elf, Some((bottom, &[PAINT; STACK.1])))?;
    receive(&mut emulator, READY_BYTES)?;
    emulator.send(sample)?;
    // QEMU polls the line only when something wakes it, and switching on the UART does not.
    emulator.memory(bottom, 4)?;
    let bytes = receive(&mut emulator, len)?;
    let stack = emulator.memory(bottom, STACK.1)?;
    let unused = stack.iter().take_while(|&&b| b == PAINT).count();
    let model_bytes = file.bytes().len() as u64;
    Ok(Report {
        model: model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        target: target.to_owned(),
        features: features(model)?,
        code_bytes: firmware::code_bytes(elf)? - model_bytes,
        model_bytes,
        ram_bytes: firmware::ram_bytes(elf)?,
        stack_bytes: (STACK.1 - unused) as u64,
        output: bytes,
    })
}

fn receive(emulator: &mut Emulator, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    let mut buffer = [0; 256];
    while bytes.len() < len {
        let room = buffer.len().min(len - bytes.len());
        match emulator.receive(&mut buffer[..room], TIMEOUT)? {
            0 => bail!("the emulator closed the line"),
            count => bytes.extend(&buffer[..count]),
        }
    }
    Ok(bytes)
}
