//! Messages between a host and a device: their contents ([`message`]) and their transport ([`frame`]).
//!
//! The host sends a request and waits for the device's response. One request gets one response. The exception is
//! [`Request::Run`] with [`Mode::Profile`] or [`Mode::Digest`]: the device sends a [`Response::Operator`] after each
//! operator, before the final [`Response::Done`], so it needs no memory for measurements.
//!
//! A frame is `COBS(version, message, CRC-32) 0x00`. The version is one byte ([`PROTOCOL_VERSION`]); the message is
//! encoded with postcard; the checksum is zlib's over version and message, little endian. COBS (Cheshire and Baker,
//! 1999) leaves no zero byte inside a frame, so a reader that joins late or lost bytes resynchronises at the next zero.
//! No frame is longer than [`FRAME_MAX`]. Payloads are borrowed from the frame's buffer, never copied.
//!
//! All input is untrusted: decoding any bytes gives a value or an error.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod cobs;
pub mod frame;
pub mod message;

use offshoot_base::crc::Crc32;

pub use frame::{Event, FrameError, FrameReader, decode, encode};
pub use message::{
    CountUnit, ErrorCode, Failure, Info, Mode, ModelInfo, OperatorReport, Request, Response, RunReport,
    StoreReport, TrainStepReport,
};

/// Version of the messages. A device answers a frame of another version with [`ErrorCode::Protocol`]. Every change of a
/// message raises it; golden bytes in the tests of `message` detect such a change.
pub const PROTOCOL_VERSION: u8 = 4;

/// Longest frame on the wire in bytes, delimiter included.
pub const FRAME_MAX: usize = 1024;

/// Most bytes of tensor or model data in one message. The rest of [`FRAME_MAX`] is for the message around it.
pub const CHUNK_MAX: usize = 960;

/// CRC-32 (IEEE 802.3, as in zlib), used for frames and for [`OperatorReport::digest`].
pub fn crc32(bytes: &[u8]) -> u32 {
    Crc32::new().update(bytes).finish()
}

/// Views scores as bytes in memory order, for a message.
pub fn bytes_of(scores: &[f32]) -> &[u8] {
    bytemuck::cast_slice(scores)
}
