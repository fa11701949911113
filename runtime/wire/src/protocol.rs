//! Version, sizes and checksum of the protocol.

use offshoot_base::crc::Crc32;

/// Version of the messages. A device answers a frame of another version with [`crate::ErrorCode::Protocol`]; every
/// change of a message raises it (the golden bytes in `message`'s tests notice).
pub const PROTOCOL_VERSION: u8 = 4;

/// Longest frame on the wire in bytes, delimiter included.
pub const FRAME_MAX: usize = 1024;

/// Most bytes of tensor or model data in one message; leaves room for the message around it.
pub const CHUNK_MAX: usize = 960;

/// CRC-32 (IEEE 802.3, as zlib's): of frames, and of operator outputs in [`crate::OperatorReport::digest`].
pub fn crc32(bytes: &[u8]) -> u32 {
    Crc32::new().update(bytes).finish()
}
