//! One file a verb.

pub mod compile;
pub mod compress;
pub mod demo;
pub mod eval;
pub mod inspect;
pub mod learn;
pub mod profile;
pub mod qat;
pub mod rank;
pub mod run;
pub mod search;
pub mod sensitivity;
pub mod target;
pub mod verify;

use std::path::Path;

use offshoot::Model;
use offshoot_data::npy::Array;
use offshoot_target::Target;

use crate::batch::Inputs;
use crate::failure::{Failure, Kind, Result};

/// Reads an `.npy` file.
///
/// # Errors
/// It cannot be read or is no `.npy` file.
pub fn read_array(path: &Path) -> Result<Array> {
    offshoot_data::npy::read(path).map_err(|e| {
        use offshoot_data::ErrorKind;
        if let (ErrorKind::Format, Some((what, help))) = (e.kind(), crate::files::mistaken(path)) {
            let message = format!("{}: this is {what}, a NumPy array (.npy) is wanted", path.display());
            return Failure::new(Kind::Format, message, help);
        }
        let (kind, help) = match e.kind() {
            ErrorKind::NotFound => (Kind::NotFound, "check the path"),
            ErrorKind::Io => (Kind::Io, "check that the file can be read"),
            ErrorKind::Dtype => (Kind::Dtype, "save an array of numbers"),
            ErrorKind::Shape => (Kind::Shape, "save an array of another shape"),
            _ => (Kind::Format, "write it with numpy.save(path, array)"),
        };
        Failure::new(kind, e.to_string(), help)
    })
}

/// Reads several `.npy` files; also their names, for messages.
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

/// Reads a file for each of the model's inputs as the bytes that go into the arena; the arrays are not kept.
///
/// # Errors
/// As [`read_array`] and [`Inputs::encode`].
pub fn read_inputs(model: &Model<'_>, paths: &[impl AsRef<Path>]) -> Result<Inputs> {
    let (arrays, names) = read_arrays(paths)?;
    Inputs::encode(model, &arrays, &names)
}

/// Understands `--target`.
///
/// # Errors
/// There is no such target.
pub fn parse_target(text: &str) -> Result<Target> {
    Target::parse(text).map_err(|e| Failure::new(Kind::Device, e.to_string(), "see `offshoot target list`"))
}

/// A signal-to-noise ratio for people.
pub(crate) fn decibels(value: impl Into<f64>) -> String {
    let value = value.into();
    if value == f64::INFINITY { "exact".into() } else { format!("{value:.1} dB") }
}
