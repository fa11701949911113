//! `offshoot keygen`: makes a key pair that signs models, or commands to devices.

use std::path::PathBuf;

use serde::Serialize;

use crate::failure::{Failure, Kind, Result};
use crate::signing;
use crate::ui::{Outcome, Ui};

/// Arguments of `keygen`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// File for the private key (PKCS#8 PEM, readable by its owner only). It must not exist. The public key goes beside it, with
    /// the extension .pub.pem.
    #[arg(short, long)]
    pub output: PathBuf,
}

/// Result of `keygen`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// File of the private key.
    pub private: String,
    /// File of the public key.
    pub public: String,
    /// Names the key: its first eight bytes, hexadecimal.
    pub key: String,
    /// The public key's bytes, as the firmware takes them.
    pub bytes: Vec<u8>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let rows: Vec<String> = self.bytes.chunks(16).map(|row| format!("    {}", list(row))).collect();
        format!(
            "private key: {} (keep it off devices and out of repositories)\npublic key {}: {}\n\nfor the firmware:\n\
             const KEY: PublicKey = PublicKey::new([\n{}\n]).expect(\"a key of `offshoot keygen`\");",
            self.private,
            self.key,
            self.public,
            rows.join("\n")
        )
    }
}

fn list(row: &[u8]) -> String {
    row.iter().map(|byte| format!("{byte:#04x},")).collect::<Vec<_>>().join(" ")
}

/// Makes the pair and writes both files.
///
/// # Errors
/// A file exists or cannot be written.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    let public_path = args.output.with_extension("pub.pem");
    if public_path.exists() {
        let message = format!("{}: this file exists, and keys are never written over", public_path.display());
        return Err(Failure::new(Kind::Io, message, "give another --output"));
    }
    let key = signing::generate()?;
    let public = key.verifying_key();
    signing::write_private(&args.output, &key)?;
    signing::write_public(&public_path, &public)?;
    Ok(Report {
        private: args.output.display().to_string(),
        public: public_path.display().to_string(),
        key: signing::hex(&public.as_bytes()[..8]),
        bytes: public.to_bytes().to_vec(),
    })
}
