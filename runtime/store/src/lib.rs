//! Learned weights in flash: a journal that survives a power cut at any moment and wears its pages evenly.
//!
//! A [`Store`] uses the pages of a range of a [`NorFlash`] as a ring. A save erases and writes the pages after the
//! current record, reads them back, and only then programs the new record's header, which lies in the record's first
//! page. That one program operation is the commit. The current record is not touched. After a power cut,
//! [`Store::open`] finds either the old record or the new one, whole.
//!
//! - **Nothing is trusted.** Header and weights carry a CRC-32. A page is always erased before it is written, because a
//!   page whose erasure was cut may read as blank. A header or weights that the flash fails to read (words with broken
//!   error correction) count as damaged; the newest whole record is used.
//! - **Bounded.** Opening reads the header of every page, and the weights of the records from the newest to the one
//!   that it chooses. After power cuts alone, that is the first one.
//! - **Wear.** Records follow each other around the ring. In undisturbed use, the erase counts of any two pages differ
//!   by at most one. A save erases only the pages it needs.
//! - **Space.** A record takes at most half of the pages, so the next one always fits beside it.
//! - **RAM.** One buffer of 256 bytes on the stack.
//!
//! Why not an existing key-value store: `sequential-storage` 8.0.2 judges a page blank by its first and last word, but
//! an erasure that is cut may leave any bytes. It was tested with weights as items of 64 bytes under two sets of keys
//! and a commit item, on the simulated flash of this crate's tests (10 pages of 128 bytes), with a power cut at each of
//! the 859 bytes of a save. If a cut operation changes its range from the end, 124 cuts left neither old nor new
//! weights; if half-written words cannot be read, 364 did. This journal loses none. Items must also fit one page, so
//! weights would need chunks, a buffer and a commit on top, which is most of this crate.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod ram;
mod record;
mod ring;

use core::ops::Range;

#[doc(no_inline)]
pub use embedded_storage::nor_flash;
use embedded_storage::nor_flash::NorFlash;

pub use ram::RamFlash;
use record::Header;
use ring::Ring;

use offshoot_base::crc::Crc32;

/// Error of a store. `E` is the flash's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error<E> {
    /// The range is not at least two whole pages of this flash, or the flash's read, write and erase sizes do not
    /// fit each other, or a read or write unit exceeds the buffer of 256 bytes.
    Geometry,
    /// The weights do not fit.
    TooLarge {
        /// Bytes to save.
        needed: u32,
        /// Bytes that fit; see [`Store::capacity`].
        capacity: u32,
    },
    /// The weights in flash belong to the model, but the buffer to load them into has another length.
    Length {
        /// Bytes in flash.
        stored: u32,
    },
    /// The weights in flash changed since the store was opened. Discard the contents of the buffer.
    Damaged,
    /// The flash reads back other bytes than were written: a page is worn. The record before is untouched. Another save
    /// uses other pages if there are any.
    Worn,
    /// The flash reported an error.
    Flash(E),
}

impl<E: core::fmt::Debug> core::fmt::Display for Error<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Geometry => f.write_str("the range must be at least two whole pages of a supported flash"),
            Self::TooLarge { needed, capacity } => {
                write!(f, "{needed} bytes of weights do not fit: the store has room for {capacity}")
            }
            Self::Length { stored } => {
                write!(f, "the buffer has the wrong length: the store holds {stored} bytes of weights")
            }
            Self::Damaged => f.write_str("the weights in flash are damaged: open the store again"),
            Self::Worn => f.write_str("the flash is worn: it does not keep what is written"),
            Self::Flash(error) => write!(f, "flash: {error:?}"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for Error<E> {}

/// A record and the page where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    header: Header,
    page: u32,
}

impl Placed {
    /// A total order. It also orders records of one generation, so that a search over all records ends.
    fn follows(&self, other: &Self) -> bool {
        let same = self.header.generation == other.header.generation;
        self.header.follows(&other.header) || (same && self.page > other.page)
    }
}

/// Learned weights of one model in a range of flash.
#[derive(Debug)]
pub struct Store<F> {
    ring: Ring<F>,
    /// The newest whole record.
    current: Option<Placed>,
    /// The newest generation in any header, whether its record is whole or not.
    newest: u32,
    /// Saves that failed since the last success. Each moves the next try on by one page.
    failures: u32,
}

