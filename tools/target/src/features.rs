//! What a model needs of a firmware: features of the runtime.

use std::collections::BTreeSet;

use offshoot::format::{header::HeaderView, requires};
use offshoot::{Model, operators};

use crate::{Board, TargetError};

/// Cargo features of the runtime that the model `off` needs, all its networks included, in alphabetical order. `model`
/// is `off`, opened.
///
/// # Errors
/// None for a model that was opened: every network of it opens.
pub fn runtime_features(off: &[u8], model: &Model<'_>) -> Result<Vec<String>, offshoot::Error> {
    let mut features: BTreeSet<&str> = BTreeSet::new();
    for index in 0..model.network_count() {
        for (_, _, record) in model.network(index)?.ops() {
            features.extend(record.features());
            operators::members(&record, model.blobs()).for_each(|member| features.extend(member.features()));
        }
    }
    if model.network_count() > 1 {
        features.insert("nested");
    }
    let header = HeaderView::new_checked(off).and_then(|view| view.parse());
    if header.is_ok_and(|h| h.requires & requires::NEEDS_F32 != 0) {
        features.insert("f32");
    }
    if model.learning().is_some() {
        features.insert("learn");
    }
    Ok(features.into_iter().map(str::to_owned).collect())
}

/// Checks that the board's firmware has every runtime feature that the model needs: operators, number formats,
/// learning.
///
/// # Errors
/// [`TargetError::MissingFeatures`] names those that it lacks.
pub fn check_runtime(board: &Board, off: &[u8], model: &Model<'_>) -> Result<(), TargetError> {
    let mut missing = runtime_features(off, model)?;
    missing.retain(|feature| !board.firmware.runtime.has(feature));
    if missing.is_empty() {
        return Ok(());
    }
    Err(TargetError::MissingFeatures { board: board.name, features: missing })
}
