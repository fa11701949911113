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
    /// Public key (PEM): the firmware opens only a model that is signed by it for the board (`--for-target cortex-m4`).
    #[arg(long)]
    pub key: Option<PathBuf>,
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
    /// Instructions to verify and open a signed model; none for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_instructions: Option<u32>,
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
    let key = args.key.as_deref();
    // Both builds have the same place: that which is measured comes last.
    let open_instructions = key.map(|key| count_opening(&args.model, &args.target, key)).transpose()?;
    let elf = build(&args.model, &args.target, key)?;
    let sample = inputs.sample(0).first().copied().unwrap_or_default();
    let report = Report { open_instructions, ..execute(&elf, &args.model, &args.target, sample)? };
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
    if let Some(count) = report.open_instructions {
        table.row(["verify and open, instructions", &thousands(count.into())]);
    }
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

/// Builds the firmware of a model for a board; returns its ELF file. With a key, that of a model signed by it.
///
/// # Errors
/// The model cannot be read, or the build fails.
pub fn build(model: &Path, target: &str, key: Option<&Path>) -> Result<PathBuf> {
    build_with(model, target, key, &[], false)
}

/// Instructions to verify and open a signed model. The firmware that counts them is another than that which [`build`] gives.
///
/// # Errors
/// As [`build`]; the emulator fails, or the firmware refuses the model.
pub fn count_opening(model: &Path, target: &str, key: &Path) -> Result<u32> {
    let elf = build_with(model, target, Some(key), &[], true)?;
    let mut emulator = Emulator::start(board(target)?, &elf, None)?;
    let bytes =
        receive(&mut emulator, 4).context("the firmware refuses the model: is it signed by this key?")?;
    Ok(u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
}

/// Links the firmware of a model with a panic handler that does not exist. That it links proves that no panic can be
/// reached.
///
/// # Errors
/// A panic can be reached; or as [`build`].
pub fn prove_no_panic(model: &Path, target: &str) -> Result<()> {
    build_with(model, target, None, &["--no-panic"], false).map(drop).context("a panic can be reached")
}

fn build_with(
    model: &Path,
    target: &str,
    key: Option<&Path>,
    flags: &[&str],
    count: bool,
) -> Result<PathBuf> {
    let board = board(target)?;
    if !SINGLE.contains(&board.machine) {
        bail!("{target}: the single-model firmware supports MPS2 boards only ({})", SINGLE.join(", "));
    }
    let script = crate::bench::root().join("firmware/single.sh");
    let mut command = Command::new(&script);
    if let Some(key) = key {
        command.arg("--key").arg(key);
    }
    if count {
        command.env("OFFSHOOT_COUNT", "1");
    }
    let output = command
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
    let model_bytes = file.whole().len() as u64;
    Ok(Report {
        model: model.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        target: target.to_owned(),
        features: features(model)?,
        code_bytes: firmware::code_bytes(elf)? - model_bytes,
        model_bytes,
        ram_bytes: firmware::ram_bytes(elf)?,
        stack_bytes: (STACK.1 - unused) as u64,
        open_instructions: None,
        output: bytes,
    })
}

/// Whether the firmware says that it is ready, within a time that is ten times what it needs.
///
/// # Errors
/// The emulator does not start.
pub fn starts(elf: &Path, target: &str) -> Result<bool> {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut emulator = Emulator::start(board(target)?, elf, None)?;
    Ok(matches!(emulator.receive(&mut [0], LIMIT), Ok(1)))
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
