//! The envelope: 176 bytes before a `.off` file (`runtime/FORMAT.md`, *Signed files*). All its fields have fixed places, so finding the
//! key and the signature takes no parser.

use crate::ed25519::{KeyId, SIGNATURE_LEN};
use core::ops::Range;

/// First bytes of a signed file.
pub const MAGIC: [u8; 4] = *b"OFSG";

/// Bytes before the `.off` file: a multiple of 16, so that the file keeps its alignment.
pub const ENVELOPE_LEN: usize = 176;

/// Version of the envelope.
const VERSION: u16 = 1;

/// First bytes of what is signed: no other message of this project begins so.
const CONTEXT: [u8; 16] = *b"offshoot model 1";

/// Places of the fields.
mod field {
    use core::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..4;
    pub(super) const VERSION: Range<usize> = 4..6;
    pub(super) const ZERO: Range<usize> = 6..16;
    pub(super) const SIGNATURE: Range<usize> = 16..80;
    pub(super) const CONTEXT: Range<usize> = 80..96;
    pub(super) const KEY_ID: Range<usize> = 96..104;
    pub(super) const RELEASE: Range<usize> = 104..108;
    pub(super) const FILE_LEN: Range<usize> = 108..112;
    pub(super) const RUNTIME: Range<usize> = 112..118;
    pub(super) const ZERO_TOO: Range<usize> = 118..120;
    pub(super) const NAME: Range<usize> = 120..152;
    pub(super) const TARGET: Range<usize> = 152..176;
}

/// Most bytes of a model's name.
pub const NAME_MAX: usize = field::NAME.end - field::NAME.start;

/// Most bytes of a target's name.
pub const TARGET_MAX: usize = field::TARGET.end - field::TARGET.start;

/// What a signature says about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'m> {
    /// Names the key of the signature.
    pub key: KeyId,
    /// Number of the release. It rises; a device refuses a release below one that it has accepted.
    pub release: u32,
    /// Least runtime that the model needs: major, minor, patch.
    pub runtime: [u16; 3],
    /// The model's name, at most [`NAME_MAX`] bytes, not empty.
    pub name: &'m str,
    /// The target that the model is for, at most [`TARGET_MAX`] bytes; empty: any.
    pub target: &'m str,
}

/// An envelope and its `.off` file, which nothing is known about yet.
#[derive(Clone, Copy, Debug)]
pub struct Enveloped<'m> {
    envelope: &'m [u8; ENVELOPE_LEN],
    bytes: &'m [u8],
}

/// Whether the bytes claim to be a signed file.
pub fn is_signed(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

impl<'m> Enveloped<'m> {
    /// Looks at the envelope's first bytes and the length in it. `None` if this is no signed file of this version, or the length
    /// is not that of the file.
    pub fn new(bytes: &'m [u8]) -> Option<Self> {
        let claimed = claimed_len(bytes)?;
        Some(Self { envelope: bytes.first_chunk()?, bytes: (bytes.len() == claimed).then_some(bytes)? })
    }

    /// Name of the key that is said to have signed.
    pub fn key(&self) -> KeyId {
        at(self.envelope, field::KEY_ID)
    }

    /// The signature.
    pub fn signature(&self) -> &'m [u8; SIGNATURE_LEN] {
        let (signature, _) =
            self.envelope[field::SIGNATURE.start..].split_first_chunk().unwrap_or((&[0; 64], &[]));
        signature
    }

    /// All that is signed: metadata and file.
    pub fn message(&self) -> &'m [u8] {
        self.bytes.get(field::SIGNATURE.end..).unwrap_or_default()
    }

    /// The `.off` file.
    pub fn network(&self) -> &'m [u8] {
        self.bytes.get(ENVELOPE_LEN..).unwrap_or_default()
    }

    /// The metadata. `None` if they are not well formed. To be believed after the signature was checked.
    pub fn metadata(&self) -> Option<Metadata<'m>> {
        let e = self.envelope;
        let zeros = e[field::ZERO].iter().chain(&e[field::ZERO_TOO]).all(|&b| b == 0);
        let name = text(&e[field::NAME])?;
        (zeros && e[field::CONTEXT] == CONTEXT && !name.is_empty()).then_some(Metadata {
            key: self.key(),
            release: u32::from_le_bytes(at(e, field::RELEASE)),
            runtime: {
                let [a, b, c, d, f, g] = at(e, field::RUNTIME);
                [u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]), u16::from_le_bytes([f, g])]
            },
            name,
            target: text(&e[field::TARGET])?,
        })
    }
}

