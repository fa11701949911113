//! A NOR flash in memory, with what makes real ones hard: bits that only go from 1 to 0 between erasures, words that
//! are programmed once, and power that goes away in the middle of a program or an erasure.

use std::ops::Range;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// What an operation that power was taken from leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Torn {
    /// Bytes change one after another; in the last word programmed, some of the bits.
    Ordered,
    /// As `Ordered`, from the end of the operation's range backwards.
    Reversed,
    /// Each bit of the page or word has changed or not, the more likely the later the cut.
    Scattered,
    /// As `Scattered`, and words left half programmed or half erased cannot be read (error correction).
    Unreadable,
}

impl Torn {
    pub(crate) const ALL: [Self; 4] = [Self::Ordered, Self::Reversed, Self::Scattered, Self::Unreadable];
}

/// Error of the simulated flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Power went away before this operation or during it.
    PowerLost,
    /// The word was left half programmed.
    Unreadable,
    /// The page is worn, and the flash says so.
    Worn,
    /// The arguments are not what a `NorFlash` takes.
    Arguments(NorFlashErrorKind),
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            Self::Arguments(kind) => *kind,
            Self::PowerLost | Self::Unreadable | Self::Worn => NorFlashErrorKind::Other,
        }
    }
}

/// What becomes of a page that is worn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worn {
    /// It keeps no programmed bit, and nothing says so.
    Forgets,
    /// One of its bytes stays 0.
    Stuck,
    /// Its erasure fails.
    NoErasure,
    /// Programming it fails.
    NoProgram,
    /// What is programmed cannot be read (error correction).
    Unreadable,
}

impl Worn {
    pub(crate) const ALL: [Self; 5] =
        [Self::Forgets, Self::Stuck, Self::NoErasure, Self::NoProgram, Self::Unreadable];
}

