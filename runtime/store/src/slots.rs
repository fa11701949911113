//! A model partition with two slots: a new model is written beside the one that runs, tried, and kept or given up.
//!
//! ```text
//! begin ─ write … write ─ finish ─┬─ reset ─ boot (on trial) ─ self-test ─┬─ confirm
//!                                 │                                       └─ reject, or too many boots: the old model
//!                                 └─ hash or check does not hold: the old model
//! ```
//!
//! One small record in control pages (a [`Store`] of its own) says which slot is active, whether its model has been confirmed, and
//! how far a new one has arrived. Every step is one save of that record, so after a power cut at any moment the active model is the
//! old one or the new one, whole: the slot that a file arrives in is never the active one, and it becomes active only when all of it
//! has been read back and its SHA-256 holds.
//!
//! - **Resumable.** How far a file has arrived is saved at most 16 times on its way. After a reset [`Slots::begin`] with the same file says where to
//!   go on.
//! - **On trial.** [`Slots::boot`] counts boots of a model that has not been confirmed. After too many it goes back to the old model by
//!   itself, so a model that hangs or resets the device is given up too.
//! - **Nothing is trusted.** A page is erased right before it is written, and what was written is read back.
//! - **RAM.** 256 bytes for a whole write, and the state: less than 1 kB with the stack of a call.

mod delta;
mod state;

use core::ops::Range;

use embedded_storage::nor_flash::NorFlash;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::journal::Store;
use crate::wear::Wear;
pub use delta::{DELTA_HEADER, DeltaHeader, Patch};
use state::{Arriving, STATE, State, Trust};
pub use state::{Image, Slot};

/// Digest of the control record, which no CRC-32 of a model is likely to be: weights in the same range are not taken for it.
const DIGEST: u32 = u32::from_le_bytes(*b"OfSl");

/// Bytes written at a time; also the largest write unit.
const BUFFER: usize = 256;

/// Most saves of how far a file has arrived.
const PROGRESS: u32 = 16;

/// Where slots and control pages lie: byte addresses, whole pages, none of them shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Slots A and B.
    pub slots: [Range<u32>; 2],
    /// Control pages: two if a page has 140 bytes or more, and two more so that one may wear out.
    pub control: Range<u32>,
}

/// The model to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Active {
    /// Its slot.
    pub slot: Slot,
    /// Its file.
    pub image: Image,
    /// Whether it still has to be confirmed, or it will be given up.
    pub on_trial: bool,
}

/// Why an update failed. `E` is the flash's own error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum UpdateError<E> {
    /// Flash or control pages failed.
    Store(Error<E>),
    /// The active model has not been confirmed: the other slot holds the way back.
    OnTrial,
    /// No file is arriving, or there is no model to confirm or to go back to.
    Nothing,
    /// The file does not fit its slot, or has no bytes, or more came than it has.
    Length {
        /// Bytes of the slot or of the file.
        room: u32,
    },
    /// Bytes came out of order.
    Order {
        /// The next byte to send.
        expected: u32,
    },
    /// The file's SHA-256 is another. It is forgotten.
    Hash,
    /// The caller's check refused the file, as for a signature. It is forgotten.
    Refused,
    /// A delta is for another base than the active model.
    Base,
    /// A delta is not well formed, or gives another file than it says.
    Delta,
}

