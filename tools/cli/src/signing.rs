//! Keys and signatures on the host: Ed25519 keys in PEM files as OpenSSL writes and reads them, and the envelope of a signed `.off` file.

use std::io::Write;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use offshoot_sign::envelope::{self, Enveloped, NAME_MAX, TARGET_MAX};
use offshoot_sign::{DeviceKey, Metadata, PublicKey, RUNTIME, Refusal, Trust, verify};
use offshoot_target::HostKey;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::failure::{Context, Failure, Kind, Result};

/// Makes a key from the operating system's random numbers.
///
/// # Errors
/// The system gives none.
pub fn generate() -> Result<SigningKey> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut())
        .or_fail(Kind::Io, "the operating system gives no random numbers: make the key on another machine")?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Writes a private key as PKCS#8 PEM that only its owner can read, and never over another file.
///
/// # Errors
/// The file exists or cannot be written.
pub fn write_private(path: &Path, key: &SigningKey) -> Result<()> {
    // Version 1, without the public key: OpenSSL does not read version 2.
    let pair = KeypairBytes { secret_key: key.to_bytes(), public_key: None };
    let text = pair.to_pkcs8_pem(LineEnding::LF).or_fail(Kind::Internal, "report this with the message")?;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = || -> std::io::Result<()> {
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::new(
            Kind::Io,
            format!("{}: this file exists, and keys are never written over", path.display()),
            "give another file",
        ),
        _ => Failure::writing(path, &e),
    })
}

/// Writes a public key as PEM (SubjectPublicKeyInfo).
///
/// # Errors
/// The file cannot be written.
pub fn write_public(path: &Path, key: &VerifyingKey) -> Result<()> {
    let text =
        key.to_public_key_pem(LineEnding::LF).or_fail(Kind::Internal, "report this with the message")?;
    offshoot_report::write_atomically(path, text.as_bytes()).map_err(|e| Failure::writing(path, &e))
}

/// Reads a private key.
///
/// # Errors
/// The file cannot be read or is no Ed25519 key in PKCS#8 PEM.
pub fn read_private(path: &Path) -> Result<SigningKey> {
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?);
    SigningKey::from_pkcs8_pem(&text).or_fail_in(
        Kind::Format,
        path.display(),
        "give a private Ed25519 key (PKCS#8 PEM), as `offshoot keygen` or `openssl genpkey -algorithm ed25519` writes it",
    )
}

/// Reads a public key and holds it against the rules of verification.
///
/// # Errors
/// The file cannot be read, is no Ed25519 key in PEM, or is a weak key.
pub fn read_public(path: &Path) -> Result<PublicKey> {
    let text = std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?;
    let help = "give a public Ed25519 key (PEM), as `offshoot keygen` or `openssl pkey -pubout` writes it";
    let key = VerifyingKey::from_public_key_pem(&text).or_fail_in(Kind::Format, path.display(), help)?;
    public(&key).ok_or_else(|| {
        Failure::new(
            Kind::Format,
            format!("{}: a weak key, under which anybody can sign", path.display()),
            help,
        )
    })
}

/// The public key in the form of the runtime; `None` if it is weak.
pub fn public(key: &VerifyingKey) -> Option<PublicKey> {
    PublicKey::new(key.to_bytes())
}

/// Environment variable with the file of the private key that signs requests to devices.
pub const HOST_KEY: &str = "OFFSHOOT_HOST_KEY";

/// Environment variable with the file of the device's own key: 64 hexadecimal digits.
pub const DEVICE_KEY: &str = "OFFSHOOT_DEVICE_KEY";

/// A host's key from a file.
struct FileKey {
    key: SigningKey,
    device: Option<DeviceKey>,
}

// Not the keys.
impl std::fmt::Debug for FileKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileKey")
    }
}

impl HostKey for FileKey {
    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    fn device_key(&self) -> Option<DeviceKey> {
        self.device
    }
}

/// The key that signs requests to devices, if the environment names one ([`HOST_KEY`], [`DEVICE_KEY`]).
///
/// # Errors
/// A file cannot be read, or holds no key.
pub fn host_key() -> Result<Option<Box<dyn HostKey>>> {
    let path =
        |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(std::path::PathBuf::from);
    let Some(file) = path(HOST_KEY) else { return Ok(None) };
    let key = read_private(&file)?;
    let device = path(DEVICE_KEY).map(|file| read_device_key(&file)).transpose()?;
    Ok(Some(Box::new(FileKey { key, device })))
}

fn read_device_key(path: &Path) -> Result<DeviceKey> {
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| Failure::reading(path, &e))?);
    let pairs = text.trim().as_bytes().chunks(2);
    let bytes = pairs.map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit));
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
    });
    let bytes: Option<Vec<u8>> = bytes.collect();
    let key = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok()).filter(|_| text.trim().len() == 64);
    key.map(DeviceKey::new).ok_or_else(|| {
        let message = format!("{}: this is no device key", path.display());
        Failure::new(Kind::Format, message, "give a file with 64 hexadecimal digits")
    })
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a signature shall say.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct Statement {
    /// Name of the model in its signature, up to 32 bytes. Default: the output's file name without extension.
    #[arg(long)]
    pub name: Option<String>,
    /// Number of the release in the signature: devices refuse one below a release that they have accepted.
    #[arg(long, value_name = "N")]
    pub release: Option<u32>,
    /// Least release of the runtime that the model needs, in the signature. Default: this release.
    #[arg(long, value_name = "X.Y.Z", value_parser = parse_version)]
    pub min_runtime: Option<[u16; 3]>,
    /// Target that the model is for, in the signature, as the firmware names itself. Default: any.
    #[arg(long, value_name = "NAME")]
    pub for_target: Option<String>,
}

