//! Messages with a trailer: requests that a host has signed, and the device's answers to them.
//!
//! [`Request::Challenge`] gives a nonce. A request that changes something then carries a counter (1, 2, 3, …) and
//! a signature behind its message, and the answer carries the session, the counter, and a tag by the device's key. What is signed and
//! tagged is computed elsewhere (`offshoot_sign`): this module knows places and lengths only.
//!
//! | trailer of a request | | trailer of an answer | |
//! |---|---|---|---|
//! | counter, u32 little endian | 4 bytes | front of the nonce | 8 bytes |
//! | signature | 64 bytes | counter, u32 little endian | 4 bytes |
//! | | | tag; zeros if the device has no key | 16 bytes |

use crate::frame::{FrameError, decode_front, encode_with};
use crate::message::Request;
use crate::protocol::CHUNK_MAX;
use serde::{Deserialize, Serialize};

const COUNTER: usize = 4;
const SIGNATURE: usize = 64;
const SESSION: usize = 8;
const TAG: usize = 16;
const REQUEST_LEN: usize = COUNTER + SIGNATURE;
const ANSWER_LEN: usize = SESSION + COUNTER + TAG;

/// Most bytes of data in a request that carries a signature.
pub const SIGNED_CHUNK_MAX: usize = CHUNK_MAX - REQUEST_LEN;

impl Request<'_> {
    /// Whether a device that has host keys takes this request only from their holders: what changes the model, what was learned, or
    /// flash, and what reads what was learned, which may tell about the user. The rest describes the device or runs the model;
    /// chunks of a model need no more than the model's own signature, those of a learned state do (`learned`: such a state is
    /// being taken).
    pub fn needs_authority(&self, learned: bool) -> bool {
        match self {
            Request::Hello
            | Request::Challenge
            | Request::WriteInput { .. }
            | Request::Run { .. }
            | Request::ReadOutput { .. }
            | Request::ReadScores { .. } => false,
            Request::LoadChunk { .. } => learned,
            Request::LoadBegin { .. }
            | Request::LoadEnd
            | Request::UseFlash
            | Request::Reset
            | Request::LearnBegin
            | Request::Learn { .. }
            | Request::Fit { .. }
            | Request::ReadLearned { .. }
            | Request::Select { .. }
            | Request::Save
            | Request::Restore
            | Request::Forget { .. }
            | Request::ActiveBlocks { .. }
            | Request::Course { .. }
            | Request::WriteLearned => true,
        }
    }
}

/// Trailer of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    /// Number of the request in its session.
    pub counter: u32,
    /// The host's signature.
    pub signature: [u8; SIGNATURE],
}

/// Trailer of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// First bytes of the session's nonce.
    pub session: [u8; SESSION],
    /// Counter of the request that is answered.
    pub counter: u32,
    /// Tag by the device's key; zeros if it has none.
    pub tag: [u8; TAG],
}

/// A message and what is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailed<'a, M, T> {
    /// Number of the request.
    pub number: u8,
    /// The message.
    pub message: M,
    /// Version, number and message, which signature and tag are made of.
    pub body: &'a [u8],
    /// The trailer, if there is one.
    pub trailer: Option<T>,
}

/// As [`crate::encode`], with a signature of the request.
///
/// # Errors
/// As [`crate::encode`].
pub fn encode_signed<M: Serialize>(
    number: u8,
    message: &M,
    buffer: &mut [u8],
    sign: impl FnOnce(&[u8]) -> Authority,
) -> Result<usize, FrameError> {
    encode_with(number, message, buffer, |body| {
        let Authority { counter, signature } = sign(body);
        joined::<REQUEST_LEN>(&[&counter.to_le_bytes(), &signature])
    })
}

/// As [`crate::encode`], with an answer's bond to its session.
///
/// # Errors
/// As [`crate::encode`].
pub fn encode_bound<M: Serialize>(
    number: u8,
    message: &M,
    buffer: &mut [u8],
    bind: impl FnOnce(&[u8]) -> Bond,
) -> Result<usize, FrameError> {
    encode_with(number, message, buffer, |body| {
        let Bond { session, counter, tag } = bind(body);
        joined::<ANSWER_LEN>(&[&session, &counter.to_le_bytes(), &tag])
    })
}

