//! Records with Huffman-coded weights, decoded inside the kernel.

use serde::{Deserialize, Serialize};

/// Longest code word in bits. One look-up in a table of 256 entries decodes any word.
pub const LONGEST: usize = 8;

/// Symbol whose code word is followed by a literal weight.
pub const ESCAPE: i8 = i8::MIN;

/// Bytes of the decoding table in the arena.
pub const TABLE_BYTES: u64 = 2 << LONGEST;

/// int8 fully connected layer of one row whose weights are Huffman-coded (Huffman 1952). It gives the numbers of
/// [`super::record::FullyConnected`], takes less flash and more time, and needs no memory for decoded weights.
///
/// **Blob.** `bias: [i32; out_c]` (TFLite's bias minus `in_zp · Σ weights`), `multiplier: [i32; Q]`, `shift: [i8; Q]`,
/// zero padding to 4 bytes, `lengths: [u8; 8]`, `symbols: [i8; symbols]`, zero padding to 2 bytes,
/// `stream: [u16; stream]`, little-endian. Q is `out_c` if `per_channel`, else 1.
///
/// **Code.** `lengths[l - 1]` code words have `l` bits. The code is complete and canonical (as in RFC 1951, section
/// 3.2.2): words in the order of `symbols`, shorter ones first, counting upwards. Weights follow in the order
/// `[out_c, in_c]`. The stream fills each half-word from its least significant bit; a word's first bit is its most
/// significant. After the word of [`ESCAPE`] come the eight bits of a weight, least significant first. Beyond its end
/// the stream reads as zeros.
///
/// **Scratch.** Its offset is given in words of 4 bytes. It holds the decoding table, 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FullyConnectedHuffman {
    pub src: u32,
    pub dst: u32,
    pub scratch: u32,
    pub in_c: u32,
    pub out_c: u32,
    pub in_zp: i8,
    pub out_zp: i8,
    pub per_channel: bool,
    pub clamp: Option<(i8, i8)>,
    pub symbols: u16,
    pub stream: u32,
    pub blob: u32,
}
