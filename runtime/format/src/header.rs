//! The first 32 bytes of a `.off` file: a checked view ([`HeaderView`]) and its plain form ([`Header`]).
//!
//! [`HeaderView::new_checked`] checks the length once, so no accessor panics after it returned `Ok`. The fields are
//! untrusted until `Model::open` has checked them.

use offshoot_base::Error;
use offshoot_base::crc::Crc32;

/// First four bytes of every file.
pub const MAGIC: [u8; 4] = *b"OFFS";

/// Version of the format that this runtime reads and the tools write. Any change of a record, of a tag's meaning or
/// of a blob's layout raises it, and adds a folder for the new version to `tests/fixtures/format`.
///
/// Version 1 is refused: its records changed under the same number, so a file does not tell which form it has.
pub const VERSION: u16 = offshoot_base::FORMAT_VERSION;

/// Bytes of the header.
pub const HEADER_LEN: usize = 32;

/// Positions of the fields. All are little endian.
mod field {
    use core::ops::Range;

    pub(super) const MAGIC: Range<usize> = 0..4;
    pub(super) const VERSION: Range<usize> = 4..6;
    pub(super) const REQUIRES: Range<usize> = 6..8;
    pub(super) const FILE_LEN: Range<usize> = 8..12;
    pub(super) const CRC: Range<usize> = 12..16;
    pub(super) const ARENA_BYTES: Range<usize> = 16..20;
    pub(super) const ARENA_LOWER_BOUND: Range<usize> = 20..24;
    pub(super) const GRAPH_LEN: Range<usize> = 24..28;
    pub(super) const SOURCE_HASH: Range<usize> = 28..32;
}

/// View of a file's bytes that holds the magic and a whole header.
#[derive(Clone, Copy, Debug)]
pub struct HeaderView<'m> {
    header: &'m [u8; HEADER_LEN],
    bytes: &'m [u8],
}

impl<'m> HeaderView<'m> {
    /// Checks magic and length.
    ///
    /// # Errors
    /// [`Error::NotOff`] if the magic differs, [`Error::Length`] if the header is incomplete.
    pub fn new_checked(bytes: &'m [u8]) -> Result<Self, Error> {
        let known = bytes.len().min(MAGIC.len());
        if bytes.get(..known) != MAGIC.get(..known) {
            return Err(Error::NotOff);
        }
        let header = bytes.first_chunk().ok_or(Error::Length)?;
        Ok(Self { header, bytes })
    }

    // The ranges are constants within an array of fixed size, so indexing cannot panic.
    fn u16(&self, at: core::ops::Range<usize>) -> u16 {
        u16::from_le_bytes([self.header[at.start], self.header[at.start + 1]])
    }

    fn u32(&self, at: core::ops::Range<usize>) -> u32 {
        let h = &self.header[at];
        u32::from_le_bytes([h[0], h[1], h[2], h[3]])
    }

    /// Format version.
    pub fn version(&self) -> u16 {
        self.u16(field::VERSION)
    }

    /// Reads the fields.
    ///
    /// # Errors
    /// [`Error::Version`] if the version is not [`VERSION`]: other versions may place the fields elsewhere.
    pub fn parse(&self) -> Result<Header, Error> {
        if self.version() != VERSION {
            return Err(Error::Version(self.version()));
        }
        Ok(Header {
            requires: self.u16(field::REQUIRES),
            file_len: self.u32(field::FILE_LEN),
            crc32: self.u32(field::CRC),
            arena_bytes: self.u32(field::ARENA_BYTES),
            arena_lower_bound: self.u32(field::ARENA_LOWER_BOUND),
            graph_len: self.u32(field::GRAPH_LEN),
            source_hash: self.u32(field::SOURCE_HASH),
        })
    }

    /// CRC-32 of all bytes, with the checksum field itself read as zero.
    pub fn compute_crc32(&self) -> u32 {
        let after = self.bytes.get(field::CRC.end..).unwrap_or_default();
        Crc32::new().update(&self.header[..field::CRC.start]).update(&[0; 4]).update(after).finish()
    }
}

/// The header's fields. Magic and version are [`MAGIC`] and [`VERSION`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bits of [`super::requires`].
    pub requires: u16,
    /// Bytes of the whole file.
    pub file_len: u32,
    /// CRC-32 of the file with this field read as zero.
    pub crc32: u32,
    /// Bytes of arena that the operators use.
    pub arena_bytes: u32,
    /// Proved bytes that no plan of these operators can go below. Tools compare it with `arena_bytes`.
    pub arena_lower_bound: u32,
    /// Bytes of the graph section without its padding.
    pub graph_len: u32,
    /// Hash of the source graph (names and shapes). A host uses it to tell whether
    /// [`super::record::OpHeader::origin`] refers to the graph it has.
    pub source_hash: u32,
}

impl Header {
    /// Encodes the header.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[field::MAGIC].copy_from_slice(&MAGIC);
        out[field::VERSION].copy_from_slice(&VERSION.to_le_bytes());
        out[field::REQUIRES].copy_from_slice(&self.requires.to_le_bytes());
        out[field::FILE_LEN].copy_from_slice(&self.file_len.to_le_bytes());
        out[field::CRC].copy_from_slice(&self.crc32.to_le_bytes());
        out[field::ARENA_BYTES].copy_from_slice(&self.arena_bytes.to_le_bytes());
        out[field::ARENA_LOWER_BOUND].copy_from_slice(&self.arena_lower_bound.to_le_bytes());
        out[field::GRAPH_LEN].copy_from_slice(&self.graph_len.to_le_bytes());
        out[field::SOURCE_HASH].copy_from_slice(&self.source_hash.to_le_bytes());
        out
    }

    /// Offset of the blob section: the next multiple of 16 after the graph section.
    pub fn blob_start(&self) -> u64 {
        (HEADER_LEN as u64 + u64::from(self.graph_len)).next_multiple_of(offshoot_base::ALIGNMENT as u64)
    }
}

/// Writes the checksum into the header of a finished file. `None` if the file has no header.
pub fn seal(file: &mut [u8]) -> Option<()> {
    let crc = HeaderView::new_checked(file).ok()?.compute_crc32();
    file.get_mut(field::CRC)?.copy_from_slice(&crc.to_le_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip_and_bad_fronts() {
        let header = Header {
            requires: 1,
            file_len: 2,
            crc32: 3,
            arena_bytes: 4,
            arena_lower_bound: 5,
            graph_len: 17,
            source_hash: 7,
        };
        let bytes = header.emit();
        assert_eq!(HeaderView::new_checked(&bytes).unwrap().parse(), Ok(header));
        assert_eq!(header.blob_start(), 64);
        assert_eq!(HeaderView::new_checked(b"ONNX").unwrap_err(), Error::NotOff);
        assert_eq!(HeaderView::new_checked(&bytes[..31]).unwrap_err(), Error::Length);
        let mut other = bytes;
        other[4] = 9;
        assert_eq!(HeaderView::new_checked(&other).unwrap().parse(), Err(Error::Version(9)));
    }
}
