//! `offshoot sign`: signs a `.off` file.

use std::path::PathBuf;

use offshoot_report::table::thousands;
use serde::Serialize;

use crate::failure::{Failure, Kind, Result};
use crate::files::{OffFile, refuse_same_file};
use crate::signing::{self, SignatureReport, Statement};
use crate::ui::{Outcome, Ui};

/// Arguments of `sign`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model (.off). A signature that it has is replaced.
    pub model: PathBuf,
    /// Private key (PKCS#8 PEM), as `keygen` writes it.
    #[arg(long)]
    pub key: PathBuf,
    /// File to write (.off).
    #[arg(short, long)]
    pub output: PathBuf,
    /// What the signature says.
    #[command(flatten)]
    pub statement: Statement,
}

/// Result of `sign`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file written.
    pub output: String,
    /// Its bytes.
    pub file_bytes: u64,
    /// What the signature says.
    pub signature: SignatureReport,
}

impl Outcome for Report {
    fn render(&self) -> String {
        format!("{}: {} bytes, signed: {}", self.output, thousands(self.file_bytes), self.signature.line())
    }
}

/// Signs and writes the file.
///
/// # Errors
/// A file cannot be read or written, the model does not open, or the statement is incomplete.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    refuse_same_file([&args.model, &args.key], [&args.output])?;
    let file = OffFile::read(&args.model)?;
    let key = signing::read_private(&args.key)?;
    let signed = args.statement.sign(&key, file.bytes(), &args.output)?;
    offshoot_report::write_atomically(&args.output, &signed)
        .map_err(|e| Failure::writing(&args.output, &e))?;
    let signature = SignatureReport::of(&signed)
        .ok_or_else(|| Failure::new(Kind::Internal, "the signed file cannot be read", "report this"))?;
    Ok(Report { output: args.output.display().to_string(), file_bytes: signed.len() as u64, signature })
}