impl<F: NorFlash> Store<F> {
    /// Opens the store in this range of flash (byte addresses, whole pages) and finds the newest whole record. Writes
    /// nothing.
    ///
    /// # Errors
    /// [`Error::Geometry`]; [`Error::Flash`] if no page can be read. No power cut during a save or reset makes all
    /// pages unreadable, but new flash with error correction may be in that state. If the flash itself works, use
    /// [`Store::create`].
    pub fn open(flash: F, range: Range<u32>) -> Result<Self, Error<F::Error>> {
        let ring = Ring::new(flash, range).ok_or(Error::Geometry)?;
        let mut store = Self { ring, current: None, newest: 0, failures: 0 };
        store.current = store.find()?;
        Ok(store)
    }

    /// Erases this range of flash, whether or not its pages can be read, and returns an empty store.
    ///
    /// # Errors
    /// [`Error::Geometry`], with nothing erased; [`Error::Flash`].
    pub fn create(flash: F, range: Range<u32>) -> Result<Self, Error<F::Error>> {
        let mut ring = Ring::new(flash, range).ok_or(Error::Geometry)?;
        for page in 0..ring.pages() {
            ring.erase(page).map_err(Error::Flash)?;
        }
        Ok(Self { ring, current: None, newest: 0, failures: 0 })
    }

    /// Bytes of weights that fit: half of the pages minus one header.
    pub fn capacity(&self) -> u32 {
        (self.ring.pages() / 2).saturating_mul(self.ring.page_size()).saturating_sub(self.ring.header_size())
    }

    /// Generation of the weights in flash. `None`: factory weights.
    pub fn generation(&self) -> Option<u32> {
        self.current.filter(|c| c.header.length > 0).map(|c| c.header.generation)
    }

    /// Returns the flash.
    pub fn release(self) -> F {
        self.ring.release()
    }

    /// Reads the weights of this model into `out` and returns their generation. Returns `None` and leaves `out`
    /// unchanged if the flash holds no weights or those of another model.
    ///
    /// # Errors
    /// [`Error::Length`], with `out` unchanged; [`Error::Damaged`] or [`Error::Flash`], with `out` partly overwritten.
    pub fn load(&mut self, model_digest: u32, out: &mut [u8]) -> Result<Option<u32>, Error<F::Error>> {
        self.load_pieces(model_digest, &mut [out])
    }

    /// As [`Self::load`], into several pieces, which lie one behind the other in flash.
    ///
    /// # Errors
    /// As [`Self::load`]; the length is that of all pieces.
    pub fn load_pieces(
        &mut self,
        model_digest: u32,
        out: &mut [&mut [u8]],
    ) -> Result<Option<u32>, Error<F::Error>> {
        let Some(Placed { header, page }) = self.current else { return Ok(None) };
        if header.length == 0 || header.model_digest != model_digest {
            return Ok(None);
        }
        let total = out.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        if u32::try_from(total) != Ok(header.length) {
            return Err(Error::Length { stored: header.length });
        }
        self.ring.read(page, self.ring.header_size(), out).map_err(Error::Flash)?;
        let sum = out.iter().fold(Crc32::new(), |sum, piece| sum.update(piece));
        match sum.finish() == header.weights_crc {
            true => Ok(Some(header.generation)),
            false => Err(Error::Damaged),
        }
    }

    /// Writes the concatenated chunks as weights and returns their generation. If power is cut at any moment, the next
    /// [`Self::open`] finds either the weights saved before or these.
    ///
    /// # Errors
    /// [`Error::TooLarge`], with nothing written; [`Error::Worn`] or [`Error::Flash`], with the weights saved before
    /// kept.
    pub fn save(&mut self, model_digest: u32, chunks: &[&[u8]]) -> Result<u32, Error<F::Error>> {
        let capacity = self.capacity();
        let total = chunks.iter().fold(0_usize, |sum, chunk| sum.saturating_add(chunk.len()));
        let needed = u32::try_from(total).unwrap_or(u32::MAX);
        if needed > capacity {
            return Err(Error::TooLarge { needed, capacity });
        }
        self.append(model_digest, needed, chunks)
    }

