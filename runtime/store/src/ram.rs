//! A NOR flash in RAM, for simulators and for boards without flash. Its contents are lost when the power goes off.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Bytes that behave like flash: pages of 1024 bytes, words of 4, bits that only go from 1 to 0 between erasures. Its
/// capacity is the whole pages in the given bytes.
#[derive(Debug)]
pub struct RamFlash<'a>(&'a mut [u8]);

const PAGE: usize = 1024;

impl<'a> RamFlash<'a> {
    /// Uses these bytes as they are, without erasing them.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        let len = bytes.len() / PAGE * PAGE;
        Self(&mut bytes[..len])
    }

    /// What it holds.
    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

impl ErrorType for RamFlash<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for RamFlash<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for RamFlash<'_> {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        for (to, from) in self.0[offset as usize..][..bytes.len()].iter_mut().zip(bytes) {
            *to &= from;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_until_it_is_reset() {
        let mut bytes = vec![0x5a; 10_000];
        let range = 0..RamFlash::new(&mut bytes).capacity() as u32;
        let mut store = Store::open(RamFlash::new(&mut bytes), range.clone()).unwrap();
        assert_eq!(store.generation(), None);
        let weights = [7u8; 700];
        store.save(5, &[&weights]).unwrap();
        let mut store = Store::open(RamFlash::new(&mut bytes), range.clone()).unwrap();
        let mut out = [0; 700];
        assert_eq!(store.load(5, &mut out), Ok(Some(1)));
        assert_eq!(out, weights);
        assert_eq!(store.load(6, &mut out), Ok(None));
        store.factory_reset().unwrap();
        let mut store = Store::open(RamFlash::new(&mut bytes), range).unwrap();
        assert_eq!(store.load(5, &mut out), Ok(None));
    }
}
