//! Checks a signed file against what a device trusts.

use crate::ed25519::PublicKey;
use crate::envelope::{Enveloped, Metadata, claimed_len};
use crate::release::RUNTIME;

/// What a device trusts, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'t> {
    /// Keys whose signatures hold. Two or more let keys change: firmware learns the next key before the old one leaves.
    pub keys: &'t [PublicKey],
    /// Only a model of this name. `None`: any model of these keys.
    pub name: Option<&'t str>,
    /// The device's target. A model for another target is refused.
    pub target: &'t str,
    /// Least release that is accepted: the device's counter.
    pub release: u32,
}

/// A signed file that holds. Only [`verify`] makes one.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'m> {
    network: &'m [u8],
    metadata: Metadata<'m>,
}

impl<'m> Verified<'m> {
    /// The `.off` file.
    pub fn network(&self) -> &'m [u8] {
        self.network
    }

    /// What the signature says about it.
    pub fn metadata(&self) -> &Metadata<'m> {
        &self.metadata
    }
}

/// Why a signed file is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refusal {
    /// The file has no signature, or one of a version that this release does not know.
    Unsigned,
    /// The file is shorter or longer than its envelope says.
    Length,
    /// It is signed by a key that is not trusted here.
    Key,
    /// The signature does not hold: the file was changed, or somebody else made the signature.
    Signature,
    /// The signature holds, but the metadata are not well formed.
    Metadata,
    /// The model has another name than the device asks for.
    Name,
    /// The model is for another target.
    Target,
    /// The model needs a later release of the runtime.
    Runtime,
    /// A downgrade: the device has accepted a later release.
    Release,
}

impl Refusal {
    /// All of them, in the order of their numbers in messages.
    pub const ALL: [Self; 9] = [
        Self::Unsigned,
        Self::Length,
        Self::Key,
        Self::Signature,
        Self::Metadata,
        Self::Name,
        Self::Target,
        Self::Runtime,
        Self::Release,
    ];
}

impl core::fmt::Display for Refusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Unsigned => "the model is not signed, or not in a way that this release knows",
            Self::Length => "the signed file is truncated or has trailing bytes",
            Self::Key => "the model is signed by a key that is not trusted here",
            Self::Signature => "the signature does not hold: the file was changed or is a forgery",
            Self::Metadata => "the signature's metadata are not well formed",
            Self::Name => "the model has another name than the one asked for",
            Self::Target => "the model is signed for another target",
            Self::Runtime => "the model needs a later release of the runtime",
            Self::Release => "the model's release is older than one that was accepted",
        })
    }
}

impl core::error::Error for Refusal {}

