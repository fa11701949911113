//! Models and requests need signatures that the device trusts.

use embedded_io::Write;
use offshoot::sign::{
    DeviceKey, NONCE_LEN, NotAuthorised, PublicKey, Refusal, Session, StateSeal, Trust, envelope, reply_tag,
    verify,
};
use offshoot::store::nor_flash::NorFlash;
use offshoot::wire::authority::{self, decode_signed, encode_bound};
use offshoot::wire::{ErrorCode, Failure, Request, Response, encode};
use offshoot::{Model, ReleaseCounter};

use crate::link::{failure, send_frame};

/// The least release of a model that the device accepts, which only rises and outlasts a reset.
pub trait Releases {
    /// The least release.
    fn least(&self) -> u32;

    /// Takes note of an accepted release. False if it cannot be kept: the model is refused then.
    fn accept(&mut self, release: u32) -> bool;
}

impl<F: NorFlash> Releases for ReleaseCounter<F> {
    fn least(&self) -> u32 {
        self.value()
    }

    fn accept(&mut self, release: u32) -> bool {
        self.raise(release).is_ok()
    }
}

/// What the device trusts, and its session with a host.
pub struct Guard<'d> {
    /// Whose models it takes. Its `release` counts besides `releases`.
    trust: Trust<'d>,
    /// Whose requests it takes.
    hosts: &'d [PublicKey],
    releases: &'d mut dyn Releases,
    nonces: &'d mut dyn FnMut() -> Option<[u8; NONCE_LEN]>,
    key: Option<DeviceKey>,
    session: Option<Session>,
}

impl core::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guard")
            .field("trust", &self.trust)
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

impl<'d> Guard<'d> {
    /// A guard. `hosts` are the keys of those who may change something over the line; none: nobody may. `nonces` gives 32 bytes that
    /// this device has never used before, resets included (a random generator; or a hash of the chip's number and a counter in
    /// flash), or `None`: there is no session then. With a device key, answers and saved weights are authenticated.
    pub fn new(
        trust: Trust<'d>,
        releases: &'d mut dyn Releases,
        hosts: &'d [PublicKey],
        nonces: &'d mut dyn FnMut() -> Option<[u8; NONCE_LEN]>,
        key: Option<DeviceKey>,
    ) -> Self {
        Self { trust, hosts, releases, nonces, key, session: None }
    }

    /// Reads a request, and refuses one that needs a signature and has none that holds. `learned`: a learned state is being taken.
    pub(crate) fn admit<'p>(
        &mut self,
        payload: &'p [u8],
        learned: bool,
    ) -> (Bond, Result<Request<'p>, Failure>) {
        let found = match decode_signed::<Request<'p>>(payload) {
            Ok(found) => found,
            Err(error) => return (Bond::NONE, Err(failure(error))),
        };
        let Some(authority) = found.trailer else {
            let expected = self.session.map_or(0, |session| session.next());
            let refused = found.message.needs_authority(learned);
            let unauthorised = Failure::new(ErrorCode::Unauthorised, expected);
            return (Bond::NONE, if refused { Err(unauthorised) } else { Ok(found.message) });
        };
        let Some(session) = &mut self.session else {
            return (Bond::NONE, Err(Failure::new(ErrorCode::Unauthorised, 0)));
        };
        match session.take(self.hosts, authority.counter, found.body, &authority.signature) {
            Ok(()) => {
                let bond = Bond(Some((*session.nonce(), authority.counter, self.key)));
                (bond, Ok(found.message))
            }
            Err(NotAuthorised::Counter { .. } | NotAuthorised::Signature) => {
                (Bond::NONE, Err(Failure::new(ErrorCode::Unauthorised, session.next())))
            }
        }
    }

    /// Begins a session; returns its nonce.
    pub(crate) fn challenge(&mut self) -> Result<[u8; 32], Failure> {
        self.session = None;
        let nonce = if self.hosts.is_empty() { None } else { (self.nonces)() };
        let nonce = nonce.ok_or(Failure::new(ErrorCode::NoAuthority, 0))?;
        self.session = Some(Session::new(nonce));
        Ok(nonce)
    }

    /// Verifies and opens a model.
    pub(crate) fn open<'m>(&mut self, file: &'m [u8]) -> Result<(Model<'m>, Binding), Failure> {
        let least = self.trust.release.max(self.releases.least());
        let verified = verify(file, &Trust { release: least, ..self.trust }).map_err(untrusted)?;
        let model = Model::open(verified)?;
        let seal = StateSeal::new(verified.network(), self.key);
        Ok((model, Binding { seal, release: verified.metadata().release }))
    }

    /// The model is in use: its release is the least one from now on. Not before, since a release that does not fit the device must not
    /// keep out the one that did.
    pub(crate) fn accept(&mut self, model: &Binding) -> Result<(), Failure> {
        match self.releases.accept(model.release) {
            true => Ok(()),
            false => Err(Failure::new(ErrorCode::StoreFault, 0)),
        }
    }
}

fn untrusted(refusal: Refusal) -> Failure {
    let number = Refusal::ALL.iter().position(|&r| r == refusal);
    Failure::new(ErrorCode::Untrusted, number.map_or(u32::MAX, |n| n as u32))
}

/// What learned weights in flash are bound to, and the release of their model.
pub(crate) struct Binding {
    pub(crate) seal: StateSeal,
    release: u32,
}

/// The session and the request that an answer belongs to, if the request was signed.
#[derive(Clone, Copy)]
pub(crate) struct Bond(Option<([u8; NONCE_LEN], u32, Option<DeviceKey>)>);

impl Bond {
    /// An answer to a request without a signature.
    pub(crate) const NONE: Self = Self(None);

    /// Sends an answer.
    pub(crate) fn send<S: Write>(
        self,
        serial: &mut S,
        number: u8,
        message: &Response<'_>,
        memory: &mut [u8],
    ) {
        let encoded = match self.0 {
            None => encode(number, message, memory),
            Some((nonce, counter, key)) => encode_bound(number, message, memory, |body| {
                let mut session = [0; 8];
                session.iter_mut().zip(nonce).for_each(|(to, from)| *to = from);
                let tag = key.map_or([0; 16], |key| reply_tag(&key, &nonce, counter, body));
                authority::Bond { session, counter, tag }
            }),
        };
        send_frame(serial, encoded, memory);
    }
}

/// The signed model at the start of the flash, as long as its envelope says; the whole flash if there is none.
pub(crate) fn in_flash(flash: &[u8]) -> &[u8] {
    envelope::claimed_len(flash).and_then(|len| flash.get(..len)).unwrap_or(flash)
}
