//! CRC-32 (IEEE 802.3, as in zlib), one nibble at a time. Its table takes 64 bytes of flash; the usual sliced tables
//! take 8 to 16 KiB. Speed matters little: a file is checked once, when it is opened.

/// Remainders of the 16 nibbles for the reflected polynomial 0xEDB88320.
const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// Running checksum of bytes that arrive in pieces.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Crc32 {
    /// The checksum of no bytes.
    pub const fn new() -> Self {
        Self(!0)
    }

    /// Appends these bytes.
    #[must_use]
    pub fn update(self, bytes: &[u8]) -> Self {
        let step = |crc: u32| crc >> 4 ^ TABLE[(crc & 15) as usize];
        Self(bytes.iter().fold(self.0, |crc, &b| step(step(crc ^ u32::from(b)))))
    }

    /// The checksum of all bytes so far.
    pub const fn finish(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sums() {
        assert_eq!(Crc32::new().update(b"123456789").finish(), 0xcbf4_3926);
        assert_eq!(Crc32::new().finish(), 0);
        assert_eq!(Crc32::new().update(b"1234").update(b"56789").finish(), 0xcbf4_3926);
    }
}
