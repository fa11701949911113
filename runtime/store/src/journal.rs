//! The journal: which record is the newest whole one, and where the next one goes.

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;

use crate::bad::{self, BadPages, MOST};
use crate::error::Error;
use crate::record::Header;
use crate::ring::{Fault, Place, Ring};
use crate::wear::Wear;
use offshoot_base::crc::Crc32;

/// A record and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    header: Header,
    place: Place,
}

impl Placed {
    /// A total order. It also orders records of one generation, so that a search over all records ends.
    fn follows(&self, other: &Self) -> bool {
        let same = self.header.generation == other.header.generation;
        self.header.follows(&other.header) || (same && self.place.page > other.place.page)
    }

    /// Bytes behind the header: list and weights.
    fn body(&self) -> u32 {
        self.place.bad.bytes().saturating_add(self.header.length)
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
    /// Pages that failed, as far as a record in flash says so.
    bad: BadPages,
    /// Tries that failed since the last success and whose page is not in the list. Each moves the next try on by one page.
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
        let mut store = Self::empty(ring);
        store.current = store.find()?;
        store.bad = store.current.map_or(BadPages::default(), |current| current.place.bad);
        Ok(store)
    }

    /// As [`Self::open`]; if no page can be read, as [`Self::create`]: for flash with error correction, whose pages may be in that state
    /// when they are new. Not for what must never be forgotten by mistake, as a counter of releases: a flash whose driver fails for a
    /// moment looks the same.
    ///
    /// # Errors
    /// As [`Self::create`].
    pub fn open_or_create(mut flash: F, range: Range<u32>) -> Result<Self, Error<F::Error>> {
        let unreadable = matches!(Store::open(&mut flash, range.clone()), Err(Error::Flash(_)));
        if unreadable { Self::create(flash, range) } else { Self::open(flash, range) }
    }

    fn empty(ring: Ring<F>) -> Self {
        Self { ring, current: None, newest: 0, bad: BadPages::default(), failures: 0 }
    }

    /// Erases this range of flash, whether or not its pages can be read, and returns an empty store.
    ///
    /// # Errors
    /// [`Error::Geometry`], with nothing erased; [`Error::Flash`].
    pub fn create(flash: F, range: Range<u32>) -> Result<Self, Error<F::Error>> {
        let mut ring = Ring::new(flash, range).ok_or(Error::Geometry)?;
        for page in 0..ring.pages() {
            ring.erase(page).map_err(error_of)?;
        }
        Ok(Self::empty(ring))
    }

    /// Bytes of weights that fit: half of the good pages minus one header and the list of bad pages.
    pub fn capacity(&self) -> u32 {
        let good = self.ring.pages().saturating_sub(u32::from(self.bad.count()));
        self.bytes_in(good / 2).saturating_sub(self.bad.bytes())
    }

    /// Bytes of weights that fit if all pages are good.
    fn full_capacity(&self) -> u32 {
        self.bytes_in(self.ring.pages() / 2)
    }

    /// Bytes behind a header in so many pages.
    fn bytes_in(&self, pages: u32) -> u32 {
        pages.saturating_mul(self.ring.page_size()).saturating_sub(self.ring.header_size())
    }

    /// How far the flash has aged.
    pub fn wear(&self) -> Wear {
        let pages = self.ring.pages();
        let body = self.current.map_or(0, |current| current.body());
        Wear {
            pages,
            bad_pages: u32::from(self.bad.count()),
            saves: self.newest,
            pages_each: self.ring.pages_for(body),
        }
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
        let Some(Placed { header, place }) = self.current else { return Ok(None) };
        if header.length == 0 || header.model_digest != model_digest {
            return Ok(None);
        }
        let total = out.iter().fold(0_usize, |sum, piece| sum.saturating_add(piece.len()));
        if u32::try_from(total) != Ok(header.length) {
            return Err(Error::Length { stored: header.length });
        }
        // Reads begin at whole units, so the list is read again, with the weights.
        let mut list = [0; bad::LIST];
        let list = list.get_mut(..place.bad.bytes() as usize).unwrap_or_default();
        let pieces = list.iter_mut().chain(out.iter_mut().flat_map(|piece| piece.iter_mut()));
        let body = place.bad.bytes() + header.length;
        self.ring.read(&place, self.ring.header_size(), body, pieces).map_err(Error::Flash)?;
        let sum = out.iter().fold(Crc32::new().update(list), |sum, piece| sum.update(piece));
        match sum.finish() == header.weights_crc {
            true => Ok(Some(header.generation)),
            false => Err(Error::Damaged),
        }
    }

