//! Pages of a flash range as a ring. Reads and writes wrap from the last page to the first, and use the flash's read
//! and write units.

use core::num::NonZeroU32;
use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;

use super::bad::{BadPages, LIST, MOST};
use super::record::{HEADER, Header};
use offshoot_base::crc::Crc32;

/// Bytes moved at a time; also the largest read or write unit of a flash.
const BUFFER: usize = 256;

/// Where a record lies: it begins in a page and passes over pages that were bad when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) page: u32,
    pub(super) bad: BadPages,
}

impl Place {
    /// In whatever page.
    fn page(page: u32) -> Self {
        Self { page, bad: BadPages::default() }
    }
}

/// A fault of the flash, and the page that has it. No error: the page does not read as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault<E> {
    pub(super) page: u32,
    pub(super) error: Option<E>,
}

/// A range of flash. Page numbers count from its start, modulo the number of pages.
#[derive(Debug)]
pub(super) struct Ring<F> {
    flash: F,
    start: u32,
    pages: NonZeroU32,
}

// Sizes are constants, so that the compiler sees that no division is by zero.
impl<F: NorFlash> Ring<F> {
    /// Reads and writes start and end at multiples of this.
    const UNIT: u32 = if F::READ_SIZE > F::WRITE_SIZE { F::READ_SIZE } else { F::WRITE_SIZE } as u32;

    /// Bytes of a page.
    const PAGE: u32 = F::ERASE_SIZE as u32;

    /// Bytes of the buffer that are whole units.
    const STEP: u32 = BUFFER as u32 / Self::UNIT * Self::UNIT;

    /// A ring over these addresses. `None` unless they are two or more whole pages and the flash's sizes fit each
    /// other.
    pub(super) fn new(flash: F, range: Range<u32>) -> Option<Self> {
        let (larger, smaller) = (F::READ_SIZE.max(F::WRITE_SIZE), F::READ_SIZE.min(F::WRITE_SIZE));
        let units_fit = larger.checked_rem(smaller)? == 0 && F::ERASE_SIZE % larger == 0;
        u32::try_from(F::ERASE_SIZE).ok()?;
        let inside = usize::try_from(range.end).is_ok_and(|end| end <= flash.capacity());
        let bytes = range.end.checked_sub(range.start)?;
        let whole = range.start.checked_rem(Self::PAGE)? == 0 && bytes % Self::PAGE == 0;
        let ring = Self { flash, start: range.start, pages: NonZeroU32::new(bytes / Self::PAGE)? };
        let fits = larger <= BUFFER && ring.header_size() <= Self::PAGE && ring.pages() >= 2;
        (units_fit && inside && whole && fits).then_some(ring)
    }

    pub(super) fn pages(&self) -> u32 {
        self.pages.get()
    }

    pub(super) fn page_size(&self) -> u32 {
        Self::PAGE
    }

    /// Bytes before a record's weights: the header, rounded up to whole units.
    pub(super) fn header_size(&self) -> u32 {
        (HEADER as u32).next_multiple_of(Self::UNIT)
    }

    /// Pages of a record with `length` bytes of weights and of its list of bad pages.
    pub(super) fn pages_for(&self, length: u32) -> u32 {
        length.saturating_add(self.header_size()).div_ceil(Self::PAGE)
    }

    /// Most bad pages in a list: it ends within the record's first page.
    pub(super) fn most_bad(&self) -> usize {
        MOST.min((Self::PAGE.saturating_sub(self.header_size()) / 2) as usize)
    }

    /// Page that holds the `n`-th page of a record.
    pub(super) fn page_of(&self, place: &Place, n: u32) -> u32 {
        place.page.wrapping_add(place.bad.distance(place.page, n, self.pages())) % self.pages
    }

    pub(super) fn release(self) -> F {
        self.flash
    }

    /// Erases a page.
    pub(super) fn erase(&mut self, page: u32) -> Result<(), Fault<F::Error>> {
        let from = self.start + page % self.pages * Self::PAGE;
        let erased = self.flash.erase(from, from + Self::PAGE);
        erased.map_err(|error| Fault { page, error: Some(error) })
    }

    /// Whether every byte of a page reads as erased.
    pub(super) fn is_blank(&mut self, page: u32) -> bool {
        let mut blank = true;
        let size = Self::PAGE;
        let read =
            self.for_each(&Place::page(page), 0, size, |_, bytes| blank &= bytes.iter().all(|&b| b == 0xff));
        read.is_ok() && blank
    }

    /// The header at the start of a page, if there is one.
    pub(super) fn header(&mut self, page: u32) -> Result<Option<Header>, F::Error> {
        let mut bytes = [0; HEADER];
        self.read(&Place::page(page), 0, HEADER as u32, bytes.iter_mut())?;
        Ok(Header::parse(&bytes))
    }

