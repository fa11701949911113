//! CIFAR-10's binary version (Krizhevsky 2009): records of one label byte and 3 × 32 × 32 pixels, red plane first.

use std::path::Path;

use ndarray::{Array4, ArrayD};

use crate::error::{Error, Result, read_file};

/// Height and width of an image.
pub const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;
const RECORD: usize = 1 + 3 * PIXELS;

/// Names of the labels 0 to 9.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Reads one batch file: images `[n, 32, 32, 3]` (channels last) and labels.
///
/// # Errors
/// The file cannot be read, or [`parse`] refuses it.
pub fn read(path: &Path) -> Result<(ArrayD<u8>, Vec<i64>)> {
    parse(&read_file(path)?).map_err(|e| e.at(path))
}

/// Reads the bytes of one batch file.
///
/// # Errors
/// [`crate::ErrorKind::Format`] if they are not whole records, or a label is above 9.
pub fn parse(file: &[u8]) -> Result<(ArrayD<u8>, Vec<i64>)> {
    if file.is_empty() || !file.len().is_multiple_of(RECORD) {
        let message = format!(
            "not a CIFAR-10 binary batch: its {} bytes are not a multiple of {RECORD} (a label and 32×32×3 pixels)",
            file.len()
        );
        return Err(Error::format(message));
    }
    let records = file.as_chunks::<RECORD>().0;
    if let Some((index, record)) =
        records.iter().enumerate().find(|(_, r)| usize::from(r[0]) >= CLASSES.len())
    {
        return Err(Error::format(format!("image {index} has the label {}; CIFAR-10 has 0 to 9", record[0])));
    }
    let images = Array4::from_shape_fn((records.len(), SIDE, SIDE, 3), |(n, y, x, c)| {
        records[n][1 + c * PIXELS + y * SIDE + x]
    });
    Ok((images.into_dyn(), records.iter().map(|r| i64::from(r[0])).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_become_channels() {
        let mut file = vec![0; 2 * RECORD];
        file[0] = 3;
        file[RECORD] = 9;
        file[1 + 2 * PIXELS + 5 * SIDE + 7] = 200;
        let (images, labels) = parse(&file).unwrap();
        assert_eq!(images.shape(), [2, 32, 32, 3]);
        assert_eq!(images[[0, 5, 7, 2]], 200);
        assert_eq!(images.iter().map(|&v| u64::from(v)).sum::<u64>(), 200);
        assert_eq!(labels, [3, 9]);
    }

    #[test]
    fn damaged_files_are_refused() {
        assert!(parse(&[]).is_err());
        assert!(parse(&vec![0; RECORD - 1]).unwrap_err().to_string().contains("3073"));
        let mut file = vec![0; RECORD];
        file[0] = 10;
        assert!(parse(&file).unwrap_err().to_string().contains("label 10"));
    }
}