/// Simulated flash: the smallest units to read, write and erase, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedFlash<const READ: usize, const WRITE: usize, const ERASE: usize> {
    bytes: Vec<u8>,
    /// Of each word: programmed since it was erased; left half done.
    programmed: Vec<bool>,
    torn: Vec<bool>,
    manner: Torn,
    random: u64,
    /// Bytes that can still be programmed or erased; `None` without end.
    power: Option<u64>,
    /// Pages that are worn out after so many erasures, and how.
    pub(crate) worn_pages: Vec<(usize, u32, Worn)>,
    /// How often each page was erased.
    pub(crate) erasures: Vec<u32>,
    /// Bytes programmed and erased so far.
    pub(crate) work: u64,
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> SimulatedFlash<READ, WRITE, ERASE> {
    pub(crate) fn new(pages: usize) -> Self {
        let words = pages * ERASE / WRITE;
        Self {
            bytes: vec![0xff; pages * ERASE],
            programmed: vec![false; words],
            torn: vec![false; words],
            manner: Torn::Ordered,
            random: 0x9e37_79b9_7f4a_7c15,
            power: None,
            worn_pages: Vec::new(),
            erasures: vec![0; pages],
            work: 0,
        }
    }

    /// All of it.
    pub(crate) fn range(&self) -> Range<u32> {
        0..self.bytes.len() as u32
    }

    /// Takes power away after so many more bytes are programmed or erased.
    pub(crate) fn cut_after(&mut self, bytes: u64, manner: Torn, seed: u64) {
        self.power = Some(bytes);
        self.manner = manner;
        self.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }

    /// Power is back; whether it was away.
    pub(crate) fn power_on(&mut self) -> bool {
        self.power.take() == Some(0)
    }

    /// The cells, to be damaged.
    pub(crate) fn cells(&mut self) -> &mut [u8] {
        self.bytes.as_mut_slice()
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Bytes of an operation that power lasts for.
    fn spend(&mut self, bytes: usize) -> usize {
        let done = self.power.map_or(bytes, |left| bytes.min(usize::try_from(left).unwrap()));
        if let Some(left) = &mut self.power {
            *left -= done as u64;
        }
        self.work += done as u64;
        done
    }

    /// How the page of an address is worn.
    fn worn(&self, at: usize) -> Option<Worn> {
        let worn =
            |&&(page, after, _): &&(usize, u32, Worn)| page == at / ERASE && self.erasures[page] > after;
        self.worn_pages.iter().find(worn).map(|&(_, _, how)| how)
    }

    /// Does the first `done` bytes' worth of an operation on `at..`, whose result would be `wanted`.
    fn apply(&mut self, at: usize, wanted: &[u8], done: usize) {
        let worn = self.worn(at);
        if worn == Some(Worn::Forgets) && wanted.iter().any(|&b| b != 0xff) {
            return;
        }
        if worn == Some(Worn::Unreadable) && wanted.len() < ERASE {
            self.torn[at / WRITE] = true;
        }
        let all = wanted.len();
        for (i, &target) in wanted.iter().enumerate() {
            let before = self.bytes[at + i];
            let word = i / WRITE * WRITE;
            let changed = match self.manner {
                _ if done == all => 0xff,
                Torn::Ordered if i < done => 0xff,
                // The word at the cut: any of its bits. What lies behind it is as it was.
                Torn::Ordered if word <= done => self.draw() as u8,
                Torn::Ordered => 0,
                Torn::Reversed if all - i <= done => 0xff,
                Torn::Reversed if all - (word + WRITE) <= done => self.draw() as u8,
                Torn::Reversed => 0,
                Torn::Scattered | Torn::Unreadable => {
                    (0..8).fold(0, |bits, b| bits | u8::from(self.draw() % all as u64 <= done as u64) << b)
                }
            };
            self.bytes[at + i] = before & !changed | target & changed;
            if worn == Some(Worn::Stuck) && (at + i) % ERASE == ERASE / 2 {
                self.bytes[at + i] = 0;
            }
            if self.bytes[at + i] != target && self.manner == Torn::Unreadable {
                self.torn[(at + i) / WRITE] = true;
            }
        }
    }
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> ErrorType
    for SimulatedFlash<READ, WRITE, ERASE>
{
    type Error = Fault;
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> ReadNorFlash
    for SimulatedFlash<READ, WRITE, ERASE>
{
    const READ_SIZE: usize = READ;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        check_read(self, offset, bytes.len()).map_err(Fault::Arguments)?;
        let at = offset as usize;
        if self.power == Some(0) {
            return Err(Fault::PowerLost);
        }
        if self.torn[at / WRITE..(at + bytes.len()).div_ceil(WRITE)].contains(&true) {
            return Err(Fault::Unreadable);
        }
        bytes.copy_from_slice(&self.bytes[at..at + bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const READ: usize, const WRITE: usize, const ERASE: usize> NorFlash
    for SimulatedFlash<READ, WRITE, ERASE>
{
    const WRITE_SIZE: usize = WRITE;
    const ERASE_SIZE: usize = ERASE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        check_erase(self, from, to).map_err(Fault::Arguments)?;
        for at in (from as usize..to as usize).step_by(ERASE) {
            if self.power == Some(0) {
                return Err(Fault::PowerLost);
            }
            self.erasures[at / ERASE] += 1;
            if self.worn(at) == Some(Worn::NoErasure) {
                return Err(Fault::Worn);
            }
            let words = at / WRITE..(at + ERASE) / WRITE;
            self.torn[words.clone()].fill(false);
            let done = self.spend(ERASE);
            self.apply(at, &[0xff; ERASE], done);
            if done < ERASE || self.power == Some(0) {
                // What a cut erasure leaves must be erased again before it is programmed, blank or not.
                self.programmed[words].fill(done < ERASE);
                return Err(Fault::PowerLost);
            }
            self.programmed[words].fill(false);
        }
        Ok(())
    }

    /// # Panics
    /// If a word was programmed since it was erased, or its erasure was cut: a fault of who calls.
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        check_write(self, offset, bytes.len()).map_err(Fault::Arguments)?;
        let at = offset as usize;
        if self.power == Some(0) {
            return Err(Fault::PowerLost);
        }
        if self.worn(at) == Some(Worn::NoProgram) {
            return Err(Fault::Worn);
        }
        let done = self.spend(bytes.len());
        let begun =
            at / WRITE..(at + done).div_ceil(WRITE).max(at / WRITE + 1).min((at + bytes.len()) / WRITE);
        assert!(
            !self.programmed[begun.clone()].contains(&true),
            "a word is programmed twice: address {at:#x}"
        );
        self.programmed[begun].fill(true);
        // Word by word: a cut leaves those before it whole and those behind it as they were.
        for (word, wanted) in bytes.chunks(WRITE).enumerate() {
            let now = done.saturating_sub(word * WRITE).min(WRITE);
            let reached = now > 0 || word * WRITE == done;
            if reached {
                self.apply(at + word * WRITE, wanted, now);
            }
        }
        if done < bytes.len() || self.power == Some(0) {
            return Err(Fault::PowerLost);
        }
        Ok(())
    }
}