/// Decodes a request with or without a signature, which is not checked here.
///
/// # Errors
/// As [`crate::decode`].
pub fn decode_signed<'a, M: Deserialize<'a>>(
    payload: &'a [u8],
) -> Result<Trailed<'a, M, Authority>, FrameError> {
    trailed(payload, |trailer: &[u8; REQUEST_LEN]| {
        let [a, b, c, d, ..] = *trailer;
        let mut signature = [0; SIGNATURE];
        signature.copy_from_slice(&trailer[COUNTER..]);
        Authority { counter: u32::from_le_bytes([a, b, c, d]), signature }
    })
}

/// Decodes an answer with or without a bond, which is not checked here.
///
/// # Errors
/// As [`crate::decode`].
pub fn decode_bound<'a, M: Deserialize<'a>>(payload: &'a [u8]) -> Result<Trailed<'a, M, Bond>, FrameError> {
    trailed(payload, |trailer: &[u8; ANSWER_LEN]| {
        let mut bond = Bond { session: [0; SESSION], counter: 0, tag: [0; TAG] };
        let (session, rest) = trailer.split_at(SESSION);
        let (counter, tag) = rest.split_at(COUNTER);
        bond.session.copy_from_slice(session);
        bond.counter = counter.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte));
        bond.tag.copy_from_slice(tag);
        bond
    })
}

fn trailed<'a, M: Deserialize<'a>, T, const N: usize>(
    payload: &'a [u8],
    read: impl FnOnce(&[u8; N]) -> T,
) -> Result<Trailed<'a, M, T>, FrameError> {
    let (number, message, rest) = decode_front(payload)?;
    let (body, _) = payload.split_at(payload.len() - rest.len());
    let trailer = match rest {
        [] => None,
        rest => Some(read(rest.try_into().map_err(|_| FrameError::Message)?)),
    };
    Ok(Trailed { number, message, body, trailer })
}

fn joined<const N: usize>(pieces: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    out.iter_mut().zip(pieces.iter().copied().flatten()).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, FRAME_MAX, FrameReader, Response, decode};

    fn payload(frame: &[u8]) -> FrameReader {
        let mut reader = FrameReader::new();
        let events: Vec<Event> = frame.iter().map(|&byte| reader.push(byte)).collect();
        assert_eq!(events.last(), Some(&Event::Frame));
        reader
    }

    #[test]
    fn a_signed_request_round_trips_at_its_largest() {
        for fill in [0, 1, 255] {
            let data = [fill; SIGNED_CHUNK_MAX];
            let request = Request::LoadChunk { offset: u32::MAX, data: &data };
            let authority = Authority { counter: 0x0102_0304, signature: [fill; 64] };
            let mut frame = [0; FRAME_MAX];
            let mut signed = Vec::new();
            let len = encode_signed(7, &request, &mut frame, |body| {
                signed = body.to_vec();
                authority
            });
            let reader = payload(&frame[..len.unwrap()]);
            let found = decode_signed::<Request<'_>>(reader.payload()).unwrap();
            assert_eq!((found.number, found.message, found.trailer), (7, request, Some(authority)));
            assert_eq!(found.body, signed);
            assert_eq!(
                decode::<Request<'_>>(reader.payload()),
                Err(FrameError::Message),
                "for who knows no trailers"
            );
        }
    }

    #[test]
    fn a_bound_answer_round_trips_at_its_largest() {
        for fill in [0, 1, 255] {
            let data = [fill; CHUNK_MAX];
            let bond = Bond { session: [fill; 8], counter: u32::MAX - 1, tag: [fill; 16] };
            let mut frame = [0; FRAME_MAX];
            let len = encode_bound(9, &Response::Data(&data), &mut frame, |_| bond).unwrap();
            let reader = payload(&frame[..len]);
            let found = decode_bound::<Response<'_>>(reader.payload()).unwrap();
            assert_eq!((found.message, found.trailer), (Response::Data(&data), Some(bond)));
        }
    }

    #[test]
    fn other_lengths_are_no_trailers() {
        let mut frame = [0; FRAME_MAX];
        let len = crate::encode(1, &Request::Save, &mut frame).unwrap();
        let reader = payload(&frame[..len]);
        assert_eq!(decode_signed::<Request<'_>>(reader.payload()).unwrap().trailer, None);
        for extra in (1..200).filter(|&n| n != REQUEST_LEN) {
            let long = [reader.payload(), &vec![0; extra]].concat();
            assert_eq!(decode_signed::<Request<'_>>(&long), Err(FrameError::Message), "{extra}");
        }
    }
}
