//! The container of a file: header, graph section, blob section.

use offshoot::format::header::{HEADER_LEN, seal};

/// Where the header says how long the file and its graph section are.
const FILE_LEN: core::ops::Range<usize> = 8..12;
const GRAPH_LEN: core::ops::Range<usize> = 24..28;

/// The sections of a file, to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 32 bytes.
    pub header: Vec<u8>,
    /// Graph section.
    pub graph: Vec<u8>,
    /// Blob section.
    pub blobs: Vec<u8>,
}

impl Container {
    /// The sections of a file whose header says where they are; `None` for other bytes.
    pub fn of(file: &[u8]) -> Option<Self> {
        let (header, rest) = file.split_at_checked(HEADER_LEN)?;
        let len = u32::from_le_bytes(header.get(GRAPH_LEN)?.try_into().ok()?);
        let len = usize::try_from(len).ok()?;
        let blobs = HEADER_LEN.checked_add(len)?.checked_next_multiple_of(16)?;
        Some(Self {
            header: header.to_vec(),
            graph: rest.get(..len)?.to_vec(),
            blobs: file.get(blobs..)?.to_vec(),
        })
    }

    /// The file, with lengths and checksum put right.
    pub fn into_file(self) -> Vec<u8> {
        let mut file = self.header;
        file[GRAPH_LEN].copy_from_slice(&(self.graph.len() as u32).to_le_bytes());
        file.extend(self.graph);
        file.resize(file.len().next_multiple_of(16), 0);
        file.extend(self.blobs);
        reseal(&mut file);
        file
    }
}

/// Puts the length and the checksum of a file right.
pub fn reseal(file: &mut [u8]) {
    if file.len() >= HEADER_LEN {
        let len = file.len() as u32;
        file[FILE_LEN].copy_from_slice(&len.to_le_bytes());
        // Without the magic there is nothing to seal.
        let _ = seal(file);
    }
}
