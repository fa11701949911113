//! Version, sizes and checksum of the protocol.

use offshoot_base::crc::Crc32;

/// Version of the messages. A device answers a frame of another version with [`crate::ErrorCode::Protocol`]. Every change of a
/// message raises it; golden bytes in the tests of `message` detect such a change.
pub const PROTOCOL_VERSION: u8 = 8;

/// Longest frame on the wire in bytes, delimiter included.
pub const FRAME_MAX: usize = 1024;

/// Most bytes of tensor or model data in one message. The rest of [`FRAME_MAX`] is for the message around it.
pub const CHUNK_MAX: usize = 960;

/// CRC-32 (IEEE 802.3, as in zlib), used for frames and for [`crate::OperatorMeasurement::digest`].
pub fn crc32(bytes: &[u8]) -> u32 {
    Crc32::new().update(bytes).finish()
}
