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

pub mod authority;
pub mod cobs;
pub mod frame;
pub mod message;
mod protocol;

pub use frame::{Event, FrameError, FrameReader, UNNUMBERED, decode, encode};
pub use message::{
    CountUnit, ErrorCode, Failure, Info, Mode, ModelInfo, OperatorMeasurement, Request, Response, RunReport,
    StoreReport, TrainStepReport,
};
pub use protocol::{CHUNK_MAX, FRAME_MAX, PROTOCOL_VERSION, crc32};

/// Views scores as bytes in memory order, for a message.
pub fn bytes_of(scores: &[f32]) -> &[u8] {
    bytemuck::cast_slice(scores)
}
