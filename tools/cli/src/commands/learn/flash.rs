//! A file that stands in for the flash of the host and of emulated boards: the same journal as in a board's flash, so
//! that what one command saved is there for the next.

use std::path::{Path, PathBuf};

use offshoot::store::nor_flash::NorFlashErrorKind;
use offshoot::store::{Error, RamFlash, Store};

use crate::failure::{Failure, Kind, Result};

/// Bytes of a page.
const PAGE: usize = 1024;

/// Least bytes of a new file.
const LEAST: usize = 64 * PAGE;

/// A journal of saves in a file. A save replaces the file at once: it holds the old save or the new one.
#[derive(Clone, Debug)]
pub struct FlashFile {
    path: PathBuf,
}

impl FlashFile {
    /// The file, which need not exist.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Reads the `len` bytes last saved for the model with this digest, and the number of the save.
    ///
    /// # Errors
    /// The file cannot be read, or holds nothing for this model.
    pub fn load(&self, digest: u32, len: usize) -> Result<(u32, Vec<u8>)> {
        let mut bytes = std::fs::read(&self.path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => self.nothing(),
            _ => Failure::reading(&self.path, &e),
        })?;
        let mut learned = vec![0; len];
        let found = open(&mut bytes).and_then(|mut store| store.load(digest, &mut learned));
        match found {
            Ok(Some(number)) => Ok((number, learned)),
            Ok(None) | Err(Error::Length { .. } | Error::Geometry) => Err(self.nothing()),
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Saves what the model with this digest has learned, and reads it back; returns the number of the save.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn save(&self, digest: u32, learned: &[u8]) -> Result<u32> {
        let mut bytes = match std::fs::read(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::reading(&self.path, &e));
            }
            found => found.unwrap_or_default(),
        };
        // Half of the pages hold one save, with a page for its header.
        let needed = 2 * (learned.len().div_ceil(PAGE) + 1) * PAGE;
        if bytes.len() < needed.max(LEAST) {
            bytes.resize(needed.max(LEAST), 0xff);
        }
        let saved = open(&mut bytes).and_then(|mut store| store.save(digest, &[learned]));
        let number = saved.map_err(|error| self.failed(&error))?;
        offshoot_report::write_atomically(&self.path, &bytes)
            .map_err(|e| Failure::writing(&self.path, &e))?;
        match self.load(digest, learned.len())? {
            (there, read) if there == number && read == learned => Ok(number),
            _ => Err(Failure::new(
                Kind::Io,
                format!("{}: what was saved differs when read back", self.path.display()),
                "save again; another program may have written to the file",
            )),
        }
    }

    fn nothing(&self) -> Failure {
        Failure::new(
            Kind::NotFound,
            format!("{}: nothing was saved with this model", self.path.display()),
            "learn with --save first, or leave out --restore; --flash names another file",
        )
    }

    fn failed(&self, error: &Error<NorFlashErrorKind>) -> Failure {
        Failure::new(
            Kind::Format,
            format!("{}: {error}", self.path.display()),
            "delete the file, or name another one with --flash",
        )
    }
}

/// The journal in the bytes of the file.
fn open(bytes: &mut [u8]) -> std::result::Result<Store<RamFlash<'_>>, Error<NorFlashErrorKind>> {
    let len = (bytes.len() / PAGE * PAGE) as u32;
    Store::open(RamFlash::new(bytes), 0..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_command_saves_the_next_one_finds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.flash");
        let flash = FlashFile::new(&path);
        assert_eq!(flash.load(1, 10).unwrap_err().kind, Kind::NotFound);
        let states: Vec<Vec<u8>> = [10, 5_000, 100_000].map(|n| (0..n).map(|i| i as u8).collect()).into();
        for (i, state) in states.iter().enumerate() {
            flash.save(7, state).unwrap();
            assert_eq!(FlashFile::new(&path).load(7, state.len()).unwrap().1, *state, "{i}");
            assert!(flash.load(8, state.len()).is_err() && flash.load(7, state.len() + 1).is_err());
        }
        std::fs::write(&path, b"short").unwrap();
        assert!(flash.load(7, 10).is_err());
        flash.save(7, &states[0]).unwrap();
    }
}
