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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, ClientError};
    use crate::transport::Transport;
    use ed25519_dalek::{Signer, SigningKey};
    use offshoot::wire::authority::{decode_signed, encode_bound};
    use offshoot::wire::{ErrorCode, Event, FRAME_MAX, Failure, FrameReader, Response, StoreReport, encode};
    use offshoot_sign::{PublicKey, Session as DeviceSession, reply_tag};
    use std::collections::VecDeque;
    use std::io;
    use std::time::Duration;

    const DEVICE: [u8; 32] = [9; 32];

    #[derive(Debug)]
    struct Key(SigningKey, Option<[u8; 32]>);

    impl HostKey for Key {
        fn sign(&self, message: &[u8]) -> [u8; 64] {
            self.0.sign(message).to_bytes()
        }

        fn device_key(&self) -> Option<DeviceKey> {
            self.1.map(DeviceKey::new)
        }
    }

    fn host(seed: u8, device: Option<[u8; 32]>) -> Box<dyn HostKey> {
        Box::new(Key(SigningKey::from_bytes(&[seed; 32]), device))
    }

    /// A device that saves: how often it did so counts.
    #[derive(Default)]
    struct Guarded {
        session: Option<DeviceSession>,
        sessions: u8,
        saves: u32,
        out: VecDeque<u8>,
        /// Answers that are left out, then damaged requests, then answers of somebody else.
        lost: u32,
        damaged: u32,
        strangers: u32,
        open: bool,
    }

    impl Guarded {
        fn answer(&mut self, number: u8, response: &Response<'_>, bond: Option<([u8; 32], u32)>) {
            let mut frame = [0; FRAME_MAX];
            let key = if self.strangers > 0 { [1; 32] } else { DEVICE };
            self.strangers = self.strangers.saturating_sub(1);
            let len = match bond {
                None => encode(number, response, &mut frame),
                Some((nonce, counter)) => encode_bound(number, response, &mut frame, |body| Bond {
                    session: nonce[..8].try_into().unwrap(),
                    counter,
                    tag: reply_tag(&DeviceKey::new(key), &nonce, counter, body),
                }),
            };
            self.out.extend(&frame[..len.unwrap()]);
        }
    }

    impl Transport for Guarded {
        fn send(&mut self, frame: &[u8]) -> io::Result<()> {
            let mut reader = FrameReader::new();
            assert!(frame.iter().any(|byte| reader.push(*byte) == Event::Frame));
            let found = decode_signed::<Request<'_>>(reader.payload()).unwrap();
            let number = found.number;
            let refuse = |code, detail| Response::Error(Failure::new(code, detail));
            if self.damaged > 0 {
                self.damaged -= 1;
                self.answer(0, &refuse(ErrorCode::Frame, 0), None);
                return Ok(());
            }
            if found.message == Request::Challenge {
                if self.open {
                    self.answer(number, &refuse(ErrorCode::NoAuthority, 0), None);
                    return Ok(());
                }
                self.sessions += 1;
                self.session = Some(DeviceSession::new([self.sessions; 32]));
                self.answer(number, &Response::Challenge { nonce: [self.sessions; 32] }, None);
                return Ok(());
            }
            let hosts =
                [PublicKey::new(SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes()).unwrap()];
            let session = self.session.as_mut();
            let taken = session.zip(found.trailer).is_some_and(|(session, authority)| {
                session.take(&hosts, authority.counter, found.body, &authority.signature).is_ok()
            });
            if !taken && !self.open {
                self.answer(number, &refuse(ErrorCode::Unauthorised, 1), None);
                return Ok(());
            }
            self.saves += 1;
            if self.lost > 0 {
                self.lost -= 1;
                return Ok(());
            }
            let bond = self
                .session
                .as_ref()
                .zip(found.trailer)
                .map(|(s, authority)| (*s.nonce(), authority.counter));
            let stored = StoreReport { generation: self.saves, capacity: 100 };
            self.answer(number, &Response::Stored(stored), bond);
            Ok(())
        }

        fn receive(&mut self, buffer: &mut [u8], _: Duration) -> io::Result<usize> {
            match self.out.pop_front() {
                Some(byte) => {
                    buffer[0] = byte;
                    Ok(1)
                }
                None => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    #[test]
    fn requests_are_signed_and_answers_checked() {
        let mut client = Client::new(Guarded::default()).with_host_key(host(2, Some(DEVICE)));
        assert_eq!((client.save().unwrap(), client.save().unwrap()), (1, 2));
        assert_eq!(client.line().sessions, 1);
        // A damaged request comes again under the same counter.
        client.line().damaged = 2;
        assert_eq!(client.save().unwrap(), 3);
        assert_eq!(client.line().sessions, 1);
        // After a lost answer the next request opens a session of its own.
        client.line().lost = 1;
        assert!(matches!(client.save(), Err(ClientError::Timeout { .. })));
        assert_eq!(client.save().unwrap(), 5);
        assert_eq!(client.line().sessions, 2);
        // So it does when the device was reset.
        client.line().session = None;
        assert!(matches!(client.save(), Err(ClientError::Refused { .. })));
        assert_eq!(client.save().unwrap(), 6);
        // Somebody else answers.
        client.line().strangers = 1;
        assert!(matches!(client.save(), Err(ClientError::NotBound { .. })));
        assert_eq!(client.save().unwrap(), 8);
    }

    #[test]
    fn a_stranger_gets_nothing() {
        let mut client = Client::new(Guarded::default()).with_host_key(host(3, None));
        assert!(matches!(client.save(), Err(ClientError::Refused { .. })));
        let mut without = Client::new(Guarded::default());
        assert!(matches!(without.save(), Err(ClientError::Refused { .. })));
        assert_eq!((client.line().saves, without.line().saves), (0, 0));
    }

    #[test]
    fn a_device_without_host_keys_is_served_unless_it_should_have_one() {
        let open = || Guarded { open: true, ..Guarded::default() };
        assert_eq!(Client::new(open()).with_host_key(host(2, None)).save().unwrap(), 1);
        let mut posing = Client::new(open()).with_host_key(host(2, Some(DEVICE)));
        assert!(matches!(posing.save(), Err(ClientError::NotBound { .. })));
    }
}
