//! The host's half of a session with a device that takes changes only from the holder of a key.

use offshoot::wire::Request;
use offshoot::wire::authority::{Authority, Bond, Trailed};
use offshoot_sign::envelope::Enveloped;
use offshoot_sign::{DeviceKey, NONCE_LEN, command_bytes, reply_tag_holds};
use std::fmt::Debug;

/// Signs for a host. The key itself stays with who implements this: a file, a token, a service.
pub trait HostKey: Debug + Send {
    /// An Ed25519 signature (RFC 8032, without a context).
    fn sign(&self, message: &[u8]) -> [u8; 64];

    /// The device's own key, which its answers are authenticated by; `None` if it has none.
    fn device_key(&self) -> Option<DeviceKey> {
        None
    }
}

/// A host's key and its session, if one is open.
#[derive(Debug)]
pub(crate) struct Host {
    key: Box<dyn HostKey>,
    session: Option<Session>,
    /// The device has said that it has no host keys.
    without: bool,
}

#[derive(Debug)]
struct Session {
    nonce: [u8; NONCE_LEN],
    /// Counter of the request that is on its way or comes next.
    counter: u32,
}

/// What must be done before a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sending {
    /// It goes as it is.
    Plain,
    /// It goes signed.
    Signed,
    /// A session must be opened first.
    Challenge,
}

impl Host {
    pub(crate) fn new(key: Box<dyn HostKey>) -> Self {
        Self { key, session: None, without: false }
    }

    pub(crate) fn sending(&self, request: &Request<'_>, learned: bool) -> Sending {
        match &self.session {
            _ if self.without || !request.needs_authority(learned) => Sending::Plain,
            Some(session) if session.counter < u32::MAX => Sending::Signed,
            _ => Sending::Challenge,
        }
    }

    /// A session begins.
    pub(crate) fn begin(&mut self, nonce: [u8; NONCE_LEN]) {
        self.session = Some(Session { nonce, counter: 1 });
    }

    /// The device has no host keys. False if its answers should be authenticated, so it is not the device that is meant.
    pub(crate) fn do_without(&mut self) -> bool {
        self.without = self.key.device_key().is_none();
        self.without
    }

    /// Whether a session is open.
    pub(crate) fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// The session is lost: the next request opens another, so that no signature of the old one can come late.
    pub(crate) fn end(&mut self) {
        self.session = None;
    }

    /// Signs a request's body.
    pub(crate) fn authority(&self, body: &[u8]) -> Authority {
        let (nonce, counter) = self.session.as_ref().map_or(([0; NONCE_LEN], 0), |s| (s.nonce, s.counter));
        Authority { counter, signature: self.key.sign(&command_bytes(&nonce, counter, body)) }
    }

    /// Whether an answer belongs to the request that is on its way.
    pub(crate) fn holds<M>(&self, answer: &Trailed<'_, M, Bond>) -> bool {
        let (Some(session), Some(bond)) = (&self.session, &answer.trailer) else { return false };
        let here = session.nonce.starts_with(&bond.session) && bond.counter == session.counter;
        let tagged = |key| reply_tag_holds(&key, &session.nonce, bond.counter, answer.body, &bond.tag);
        here && self.key.device_key().is_none_or(tagged)
    }

    /// The request that was on its way has its last answer.
    pub(crate) fn advance(&mut self) {
        if let Some(session) = &mut self.session {
            session.counter = session.counter.saturating_add(1);
        }
    }
}

/// The `.off` file in a signed one; another file as it is.
pub(crate) fn network(off: &[u8]) -> &[u8] {
    Enveloped::new(off).map_or(off, |file| file.network())
}
