//! What a model needs of a firmware: features of the runtime.

use std::collections::BTreeSet;

use offshoot::format::{
    header::HeaderView,
    learn::{HeadKind, TrainablePart},
    requires,
};
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
    if let Some(learning) = model.learning() {
        features.insert("learn");
        if let Some(HeadKind::Anomaly { .. }) = learning.head.classifier.map(|c| c.kind) {
            features.insert("head-anomaly");
        }
        if let Some(HeadKind::Regression { .. }) = learning.head.classifier.map(|c| c.kind) {
            features.insert("head-regression");
        }
        // These compute in float32, whatever the network's number format.
        let low_rank = learning.layers().any(|l| matches!(l.repr.part, TrainablePart::LowRank { .. }));
        if learning.head.classifier.is_some() || learning.head.normalizer.is_some() || low_rank {
            features.insert("f32");
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot::AlignedBytes;

    fn features(name: &str) -> Vec<String> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../runtime/offshoot/examples/data/");
        let file = AlignedBytes::copy_of(&std::fs::read(format!("{folder}{name}")).unwrap());
        runtime_features(&file, &Model::open(&file).unwrap()).unwrap()
    }

    #[test]
    fn what_learns_in_float_needs_float() {
        let learns = features("vibration_learns.off");
        assert!(learns.contains(&"learn".into()) && learns.contains(&"f32".into()), "{learns:?}");
        let runs = features("vibration.off");
        assert!(!runs.contains(&"learn".into()) && !runs.contains(&"f32".into()), "{runs:?}");
    }
}