/// Bytes of a signed file by its envelope, which nobody has checked yet: a bound on what to look at. `None` if this is no signed
/// file of this version.
pub fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let envelope: &[u8; ENVELOPE_LEN] = bytes.first_chunk()?;
    let known = envelope[field::MAGIC] == MAGIC && envelope[field::VERSION] == VERSION.to_le_bytes();
    let len = u32::from_le_bytes(at(envelope, field::FILE_LEN));
    usize::try_from(len).ok()?.checked_add(ENVELOPE_LEN).filter(|_| known)
}

/// The envelope for a `.off` file, without its signature. `None` if a name is too long or has a NUL, there is no name, or
/// the file is longer than 4 GiB.
pub fn unsigned(metadata: &Metadata<'_>, network: &[u8]) -> Option<[u8; ENVELOPE_LEN]> {
    let mut out = [0; ENVELOPE_LEN];
    out[field::MAGIC].copy_from_slice(&MAGIC);
    out[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
    out[field::CONTEXT].copy_from_slice(&CONTEXT);
    out[field::KEY_ID].copy_from_slice(&metadata.key);
    out[field::RELEASE].copy_from_slice(&metadata.release.to_le_bytes());
    out[field::FILE_LEN].copy_from_slice(&u32::try_from(network.len()).ok()?.to_le_bytes());
    for (to, number) in out[field::RUNTIME].chunks_exact_mut(2).zip(metadata.runtime) {
        to.copy_from_slice(&number.to_le_bytes());
    }
    for (range, text) in [(field::NAME, metadata.name), (field::TARGET, metadata.target)] {
        let room = out[range].get_mut(..text.len())?;
        room.copy_from_slice(text.as_bytes());
    }
    let whole = !metadata.name.is_empty() && !metadata.name.contains('\0') && !metadata.target.contains('\0');
    whole.then_some(out)
}

/// What is to be signed, in two pieces: the end of the envelope, then the `.off` file.
pub fn signed_part(envelope: &[u8; ENVELOPE_LEN]) -> &[u8] {
    &envelope[field::SIGNATURE.end..]
}

/// Puts a signature into an envelope.
pub fn put_signature(envelope: &mut [u8; ENVELOPE_LEN], signature: &[u8; SIGNATURE_LEN]) {
    envelope[field::SIGNATURE].copy_from_slice(signature);
}

/// Bytes at a place; the places above have the lengths that callers ask for.
fn at<const N: usize>(envelope: &[u8; ENVELOPE_LEN], range: Range<usize>) -> [u8; N] {
    envelope.get(range.start..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}

/// UTF-8 up to the first NUL; behind it only NULs, so that a text has one form.
fn text(bytes: &[u8]) -> Option<&str> {
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(len);
    if rest.iter().any(|&b| b != 0) {
        return None;
    }
    core::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), known: bool, fits: bool) {
            if known && bytes.len() >= ENVELOPE_LEN {
                bytes[field::MAGIC].copy_from_slice(&MAGIC);
                bytes[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
                bytes[field::ZERO].fill(0);
                bytes[field::ZERO_TOO].fill(0);
                bytes[field::CONTEXT].copy_from_slice(&CONTEXT);
                // Texts of few letters, so that some are valid.
                bytes[field::NAME.start..].iter_mut().take(56).for_each(|byte| *byte &= 0x41);
                if fits {
                    let len = (bytes.len() - ENVELOPE_LEN) as u32;
                    bytes[field::FILE_LEN].copy_from_slice(&len.to_le_bytes());
                }
            }
            let Some(file) = Enveloped::new(&bytes) else { return Ok(()) };
            prop_assert_eq!(file.message().len() + field::SIGNATURE.end, bytes.len());
            if let Some(metadata) = file.metadata() {
                // Metadata have one form.
                let mut again = unsigned(&metadata, file.network()).unwrap();
                put_signature(&mut again, file.signature());
                prop_assert_eq!(&again[..], &bytes[..ENVELOPE_LEN]);
            }
        }

        #[test]
        fn what_is_written_is_read(release: u32, runtime: [u16; 3], key: KeyId, name in "[a-zä]{1,16}", target in "[a-z:-]{0,24}") {
            let metadata = Metadata { key, release, runtime, name: &name, target: &target };
            let file = [&unsigned(&metadata, b"OFFS").unwrap()[..], b"OFFS"].concat();
            let read = Enveloped::new(&file).unwrap();
            prop_assert_eq!(read.metadata(), Some(metadata));
            prop_assert_eq!(read.network(), b"OFFS");
        }
    }
}
