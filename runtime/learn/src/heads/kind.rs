//! Memory and option checks of a head, from its record.

use super::{Boosted, Head, Lda, LeastSquares, NearestMean, Simplex, Softmax};
use offshoot_format::learn::HeadKind;

/// Bytes of a head's memory: all of it, and the leading part that is learned. Saturates at `usize::MAX`.
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

#[cfg(test)]
mod tests {
    use super::*;

    use crate::heads::{
        BoostedOptions, LdaOptions, LeastSquaresOptions, NearestMeanOptions, SimplexOptions, SoftmaxOptions,
    };

    /// What was learned is the leading part of the memory, as long as each head says.
    #[test]
    fn states_are_as_long_as_said() {
        fn lengths<'a, H: Head<'a, Word = f32>>(options: H::Options, memory: &'a mut [f32]) -> usize {
            4 * H::init(9, 5, options, memory).unwrap().state().len()
        }
        let mut memory = [0.0f32; 1000];
        let widths = [4, 5];
        let all = [
            (HeadKind::Softmax { step: 1.0 }, lengths::<Softmax<'_>>(SoftmaxOptions::default(), &mut memory)),
            (
                HeadKind::NearestMean { window: 9.0 },
                lengths::<NearestMean<'_>>(NearestMeanOptions::default(), &mut memory),
            ),
            (
                HeadKind::Lda { shrinkage: -1.0, window: 9.0 },
                lengths::<Lda<'_>>(LdaOptions::default(), &mut memory),
            ),
            (
                HeadKind::LeastSquares { ridge: 1.0, forgetting: 1.0, balance: true },
                lengths::<LeastSquares<'_>>(LeastSquaresOptions::default(), &mut memory),
            ),
            (HeadKind::Simplex { step: 1.0 }, lengths::<Simplex<'_>>(SimplexOptions::default(), &mut memory)),
            (
                HeadKind::Boosted { step: 1.0 },
                lengths::<Boosted<'_>>(BoostedOptions { widths: &widths, step: 1.0 }, &mut memory),
            ),
        ];
        for (kind, state) in all {
            assert_eq!(head_bytes(kind, 9, 5).1, state, "{kind:?}");
            assert!(head_is_possible(kind));
        }
    }
}
