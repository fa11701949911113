//! CRC-32 (IEEE 802.3, as in zlib). A device takes one nibble at a time: the table takes 64 bytes of flash, the usual
//! sliced tables 8 to 16 KiB, and a file is checked once, when it is opened. Hosts open many files, large ones too: they
//! take eight bytes at a time (Kounavis and Berry 2008).

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

/// `SLICED[k][b]`: the remainder of byte `b` followed by `k` zero bytes.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static SLICED: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut i = 0;
    while i < 256 {
        let low = i as u32 >> 4 ^ TABLE[i & 15];
        tables[0][i] = low >> 4 ^ TABLE[(low & 15) as usize];
        i += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut i = 0;
        while i < 256 {
            let before: u32 = tables[k - 1][i];
            tables[k][i] = before >> 8 ^ tables[0][(before & 255) as usize];
            i += 1;
        }
        k += 1;
    }
    tables
};

/// The remainder after as many bytes as are a multiple of eight, and the bytes after them.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn eights(mut crc: u32, bytes: &[u8]) -> (u32, &[u8]) {
    let (eights, rest) = bytes.as_chunks::<8>();
    for &[a, b, c, d, e, f, g, h] in eights {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        let remainders = [a, b, c, d, e, f, g, h].into_iter().zip(SLICED.iter().rev());
        crc = remainders.fold(0, |crc, (byte, table)| crc ^ table[usize::from(byte)]);
    }
    (crc, rest)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn eights(crc: u32, bytes: &[u8]) -> (u32, &[u8]) {
    (crc, bytes)
}

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
        let (crc, rest) = eights(self.0, bytes);
        Self(rest.iter().fold(crc, |crc, &b| step(step(crc ^ u32::from(b)))))
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
        let bytes: Vec<u8> = (0..99u32).map(|i| (i * i * 7 + i) as u8).collect();
        for (from, to) in [(0, 99), (1, 8), (3, 27), (50, 66)] {
            let sum = Crc32::new().update(&bytes[from..to]).finish();
            assert_eq!(sum, crc32fast::hash(&bytes[from..to]));
        }
    }
}