    /// Returns to the factory weights: writes a record that says so, then erases the learned weights. If power is cut
    /// at any moment, the next [`Self::open`] finds either the newest weights or none, never older ones.
    ///
    /// # Errors
    /// [`Error::Worn`] or [`Error::Flash`].
    pub fn factory_reset(&mut self) -> Result<(), Error<F::Error>> {
        if self.generation().is_some() {
            self.append(0, 0, &[])?;
        }
        let keep = self.current.map(|c| c.page);
        for page in (0..self.ring.pages()).filter(|&page| Some(page) != keep) {
            if !self.ring.is_blank(page) {
                self.ring.erase(page).map_err(Error::Flash)?;
            }
        }
        Ok(())
    }

    /// Writes a record after the current one and makes it current.
    fn append(&mut self, model_digest: u32, length: u32, chunks: &[&[u8]]) -> Result<u32, Error<F::Error>> {
        let sum = chunks.iter().fold(Crc32::new(), |sum, chunk| sum.update(chunk));
        let generation = self.newest.wrapping_add(1);
        let header = Header { generation, model_digest, length, weights_crc: sum.finish() };
        let placed = Placed { header, page: self.place(length) };
        let written = self.write(&placed, chunks);
        // A failed try may have left a valid header, so the next record gets a newer generation.
        self.newest = generation;
        self.failures = if written.is_ok() { 0 } else { self.failures.wrapping_add(1) };
        written?;
        self.current = Some(placed);
        Ok(generation)
    }

    /// First page of a new record: the page after the current record, and further on after failed tries.
    fn place(&self, length: u32) -> u32 {
        let needed = self.ring.pages_for(length);
        let (start, used) = self.current.map_or((0, 0), |c| {
            let used = self.ring.pages_for(c.header.length);
            (c.page + used, used)
        });
        let room = self.ring.pages().saturating_sub(used).saturating_sub(needed);
        (start + self.failures % (room + 1)) % self.ring.pages()
    }

    /// Writes the weights, verifies them, then writes the header.
    fn write(&mut self, placed: &Placed, chunks: &[&[u8]]) -> Result<(), Error<F::Error>> {
        let Placed { header, page } = *placed;
        for i in 0..self.ring.pages_for(header.length) {
            self.ring.erase(page + i).map_err(Error::Flash)?;
        }
        self.ring.write(page, self.ring.header_size(), chunks).map_err(Error::Flash)?;
        if !self.weights_are_whole(placed) {
            return Err(Error::Worn);
        }
        self.ring.write(page, 0, &[&header.emit()]).map_err(Error::Flash)?;
        match self.ring.header(page) {
            Ok(Some(there)) if there == header => Ok(()),
            Ok(_) => Err(Error::Worn),
            Err(error) => Err(Error::Flash(error)),
        }
    }

    /// The newest record whose weights are whole.
    fn find(&mut self) -> Result<Option<Placed>, Error<F::Error>> {
        let mut newest = self.newest_before(None)?;
        self.newest = newest.map_or(0, |n| n.header.generation);
        // Each turn takes the next older record. There is at most one per page.
        for _ in 0..self.ring.pages() {
            match newest {
                Some(candidate) if !self.weights_are_whole(&candidate) => {
                    newest = self.newest_before(Some(candidate))?;
                }
                found => return Ok(found),
            }
        }
        Ok(None)
    }

    /// The newest record older than `limit`, judged by headers alone.
    fn newest_before(&mut self, limit: Option<Placed>) -> Result<Option<Placed>, Error<F::Error>> {
        let mut newest: Option<Placed> = None;
        let mut failure = None;
        let mut any_read = false;
        for page in 0..self.ring.pages() {
            let header = match self.ring.header(page) {
                Ok(header) => header,
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            any_read = true;
            let Some(header) = header else { continue };
            let placed = Placed { header, page };
            let fits = header.length <= self.capacity();
            let precedes = limit.is_none_or(|limit| limit.follows(&placed));
            if fits && precedes && newest.is_none_or(|newest| placed.follows(&newest)) {
                newest = Some(placed);
            }
        }
        match failure {
            // A power cut can leave some pages unreadable. If no page can be read, the flash has failed.
            Some(error) if !any_read => Err(Error::Flash(error)),
            _ => Ok(newest),
        }
    }

    /// Whether the record's weights match the checksum in its header.
    fn weights_are_whole(&mut self, placed: &Placed) -> bool {
        let Placed { header, page } = *placed;
        let sum = self.ring.checksum(page, self.ring.header_size(), header.length);
        sum.is_ok_and(|sum| sum == header.weights_crc)
    }
}
