//! Deltas between versions of a file: the new file from the active one and what differs, as it arrives.
//!
//! A delta is a header ([`DeltaHeader`]) and the instructions of bsdiff (Percival 2003), one after the other. Numbers are LEB128, at most 32
//! bits; a signed one is in zigzag form.
//!
//! | instruction | does |
//! |---|---|
//! | number `n`, then runs until they have `n` bytes | each byte is the next byte of the base plus one of the runs, modulo 256 |
//! | number `m`, then `m` bytes | they follow |
//! | signed number | moves on in the base |
//!
//! A run is a number of zeros, then (if bytes are left) a number of bytes and these bytes. In a network whose last layers changed nearly all
//! bytes are zeros, so no compressor with a window is needed: the state is less than 64 bytes.

use embedded_storage::nor_flash::NorFlash;
use offshoot_base::crc::Crc32;

use super::{Image, Slot, Slots, UpdateError};

/// Bytes of a delta before its instructions.
pub const DELTA_HEADER: usize = 80;

/// First bytes of a delta, and its version.
const MAGIC: [u8; 4] = *b"OFD1";

/// Bytes computed at a time.
const PIECE: usize = 64;

/// The files that a delta leads from and to.
///
/// | bytes | contents |
/// |---|---|
/// | 0..4 | magic and version, `OFD1` |
/// | 4..8, 8..40 | bytes and SHA-256 of the base |
/// | 40..44, 44..76 | bytes and SHA-256 of the new file |
/// | 76..80 | CRC-32 of the bytes before |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaHeader {
    /// The file that it changes.
    pub base: Image,
    /// The file that it gives.
    pub new: Image,
}

impl DeltaHeader {
    /// Decodes a header. `None` if it is not one of this version.
    pub fn parse(bytes: &[u8; DELTA_HEADER]) -> Option<Self> {
        let image = |at: usize| {
            let (len, sha256) = bytes.get(at..)?.split_first_chunk()?;
            Some(Image { len: u32::from_le_bytes(*len), sha256: *sha256.first_chunk()? })
        };
        let header = Self { base: image(4)?, new: image(40)? };
        (header.emit() == *bytes).then_some(header)
    }

    /// Encodes the header.
    pub fn emit(&self) -> [u8; DELTA_HEADER] {
        let mut out = [0; DELTA_HEADER];
        let image = |image: &Image| image.len.to_le_bytes().into_iter().chain(image.sha256);
        let fields = MAGIC.into_iter().chain(image(&self.base)).chain(image(&self.new));
        out.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        let (front, sum) = out.split_at_mut(DELTA_HEADER - 4);
        sum.copy_from_slice(&Crc32::new().update(front).finish().to_le_bytes());
        out
    }
}

/// What the next byte of a delta is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The number of bytes to add to the base.
    Sum,
    /// The number of zeros in a run.
    Zeros,
    /// The number of bytes in a run.
    Bytes,
    /// A byte to add to the base.
    Addend,
    /// The number of bytes that follow.
    Copy,
    /// One of them.
    Byte,
    /// How far to move in the base.
    Move,
}

/// A delta on its way into the spare slot.
#[derive(Debug)]
pub struct Patch {
    from: Slot,
    base_len: u32,
    new_len: u32,
    expect: Expect,
    /// The number that is being read, and how many of its bits are there.
    number: u32,
    bits: u32,
    /// Bytes left of a sum.
    sum: u32,
    /// Bytes left of a run, or of bytes that follow.
    run: u32,
    /// Next byte of the base.
    position: u32,
    /// Bytes of the new file so far.
    made: u32,
}

impl Patch {
    /// A patch at the start of its instructions.
    fn new(from: Slot, header: &DeltaHeader) -> Self {
        Self {
            from,
            base_len: header.base.len,
            new_len: header.new.len,
            expect: Expect::Sum,
            number: 0,
            bits: 0,
            sum: 0,
            run: 0,
            position: 0,
            made: 0,
        }
    }

    /// Takes one byte of a number; gives the number when it is whole.
    fn number<E>(&mut self, byte: u8) -> Result<Option<u32>, UpdateError<E>> {
        let low = u32::from(byte & 0x7f);
        // The fifth byte has room for four bits.
        if self.bits > 28 || (self.bits == 28 && low > 15) {
            return Err(UpdateError::Delta);
        }
        self.number |= low << self.bits;
        self.bits += 7;
        if byte & 0x80 != 0 {
            return Ok(None);
        }
        self.bits = 0;
        Ok(Some(core::mem::take(&mut self.number)))
    }

    /// What follows when a run is over.
    fn after_run(&self, next: Expect) -> Expect {
        if self.sum == 0 { Expect::Copy } else { next }
    }

    /// Moves on in the base.
    fn shift<E>(&mut self, zigzag: u32) -> Result<(), UpdateError<E>> {
        let by = i64::from(zigzag >> 1) ^ -i64::from(zigzag & 1);
        let to = u32::try_from(i64::from(self.position) + by).ok().filter(|&to| to <= self.base_len);
        self.position = to.ok_or(UpdateError::Delta)?;
        Ok(())
    }
}

