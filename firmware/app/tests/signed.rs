//! A device with the feature `signed`, seen from the line: what it takes, what it refuses, and what its answers belong to.
//!
//! `cd firmware && cargo test -p offshoot-app --features signed`

mod line;

use std::thread;

use ed25519_dalek::{Signer, SigningKey};
use embedded_io::Write;
use line::{End, NoClock};
use offshoot::ReleaseCounter;
use offshoot::sign::{
    DeviceKey, Metadata, PublicKey, Refusal, Trust, command_bytes, envelope, reply_tag_holds,
};
use offshoot::store::RamFlash;
use offshoot::wire::authority::{Authority, decode_bound, encode_signed};
use offshoot::wire::{ErrorCode, Event, FRAME_MAX, Failure, FrameReader, Request, Response, encode};
use offshoot_app::{Arena, Device, Guard, NoStackGauge, Store, serve};

/// A network that learns.
const NETWORK: &[u8] = include_bytes!("../../../runtime/offshoot/examples/data/vibration_learns.off");

const PAGES: usize = 64 << 10;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(key: &SigningKey) -> PublicKey {
    PublicKey::new(key.verifying_key().to_bytes()).unwrap()
}

fn release(by: &SigningKey, release: u32, target: &str) -> Vec<u8> {
    let metadata = Metadata { key: public(by).id(), release, runtime: [0, 1, 0], name: "vibration", target };
    let mut front = envelope::unsigned(&metadata, NETWORK).unwrap();
    let message = [envelope::signed_part(&front), NETWORK].concat();
    envelope::put_signature(&mut front, &by.sign(&message).to_bytes());
    [&front[..], NETWORK].concat()
}

/// What outlasts a reset.
struct Flash {
    weights: Vec<u8>,
    counter: Vec<u8>,
    resets: u8,
}

impl Flash {
    fn new() -> Self {
        Self { weights: vec![0xff; PAGES], counter: vec![0xff; 8 << 10], resets: 0 }
    }

    /// Boots the device, lets a host work, and switches off.
    fn boot<R>(&mut self, device_key: Option<[u8; 32]>, work: impl FnOnce(&mut Host) -> R) -> R {
        let (device_end, end) = line::line();
        self.resets += 1;
        let Self { weights, counter, resets } = self;
        thread::scope(|scope| {
            scope.spawn(move || {
                let range = 0..counter.len() as u32;
                let mut releases = ReleaseCounter::open(RamFlash::new(counter), range).unwrap();
                let (models, hosts) = ([public(&key(1)), public(&key(5))], [public(&key(2))]);
                let mut sessions = 0;
                // Never again: the number of the reset and that of the session.
                let mut nonces = || {
                    sessions += 1;
                    Some([[*resets; 16], [sessions; 16]].concat().try_into().unwrap())
                };
                let trust = Trust { keys: &models, name: Some("vibration"), target: "board", release: 0 };
                let key = device_key.map(DeviceKey::new);
                let guard = Guard::new(trust, &mut releases, &hosts, &mut nonces, key);
                let (mut ram, mut arena) =
                    (Box::new(Arena::<65_536>::new()), Box::new(Arena::<65_536>::new()));
                let store = Store::open(RamFlash::new(weights), 0..PAGES as u32).ok();
                let (clock, gauge) = (NoClock, NoStackGauge);
                let device = Device {
                    board: "board",
                    clock,
                    gauge,
                    model_flash: &[],
                    model_ram: &mut ram,
                    arena: &mut arena,
                    store,
                    guard,
                };
                serve(device_end, device);
            });
            let mut host = Host {
                end,
                reader: FrameReader::new(),
                nonce: None,
                counter: 0,
                number: 0,
                device_key,
                last: vec![],
            };
            work(&mut host)
        })
    }
}

/// What an answer was, without its data.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Done,
    Data(Vec<u8>),
    Generation(u32),
    Refused(ErrorCode, u32),
}

struct Host {
    end: End,
    reader: FrameReader,
    nonce: Option<[u8; 32]>,
    counter: u32,
    number: u8,
    device_key: Option<[u8; 32]>,
    /// The last frame that was sent.
    last: Vec<u8>,
}

impl Host {
    /// Sends a frame; the answer, and whether it belongs to this session and counter.
    fn exchange(&mut self, frame: &[u8]) -> (Answer, bool) {
        self.end.write_all(frame).unwrap();
        self.last = frame.to_vec();
        loop {
            if self.reader.push(self.end.from.recv().unwrap()) != Event::Frame {
                continue;
            }
            let found = decode_bound::<Response<'_>>(self.reader.payload()).unwrap();
            let bound = found.trailer.zip(self.nonce).is_some_and(|(bond, nonce)| {
                let here = nonce.starts_with(&bond.session) && bond.counter == self.counter;
                let key = self.device_key.map(DeviceKey::new);
                here && key
                    .is_none_or(|key| reply_tag_holds(&key, &nonce, bond.counter, found.body, &bond.tag))
            });
            let answer = match found.message {
                Response::Challenge { nonce } => {
                    (self.nonce, self.counter) = (Some(nonce), 0);
                    Answer::Done
                }
                Response::Data(data) => Answer::Data(data.to_vec()),
                Response::Stored(stored) => Answer::Generation(stored.generation),
                Response::Model(model) => Answer::Generation(model.restored),
                Response::Error(Failure { code, detail, .. }) => Answer::Refused(code, detail),
                _ => Answer::Done,
            };
            return (answer, bound);
        }
    }

