//! `cargo xtask bench`: measures networks on the emulated boards, and compares them with TFLite Micro with CMSIS-NN and
//! with the committed figures ([`figures::FILE`]). Counts are deterministic, and a test checks them. [`document`]
//! writes them into README.md and docs/benchmarks.md.

pub mod document;
pub mod figures;
pub mod learning;
pub mod measure;
pub mod networks;
pub mod peers;
pub mod recorded;
pub mod table;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use offshoot_cli::commands::compile::Prefer;

use figures::{Case, Figures};
use measure::Measured;
use networks::Network;

/// Arguments of `bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of public data sets with `mlperf_tiny/`. Default: $OFFSHOOT_DATA, or `../shared/data` beside the
    /// repository.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Only networks whose name contains this (repeatable).
    #[arg(long)]
    pub network: Vec<String>,
    /// Only this target (repeatable). Default: every emulated board.
    #[arg(long)]
    pub target: Vec<String>,
    /// Also print the instructions of each kind of operator.
    #[arg(long)]
    pub kinds: bool,
    /// Print tables in Markdown.
    #[arg(long)]
    pub markdown: bool,
    /// File to write the measured figures to (.json).
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Replace the committed figures of the measured cases, and update the tables of the documents.
    #[arg(long)]
    pub update: bool,
    /// Measure nothing, and only update the tables of README.md and docs/benchmarks.md from the committed figures.
    #[arg(long, conflicts_with = "update")]
    pub document: bool,
}

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder of public data sets.
pub fn data_folder() -> PathBuf {
    std::env::var_os("OFFSHOOT_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from)
}

/// Measures, prints the tables and compares with the committed figures.
///
/// # Errors
/// A network does not compile or no longer fits its board, a board does not answer, a file cannot be written, or a
/// figure has grown.
pub fn run(args: &Args) -> Result<()> {
    if args.document {
        return write_documents();
    }
    let data = args.data.clone().unwrap_or_else(data_folder);
    let boards = targets(&args.target)?;
    let wanted = |n: &Network| args.network.is_empty() || args.network.iter().any(|w| n.name.contains(w));
    let (mut measured, mut too_large) = (Figures::default(), vec![]);
    for network in networks::all().into_iter().filter(wanted) {
        let Some(source) = network.find(&data) else {
            eprintln!("skipped: {} ({} is absent)", network.name, network.path(&data).display());
            continue;
        };
        for prefer in [Prefer::Balanced, Prefer::Speed] {
            let off = network.compile(&source, prefer)?;
            for target in &boards {
                eprintln!("{} {} {target} …", network.name, networks::preference(prefer));
                let own = network.own_file(&source, prefer, target)?;
                match measure::measure(&network, prefer, own.as_ref().unwrap_or(&off), target, true)? {
                    Measured::Row(row) => measured.rows.push(row),
                    Measured::DoesNotFit(why) => {
                        eprintln!("{why}");
                        too_large.push(network.case(prefer, target));
                    }
                }
            }
        }
    }
    if measured.rows.is_empty() {
        bail!("nothing was measured: check --network and --target, and the folder of data sets");
    }
    println!("{}", table::sizes(&measured, args.markdown));
    println!("{}", table::costs(&measured, args.markdown));
    if args.kinds {
        println!("{}", table::kinds(&measured, args.markdown));
    }
    if let Some(path) = &args.json {
        measured.write(path)?;
    }
    compare(&measured, &too_large, args.update)
}

/// Names of all emulated boards.
pub fn boards() -> Vec<String> {
    offshoot_target::BOARDS.iter().map(|b| b.name.to_owned()).collect()
}

/// Names of the boards to measure on.
pub(crate) fn targets(only: &[String]) -> Result<Vec<String>> {
    let all = boards();
    if let Some(unknown) = only.iter().find(|name| !all.contains(name)) {
        bail!("there is no emulated board `{unknown}`; there are: {}", all.join(", "));
    }
    Ok(if only.is_empty() { all } else { only.to_vec() })
}

fn compare(measured: &Figures, too_large: &[Case], update: bool) -> Result<()> {
    let path = figures::committed();
    let committed = Figures::read_or_empty(&path)?;
    let changes = committed.changes(measured);
    changes.iter().for_each(|c| println!("{c}"));
    let gone: Vec<Case> = too_large.iter().filter(|c| committed.fits(c)).cloned().collect();
    gone.iter().for_each(|c| println!("GONE: {c}: fitted before"));
    if update {
        committed.without(&gone).replaced_by(measured).write(&path)?;
        println!("written: {}", display(&path));
        return write_documents();
    }
    let grown = changes.iter().filter(|c| c.is_growth()).count();
    if grown > 0 {
        bail!(
            "{grown} figures have grown by more than {} %; if that is intended, run again with --update",
            figures::TOLERANCE_PERCENT
        );
    }
    if !gone.is_empty() {
        bail!(
            "{} networks no longer fit their boards; if that is intended, run again with --update",
            gone.len()
        );
    }
    Ok(())
}

fn write_documents() -> Result<()> {
    let changed = document::update(&root())?;
    changed.iter().for_each(|path| println!("written: {}", display(path)));
    Ok(())
}

fn display(path: &Path) -> String {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf()).display().to_string()
}
