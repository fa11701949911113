//! Class numbers of samples, and what is wrong with them.

use offshoot::graph::learn::Learning;
use offshoot_data::npy::Array;

use crate::failure::{Context, Failure, Kind, Result};
use crate::ui::Ui;

/// Class numbers, one per sample.
///
/// # Errors
/// The array does not hold class numbers from 0 to 65535, or has too few or too many.
pub fn labels(array: &Array, samples: usize, what: &str) -> Result<Vec<u16>> {
    let help = "give one class number per sample, in the same order";
    let whole = array.to_i64().or_fail_in(Kind::Dtype, format!("{what} labels"), help)?;
    let labels: Option<Vec<u16>> = whole.iter().map(|&l| u16::try_from(l).ok()).collect();
    let labels = labels.ok_or_else(|| {
        Failure::new(Kind::Mismatch, format!("a {what} label is not a class number from 0 to 65535"), help)
    })?;
    if labels.len() != samples {
        let message = format!("{} {what} labels for {samples} samples", labels.len());
        return Err(Failure::new(Kind::Shape, message, help));
    }
    Ok(labels)
}

/// Checks that every label is one of the classes.
pub(super) fn check_labels(labels: &[u16], classes: u16, learning: &Learning<'_>) -> Result<()> {
    let Some(&beyond) = labels.iter().find(|&&l| l >= classes) else { return Ok(()) };
    let message =
        format!("a training sample has class {beyond}, but the model learns classes 0 to {}", classes - 1);
    let help = match learning.head.classifier {
        Some(_) => format!("add classes to the head: --new-classes {}", beyond - classes + 1),
        None => {
            "only a classifier head learns new classes: add one to the plan (head = \"lda\") and compile \
             again"
                .into()
        }
    };
    Err(Failure::new(Kind::Mismatch, message, help))
}

/// Says which classes never come.
pub(super) fn note_missing(ui: &Ui, labels: &[u16], classes: u16) {
    let missing: Vec<String> =
        (0..classes).filter(|class| !labels.contains(class)).map(|class| class.to_string()).collect();
    if missing.len() + 1 == usize::from(classes) {
        ui.note("all training samples have one class: layers will forget the others, a head keeps them");
    } else if !missing.is_empty() {
        ui.note(&format!("no training sample has class {}", missing.join(", ")));
    }
}