    /// The list of bad pages of the record in a page. `None` if it cannot be read or is not one of this ring.
    pub(super) fn bad_pages(&mut self, page: u32, count: u8) -> Option<BadPages> {
        let mut list = [0; LIST];
        let used =
            list.get_mut(..2 * usize::from(count)).filter(|_| usize::from(count) <= self.most_bad())?;
        self.read(&Place::page(page), self.header_size(), used.len() as u32, used.iter_mut()).ok()?;
        BadPages::parse(&list, count, self.pages())
    }

    /// CRC-32 of `length` bytes at `offset` from the start of a record.
    pub(super) fn checksum(&mut self, place: &Place, offset: u32, length: u32) -> Result<u32, F::Error> {
        let mut sum = Crc32::new();
        self.for_each(place, offset, length, |_, bytes| sum = sum.update(bytes))?;
        Ok(sum.finish())
    }

    /// Fills `length` bytes, one after the other, from `offset` after the start of a record.
    pub(super) fn read<'o>(
        &mut self,
        place: &Place,
        offset: u32,
        length: u32,
        mut out: impl Iterator<Item = &'o mut u8>,
    ) -> Result<(), F::Error> {
        self.for_each(place, offset, length, |_, bytes| {
            bytes.iter().zip(out.by_ref()).for_each(|(from, to)| *to = *from);
        })
    }

    /// Compares flash with the concatenated chunks.
    ///
    /// # Errors
    /// The first page that cannot be read or holds something else.
    pub(super) fn compare<'c>(
        &mut self,
        place: &Place,
        offset: u32,
        chunks: impl Iterator<Item = &'c [u8]> + Clone,
    ) -> Result<(), Fault<F::Error>> {
        let length = chunks.clone().map(|chunk| chunk.len() as u32).sum();
        let mut rest = chunks.flatten();
        let mut differs = None;
        let mut reached = offset;
        let read = self.for_each(place, offset, length, |at, bytes| {
            if !bytes.iter().all(|byte| rest.next() == Some(byte)) && differs.is_none() {
                differs = Some(at);
            }
            reached = at + bytes.len() as u32;
        });
        let fault = match (differs, read) {
            (None, Ok(())) => return Ok(()),
            (Some(at), _) => (at, None),
            (None, Err(error)) => (reached, Some(error)),
        };
        Err(Fault { page: self.page_of(place, fault.0 / Self::PAGE), error: fault.1 })
    }

    /// Passes bytes and their offset to `see` in pieces, in order; each lies in one page. The offset is a multiple of the unit; the length
    /// need not be.
    fn for_each(
        &mut self,
        place: &Place,
        offset: u32,
        length: u32,
        mut see: impl FnMut(u32, &[u8]),
    ) -> Result<(), F::Error> {
        let mut buffer = [0; BUFFER];
        let mut at = 0;
        while at < length {
            let (address, room) = self.locate(place, offset + at);
            let bytes = (length - at).min(room).min(Self::STEP);
            let whole = bytes.next_multiple_of(Self::UNIT) as usize;
            let piece = buffer.get_mut(..whole).unwrap_or_default();
            self.flash.read(address, piece)?;
            see(offset + at, piece.get(..bytes as usize).unwrap_or_default());
            at += bytes;
        }
        Ok(())
    }

    /// Programs the concatenated chunks at `offset`, filled up with ones to a whole unit.
    pub(super) fn write<'c>(
        &mut self,
        place: &Place,
        offset: u32,
        chunks: impl Iterator<Item = &'c [u8]>,
    ) -> Result<(), Fault<F::Error>> {
        let mut buffer = [0xff; BUFFER];
        let (buffer, _) = buffer.split_at_mut(Self::STEP as usize);
        let (mut at, mut filled) = (offset, 0);
        for chunk in chunks {
            let mut rest = chunk;
            while !rest.is_empty() {
                let room = buffer.get_mut(filled..).unwrap_or_default();
                let (now, behind) = rest.split_at(rest.len().min(room.len()));
                room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                filled += now.len();
                rest = behind;
                if filled >= buffer.len() {
                    self.program(place, at, buffer)?;
                    buffer.fill(0xff);
                    at += Self::STEP;
                    filled = 0;
                }
            }
        }
        let whole = filled.next_multiple_of(Self::UNIT as usize);
        self.program(place, at, buffer.get(..whole).unwrap_or_default())
    }

    /// Programs whole units, split at the ends of pages.
    fn program(&mut self, place: &Place, offset: u32, bytes: &[u8]) -> Result<(), Fault<F::Error>> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let (address, room) = self.locate(place, at);
            let (now, behind) = rest.split_at(rest.len().min(room as usize));
            if let Err(error) = self.flash.write(address, now) {
                let page = self.page_of(place, at / Self::PAGE);
                return Err(Fault { page, error: Some(error) });
            }
            at += now.len() as u32;
            rest = behind;
        }
        Ok(())
    }

    /// Address of a byte of a record, and the number of bytes from there to the end of its page.
    fn locate(&self, place: &Place, offset: u32) -> (u32, u32) {
        let (further, within) = (offset / Self::PAGE, offset % Self::PAGE);
        let address = self.start + self.page_of(place, further) * Self::PAGE + within;
        (address, Self::PAGE - within)
    }
}