impl<E> From<Error<E>> for UpdateError<E> {
    fn from(error: Error<E>) -> Self {
        Self::Store(error)
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for UpdateError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::OnTrial => f.write_str("the active model is on trial: confirm or reject it first"),
            Self::Nothing => f.write_str("there is no such model"),
            Self::Length { room } => write!(f, "the file does not fit: there is room for {room} bytes"),
            Self::Order { expected } => write!(f, "byte {expected} of the file is the next"),
            Self::Hash => f.write_str("the file arrived damaged: its SHA-256 is another"),
            Self::Refused => f.write_str("the file was refused by the check before the switch"),
            Self::Base => f.write_str("the delta is for another file than the active model"),
            Self::Delta => f.write_str("the delta is not well formed"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for UpdateError<E> {}

/// Two slots for models and their control pages in one flash.
#[derive(Debug)]
pub struct Slots<F> {
    flash: F,
    layout: Layout,
    state: State,
    /// Bytes of the arriving file in flash.
    position: u32,
    /// Bytes behind them that wait for a whole write.
    buffer: [u8; BUFFER],
    filled: usize,
}

impl<F: NorFlash> Slots<F> {
    /// Opens the partition. Writes nothing. New control pages say that both slots are empty; if they cannot even be read (new flash with error
    /// correction), erase them with [`Store::create`] first.
    ///
    /// # Errors
    /// [`Error::Geometry`] if the ranges are not whole pages of this flash or share some; [`Error::Damaged`] if the control record is none of
    /// this release; what [`Store::open`] and [`Store::load`] return.
    pub fn open(flash: F, layout: Layout) -> Result<Self, Error<F::Error>> {
        let mut slots =
            Self { flash, layout, state: State::EMPTY, position: 0, buffer: [0xff; BUFFER], filled: 0 };
        if !slots.layout_fits() {
            return Err(Error::Geometry);
        }
        let mut control = slots.control()?;
        if control.capacity() < STATE as u32 {
            return Err(Error::Geometry);
        }
        let mut bytes = [0; STATE];
        let found = match control.load(DIGEST, &mut bytes) {
            Err(Error::Length { .. }) => Err(Error::Damaged),
            found => found,
        };
        if found?.is_some() {
            slots.state = State::parse(&bytes, slots.rooms()).ok_or(Error::Damaged)?;
        }
        slots.restart();
        Ok(slots)
    }

    /// The model to run, at each boot: counts the boots of a model on trial, and goes back to the old one after `trials` of them (1 to 254). `None`:
    /// no slot has a model.
    ///
    /// # Errors
    /// The control record cannot be saved: run no model on trial then, or one that hangs would be tried for ever.
    pub fn boot(&mut self, trials: u8) -> Result<Option<Active>, Error<F::Error>> {
        // The count ends below the byte of erased flash.
        let trials = trials.clamp(1, u8::MAX - 1);
        match self.state.trust {
            Trust::Trial(boots) if boots >= trials => self.change(State::fall_back)?,
            Trust::Trial(boots) => {
                self.change(|state| state.trust = Trust::Trial(boots.saturating_add(1).min(u8::MAX - 1)))?;
            }
            Trust::Confirmed => {}
        }
        Ok(self.active())
    }

    /// The model in use, without counting a boot.
    pub fn active(&self) -> Option<Active> {
        let slot = self.state.active?;
        let image = self.state.image(slot)?;
        Some(Active { slot, image, on_trial: self.state.trust != Trust::Confirmed })
    }

    /// Addresses of a slot, for who reads mapped flash. The file lies at its start.
    pub fn range(&self, slot: Slot) -> Range<u32> {
        let [a, b] = &self.layout.slots;
        match slot {
            Slot::A => a.clone(),
            Slot::B => b.clone(),
        }
    }

    /// Takes a model that a programmer wrote to slot A as the active one, confirmed.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`] if there is an active model already; [`UpdateError::Length`]; the flash's errors.
    pub fn adopt(&mut self, len: u32) -> Result<Image, UpdateError<F::Error>> {
        if self.state.active.is_some() {
            return Err(UpdateError::Nothing);
        }
        self.fits(Slot::A, len)?;
        let image = Image { len, sha256: self.hash(Slot::A, len)? };
        self.change(|state| {
            *state = State { active: Some(Slot::A), images: [Some(image), None], ..State::EMPTY };
        })?;
        Ok(image)
    }

    /// Begins or resumes a file, and says which of its bytes is the next to [`Self::write`]. Another file that was arriving is forgotten.
    ///
    /// # Errors
    /// [`UpdateError::OnTrial`], [`UpdateError::Length`], the flash's errors.
    pub fn begin(&mut self, image: Image) -> Result<u32, UpdateError<F::Error>> {
        if self.state.trust != Trust::Confirmed {
            return Err(UpdateError::OnTrial);
        }
        let spare = self.state.spare();
        self.fits(spare, image.len)?;
        if self.state.arriving.is_none_or(|arriving| arriving.image != image) {
            self.change(|state| {
                state.put(spare, None);
                state.arriving = Some(Arriving { image, written: 0 });
            })?;
            self.restart();
        }
        Ok(self.expected())
    }

    /// The next byte of the arriving file.
    pub fn expected(&self) -> u32 {
        self.position + self.filled as u32
    }

    /// Takes bytes of the file that [`Self::begin`] named, in order, in pieces of any length.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`], [`UpdateError::Order`], [`UpdateError::Length`] if there are more than the file has; the flash's errors, with
    /// [`Error::Worn`] if a page of the slot is worn: after those go on from [`Self::expected`].
    pub fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), UpdateError<F::Error>> {
        let Arriving { image, .. } = self.state.arriving.ok_or(UpdateError::Nothing)?;
        let expected = self.expected();
        if offset != expected {
            return Err(UpdateError::Order { expected });
        }
        if bytes.len() > (image.len - expected) as usize {
            return Err(UpdateError::Length { room: image.len });
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = self.step().saturating_sub(self.filled);
            let (now, behind) = rest.split_at(rest.len().min(room));
            let end = self.filled + now.len();
            if let Some(to) = self.buffer.get_mut(self.filled..end) {
                to.copy_from_slice(now);
            }
            self.filled = end;
            rest = behind;
            if self.filled == self.step() {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Reads back the whole file, compares its SHA-256, asks `accept` (the flash and the file's addresses; for a signature, and for whether
    /// it opens), and switches: the next [`Self::boot`] gives the new model, on trial.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`]; [`UpdateError::Order`] if bytes are missing; [`UpdateError::Hash`] and [`UpdateError::Refused`], and the file
    /// is forgotten; the flash's errors. The old model stays active.
    pub fn finish(
        &mut self,
        accept: impl FnOnce(&mut F, Range<u32>) -> bool,
    ) -> Result<(), UpdateError<F::Error>> {
        let Arriving { image, .. } = self.state.arriving.ok_or(UpdateError::Nothing)?;
        let expected = self.expected();
        if expected != image.len {
            return Err(UpdateError::Order { expected });
        }
        self.flush()?;
        let spare = self.state.spare();
        let start = self.range(spare).start;
        let refused = if self.hash(spare, image.len)? != image.sha256 {
            Some(UpdateError::Hash)
        } else if !accept(&mut self.flash, start..start + image.len) {
            Some(UpdateError::Refused)
        } else {
            None
        };
        self.change(|state| {
            state.arriving = None;
            if refused.is_none() {
                state.put(spare, Some(image));
                (state.active, state.trust) = (Some(spare), Trust::Trial(0));
            }
        })?;
        self.restart();
        refused.map_or(Ok(()), Err)
    }

    /// The active model passed its self-test: it stays. Raise the counter of releases after this, not before.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`] if there is no active model; the flash's errors.
    pub fn confirm(&mut self) -> Result<(), UpdateError<F::Error>> {
        if self.state.active.is_none() {
            return Err(UpdateError::Nothing);
        }
        if self.state.trust != Trust::Confirmed {
            self.change(|state| state.trust = Trust::Confirmed)?;
        }
        Ok(())
    }

    /// Gives up the active model, also a confirmed one whose flash has gone bad, and goes back to the other slot's. Returns the model to run
    /// now; `None` if the other slot has none.
    ///
    /// # Errors
    /// [`UpdateError::Nothing`] if there is no active model; the flash's errors.
    pub fn reject(&mut self) -> Result<Option<Active>, UpdateError<F::Error>> {
        if self.state.active.is_none() {
            return Err(UpdateError::Nothing);
        }
        self.change(State::fall_back)?;
        self.restart();
        Ok(self.active())
    }

    /// Reads bytes of a slot; both ends may be anywhere.
    ///
    /// # Errors
    /// The flash's errors; [`Error::Geometry`] outside the slot.
    pub fn read(&mut self, slot: Slot, offset: u32, out: &mut [u8]) -> Result<(), Error<F::Error>> {
        let range = self.range(slot);
        let inside = u32::try_from(out.len()).ok().and_then(|len| offset.checked_add(len));
        if inside.is_none_or(|end| end > range.end - range.start) {
            return Err(Error::Geometry);
        }
        let unit = F::READ_SIZE;
        let mut buffer = [0; BUFFER];
        let (mut at, mut rest) = (range.start + offset, out);
        while !rest.is_empty() {
            // From the start of the unit that the next byte lies in.
            let skipped = at as usize % unit;
            let most = (BUFFER / unit * unit).saturating_sub(skipped);
            let (now, behind) = rest.split_at_mut(most.min(rest.len()));
            let piece = buffer.get_mut(..(skipped + now.len()).next_multiple_of(unit)).unwrap_or_default();
            self.flash.read(at - skipped as u32, piece).map_err(Error::Flash)?;
            now.iter_mut().zip(piece.iter().skip(skipped)).for_each(|(to, from)| *to = *from);
            at += now.len() as u32;
            rest = behind;
        }
        Ok(())
    }

    /// Returns the flash.
    pub fn release(self) -> F {
        self.flash
    }

    /// How far the control pages have aged.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn wear(&mut self) -> Result<Wear, Error<F::Error>> {
        Ok(self.control()?.wear())
    }

    fn control(&mut self) -> Result<Store<&mut F>, Error<F::Error>> {
        Store::open(&mut self.flash, self.layout.control.clone())
    }

    /// Changes the state, in flash first.
    fn change(&mut self, how: impl FnOnce(&mut State)) -> Result<(), Error<F::Error>> {
        let mut state = self.state;
        how(&mut state);
        self.commit(state)
    }

    // Once in the program, however many changes there are.
    #[inline(never)]
    fn commit(&mut self, state: State) -> Result<(), Error<F::Error>> {
        self.control()?.save(DIGEST, &[&state.emit()])?;
        self.state = state;
        Ok(())
    }

    /// Goes on from what is in flash for sure.
    fn restart(&mut self) {
        let written = self.state.arriving.map_or(0, |arriving| arriving.written);
        // Whole pages, whatever the record says.
        (self.position, self.filled) = (written - written % F::ERASE_SIZE as u32, 0);
    }

    /// Bytes of the next write: whole units up to the end of a page.
    fn step(&self) -> usize {
        let to_end = F::ERASE_SIZE - self.position as usize % F::ERASE_SIZE;
        to_end.min(BUFFER / F::WRITE_SIZE * F::WRITE_SIZE)
    }

    /// Writes what waits, erases each page before its first write, and notes how far the file is now and then.
    fn flush(&mut self) -> Result<(), UpdateError<F::Error>> {
        let written = self.program();
        if written.is_err() {
            // The page has to be erased again.
            self.restart();
        }
        Ok(written?)
    }

    fn program(&mut self) -> Result<(), Error<F::Error>> {
        if self.filled == 0 {
            return Ok(());
        }
        let page = F::ERASE_SIZE as u32;
        let address = self.range(self.state.spare()).start + self.position;
        if self.position.is_multiple_of(page) {
            self.flash.erase(address, address + page).map_err(Error::Flash)?;
        }
        let whole = self.filled.next_multiple_of(F::WRITE_SIZE);
        self.buffer.iter_mut().take(whole).skip(self.filled).for_each(|byte| *byte = 0xff);
        let bytes = self.buffer.get(..whole).unwrap_or_default();
        self.flash.write(address, bytes).map_err(Error::Flash)?;
        let mut there = [0; BUFFER];
        let there = there.get_mut(..self.filled).unwrap_or_default();
        self.read(self.state.spare(), self.position, there)?;
        if !self.buffer.starts_with(there) {
            return Err(Error::Worn);
        }
        self.position += self.filled as u32;
        self.filled = 0;
        let Some(Arriving { image, written }) = self.state.arriving else { return Ok(()) };
        let between = image.len.div_ceil(PROGRESS).next_multiple_of(page);
        if self.position.is_multiple_of(page) && self.position - written >= between {
            let written = self.position;
            self.change(|state| state.arriving = Some(Arriving { image, written }))?;
        }
        Ok(())
    }

    /// SHA-256 of the first bytes of a slot.
    fn hash(&mut self, slot: Slot, len: u32) -> Result<[u8; 32], Error<F::Error>> {
        let mut hash = Sha256::new();
        let mut buffer = [0; BUFFER];
        let mut at = 0;
        while at < len {
            let bytes = (len - at).min(BUFFER as u32);
            let piece = buffer.get_mut(..bytes as usize).unwrap_or_default();
            self.read(slot, at, piece)?;
            hash.update(&*piece);
            at += bytes;
        }
        Ok(hash.finalize().into())
    }

    fn fits(&self, slot: Slot, len: u32) -> Result<(), UpdateError<F::Error>> {
        let range = self.range(slot);
        let room = range.end - range.start;
        if len == 0 || len > room { Err(UpdateError::Length { room }) } else { Ok(()) }
    }

    fn rooms(&self) -> [u32; 2] {
        [Slot::A, Slot::B].map(|slot| self.range(slot).len() as u32)
    }

    /// Whether slots and control pages are whole pages of the flash and do not overlap, and its units fit the buffer.
    fn layout_fits(&self) -> bool {
        let [a, b] = &self.layout.slots;
        let ranges = [a, b, &self.layout.control];
        let page = F::ERASE_SIZE as u32;
        let whole = |range: &Range<u32>| {
            let inside = range.end as usize <= self.flash.capacity();
            let pages = range.start.is_multiple_of(page) && range.end.is_multiple_of(page);
            inside && pages && range.start < range.end
        };
        let apart = |a: &Range<u32>, b: &Range<u32>| a.end <= b.start || b.end <= a.start;
        let units = [F::READ_SIZE, F::WRITE_SIZE];
        units.iter().all(|&unit| (1..=BUFFER).contains(&unit) && F::ERASE_SIZE.is_multiple_of(unit))
            && ranges.iter().all(|range| whole(range))
            && apart(a, b)
            && apart(a, &self.layout.control)
            && apart(b, &self.layout.control)
    }
}
