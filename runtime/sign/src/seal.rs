//! Binds learned weights to their model, and to the device.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Bytes of a tag.
pub const TAG_LEN: usize = 32;

/// First bytes of what a tag authenticates: no other message of this project begins so.
const CONTEXT: [u8; 16] = *b"offshoot state 1";

/// A secret that only this device (and who registered it) has.
#[derive(Clone, Copy)]
pub struct DeviceKey([u8; 32]);

impl DeviceKey {
    /// A key of 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

// Not its bytes.
impl core::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("DeviceKey")
    }
}

/// SHA-256 of the concatenated pieces.
pub fn sha256(pieces: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    hash.finalize().into()
}

/// HMAC-SHA-256 (RFC 2104, FIPS 180-4) of the concatenated pieces.
pub(crate) fn mac(key: &DeviceKey, pieces: &[&[u8]]) -> [u8; TAG_LEN] {
    keyed(key, pieces).finalize().into_bytes().into()
}

/// Whether the pieces have this tag, or this front of it; in constant time.
pub(crate) fn mac_holds(key: &DeviceKey, pieces: &[&[u8]], tag: &[u8]) -> bool {
    keyed(key, pieces).verify_truncated_left(tag).is_ok()
}

fn keyed(key: &DeviceKey, pieces: &[&[u8]]) -> Hmac<Sha256> {
    // HMAC fills a short key up with zeros; a whole block cannot be refused.
    let mut block = [0; 64];
    block.iter_mut().zip(key.0).for_each(|(to, from)| *to = from);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    pieces.iter().for_each(|piece| mac.update(piece));
    mac
}

/// Makes and checks the tags of learned weights of one model.
///
/// With a device key a tag is an HMAC-SHA-256: weights that this device did not save do not load. Without one it is a SHA-256, which
/// anybody can compute: it tells models apart and finds damage, no more.
#[derive(Clone, Copy, Debug)]
pub struct StateSeal {
    model: [u8; 32],
    key: Option<DeviceKey>,
}

impl StateSeal {
    /// For a model (its `.off` file without the envelope: a new signature of the same network keeps what was learned) on a device.
    pub fn new(network: &[u8], key: Option<DeviceKey>) -> Self {
        Self { model: sha256(&[network]), key }
    }

    /// SHA-256 of the model.
    pub fn model(&self) -> &[u8; 32] {
        &self.model
    }

    /// Tag of learned weights.
    pub fn tag(&self, state: &[u8]) -> [u8; TAG_LEN] {
        let pieces = self.pieces(state);
        match &self.key {
            Some(key) => mac(key, &pieces),
            None => sha256(&pieces),
        }
    }

    /// Whether learned weights have this tag.
    pub fn holds(&self, state: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        let pieces = self.pieces(state);
        match &self.key {
            Some(key) => mac_holds(key, &pieces, tag),
            None => sha256(&pieces) == *tag,
        }
    }

    fn pieces<'p>(&'p self, state: &'p [u8]) -> [&'p [u8]; 3] {
        [&CONTEXT, &self.model, state]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_and_the_mac_are_those_of_the_standards() {
        // FIPS 180-4, "abc".
        assert_eq!(sha256(&[b"a", b"bc"])[..4], [0xba, 0x78, 0x16, 0xbf]);
        // RFC 4231, test case 1 has a key of 20 bytes 0x0b; HMAC fills up with zeros, so it is this key of 32.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let tag = mac(&DeviceKey::new(key), &[b"Hi ", b"There"]);
        assert_eq!(tag[..4], [0xb0, 0x34, 0x4c, 0x61]);
        assert_eq!(tag[28..], [0x2e, 0x32, 0xcf, 0xf7]);
    }

    #[test]
    fn weights_belong_to_model_and_device() {
        let key = |byte| Some(DeviceKey::new([byte; 32]));
        for with in [None, key(1)] {
            let seal = StateSeal::new(b"model", with);
            let tag = seal.tag(b"weights");
            assert!(seal.holds(b"weights", &tag));
            assert!(!seal.holds(b"weightS", &tag));
            assert!(!StateSeal::new(b"modem", with).holds(b"weights", &tag));
            assert!(!StateSeal::new(b"model", key(2)).holds(b"weights", &tag));
        }
    }
}