impl<F: NorFlash> Slots<F> {
    /// Begins or resumes a file that arrives as a delta of the active model. The delta comes from its first instruction on, after a
    /// reset too; what flash has already is not written again.
    ///
    /// # Errors
    /// [`UpdateError::Delta`] if this is no header; [`UpdateError::Base`] if the active model is another; what [`Self::begin`] returns.
    pub fn begin_delta(&mut self, header: &[u8; DELTA_HEADER]) -> Result<Patch, UpdateError<F::Error>> {
        let header = DeltaHeader::parse(header).ok_or(UpdateError::Delta)?;
        let active = self.active().ok_or(UpdateError::Base)?;
        if active.image != header.base {
            return Err(UpdateError::Base);
        }
        self.begin(header.new)?;
        Ok(Patch::new(active.slot, &header))
    }

    /// Takes instructions of a delta, in order, in pieces of any length. When all are in, [`Self::finish`] holds the file against its
    /// SHA-256.
    ///
    /// # Errors
    /// [`UpdateError::Delta`] if they read outside the base or give more than the file has; what [`Self::write`] returns. Begin again
    /// then.
    pub fn write_delta(&mut self, patch: &mut Patch, bytes: &[u8]) -> Result<(), UpdateError<F::Error>> {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first() {
            if patch.expect == Expect::Addend || patch.expect == Expect::Byte {
                let most = (patch.run as usize).min(rest.len()).min(PIECE);
                let (now, behind) = rest.split_at(most);
                rest = behind;
                patch.run -= now.len() as u32;
                if patch.expect == Expect::Byte {
                    self.put(patch, now)?;
                    if patch.run == 0 {
                        patch.expect = Expect::Move;
                    }
                } else {
                    self.add(patch, now.len() as u32, now)?;
                    if patch.run == 0 {
                        patch.expect = patch.after_run(Expect::Zeros);
                    }
                }
                continue;
            }
            rest = behind;
            let Some(number) = patch.number(byte)? else { continue };
            match patch.expect {
                Expect::Sum => {
                    patch.sum = number;
                    patch.expect = patch.after_run(Expect::Zeros);
                }
                Expect::Zeros => {
                    self.add(patch, number, &[])?;
                    patch.expect = patch.after_run(Expect::Bytes);
                }
                Expect::Bytes => {
                    if number > patch.sum {
                        return Err(UpdateError::Delta);
                    }
                    patch.run = number;
                    patch.expect = if number == 0 { Expect::Zeros } else { Expect::Addend };
                }
                Expect::Copy => {
                    patch.run = number;
                    patch.expect = if number == 0 { Expect::Move } else { Expect::Byte };
                }
                Expect::Move => {
                    patch.shift(number)?;
                    patch.expect = Expect::Sum;
                }
                Expect::Addend | Expect::Byte => {}
            }
        }
        Ok(())
    }

    /// The next `len` bytes of the base plus the addends, and zeros behind them.
    fn add(&mut self, patch: &mut Patch, len: u32, addends: &[u8]) -> Result<(), UpdateError<F::Error>> {
        let inside = patch.position.checked_add(len).is_some_and(|end| end <= patch.base_len);
        if len > patch.sum || !inside || len > patch.new_len - patch.made {
            return Err(UpdateError::Delta);
        }
        patch.sum -= len;
        let mut left = len;
        let mut addends = addends.iter();
        while left > 0 {
            let mut piece = [0; PIECE];
            let piece = piece.get_mut(..left.min(PIECE as u32) as usize).unwrap_or_default();
            let now = piece.len() as u32;
            // What flash has already need not be computed.
            if patch.made.saturating_add(now) > self.expected() {
                self.read(patch.from, patch.position, piece)?;
                piece.iter_mut().zip(addends.by_ref()).for_each(|(to, add)| *to = to.wrapping_add(*add));
            }
            patch.position += now;
            left -= now;
            self.put(patch, piece)?;
        }
        Ok(())
    }

    /// The next bytes of the new file; those that flash has already are passed over.
    fn put(&mut self, patch: &mut Patch, bytes: &[u8]) -> Result<(), UpdateError<F::Error>> {
        let len = bytes.len() as u32;
        if len > patch.new_len - patch.made {
            return Err(UpdateError::Delta);
        }
        let there = self.expected().saturating_sub(patch.made).min(len);
        patch.made += len;
        let offset = self.expected();
        match bytes.get(there as usize..) {
            Some(new) if !new.is_empty() => self.write(offset, new),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        let header = DeltaHeader {
            base: Image { len: 5, sha256: [7; 32] },
            new: Image { len: 70_000, sha256: [9; 32] },
        };
        assert_eq!(DeltaHeader::parse(&header.emit()), Some(header));
        for bit in 0..DELTA_HEADER * 8 {
            let mut bytes = header.emit();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(DeltaHeader::parse(&bytes), None, "bit {bit}");
        }
    }

    #[test]
    fn numbers_have_32_bits() {
        let header =
            DeltaHeader { base: Image { len: 1, sha256: [0; 32] }, new: Image { len: 1, sha256: [0; 32] } };
        let read = |bytes: &[u8]| {
            let mut patch = Patch::new(Slot::A, &header);
            let mut last = Ok(None);
            for &byte in bytes {
                last = patch.number::<()>(byte);
            }
            last
        };
        assert_eq!(read(&[5]), Ok(Some(5)));
        assert_eq!(read(&[0x80, 1]), Ok(Some(128)));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(Some(u32::MAX)));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(UpdateError::Delta));
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), Err(UpdateError::Delta));
    }
}
