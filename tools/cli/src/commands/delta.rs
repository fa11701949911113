//! `offshoot delta`: what a device needs to get from one version of a model to the next.

use std::path::{Path, PathBuf};

use offshoot::store::slots::UpdateError;
use offshoot_report::table::thousands;
use serde::Serialize;

use crate::delta;
use crate::failure::{Failure, Kind, Result};
use crate::files::{OffFile, refuse_same_file};
use crate::ui::{Outcome, Ui};

/// Arguments of `delta`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The version that the device runs (.off, with its signature if it has one).
    pub old: PathBuf,
    /// The next version (.off); with --apply the delta.
    pub new: PathBuf,
    /// File to write: the delta; with --apply the next version (.off).
    #[arg(short, long)]
    pub output: PathBuf,
    /// Apply a delta instead of making one, as a device does.
    #[arg(long)]
    pub apply: bool,
}

/// Result of `delta`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file written.
    pub output: String,
    /// Bytes of the old version.
    pub old_bytes: u64,
    /// Bytes of the new version.
    pub new_bytes: u64,
    /// Bytes of the delta.
    pub delta_bytes: u64,
    /// SHA-256 of the old version, which a device must run.
    pub base: String,
}

impl Outcome for Report {
    fn render(&self) -> String {
        format!(
            "{}: a delta of {} bytes gives {} bytes ({:.1} %) from the file with SHA-256 {}",
            self.output,
            thousands(self.delta_bytes),
            thousands(self.new_bytes),
            100.0 * self.delta_bytes as f64 / self.new_bytes.max(1) as f64,
            self.base
        )
    }
}

/// Makes a delta and applies it once, or applies one.
///
/// # Errors
/// A file cannot be read or written, or is no model; the delta is for another file.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    refuse_same_file([&args.old, &args.new], [&args.output])?;
    let old = OffFile::read(&args.old)?;
    let old = old.whole();
    let (delta, new) = if args.apply {
        let delta = std::fs::read(&args.new).map_err(|e| Failure::reading(&args.new, &e))?;
        let new = delta::apply(old, &delta).map_err(|error| refused(&args.new, &error))?;
        OffFile::parse(&new, &format!("what {} gives", args.new.display()))?;
        (delta, new)
    } else {
        let new = OffFile::read(&args.new)?.whole().to_vec();
        let delta = delta::encode(old, &new)?;
        let applied = delta::apply(old, &delta).map_err(|error| refused(&args.output, &error))?;
        if applied != new {
            let message = "the delta that was just made gives another file";
            return Err(Failure::new(Kind::Internal, message, "report this with both files"));
        }
        (delta, new)
    };
    let written = if args.apply { &new } else { &delta };
    offshoot_report::write_atomically(&args.output, written)
        .map_err(|e| Failure::writing(&args.output, &e))?;
    Ok(Report {
        output: args.output.display().to_string(),
        old_bytes: old.len() as u64,
        new_bytes: new.len() as u64,
        delta_bytes: delta.len() as u64,
        base: crate::signing::hex(&delta::image(old)?.sha256),
    })
}

fn refused(path: &Path, error: &delta::Error) -> Failure {
    let (kind, help) = match error {
        UpdateError::Base => (Kind::Mismatch, "give the version that the delta was made from"),
        _ => (Kind::Format, "get the delta again, or make it: offshoot delta OLD.off NEW.off -o FILE"),
    };
    Failure::new(kind, format!("{}: {error}", path.display()), help)
}
