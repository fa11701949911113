//! Records whose weights are entropy-coded in the file and decoded as the kernel meets them.

use serde::{Deserialize, Serialize};

/// Longest code word, in bits: one look into a table of 256 entries decodes any.
pub const LONGEST: usize = 8;

/// The symbol of the code word that a literal weight follows.
pub const ESCAPE: i8 = i8::MIN;

/// Bytes of the decoding table in the arena.
pub const TABLE_BYTES: u64 = 2 << LONGEST;

/// int8 fully connected layer of one row whose weights are Huffman-coded (Huffman 1952): the numbers of
/// [`super::record::FullyConnected`] in less flash and more time. No weight is held in memory.
///
/// **Blob.** `bias: [i32; out_c]` (TFLite's less `in_zp · Σ weights`), `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero
/// padding to 4 bytes, `lengths: [u8; 8]`, `symbols: [i8; symbols]`, zero padding to 2 bytes, `stream: [u16; stream]`,
/// little-endian. Q is `out_c` if `per_channel`, else 1.
///
/// **Code.** `lengths[l - 1]` code words have `l` bits. The code is canonical (as RFC 1951's, section 3.2.2): words in
/// the order of `symbols`, shorter ones first, counted upwards; it is complete. Weights follow in the order
/// `[out_c, in_c]`. Words lie in the stream from the least significant bit of each half-word on, a word's first bit
/// (its most significant) first. After the word of [`ESCAPE`] come the eight bits of a weight, least significant
/// first. Beyond its end the stream reads as zeros.
///
/// **Scratch.** Its offset is given in words of 4 bytes. The decoding table, 512 bytes.
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