/// Checks a signed file. Before the signature holds, nothing is read but the fixed places of key, length and signature.
///
/// # Errors
/// The first thing that is wrong, in the order of [`Refusal`].
// Not inlined: its frame, and that of the arithmetic below it, would stay on the stack below every run.
#[inline(never)]
pub fn verify<'m>(bytes: &'m [u8], trust: &Trust<'_>) -> Result<Verified<'m>, Refusal> {
    let enveloped = Enveloped::new(bytes)
        .ok_or_else(|| if claimed_len(bytes).is_some() { Refusal::Length } else { Refusal::Unsigned })?;
    // Ids of two keys may be the same by chance: each is tried.
    let mut tried = trust.keys.iter().filter(|key| key.id() == enveloped.key()).peekable();
    if tried.peek().is_none() {
        return Err(Refusal::Key);
    }
    if !tried.any(|key| key.has_signed(enveloped.message(), enveloped.signature())) {
        return Err(Refusal::Signature);
    }
    let metadata = enveloped.metadata().ok_or(Refusal::Metadata)?;
    let allowed = [
        (trust.name.is_none_or(|name| name == metadata.name), Refusal::Name),
        (metadata.target.is_empty() || metadata.target == trust.target, Refusal::Target),
        (metadata.runtime <= RUNTIME, Refusal::Runtime),
        (metadata.release >= trust.release, Refusal::Release),
    ];
    match allowed.iter().find(|(holds, _)| !holds) {
        Some((_, refusal)) => Err(*refusal),
        None => Ok(Verified { network: enveloped.network(), metadata }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{self, ENVELOPE_LEN};
    use ed25519_dalek::{Signer, SigningKey};

    const METADATA: Metadata<'_> =
        Metadata { key: [0; 8], release: 5, runtime: [0, 1, 0], name: "keywords", target: "nrf52840" };

    fn key(seed: u8) -> (SigningKey, PublicKey) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = PublicKey::new(key.verifying_key().to_bytes()).unwrap();
        (key, public)
    }

    fn signed(key: &SigningKey, metadata: Metadata<'_>, network: &[u8]) -> Vec<u8> {
        let id = PublicKey::new(key.verifying_key().to_bytes()).unwrap().id();
        let mut front = envelope::unsigned(&Metadata { key: id, ..metadata }, network).unwrap();
        let message = [envelope::signed_part(&front), network].concat();
        envelope::put_signature(&mut front, &key.sign(&message).to_bytes());
        [&front, network].concat()
    }

    fn trust(keys: &[PublicKey]) -> Trust<'_> {
        Trust { keys, name: Some("keywords"), target: "nrf52840", release: 5 }
    }

    #[test]
    fn what_was_signed_holds_and_nothing_else_does() {
        let (one, one_public) = key(1);
        let (two, two_public) = key(2);
        let keys = [one_public];
        let network = b"OFFS and what follows";
        let file = signed(&one, METADATA, network);
        let verified = verify(&file, &trust(&keys)).unwrap();
        assert_eq!(verified.network(), network);
        assert_eq!(*verified.metadata(), Metadata { key: one_public.id(), ..METADATA });
        // Every bit.
        for bit in 0..file.len() * 8 {
            let mut changed = file.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&changed, &trust(&keys)).is_err(), "bit {bit}");
        }
        // Every length.
        for len in 0..file.len() {
            assert!(verify(&file[..len], &trust(&keys)).is_err(), "{len}");
        }
        assert_eq!(verify(&[&file[..], &[0]].concat(), &trust(&keys)).unwrap_err(), Refusal::Length);
        // Keys.
        let other = signed(&two, METADATA, network);
        assert_eq!(verify(&other, &trust(&keys)).unwrap_err(), Refusal::Key);
        assert!(verify(&other, &trust(&[one_public, two_public])).is_ok(), "the next key");
        assert_eq!(verify(&file, &trust(&[two_public])).unwrap_err(), Refusal::Key, "the old key has left");
        let mut claims = other;
        claims[96..104].copy_from_slice(&one_public.id());
        assert_eq!(verify(&claims, &trust(&keys)).unwrap_err(), Refusal::Signature);
        assert_eq!(verify(network, &trust(&keys)).unwrap_err(), Refusal::Unsigned);
        assert_eq!(verify(&[], &trust(&keys)).unwrap_err(), Refusal::Unsigned);
    }

    #[test]
    fn metadata_bind() {
        let (one, public) = key(1);
        let keys = [public];
        let refusal = |metadata| verify(&signed(&one, metadata, b"OFFS"), &trust(&keys)).err();
        assert_eq!(refusal(METADATA), None);
        assert_eq!(refusal(Metadata { release: 4, ..METADATA }), Some(Refusal::Release));
        assert_eq!(refusal(Metadata { release: u32::MAX, ..METADATA }), None);
        assert_eq!(refusal(Metadata { target: "", ..METADATA }), None);
        assert_eq!(refusal(Metadata { target: "nrf5284", ..METADATA }), Some(Refusal::Target));
        assert_eq!(refusal(Metadata { name: "keyword", ..METADATA }), Some(Refusal::Name));
        assert_eq!(refusal(Metadata { runtime: RUNTIME, ..METADATA }), None);
        let [major, minor, patch] = RUNTIME;
        for later in [[major + 1, 0, 0], [major, minor + 1, 0], [major, minor, patch + 1]] {
            assert_eq!(refusal(Metadata { runtime: later, ..METADATA }), Some(Refusal::Runtime));
        }
    }

    #[test]
    fn metadata_have_one_form() {
        let (one, public) = key(1);
        let long = "x".repeat(envelope::NAME_MAX + 1);
        for name in ["", long.as_str(), "a\0b"] {
            assert_eq!(envelope::unsigned(&Metadata { name, ..METADATA }, b""), None, "{name}");
        }
        // A signer that writes other forms: the signature holds, and the file is refused.
        let resigned = |at: usize, byte: u8| {
            let mut file = signed(&one, METADATA, b"OFFS");
            file[at] = byte;
            let signature = one.sign(&file[80..]).to_bytes();
            file[16..80].copy_from_slice(&signature);
            verify(&file, &trust(&[public])).err()
        };
        for (at, byte) in [(80, b'O'), (118, 1), (151, b'x'), (121, 0xff), (175, b'x')] {
            assert_eq!(resigned(at, byte), Some(Refusal::Metadata), "{at}");
        }
        // Outside what is signed.
        assert_eq!(resigned(6, 1), Some(Refusal::Metadata));
        assert_eq!(resigned(4, 2), Some(Refusal::Unsigned), "another version");
        assert_eq!(ENVELOPE_LEN % 16, 0);
    }
}