fn parse_version(text: &str) -> std::result::Result<[u16; 3], String> {
    let numbers: Vec<u16> = text.split('.').map_while(|part| part.parse().ok()).collect();
    let whole = text.split('.').count() == 3;
    numbers.try_into().ok().filter(|_| whole).ok_or_else(|| "give three numbers, as 0.1.0".to_owned())
}

impl Statement {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.release.is_none()
            && self.min_runtime.is_none()
            && self.for_target.is_none()
    }

    /// Signs a `.off` file for `output`, and checks the result as a device would.
    ///
    /// # Errors
    /// There is no release number, or a name does not fit.
    pub fn sign(&self, key: &SigningKey, network: &[u8], output: &Path) -> Result<Vec<u8>> {
        let Some(release) = self.release else {
            let help = "give --release N: 1 for the first, and a larger number for each that replaces it";
            return Err(Failure::new(Kind::Usage, "a signature needs a release number", help));
        };
        let stem = output.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (name, target) =
            (self.name.as_deref().unwrap_or(&stem), self.for_target.as_deref().unwrap_or(""));
        let public = public(&key.verifying_key())
            .ok_or_else(|| Failure::new(Kind::Format, "the key is weak", "make another: offshoot keygen"))?;
        let runtime = self.min_runtime.unwrap_or(RUNTIME);
        let metadata = Metadata { key: public.id(), release, runtime, name, target };
        let mut front = envelope::unsigned(&metadata, network).ok_or_else(|| {
            let message = format!("the name `{name}` or the target `{target}` does not fit a signature");
            let help = format!(
                "give --name of 1 to {NAME_MAX} bytes and --for-target of up to {TARGET_MAX}, without NUL"
            );
            Failure::new(Kind::Usage, message, help)
        })?;
        let message = [envelope::signed_part(&front), network].concat();
        envelope::put_signature(&mut front, &key.sign(&message).to_bytes());
        let file = [&front[..], network].concat();
        let trust = Trust { keys: &[public], name: Some(name), target, release };
        // A fault of this machine while it signs could give away the key (Romailler and Pelissier 2017).
        match verify(&file, &trust) {
            Ok(_) | Err(Refusal::Runtime) => Ok(file),
            Err(refusal) => Err(Failure::new(
                Kind::Internal,
                format!("the signature that was just made does not hold: {refusal}"),
                "sign again on a machine that computes correctly",
            )),
        }
    }
}

/// The signature of a file, as it says itself.
#[derive(Clone, Debug, Serialize)]
pub struct SignatureReport {
    /// Names the key: its first eight bytes, hexadecimal.
    pub key: String,
    /// The model's name.
    pub name: String,
    /// Number of the release.
    pub release: u32,
    /// Least runtime.
    pub min_runtime: String,
    /// Target; empty: any.
    pub target: String,
}

impl SignatureReport {
    /// Of a signed file, whose signature is not checked; `None` if there is none, or it is not well formed.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Some(Self::from(&Enveloped::new(bytes)?.metadata()?))
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let target = if self.target.is_empty() { "any target" } else { &self.target };
        format!(
            "`{}`, release {}, for {target} with runtime {} or later, key {}",
            self.name, self.release, self.min_runtime, self.key
        )
    }
}

impl From<&Metadata<'_>> for SignatureReport {
    fn from(metadata: &Metadata<'_>) -> Self {
        let [major, minor, patch] = metadata.runtime;
        Self {
            key: hex(&metadata.key),
            name: metadata.name.to_owned(),
            release: metadata.release,
            min_runtime: format!("{major}.{minor}.{patch}"),
            target: metadata.target.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_three_numbers() {
        assert_eq!(parse_version("1.20.3"), Ok([1, 20, 3]));
        for wrong in ["", "1", "1.2", "1.2.3.4", "1.2.x", "1.2.70000", "-1.2.3"] {
            assert!(parse_version(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_go_through_files() {
        let folder = tempfile::tempdir().unwrap();
        let (private, public_path) = (folder.path().join("k.pem"), folder.path().join("k.pub.pem"));
        let key = generate().unwrap();
        write_private(&private, &key).unwrap();
        write_public(&public_path, &key.verifying_key()).unwrap();
        assert_eq!(read_private(&private).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(Some(read_public(&public_path).unwrap()), public(&key.verifying_key()));
        assert_eq!(write_private(&private, &key).unwrap_err().kind, Kind::Io, "written over");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(read_private(&public_path).unwrap_err().kind, Kind::Format);
        assert_eq!(read_public(&private).unwrap_err().kind, Kind::Format);
        // The identity, in PEM: openssl makes such a file without a word.
        std::fs::write(
            &public_path,
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n",
        )
        .unwrap();
        assert!(read_public(&public_path).unwrap_err().message.contains("weak"));
    }

    #[test]
    fn a_statement_is_what_the_file_says() {
        let key = generate().unwrap();
        let statement = Statement { release: Some(3), for_target: Some("b".into()), ..Statement::default() };
        let file = statement.sign(&key, b"OFFS", Path::new("x/words.off")).unwrap();
        let report = SignatureReport::of(&file).unwrap();
        assert_eq!((report.name.as_str(), report.release, report.target.as_str()), ("words", 3, "b"));
        let long = Statement { name: Some("x".repeat(33)), ..statement };
        assert_eq!(long.sign(&key, b"", Path::new("x")).unwrap_err().kind, Kind::Usage);
        let none = Statement::default();
        assert!(none.sign(&key, b"", Path::new("x")).unwrap_err().help.contains("--release"));
    }
}
