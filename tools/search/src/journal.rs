//! Files of JSON lines that grow by one measurement at a time and survive truncation at any byte.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A journal that is open for appending.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens or creates `path`; returns its entries. An unfinished last line is removed; its entry was never reported
    /// as written.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read or written, or if a line before the last is invalid.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<T>)> {
        let fail = |e: std::io::Error| Error::file(path, e);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fail)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fail)?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let (mut entries, mut good, mut number) = (Vec::new(), 0, 0);
        for line in bytes[..whole].split_inclusive(|&b| b == b'\n') {
            number += 1;
            let last = good + line.len() == whole;
            match serde_json::from_slice(line) {
                Ok(entry) => entries.push(entry),
                // A crash of the machine can leave a last line of zeros.
                Err(_) if last => break,
                Err(e) => {
                    return Err(Error::file(
                        path,
                        format!("line {number}: {e}; remove the line, or the file"),
                    ));
                }
            }
            good += line.len();
        }
        if good < bytes.len() {
            file.set_len(good as u64).map_err(fail)?;
        }
        file.seek(SeekFrom::Start(good as u64)).map_err(fail)?;
        Ok((Self { path: path.to_path_buf(), file: Mutex::new(file) }, entries))
    }

    /// Appends an entry; it is on disk when this returns.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn add<T: Serialize>(&self, entry: &T) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|e| Error::file(&self.path, e))?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let done = file.write_all(&line).and_then(|()| file.sync_data());
        done.map_err(|e| Error::file(&self.path, e))
    }
}

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// The hash extended by `bytes` and their length.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        for &b in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// As sixteen hexadecimal digits.
    pub fn hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_cut_off_at_any_byte_keeps_what_was_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j.jsonl");
        let (journal, found) = Journal::open::<(u32, String)>(&path).unwrap();
        assert!(found.is_empty());
        for i in 0..3u32 {
            journal.add(&(i, format!("entry {i}"))).unwrap();
        }
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        let ends: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for cut in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..cut]).unwrap();
            let (journal, found) = Journal::open::<(u32, String)>(&path).unwrap();
            let whole = ends.iter().filter(|e| **e <= cut).count();
            assert_eq!(found.len(), whole, "cut at {cut}");
            journal.add(&(9, "after".to_owned())).unwrap();
            drop(journal);
            let (_, found) = Journal::open::<(u32, String)>(&path).unwrap();
            assert_eq!((found.len(), found.last().unwrap().0), (whole + 1, 9));
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("j.jsonl");
        std::fs::write(&path, "1\nx\n2\n").unwrap();
        assert!(Journal::open::<u32>(&path).unwrap_err().to_string().contains("line 2"));
        std::fs::write(&path, "1\n2\n\0\0\n").unwrap();
        assert_eq!(Journal::open::<u32>(&path).unwrap().1, [1, 2]);
    }
}
