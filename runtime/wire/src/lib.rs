//! Messages between a host and a device: [`message`] (what is said) in [`frame`]s (how it travels).
//!
//! The host asks, the device answers; the host sends nothing while it waits. One request gives one response, but
//! for [`Request::Run`], which with [`Mode::Profile`] or [`Mode::Digest`] gives one [`Response::Operator`] an operator, as it
//! runs, before the last [`Response::Done`]: a device needs no memory for what it measures.
//!
//! A frame is `COBS(version, message, CRC-32) 0x00`: the version is one byte ([`PROTOCOL_VERSION`]), the message is
//! postcard, the checksum is that of zlib over version and message, little endian. COBS (Cheshire and Baker, 1999)
//! leaves no zero byte inside, so a reader that comes in late or lost bytes is in step again at the next zero.
//! No frame is longer than [`FRAME_MAX`], and payloads are borrowed from the frame's buffer, never copied.
//!
//! Everything that arrives is untrusted: decoding gives a value or an error, whatever the bytes.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod cobs;
pub mod frame;
pub mod message;
mod protocol;

pub use frame::{Event, FrameError, FrameReader, decode, encode};
pub use message::{
    CountUnit, ErrorCode, Failure, Info, Mode, ModelInfo, OperatorReport, Request, Response, RunReport,
    StoreReport, TrainStepReport,
};
pub use protocol::{CHUNK_MAX, FRAME_MAX, PROTOCOL_VERSION, crc32};

/// Scores as they lie in memory, for a message.
pub fn bytes_of(scores: &[f32]) -> &[u8] {
    bytemuck::cast_slice(scores)
}
