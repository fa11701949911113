//! Fully connected layers with Huffman-coded weights; see [`offshoot_format::huffman`] for the code.

use super::tiled::requantise;
use crate::requant::Requant;
use offshoot_format::huffman::{ESCAPE, LONGEST};

/// Decoding table, indexed by the next eight bits of the stream. The low byte of an entry is the length of the code
/// word, plus `LITERAL` for the escape; the high byte is the symbol.
pub type Table = [u16; 1 << LONGEST];

/// Marks the escape in a [`Table`].
const LITERAL: u16 = 1 << 7;

/// Whether these numbers of words per length and these symbols form a complete prefix code.
pub fn is_complete(lengths: &[u8; LONGEST], symbols: &[i8]) -> bool {
    let words = lengths.iter().map(|&n| usize::from(n)).sum::<usize>();
    let room =
        lengths.iter().zip(1..).map(|(&n, length)| usize::from(n) << (LONGEST - length)).sum::<usize>();
    words == symbols.len() && room == 1 << LONGEST
}

/// Writes the entries of a code word. `word` is left-aligned; reversed, its first bit is the lowest.
// Not inlined: the loop over lengths would contain it eight times.
#[inline(never)]
fn spread(table: &mut Table, word: u8, length: u16, entry: u16) {
    table[usize::from(word.reverse_bits())..].iter_mut().step_by(1 << length).for_each(|e| *e = entry);
}

/// Fills the decoding table of a complete code.
pub fn fill_table(lengths: &[u8; LONGEST], symbols: &[i8], table: &mut Table) {
    let mut symbols = symbols.iter();
    let mut word = 0u8;
    for (length, &count) in (1u16..).zip(lengths) {
        for &symbol in symbols.by_ref().take(usize::from(count)) {
            let literal = if symbol == ESCAPE { LITERAL } else { 0 };
            spread(table, word, length, literal | length | u16::from(symbol as u8) << 8);
            // The last word of a complete code wraps to zero.
            word = word.wrapping_add((1u16 << (LONGEST as u16 - length)) as u8);
        }
    }
}

/// int8: `dst[o] = requantise(bias[o] + Σ src[i] · weights[o, i])`; decodes one weight at a time.
pub fn fully_connected_huffman(q: &Requant<'_>, table: &Table, stream: &[u16], src: &[i8], dst: &mut [i8]) {
    let mut halves = stream.iter();
    let (mut bits, mut held) = (0u32, 0u32);
    for (o, out) in dst.iter_mut().enumerate() {
        let mut acc = q.bias[o];
        for &x in src {
            if held < 16 {
                bits |= u32::from(halves.next().copied().unwrap_or(0)) << held;
                held += 16;
            }
            let entry = table[(bits & 0xff) as usize];
            let length = u32::from(entry & 0xf);
            bits >>= length;
            held -= length;
            let mut weight = i32::from((entry >> 8) as i8);
            if entry & LITERAL != 0 {
                weight = i32::from(bits as u8 as i8);
                bits >>= 8;
                held -= 8;
            }
            acc = acc.wrapping_add(i32::from(x).wrapping_mul(weight));
        }
        *out = requantise(acc, q, o);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_their_reversed_bits() {
        // Words 0, 10, 110, 111 stand for 5, -1, the escape, 7.
        let (lengths, symbols) = ([1, 1, 2, 0, 0, 0, 0, 0], [5, -1, ESCAPE, 7]);
        assert!(is_complete(&lengths, &symbols));
        assert!(!is_complete(&[1, 1, 1, 0, 0, 0, 0, 0], &symbols[..3]));
        assert!(!is_complete(&lengths, &symbols[..3]));
        let mut table = [0; 256];
        fill_table(&lengths, &symbols, &mut table);
        assert!(table.iter().all(|&e| e != 0));
        let symbol = |bits: usize| ((table[bits] >> 8) as i8, table[bits] & 0xf);
        assert_eq!(
            [symbol(0b0), symbol(0b01), symbol(0b011), symbol(0b111)],
            [(5, 1), (-1, 2), (-128, 3), (7, 3)]
        );
    }

    #[test]
    fn weights_are_decoded_in_order_and_zeros_follow_the_end() {
        let (lengths, symbols) = ([1, 1, 2, 0, 0, 0, 0, 0], [5, -1, ESCAPE, 7]);
        let mut table = [0; 256];
        fill_table(&lengths, &symbols, &mut table);
        // 5, -1, escape 100, 7: bits 0, 10, 110 + 100 lowest bit first, 111. Then zeros: 5s.
        let stream = 0b01 << 1 | 0b011 << 3 | 100u32 << 6 | 0b111 << 14;
        let stream = [stream as u16, (stream >> 16) as u16];
        let (bias, multiplier, shift) = ([0, 10], [1 << 30], [1]);
        let q = Requant {
            bias: &bias,
            multiplier: &multiplier,
            shift: &shift,
            in_zp: 0,
            out_zp: 0,
            min: -128,
            max: 127,
        };
        let mut out = [0; 2];
        fully_connected_huffman(&q, &table, &stream, &[1, 2, 1], &mut out);
        assert_eq!(out, [5 - 2 + 100, 10 + 7 + 2 * 5 + 5]);
    }
}
