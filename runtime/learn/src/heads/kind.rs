//! A head by its record: how much memory it takes, and whether its options make sense.

use super::{Boosted, Head as _, Lda, LeastSquares, NearestMean, Simplex, Softmax};
use offshoot_format::learn::HeadKind;

/// Bytes of memory of a head: all, and those in front that are what was learned; `usize::MAX` for more than there can be.
pub fn head_bytes(kind: HeadKind, features: usize, classes: usize) -> (usize, usize) {
    let all = match kind {
        HeadKind::Softmax { .. } => Softmax::memory(features, classes),
        HeadKind::NearestMean { .. } => NearestMean::memory(features, classes),
        HeadKind::Lda { .. } => Lda::memory(features, classes),
        HeadKind::LeastSquares { .. } => LeastSquares::memory(features, classes),
        HeadKind::Simplex { .. } => Simplex::memory(features, classes),
        HeadKind::Boosted { .. } => Boosted::memory(features, classes),
    };
    let scratch = match kind {
        HeadKind::Softmax { .. } | HeadKind::Boosted { .. } => classes,
        HeadKind::NearestMean { .. } => 0,
        HeadKind::Lda { .. } => {
            (features.saturating_add(1) * classes).saturating_add(features.saturating_mul(features + 1) / 2)
        }
        HeadKind::LeastSquares { .. } => features + 1,
        HeadKind::Simplex { .. } => classes.max(4).next_power_of_two() - 1,
    };
    (all, all.saturating_sub(4 * scratch))
}

/// Whether the options of a head are in their ranges.
pub fn head_is_possible(kind: HeadKind) -> bool {
    let step = |s: f32| s.is_finite() && s >= 0.0;
    match kind {
        HeadKind::Softmax { step: s } | HeadKind::Simplex { step: s } | HeadKind::Boosted { step: s } => {
            step(s)
        }
        HeadKind::NearestMean { window } => window >= 1.0,
        HeadKind::Lda { shrinkage, window } => shrinkage <= 1.0 && window >= 1.0,
        HeadKind::LeastSquares { ridge, forgetting, .. } => {
            ridge.is_finite() && ridge > 0.0 && forgetting > 0.0 && forgetting <= 1.0
        }
    }
}