    /// Writes the concatenated chunks as weights and returns their generation. If power is cut at any moment, the next
    /// [`Self::open`] finds either the weights saved before or these.
    ///
    /// # Errors
    /// [`Error::TooLarge`], with nothing written; [`Error::Worn`] or [`Error::Flash`] if it fits nowhere between the good pages or
    /// too many fail, with the weights saved before kept.
    pub fn save(&mut self, model_digest: u32, chunks: &[&[u8]]) -> Result<u32, Error<F::Error>> {
        let capacity = self.full_capacity();
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
    /// [`Error::Worn`] or [`Error::Flash`]. All pages that can be erased are.
    pub fn factory_reset(&mut self) -> Result<(), Error<F::Error>> {
        if self.generation().is_some() {
            self.append(0, 0, &[])?;
        }
        let keep = self.current.map(|c| c.place.page);
        let mut done = Ok(());
        for page in (0..self.ring.pages()).filter(|&page| Some(page) != keep) {
            if !self.ring.is_blank(page) {
                done = done.and(self.ring.erase(page).map_err(error_of));
            }
        }
        done
    }

    /// Writes a record after the current one and makes it current. Tries other pages if some fail.
    fn append(&mut self, model_digest: u32, length: u32, chunks: &[&[u8]]) -> Result<u32, Error<F::Error>> {
        let mut bad = self.bad;
        let (mut may_forget, mut result) = (bad.count() > 0, Err(Error::Worn));
        for _ in 0..=MOST {
            let Some(place) = self.place(length, &bad).or_else(|| {
                // Faults of a moment must not make the store smaller for good.
                bad = if core::mem::take(&mut may_forget) { BadPages::default() } else { bad };
                self.place(length, &bad)
            }) else {
                break;
            };
            let list = bad.emit();
            let list = list.get(..bad.bytes() as usize).unwrap_or_default();
            let sum = chunks.iter().fold(Crc32::new().update(list), |sum, chunk| sum.update(chunk));
            // A failed try may have left a valid header, so each gets a newer generation.
            self.newest = self.newest.wrapping_add(1);
            let (generation, weights_crc) = (self.newest, sum.finish());
            let header = Header { generation, model_digest, length, weights_crc, bad: bad.count() };
            let placed = Placed { header, place };
            match self.write(&placed, list, chunks) {
                Ok(()) => {
                    (self.current, self.bad, self.failures) = (Some(placed), bad, 0);
                    return Ok(generation);
                }
                Err(fault) => {
                    if !bad.insert(fault.page, self.ring.most_bad()) {
                        self.failures = self.failures.wrapping_add(1);
                    }
                    result = Err(error_of(fault));
                }
            }
        }
        self.failures = self.failures.wrapping_add(1);
        result
    }

    /// Place of a new record that passes over these pages: behind the current record, and further on after failed tries. `None` if
    /// there are too few good pages beside the current record.
    fn place(&self, length: u32, bad: &BadPages) -> Option<Place> {
        let (pages, needed) = (self.ring.pages(), self.ring.pages_for(length.saturating_add(bad.bytes())));
        let (start, used) = self.current.map_or((0, 0), |c| {
            let last =
                c.place.bad.distance(c.place.page, self.ring.pages_for(c.body()).saturating_sub(1), pages);
            (c.place.page + last + 1, last + 1)
        });
        let (start, free) = (start % pages, pages.saturating_sub(used));
        let room = free.saturating_sub(bad.within(start, free, pages)).checked_sub(needed)?;
        let skipped = self.failures.checked_rem(room + 1).unwrap_or(0);
        let distance = bad.distance(start, skipped, pages);
        Some(Place { page: (start + distance) % pages, bad: *bad })
    }

    /// Writes list and weights, compares them, then writes the header.
    fn write(&mut self, placed: &Placed, list: &[u8], chunks: &[&[u8]]) -> Result<(), Fault<F::Error>> {
        let Placed { header, place } = placed;
        for i in 0..self.ring.pages_for(placed.body()) {
            self.ring.erase(self.ring.page_of(place, i))?;
        }
        let body = core::iter::once(list).chain(chunks.iter().copied());
        self.ring.write(place, self.ring.header_size(), body.clone())?;
        self.ring.compare(place, self.ring.header_size(), body)?;
        let bytes = header.emit();
        let header = core::iter::once(&bytes[..]);
        self.ring.write(place, 0, header.clone())?;
        self.ring.compare(place, 0, header)
    }

    /// The newest record whose weights are whole.
    fn find(&mut self) -> Result<Option<Placed>, Error<F::Error>> {
        let mut newest = self.newest_before(None)?;
        self.newest = newest.map_or(0, |n| n.header.generation);
        // Each turn takes the next older record. There is at most one per page.
        for _ in 0..self.ring.pages() {
            let Some(candidate) = newest else { return Ok(None) };
            if let Some(whole) = self.whole(&candidate) {
                return Ok(Some(whole));
            }
            newest = self.newest_before(Some(candidate))?;
        }
        Ok(None)
    }

    /// The newest record older than `limit`, judged by headers alone, as if no page were bad.
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
            let placed = Placed { header, place: Place { page, bad: BadPages::default() } };
            let fits = header.length <= self.full_capacity();
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

    /// The record with its list of bad pages, if list and weights match the checksum in its header.
    fn whole(&mut self, placed: &Placed) -> Option<Placed> {
        let Placed { header, place } = *placed;
        let bad = self.ring.bad_pages(place.page, header.bad)?;
        let placed = Placed { header, place: Place { bad, ..place } };
        let pages = self.ring.pages();
        let enough = self.ring.pages_for(placed.body()) <= pages - bad.within(0, pages, pages);
        let begins_well = bad.iter().all(|page| page != place.page);
        if !enough || !begins_well {
            return None;
        }
        let sum = self.ring.checksum(&placed.place, self.ring.header_size(), placed.body()).ok()?;
        (sum == header.weights_crc).then_some(placed)
    }
}

/// The flash's own error, or that a page is worn.
fn error_of<E>(fault: Fault<E>) -> Error<E> {
    fault.error.map_or(Error::Worn, Error::Flash)
}