    fn plain(&mut self, request: &Request<'_>) -> Answer {
        let mut frame = [0; FRAME_MAX];
        self.number = self.number.wrapping_add(1).max(1);
        let len = encode(self.number, request, &mut frame).unwrap();
        self.exchange(&frame[..len]).0
    }

    fn signed_by(&mut self, by: &SigningKey, request: &Request<'_>) -> (Answer, bool) {
        let mut frame = [0; FRAME_MAX];
        self.number = self.number.wrapping_add(1).max(1);
        self.counter += 1;
        let (counter, nonce) = (self.counter, self.nonce.unwrap_or([0; 32]));
        let len = encode_signed(self.number, request, &mut frame, |body| {
            let signature = by.sign(&command_bytes(&nonce, counter, body)).to_bytes();
            Authority { counter, signature }
        });
        self.exchange(&frame[..len.unwrap()])
    }

    /// Sends a signed request; its answer belongs to it.
    fn signed(&mut self, request: &Request<'_>) -> Answer {
        let (answer, bound) = self.signed_by(&key(2), request);
        assert!(bound, "{request:?}: {answer:?}");
        answer
    }

    fn challenge(&mut self) {
        assert_eq!(self.plain(&Request::Challenge), Answer::Done);
    }

    /// Loads a model in a session.
    fn load(&mut self, file: &[u8]) -> Answer {
        assert_eq!(self.signed(&Request::LoadBegin { len: file.len() as u32 }), Answer::Done);
        for (i, data) in file.chunks(900).enumerate() {
            assert_eq!(self.plain(&Request::LoadChunk { offset: i as u32 * 900, data }), Answer::Done);
        }
        self.signed(&Request::LoadEnd)
    }

    fn learn(&mut self, label: u16) {
        let zeros = [label as u8; 384];
        assert_eq!(self.plain(&Request::WriteInput { index: 0, offset: 0, data: &zeros }), Answer::Done);
        assert_eq!(self.signed(&Request::Learn { label }), Answer::Done);
    }
}

fn untrusted(refusal: Refusal) -> Answer {
    let number = Refusal::ALL.iter().position(|&r| r == refusal).unwrap();
    Answer::Refused(ErrorCode::Untrusted, number as u32)
}

const NO_SESSION: Answer = Answer::Refused(ErrorCode::Unauthorised, 0);

fn all_that_need_authority() -> [Request<'static>; 13] {
    [
        Request::LoadBegin { len: 16 },
        Request::LoadEnd,
        Request::UseFlash,
        Request::Reset,
        Request::LearnBegin,
        Request::Learn { label: 0 },
        Request::ReadLearned { offset: 0, len: 1 },
        Request::Select { network: 0 },
        Request::Save,
        Request::Restore,
        Request::Forget { flash: true },
        Request::Course { steps: 5 },
        Request::WriteLearned,
    ]
}

#[test]
fn without_a_session_nothing_changes() {
    Flash::new().boot(None, |host| {
        assert_eq!(host.plain(&Request::Hello), Answer::Done);
        for request in all_that_need_authority() {
            assert_eq!(host.plain(&request), NO_SESSION, "{request:?}");
            assert_eq!(host.signed_by(&key(2), &request).0, NO_SESSION, "signed for no session: {request:?}");
        }
        host.challenge();
        for request in all_that_need_authority() {
            assert_eq!(host.plain(&request), Answer::Refused(ErrorCode::Unauthorised, 1), "{request:?}");
            host.counter = 0;
            let stranger = host.signed_by(&key(3), &request);
            assert_eq!(stranger, (Answer::Refused(ErrorCode::Unauthorised, 1), false), "{request:?}");
        }
    });
}

#[test]
fn only_released_models_open_and_no_older_ones() {
    let mut flash = Flash::new();
    flash.boot(None, |host| {
        host.challenge();
        let refusals = [
            (NETWORK.to_vec(), untrusted(Refusal::Unsigned)),
            (release(&key(3), 9, "board"), untrusted(Refusal::Key)),
            (release(&key(1), 9, "other"), untrusted(Refusal::Target)),
        ];
        for (file, refusal) in refusals {
            assert_eq!(host.load(&file), refusal);
            assert_eq!(
                host.plain(&Request::Run { mode: offshoot::wire::Mode::Plain }),
                Answer::Refused(ErrorCode::NoModel, 0)
            );
        }
        let mut changed = release(&key(1), 9, "board");
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert_eq!(host.load(&changed), untrusted(Refusal::Signature));
        // What was refused has not raised the counter.
        assert_eq!(host.load(&release(&key(1), 3, "board")), Answer::Generation(0));
        assert_eq!(host.load(&release(&key(5), 4, "")), Answer::Generation(0), "by the next key");
        assert_eq!(host.load(&release(&key(1), 3, "board")), untrusted(Refusal::Release));
    });
    // Nor after a reset.
    flash.boot(None, |host| {
        host.challenge();
        assert_eq!(host.load(&release(&key(1), 3, "board")), untrusted(Refusal::Release));
        assert_eq!(host.load(&release(&key(1), 4, "board")), Answer::Generation(0));
    });
}

