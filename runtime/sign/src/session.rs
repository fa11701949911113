//! Commands that only the holder of a host key can give.
//!
//! The device sends a nonce that it never sends again. Each command that changes something carries a counter, which rises by one, and a
//! signature over nonce, counter and command; so a command counts once, in one session of one device, in its order. The device's answers
//! carry the counter, and a tag by the device's key if it has one.

use crate::ed25519::{PublicKey, SIGNATURE_LEN};
use crate::seal::{DeviceKey, mac, mac_holds, sha256};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;

/// Bytes that a host signs for a command.
pub const COMMAND_LEN: usize = 16 + NONCE_LEN + 4 + 32;

/// Bytes of a tag of an answer.
pub const REPLY_TAG_LEN: usize = 16;

/// First bytes of what a host signs: no other message of this project begins so.
const COMMAND_CONTEXT: [u8; 16] = *b"offshoot host  1";

/// First bytes of what the device's key authenticates in answers.
const REPLY_CONTEXT: [u8; 16] = *b"offshoot reply 1";

/// Why a command does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NotAuthorised {
    /// The command was given before, or one before it is missing.
    Counter {
        /// The counter that the device waits for.
        expected: u32,
    },
    /// No trusted host has signed it for this session.
    Signature,
}

/// A session as the device sees it.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    nonce: [u8; NONCE_LEN],
    next: u32,
}

impl Session {
    /// Begins a session with a nonce that this device has never used: not before a reset either.
    pub const fn new(nonce: [u8; NONCE_LEN]) -> Self {
        Self { nonce, next: 1 }
    }

    /// The nonce, for the host.
    pub const fn nonce(&self) -> &[u8; NONCE_LEN] {
        &self.nonce
    }

    /// The counter that the next command must have.
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// Takes a command: it counts if its counter is the next and one of the keys has signed it. A counter that was used up is never
    /// taken again; at the last one the session ends.
    ///
    /// # Errors
    /// The command does not count. The session goes on as before.
    pub fn take(
        &mut self,
        hosts: &[PublicKey],
        counter: u32,
        command: &[u8],
        signature: &[u8; SIGNATURE_LEN],
    ) -> Result<(), NotAuthorised> {
        let after = counter.checked_add(1).filter(|_| counter == self.next);
        let after = after.ok_or(NotAuthorised::Counter { expected: self.next })?;
        let message = command_bytes(&self.nonce, counter, command);
        if !hosts.iter().any(|host| host.has_signed(&message, signature)) {
            return Err(NotAuthorised::Signature);
        }
        self.next = after;
        Ok(())
    }
}

/// What a host signs for a command.
pub fn command_bytes(nonce: &[u8; NONCE_LEN], counter: u32, command: &[u8]) -> [u8; COMMAND_LEN] {
    let mut out = [0; COMMAND_LEN];
    let (counter, digest) = (counter.to_le_bytes(), sha256(&[command]));
    let pieces = COMMAND_CONTEXT.iter().chain(nonce).chain(&counter).chain(&digest);
    out.iter_mut().zip(pieces).for_each(|(to, from)| *to = *from);
    out
}

/// The tag of an answer to the command with this counter.
pub fn reply_tag(
    key: &DeviceKey,
    nonce: &[u8; NONCE_LEN],
    counter: u32,
    answer: &[u8],
) -> [u8; REPLY_TAG_LEN] {
    let whole = mac(key, &[&REPLY_CONTEXT, nonce, &counter.to_le_bytes(), answer]);
    let mut out = [0; REPLY_TAG_LEN];
    out.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
    out
}

/// Whether an answer has this tag; in constant time.
pub fn reply_tag_holds(
    key: &DeviceKey,
    nonce: &[u8; NONCE_LEN],
    counter: u32,
    answer: &[u8],
    tag: &[u8; REPLY_TAG_LEN],
) -> bool {
    mac_holds(key, &[&REPLY_CONTEXT, nonce, &counter.to_le_bytes(), answer], tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer, SigningKey};

    #[test]
    fn a_command_counts_once_in_its_session() {
        let host = SigningKey::from_bytes(&[3; 32]);
        let hosts = [PublicKey::new(host.verifying_key().to_bytes()).unwrap()];
        let mut session = Session::new([9; 32]);
        let sign =
            |nonce, counter, command: &[u8]| host.sign(&command_bytes(nonce, counter, command)).to_bytes();
        let first = sign(&[9; 32], 1, b"erase");
        let expected = |expected| Err(NotAuthorised::Counter { expected });
        assert_eq!(session.take(&hosts, 1, b"save", &first), Err(NotAuthorised::Signature));
        assert_eq!(session.take(&[], 1, b"erase", &first), Err(NotAuthorised::Signature));
        assert_eq!(session.take(&hosts, 1, b"erase", &first), Ok(()));
        assert_eq!(session.take(&hosts, 1, b"erase", &first), expected(2), "a replay");
        assert_eq!(session.take(&hosts, 2, b"erase", &first), Err(NotAuthorised::Signature));
        let skips = sign(&[9; 32], 3, b"erase");
        assert_eq!(session.take(&hosts, 3, b"erase", &skips), expected(2));
        let mut later = Session::new([10; 32]);
        assert_eq!(
            later.take(&hosts, 1, b"erase", &first),
            Err(NotAuthorised::Signature),
            "of another session"
        );
        session.next = u32::MAX;
        let last = sign(&[9; 32], u32::MAX, b"erase");
        assert_eq!(session.take(&hosts, u32::MAX, b"erase", &last), expected(u32::MAX));
    }

    #[test]
    fn an_answer_belongs_to_its_command() {
        let (key, nonce) = (DeviceKey::new([1; 32]), [2; 32]);
        let tag = reply_tag(&key, &nonce, 7, b"ok");
        assert!(reply_tag_holds(&key, &nonce, 7, b"ok", &tag));
        assert!(!reply_tag_holds(&key, &nonce, 8, b"ok", &tag));
        assert!(!reply_tag_holds(&key, &[3; 32], 7, b"ok", &tag));
        assert!(!reply_tag_holds(&key, &nonce, 7, b"no", &tag));
        assert!(!reply_tag_holds(&DeviceKey::new([4; 32]), &nonce, 7, b"ok", &tag));
    }
}
