//! A trained super-network on disk.

use std::path::Path;

use offshoot_ir::Graph;

use crate::{Error, Result};

/// First bytes of the file; the last one is the version.
const MAGIC: [u8; 8] = *b"OFFSUP\0\x01";

/// Writes the network; the file is replaced atomically.
///
/// # Errors
/// [`Error::File`].
pub fn write(path: &Path, graph: &Graph) -> Result<()> {
    let body = postcard::to_stdvec(graph).map_err(|e| Error::file(path, e))?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    offshoot_report::write_atomically(path, &bytes).map_err(|e| Error::file(path, e))
}

/// Reads a network; `None` if the file does not exist.
///
/// # Errors
/// [`Error::File`] if it cannot be read or is damaged.
pub fn read(path: &Path) -> Result<Option<Graph>> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file(path, e)),
    };
    let damaged = || Error::file(path, "it is damaged, or of another version; remove it to train again");
    let body = bytes.strip_prefix(&MAGIC).and_then(|b| b.split_first_chunk::<4>());
    let (crc, body) = body.ok_or_else(damaged)?;
    if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    let graph: Graph = postcard::from_bytes(body).map_err(|_| damaged())?;
    graph.validate()?;
    Ok(Some(graph))
}