#[test]
fn a_command_counts_once() {
    let mut flash = Flash::new();
    let heard = flash.boot(Some([7; 32]), |host| {
        host.challenge();
        assert_eq!(host.load(&release(&key(1), 1, "board")), Answer::Generation(0));
        assert_eq!(host.signed(&Request::LearnBegin), Answer::Done);
        host.learn(1);
        assert_eq!(host.signed(&Request::Save), Answer::Generation(1));
        let heard = host.last.clone();
        let expected = Answer::Refused(ErrorCode::Unauthorised, host.counter + 1);
        assert_eq!(host.exchange(&heard), (expected, false), "a replay");
        // A damaged frame costs nothing.
        let mut damaged = heard.clone();
        damaged[20] ^= 1;
        assert_eq!(host.exchange(&damaged), (Answer::Refused(ErrorCode::Frame, 0), false));
        assert_eq!(host.signed(&Request::Save), Answer::Generation(2));
        heard
    });
    flash.boot(Some([7; 32]), |host| {
        assert_eq!(host.exchange(&heard).0, NO_SESSION, "a replay after a reset");
        host.challenge();
        assert_eq!(host.exchange(&heard).0, Answer::Refused(ErrorCode::Unauthorised, 1));
        assert_eq!(
            host.load(&release(&key(1), 1, "board")),
            Answer::Generation(2),
            "goes on with what was learned"
        );
    });
}

#[test]
fn learned_weights_belong_to_device_and_model() {
    for device_key in [None, Some([7; 32])] {
        let mut flash = Flash::new();
        flash.boot(device_key, |host| {
            host.challenge();
            host.load(&release(&key(1), 1, "board"));
            assert_eq!(host.signed(&Request::LearnBegin), Answer::Done);
            host.learn(1);
            host.learn(2);
            assert_eq!(host.signed(&Request::Save), Answer::Generation(1));
            // A learned state is taken only in signed pieces.
            let Answer::Data(front) = host.signed(&Request::ReadLearned { offset: 0, len: 64 }) else {
                panic!()
            };
            assert_eq!(host.signed(&Request::WriteLearned), Answer::Done);
            let chunk = Request::LoadChunk { offset: 0, data: &front };
            assert!(matches!(host.plain(&chunk), Answer::Refused(ErrorCode::Unauthorised, _)));
            assert_eq!(host.signed(&chunk), Answer::Done);
            assert_eq!(host.signed(&Request::Restore), Answer::Refused(ErrorCode::NotLoading, 0));
            assert_eq!(host.signed(&Request::Restore), Answer::Generation(1));
        });
        let reopened = |flash: &mut Flash, key_of_device| {
            flash.boot(key_of_device, |host| {
                host.challenge();
                assert!(matches!(host.load(&release(&key(1), 1, "board")), Answer::Generation(_)));
                host.signed(&Request::Restore)
            })
        };
        assert_eq!(reopened(&mut flash, device_key), Answer::Generation(1));
        // Of another device.
        assert_eq!(reopened(&mut flash, Some([8; 32])), Answer::Refused(ErrorCode::Seal, 0));
        // Changed in flash, with every checksum put right: the record of the store says nothing about who wrote it.
        let whole = flash.weights.clone();
        forge(&mut flash.weights);
        let forged = reopened(&mut flash, device_key);
        assert_eq!(forged, Answer::Refused(ErrorCode::Seal, 0), "without a key, damage; with one, forgery");
        flash.weights = whole;
        assert_eq!(reopened(&mut flash, device_key), Answer::Generation(1));
    }
}

/// Changes a learned weight and puts the checksums of the record right.
fn forge(flash: &mut [u8]) {
    use offshoot::wire::crc32;
    let at = flash.windows(4).position(|bytes| bytes == b"OfW1").unwrap();
    let word =
        |flash: &[u8], offset: usize| u32::from_le_bytes(flash[at + offset..][..4].try_into().unwrap());
    let length = word(flash, 12) as usize;
    // The header is 24 bytes, and the weights follow at the next whole unit.
    let crc = word(flash, 16);
    let start = (at + 24..at + 300).find(|&start| crc32(&flash[start..start + length]) == crc).unwrap();
    flash[start + 100] ^= 1;
    let sum = crc32(&flash[start..start + length]).to_le_bytes();
    flash[at + 16..at + 20].copy_from_slice(&sum);
    let sum = crc32(&flash[at..at + 20]).to_le_bytes();
    flash[at + 20..at + 24].copy_from_slice(&sum);
}
