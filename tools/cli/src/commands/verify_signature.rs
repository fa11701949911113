//! `offshoot verify-signature`: checks a signed file as a device does.

use std::path::PathBuf;

use offshoot_sign::{Refusal, Trust, verify};
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};
use crate::signing::{self, SignatureReport};
use crate::ui::{Outcome, Ui};

/// Arguments of `verify-signature`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Signed model (.off).
    pub model: PathBuf,
    /// Public key that is trusted (PEM; repeatable).
    #[arg(long, required = true)]
    pub key: Vec<PathBuf>,
    /// Accept only a model of this name.
    #[arg(long)]
    pub name: Option<String>,
    /// The device's target. Default: the one in the signature.
    #[arg(long)]
    pub target: Option<String>,
    /// Least release to accept.
    #[arg(long, default_value_t = 0)]
    pub least_release: u32,
}

/// Result of `verify-signature`: the signature holds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// What its signature says.
    pub signature: SignatureReport,
}

impl Outcome for Report {
    fn render(&self) -> String {
        format!("{}: the signature holds: {}", self.file, self.signature.line())
    }
}

/// Checks the signature, and then that the model opens.
///
/// # Errors
/// A file cannot be read, or the device would refuse the model.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    let bytes = std::fs::read(&args.model).map_err(|e| Failure::reading(&args.model, &e))?;
    let keys = args.key.iter().map(|path| signing::read_public(path)).collect::<Result<Vec<_>>>()?;
    let said = SignatureReport::of(&bytes);
    let any = said.map(|said| said.target).unwrap_or_default();
    let target = args.target.as_deref().unwrap_or(&any);
    let trust = Trust { keys: &keys, name: args.name.as_deref(), target, release: args.least_release };
    let verified = verify(&bytes, &trust).map_err(|refusal| {
        let help = match refusal {
            Refusal::Unsigned => "sign it: offshoot sign MODEL.off --key KEY.pem --release N -o SIGNED.off",
            Refusal::Key => "give the public key of who signed it: `offshoot inspect` names the key",
            Refusal::Name | Refusal::Target | Refusal::Release => {
                "`offshoot inspect` shows what the signature says"
            }
            Refusal::Runtime => "use a later release of Offshoot",
            _ => "get the file again from who signed it; do not use this one",
        };
        Failure::new(Kind::Signature, format!("{}: {refusal}", args.model.display()), help)
    })?;
    offshoot::Model::open(&offshoot::AlignedBytes::copy_of(verified.network())).or_fail_in(
        Kind::Format,
        args.model.display(),
        "the signature holds, but the model was signed damaged or comes from another version: compile and sign it again",
    )?;
    Ok(Report { file: args.model.display().to_string(), signature: verified.metadata().into() })
}
