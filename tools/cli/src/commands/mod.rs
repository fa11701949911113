//! The verbs of the command line, one per file.

pub mod compile;
pub mod compress;
pub mod delta;
pub mod demo;
pub mod eval;
pub mod frontend;
pub mod inspect;
pub mod keygen;
pub mod learn;
pub mod merge;
pub mod profile;
pub mod qat;
pub mod rank;
pub mod run;
pub mod search;
pub mod sensitivity;
pub mod sign;
pub mod target;
pub mod verify;
pub mod verify_signature;

use std::path::Path;

use offshoot::Model;
use offshoot_data::npy::Array;
use offshoot_target::Target;

use crate::batch::Arrays;
use crate::failure::{Failure, Kind, Result};

/// Reads an `.npy` file.
///
/// # Errors
/// The file cannot be read or is not an `.npy` file.
pub fn read_array(path: &Path) -> Result<Array> {
    offshoot_data::npy::read(path).map_err(|e| {
        use offshoot_data::ErrorKind;
        let mistaken = || crate::files::mistaken(path).filter(|(what, _)| !what.contains(".npy"));
        if let (ErrorKind::Format, Some((what, help))) = (e.kind(), mistaken()) {
            let message = format!("{}: this is {what}; a NumPy array (.npy) is needed", path.display());
            return Failure::new(Kind::Format, message, help);
        }
        let (kind, help) = match e.kind() {
            ErrorKind::NotFound => {
                (Kind::NotFound, "check the path; relative paths start at the current folder")
            }
            ErrorKind::Io => (Kind::Io, "check that you may read the file"),
            ErrorKind::Dtype => {
                (Kind::Dtype, "save the array with a numeric element type, such as float32 or int64")
            }
            ErrorKind::Shape => (Kind::Shape, "save the array with another shape"),
            _ => (Kind::Format, "write it with numpy.save(path, array)"),
        };
        Failure::new(kind, e.to_string(), help)
    })
}

/// Reads several `.npy` files; also returns their names, for messages.
///
/// # Errors
/// As [`read_array`].
pub fn read_arrays(paths: &[impl AsRef<Path>]) -> Result<(Vec<Array>, Vec<String>)> {
    let mut arrays = Vec::new();
    let mut names = Vec::new();
    for path in paths {
        let path = path.as_ref();
        arrays.push(read_array(path)?);
        names.push(path.display().to_string());
    }
    Ok((arrays, names))
}

/// Reads and checks one file per input of the model.
///
/// # Errors
/// As [`read_array`] and [`Arrays::new`].
pub fn read_inputs(model: &Model<'_>, paths: &[impl AsRef<Path>]) -> Result<Arrays> {
    let (arrays, names) = read_arrays(paths)?;
    Arrays::new(model, arrays, &names)
}

/// Parses a count that must not be zero.
fn at_least_one(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("give a whole number, at least 1".into()),
    }
}

/// Parses `--target`.
///
/// # Errors
/// There is no such target.
pub fn parse_target(text: &str) -> Result<Target> {
    Target::parse(text)
        .map_err(|e| Failure::new(Kind::Device, e.to_string(), "`offshoot target list` names the targets"))
}

/// Formats a signal-to-noise ratio.
pub(crate) fn decibels(value: impl Into<f64>) -> String {
    let value = value.into();
    if value == f64::INFINITY { "exact".into() } else { format!("{value:.1} dB") }
}
