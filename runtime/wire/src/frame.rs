//! Frames: a message with protocol version, number and checksum, terminated by a zero byte, and a reader that finds
//! frames in a stream.
//!
//! The host numbers its requests, and the device's answers carry the number of their request. A late answer, whose
//! request the host has given up, is so never taken for the answer to another.

use crate::cobs;
use crate::protocol::{FRAME_MAX, PROTOCOL_VERSION, crc32};
use serde::{Deserialize, Serialize};

const CHECKSUM: usize = 4;
/// Bytes before the message: version and number.
const PREFIX: usize = 2;

/// Number of an answer to a frame whose number could not be read. Requests have other numbers.
pub const UNNUMBERED: u8 = 0;

/// Why bytes cannot be read as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FrameError {
    /// The frame is longer than [`FRAME_MAX`].
    TooLong,
    /// The bytes are not valid COBS, or too few.
    Framing,
    /// The checksum does not match: bytes were lost or damaged in transit.
    Checksum,
    /// The peer uses this other version of the protocol.
    Version(u8),
    /// The checksum matches, but the message is unknown.
    Message,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLong => f.write_str("the frame is too long"),
            Self::Framing => f.write_str("the bytes are not a frame"),
            Self::Checksum => f.write_str("the frame was damaged in transit (checksum mismatch)"),
            Self::Version(v) => {
                write!(f, "the peer speaks protocol version {v}, this side version {PROTOCOL_VERSION}")
            }
            Self::Message => f.write_str("the frame holds an unknown message"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Writes `message` with its `number` as a frame into the front of `buffer`, delimiter included. Returns its length.
///
/// # Errors
/// [`FrameError::TooLong`] if it does not fit into the buffer or into [`FRAME_MAX`] bytes.
pub fn encode<M: Serialize>(number: u8, message: &M, buffer: &mut [u8]) -> Result<usize, FrameError> {
    encode_with(number, message, buffer, |_| [])
}

/// As [`encode`], with a trailer behind the message, made of version, number and message.
pub(crate) fn encode_with<M: Serialize, const N: usize>(
    number: u8,
    message: &M,
    buffer: &mut [u8],
    trailer: impl FnOnce(&[u8]) -> [u8; N],
) -> Result<usize, FrameError> {
    let room = buffer.len().min(FRAME_MAX);
    let buffer = &mut buffer[..room];
    // The number of code bytes depends on the message's length, so the message starts after the most there can be.
    let start = cobs::overhead(room);
    let raw = buffer.get_mut(start..).ok_or(FrameError::TooLong)?;
    let (prefix, rest) = raw.split_at_mut_checked(PREFIX).ok_or(FrameError::TooLong)?;
    prefix.copy_from_slice(&[PROTOCOL_VERSION, number]);
    let body = PREFIX + postcard::to_slice(message, rest).map_err(|_| FrameError::TooLong)?.len();
    let trailer = trailer(&raw[..body]);
    raw.get_mut(body..body + N).ok_or(FrameError::TooLong)?.copy_from_slice(&trailer);
    let body = body + N;
    let checksum = crc32(&raw[..body]).to_le_bytes();
    raw.get_mut(body..body + CHECKSUM).ok_or(FrameError::TooLong)?.copy_from_slice(&checksum);
    let len = body + CHECKSUM;
    buffer.copy_within(start..start + len, cobs::overhead(len));
    let coded = cobs::encode_in_place(buffer, len).ok_or(FrameError::TooLong)?;
    *buffer.get_mut(coded).ok_or(FrameError::TooLong)? = 0;
    Ok(coded + 1)
}

/// Decodes number and message from the payload of a frame, as returned by [`FrameReader::payload`].
///
/// # Errors
/// [`FrameError::Version`] or [`FrameError::Message`].
pub fn decode<'a, M: Deserialize<'a>>(payload: &'a [u8]) -> Result<(u8, M), FrameError> {
    match decode_front(payload)? {
        (number, message, []) => Ok((number, message)),
        _ => Err(FrameError::Message),
    }
}

/// Decodes number and message, and returns what is behind them.
pub(crate) fn decode_front<'a, M: Deserialize<'a>>(
    payload: &'a [u8],
) -> Result<(u8, M, &'a [u8]), FrameError> {
    let (&version, rest) = payload.split_first().ok_or(FrameError::Framing)?;
    if version != PROTOCOL_VERSION {
        return Err(FrameError::Version(version));
    }
    let (&number, body) = rest.split_first().ok_or(FrameError::Message)?;
    postcard::take_from_bytes(body)
        .map(|(message, rest)| (number, message, rest))
        .map_err(|_| FrameError::Message)
}

/// Result of a received byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The frame is not complete.
    Pending,
    /// A frame with a valid checksum. [`FrameReader::payload`] returns it until the next byte.
    Frame,
    /// An invalid frame. The reader continues with the next one.
    Bad(FrameError),
}

/// Finds frames in a stream of bytes, one byte at a time, in its own buffer.
#[derive(Debug)]
pub struct FrameReader {
    buffer: [u8; FRAME_MAX],
    /// Bytes of the frame so far; after [`Event::Frame`], bytes of the payload.
    len: usize,
    /// The frame so far exceeds the buffer: skip to the delimiter.
    overflow: bool,
    /// The last byte completed a frame, and the buffer holds its payload.
    complete: bool,
}

impl Default for FrameReader {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameReader {
    /// An empty reader.
    pub const fn new() -> Self {
        Self { buffer: [0; FRAME_MAX], len: 0, overflow: false, complete: false }
    }

    /// The reader's buffer, to build an answer in when memory is scarce. Discards what was received.
    pub fn memory(&mut self) -> &mut [u8; FRAME_MAX] {
        (self.len, self.overflow, self.complete) = (0, false, false);
        &mut self.buffer
    }

