//! NumPy's `.npz`: a zip archive of `.npy` members, as `numpy.savez` and `numpy.savez_compressed` write it.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use crate::error::{Error, Result, read_file};
use crate::npy::{self, Array};

/// Longest member accepted, after unpacking: far above any sample data, far below what would harm the host.
const MAX_MEMBER: u64 = 1 << 32;

/// Reads every array, in the archive's order, with its name.
///
/// # Errors
/// The file cannot be read or is not a zip archive, or a member is not a `.npy` file (the error names it).
pub fn read(path: &Path) -> Result<Vec<(String, Array)>> {
    parse(&read_file(path)?).map_err(|e| e.at(path))
}

/// Reads the bytes of an archive.
///
/// # Errors
/// As [`read`].
pub fn parse(file: &[u8]) -> Result<Vec<(String, Array)>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(file))
        .map_err(|e| Error::format(format!("not an .npz archive ({e}); write it with numpy.savez")))?;
    let mut arrays = Vec::with_capacity(archive.len());
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(|e| Error::format(format!("member {index}: {e}")))?;
        let name = member.name().strip_suffix(".npy").unwrap_or(member.name()).to_owned();
        let mut bytes = Vec::new();
        member
            .take(MAX_MEMBER)
            .read_to_end(&mut bytes)
            .map_err(|e| Error::format(format!("member `{name}` cannot be unpacked: {e}")))?;
        let array = npy::parse(&bytes).map_err(|e| Error::new(e.kind(), format!("member `{name}`: {e}")))?;
        arrays.push((name, array));
    }
    Ok(arrays)
}

/// Bytes of an archive of these arrays, not compressed, as `numpy.savez` writes it. Equal arrays give equal bytes.
///
/// # Errors
/// The archive would be too large for the format.
pub fn to_bytes(arrays: &[(String, Array)]) -> Result<Vec<u8>> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .last_modified_time(zip::DateTime::default());
    for (name, array) in arrays {
        let failed = |e: String| Error::format(format!("member `{name}`: {e}"));
        writer.start_file(format!("{name}.npy"), options).map_err(|e| failed(e.to_string()))?;
        writer.write_all(&npy::to_bytes(array)).map_err(|e| failed(e.to_string()))?;
    }
    let done = writer.finish().map_err(|e| Error::format(e.to_string()))?;
    Ok(done.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::arr1;
    use zip::write::SimpleFileOptions;

    fn archive(members: &[(&str, &[u8])], method: zip::CompressionMethod) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in members {
            writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            writer.write_all(bytes).unwrap();
        }
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn stored_and_deflated_members() {
        let a = Array::from(arr1(&[1i8, 2, 3]).into_dyn());
        let b = Array::from(arr1(&[0.5f32]).into_dyn());
        let members: &[(&str, &[u8])] = &[("op00.npy", &npy::to_bytes(&a)), ("op01.npy", &npy::to_bytes(&b))];
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let read = parse(&archive(members, method)).unwrap();
            assert_eq!(read, [("op00".to_owned(), a.clone()), ("op01".to_owned(), b.clone())]);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let a = Array::from(arr1(&[1i8, 2, 3]).into_dyn());
        let b = Array::from(arr1(&[0.5f32]).into_dyn());
        let arrays = [("a".to_owned(), a), ("layer.b".to_owned(), b)];
        let bytes = to_bytes(&arrays).unwrap();
        assert_eq!(parse(&bytes).unwrap(), arrays);
        assert_eq!(bytes, to_bytes(&arrays).unwrap());
    }

    #[test]
    fn errors_name_the_member() {
        assert!(parse(b"no zip").unwrap_err().to_string().contains("numpy.savez"));
        let bad = archive(&[("x.npy", b"junk")], zip::CompressionMethod::Stored);
        assert!(parse(&bad).unwrap_err().to_string().contains("member `x`"));
        let good = archive(&[("x.npy", b"junk")], zip::CompressionMethod::Deflated);
        for cut in 0..good.len() {
            assert!(parse(&good[..cut]).is_err());
        }
    }
}
