//! Layout of one record of the journal in flash, with encoding and decoding of its header.
//!
//! A record takes consecutive whole pages, passes over those that it lists as bad, and wraps from the last page of the range to
//! the first:
//!
//! | bytes | contents |
//! |---|---|
//! | 0..4 | magic and version, `OfW1`; in a record with a list of bad pages `OfB` and their number, 1 to 16 |
//! | 4..8 | generation: one more than the record before, modulo 2³² |
//! | 8..12 | digest of the model that the weights belong to |
//! | 12..16 | bytes of weights; 0 means factory weights |
//! | 16..20 | CRC-32 of the list and the weights |
//! | 20..24 | CRC-32 of bytes 0..20 |
//! | up to a whole write unit | ones |
//! | then | the list: a page's number in two bytes each, rising; it ends within the first page |
//! | then | the weights, and ones up to a whole write unit |
//!
//! All numbers are little-endian. The header is written last, as the commit.

use super::bad::MOST;
use offshoot_base::crc::Crc32;

/// Bytes of a header, without padding.
pub(super) const HEADER: usize = 24;

/// Of a record without a list of bad pages.
const MAGIC: [u8; 4] = *b"OfW1";

/// Of a record with one; the number of its pages follows.
const MAGIC_BAD: [u8; 3] = *b"OfB";

/// Header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) generation: u32,
    pub(super) model_digest: u32,
    pub(super) length: u32,
    pub(super) weights_crc: u32,
    /// Number of bad pages in the list before the weights.
    pub(super) bad: u8,
}

impl Header {
    /// Decodes a header. `None` if the magic or the checksum differs.
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let sum = Crc32::new().update(bytes.get(..HEADER - 4)?).finish();
        let bad = match *bytes.first_chunk()? {
            MAGIC => 0,
            [a, b, c, bad] if [a, b, c] == MAGIC_BAD && (1..=MOST).contains(&usize::from(bad)) => bad,
            _ => return None,
        };
        let header = Self {
            generation: word(4)?,
            model_digest: word(8)?,
            length: word(12)?,
            weights_crc: word(16)?,
            bad,
        };
        (word(HEADER - 4)? == sum).then_some(header)
    }

    /// Encodes the header.
    pub(super) fn emit(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let words = [self.generation, self.model_digest, self.length, self.weights_crc];
        let [a, b, c] = MAGIC_BAD;
        let magic = if self.bad == 0 { MAGIC } else { [a, b, c, self.bad] };
        let fields = [magic].into_iter().chain(words.map(u32::to_le_bytes));
        for (to, from) in bytes.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&from);
        }
        let (body, sum) = bytes.split_at_mut(HEADER - 4);
        sum.copy_from_slice(&Crc32::new().update(body).finish().to_le_bytes());
        bytes
    }

    /// Whether this record was written after the other. Generations are compared modulo 2³², which is enough because
    /// those in one range differ by at most its number of pages.
    pub(super) fn follows(&self, other: &Self) -> bool {
        let ahead = self.generation.wrapping_sub(other.generation);
        ahead != 0 && ahead < 1 << 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Header =
        Header { generation: 7, model_digest: 0xdead_beef, length: 100_000, weights_crc: 42, bad: 0 };

    #[test]
    fn what_is_written_is_read() {
        for bad in [0, 1, 16] {
            let header = Header { bad, ..HERE };
            assert_eq!(Header::parse(&header.emit()), Some(header));
        }
        assert_eq!(Header::parse(&Header { bad: 17, ..HERE }.emit()), None);
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        for bit in 0..HEADER * 8 {
            let mut bytes = HERE.emit();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&bytes), None, "bit {bit}");
        }
        assert_eq!(Header::parse(&[0xff; HEADER]), None);
        assert_eq!(Header::parse(&[0; HEADER]), None);
    }

    #[test]
    fn generations_go_round() {
        let at = |generation| Header { generation, ..HERE };
        assert!(at(1).follows(&at(0)) && !at(0).follows(&at(1)) && !at(3).follows(&at(3)));
        assert!(at(0).follows(&at(u32::MAX)) && !at(u32::MAX).follows(&at(0)));
    }
}