    /// Takes the next byte of the stream.
    pub fn push(&mut self, byte: u8) -> Event {
        if self.complete {
            (self.complete, self.len) = (false, 0);
        }
        if byte != 0 {
            match self.buffer.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                }
                None => self.overflow = true,
            }
            return Event::Pending;
        }
        let (len, overflow) = (self.len, self.overflow);
        (self.len, self.overflow) = (0, false);
        if overflow {
            return Event::Bad(FrameError::TooLong);
        }
        // Two delimiters in a row. Senders may start with one to end any noise before it.
        if len == 0 {
            return Event::Pending;
        }
        match Self::check(&mut self.buffer[..len]) {
            Ok(payload) => {
                (self.len, self.complete) = (payload, true);
                Event::Frame
            }
            Err(e) => Event::Bad(e),
        }
    }

    /// Payload (version, number and message) of the frame that the last byte completed, or empty if it completed none.
    pub fn payload(&self) -> &[u8] {
        if self.complete { &self.buffer[..self.len] } else { &[] }
    }

    fn check(frame: &mut [u8]) -> Result<usize, FrameError> {
        let len = cobs::decode_in_place(frame).ok_or(FrameError::Framing)?;
        let (payload, checksum) = frame[..len].split_last_chunk::<CHECKSUM>().ok_or(FrameError::Framing)?;
        if payload.is_empty() {
            return Err(FrameError::Framing);
        }
        if crc32(payload) != u32::from_le_bytes(*checksum) {
            return Err(FrameError::Checksum);
        }
        Ok(payload.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CHUNK_MAX, Request, Response};
    use proptest::prelude::*;
    use std::{vec, vec::Vec};

    fn framed(message: &Request<'_>) -> Vec<u8> {
        let mut buffer = [0; FRAME_MAX];
        let len = encode(7, message, &mut buffer).unwrap();
        buffer[..len].to_vec()
    }

    fn feed(reader: &mut FrameReader, bytes: &[u8]) -> Vec<Result<Vec<u8>, FrameError>> {
        let mut found = vec![];
        for &byte in bytes {
            match reader.push(byte) {
                Event::Pending => {}
                Event::Frame => found.push(Ok(reader.payload().to_vec())),
                Event::Bad(e) => found.push(Err(e)),
            }
        }
        found
    }

    #[test]
    fn the_largest_chunk_fits_whatever_it_holds() {
        for fill in [0, 1, 255] {
            let data = [fill; CHUNK_MAX];
            let frame = framed(&Request::LoadChunk { offset: u32::MAX, data: &data });
            assert!(frame.len() <= FRAME_MAX);
            let found = feed(&mut FrameReader::new(), &frame);
            let payload = found[0].as_ref().unwrap();
            assert_eq!(decode(payload), Ok((7, Request::LoadChunk { offset: u32::MAX, data: &data })));
        }
    }

    #[test]
    fn a_message_too_long_is_refused() {
        let data = [1; FRAME_MAX];
        let message = Request::LoadChunk { offset: 0, data: &data };
        assert_eq!(encode(1, &message, &mut [0; 2 * FRAME_MAX]), Err(FrameError::TooLong));
        for room in 0..11 {
            assert_eq!(encode(1, &Request::Hello, &mut vec![0; room][..]).is_ok(), room >= 9, "{room}");
        }
    }

    #[test]
    fn the_reader_is_in_step_again_after_the_next_delimiter() {
        let good = framed(&Request::Hello);
        let mut stream = vec![5; 3 * FRAME_MAX];
        stream.push(0);
        stream.extend_from_slice(&good[2..]);
        stream.extend_from_slice(&[0, 0]);
        stream.extend_from_slice(&good);
        let found = feed(&mut FrameReader::new(), &stream);
        assert_eq!(found[0], Err(FrameError::TooLong));
        assert!(found[1].is_err());
        assert_eq!(decode(found[2].as_ref().unwrap()), Ok((7, Request::Hello)));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn another_version_is_told_from_damage() {
        assert_eq!(
            decode::<Request<'_>>(&[PROTOCOL_VERSION + 1, 0]),
            Err(FrameError::Version(PROTOCOL_VERSION + 1))
        );
        assert_eq!(decode::<Request<'_>>(&[PROTOCOL_VERSION, 1, 99]), Err(FrameError::Message));
        assert_eq!(
            decode::<Request<'_>>(&[PROTOCOL_VERSION, 1, 0, 0]),
            Err(FrameError::Message),
            "trailing byte"
        );
        assert_eq!(decode::<Request<'_>>(&[]), Err(FrameError::Framing));
    }

    proptest! {
        #[test]
        fn any_stream_gives_messages_or_errors(bytes in proptest::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..4000)) {
            let mut reader = FrameReader::new();
            for found in feed(&mut reader, &bytes).into_iter().flatten() {
                let _ = decode::<Request<'_>>(&found);
                let _ = decode::<Response<'_>>(&found);
            }
        }

        #[test]
        fn any_payload_decodes_or_fails(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let payload = [&[PROTOCOL_VERSION], body.as_slice()].concat();
            let _ = decode::<Request<'_>>(&payload);
            let _ = decode::<Response<'_>>(&payload);
        }

        #[test]
        fn a_flipped_bit_never_gives_another_message(offset: u32, data in proptest::collection::vec(any::<u8>(), 0..200), at: usize, bit in 0..8) {
            let message = Request::LoadChunk { offset, data: &data };
            let mut frame = framed(&message);
            let at = at % (frame.len() - 1);
            frame[at] ^= 1_u8 << bit;
            for found in feed(&mut FrameReader::new(), &frame) {
                prop_assert!(found.is_err());
            }
        }
    }
}
