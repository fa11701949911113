//! Memory and option checks of a head, from its record.

#[cfg(feature = "head-anomaly")]
use super::{Anomaly, AnomalyOptions};
use super::{Boosted, Head, Lda, LeastSquares, NearestMean, Simplex, Softmax};
#[cfg(feature = "head-regression")]
use super::{Regression, RegressionOptions};
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
        #[cfg(feature = "head-anomaly")]
        HeadKind::Anomaly { .. } => Anomaly::memory(features, &anomaly_options(kind)),
        #[cfg(feature = "head-regression")]
        HeadKind::Regression { .. } => Regression::memory(features, classes),
        #[cfg(all(feature = "head-regression", not(feature = "head-anomaly")))]
        HeadKind::Absent => 0,
    };
    let scratch = match kind {
        HeadKind::Softmax { .. } | HeadKind::Boosted { .. } => classes,
        HeadKind::NearestMean { .. } => 0,
        HeadKind::Lda { .. } => {
            (features.saturating_add(1) * classes).saturating_add(features.saturating_mul(features + 1) / 2)
        }
        HeadKind::LeastSquares { .. } => features + 1,
        HeadKind::Simplex { .. } => classes.max(4).next_power_of_two() - 1,
        #[cfg(feature = "head-anomaly")]
        HeadKind::Anomaly { .. } => features.saturating_mul(2),
        #[cfg(feature = "head-regression")]
        HeadKind::Regression { .. } => features.saturating_add(1).saturating_mul(2),
        #[cfg(all(feature = "head-regression", not(feature = "head-anomaly")))]
        HeadKind::Absent => 0,
    };
    (all, all.saturating_sub(4 * scratch))
}

/// Options of an anomaly head, from its record.
#[cfg(feature = "head-anomaly")]
pub fn anomaly_options(kind: HeadKind) -> AnomalyOptions {
    match kind {
        HeadKind::Anomaly { diagonal, window, false_alarms, scores } => {
            AnomalyOptions { diagonal, window, false_alarms, scores }
        }
        _ => AnomalyOptions::default(),
    }
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
        #[cfg(feature = "head-anomaly")]
        HeadKind::Anomaly { .. } => anomaly_options(kind).are_possible(),
        #[cfg(feature = "head-regression")]
        HeadKind::Regression { ridge, forgetting } => RegressionOptions { ridge, forgetting }.are_possible(),
        #[cfg(all(feature = "head-regression", not(feature = "head-anomaly")))]
        HeadKind::Absent => false,
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

    #[cfg(feature = "head-regression")]
    #[test]
    fn the_state_of_a_regression_head_is_as_long_as_said() {
        let mut memory = [0.0f32; 1000];
        let options = RegressionOptions::default();
        let kind = HeadKind::Regression { ridge: options.ridge, forgetting: options.forgetting };
        let head = Regression::init(9, 3, options, &mut memory).unwrap();
        assert_eq!(head_bytes(kind, 9, 3).1, 4 * head.state().len());
        assert!(head_is_possible(kind));
    }

    #[cfg(feature = "head-anomaly")]
    #[test]
    fn the_state_of_an_anomaly_head_is_as_long_as_said() {
        let mut memory = [0.0f32; 1000];
        for diagonal in [false, true] {
            let kind = HeadKind::Anomaly { diagonal, window: 90.0, false_alarms: 100, scores: 100 };
            let head = Anomaly::init(9, anomaly_options(kind), &mut memory).unwrap();
            assert_eq!(head_bytes(kind, 9, 2).1, 4 * head.state().len());
            assert!(head_is_possible(kind));
        }
    }
}
