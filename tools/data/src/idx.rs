//! MNIST's IDX format (LeCun et al., <http://yann.lecun.com/exdb/mnist/>): two zero bytes, element type, number
//! of axes, big-endian extents, elements. Gzipped files are unpacked.

use std::io::Read;
use std::path::Path;

use ndarray::{ArrayD, IxDyn};

use crate::error::{Error, Result, read_file};
use crate::npy::Array;

/// Longest file accepted, after unpacking.
const MAX_UNPACKED: u64 = 1 << 32;

/// Whether the bytes begin like an IDX file or a gzipped file.
pub fn looks_like(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b]) || matches!(head, [0, 0, 0x08 | 0x09 | 0x0b..=0x0e, 1..=8, ..])
}

/// Reads a file, gzipped or not.
///
/// # Errors
/// The file cannot be read, or [`parse`] refuses it.
pub fn read(path: &Path) -> Result<Array> {
    let bytes = read_file(path)?;
    parse(&gunzip(bytes).map_err(|e| e.at(path))?).map_err(|e| e.at(path))
}

/// Reads the bytes of an unpacked file.
///
/// # Errors
/// [`crate::ErrorKind::Format`] if the bytes are not a complete IDX file.
pub fn parse(file: &[u8]) -> Result<Array> {
    let (code, axes) = match file {
        [0, 0, code, axes, ..] => (*code, usize::from(*axes)),
        _ => {
            return Err(Error::format(
                "not an IDX file: it must begin with two zero bytes, a type and a number of axes",
            ));
        }
    };
    let size = match code {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c | 0x0d => 4,
        0x0e => 8,
        _ => {
            let message =
                format!("IDX element type {code:#04x} is not known; known are 08, 09, 0b, 0c, 0d and 0e");
            return Err(Error::format(message));
        }
    };
    let body = file.get(4 + 4 * axes..).ok_or_else(|| Error::format("the file ends within its header"))?;
    let (extents, _) = file[4..4 + 4 * axes].as_chunks::<4>();
    let shape: Vec<usize> = extents.iter().map(|&b| u32::from_be_bytes(b) as usize).collect();
    if shape.iter().try_fold(size, |n: usize, &extent| n.checked_mul(extent)) != Some(body.len()) {
        let message = format!(
            "its shape {shape:?} with {size}-byte elements does not fit the {} bytes it holds",
            body.len()
        );
        return Err(Error::format(message));
    }
    Ok(match code {
        0x08 => Array::U8(decode(shape, body, |[b]| b)?),
        0x09 => Array::I8(decode(shape, body, i8::from_be_bytes)?),
        0x0b => Array::I16(decode(shape, body, i16::from_be_bytes)?),
        0x0c => Array::I32(decode(shape, body, i32::from_be_bytes)?),
        0x0d => Array::F32(decode(shape, body, f32::from_be_bytes)?),
        _ => Array::F64(decode(shape, body, f64::from_be_bytes)?),
    })
}

/// Unpacks gzip; returns other bytes unchanged.
fn gunzip(bytes: Vec<u8>) -> Result<Vec<u8>> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    let decoder = flate2::read::GzDecoder::new(bytes.as_slice());
    let unusable =
        |e| Error::format(format!("the gzip data cannot be unpacked ({e}): download the file again"));
    decoder.take(MAX_UNPACKED).read_to_end(&mut unpacked).map_err(unusable)?;
    Ok(unpacked)
}

fn decode<T: Clone, const N: usize>(
    shape: Vec<usize>,
    body: &[u8],
    of: impl Fn([u8; N]) -> T,
) -> Result<ArrayD<T>> {
    let (elements, _) = body.as_chunks::<N>();
    let elements = elements.iter().map(|&b| of(b)).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), elements)
        .map_err(|e| Error::format(format!("its shape {shape:?}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const IMAGES: &[u8] = &[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40];

    #[test]
    fn plain_and_gzipped() {
        let wanted = Array::from(ArrayD::from_shape_vec(vec![2, 1, 2], vec![10u8, 20, 30, 40]).unwrap());
        assert_eq!(parse(IMAGES).unwrap(), wanted);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(IMAGES).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(looks_like(IMAGES) && looks_like(&packed));
        assert_eq!(parse(&gunzip(packed.clone()).unwrap()).unwrap(), wanted);
        assert!(gunzip(packed[..packed.len() - 9].to_vec()).is_err());
        assert_eq!(parse(&[0, 0, 0x0b, 1, 0, 0, 0, 1, 0xff, 0xfe]).unwrap().to_f32()[[0]], -2.0);
    }

    #[test]
    fn damaged_files_are_refused() {
        for cut in 0..IMAGES.len() {
            assert!(parse(&IMAGES[..cut]).is_err(), "cut at {cut}");
        }
        assert!(parse(&[0, 0, 8, 255, 0, 0]).is_err());
        assert!(parse(&[0, 0, 7, 1, 0, 0, 0, 0]).is_err());
        let huge = [0, 0, 8, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert!(parse(&huge).is_err());
    }
}
