//! How far the values of samples to come may lie beyond those of the calibration samples.
//!
//! The largest of a few samples is an unreliable range: one value beyond it saturates, which costs more than a step that is a
//! little wider. The largest elements of single samples are taken as extreme values with a Gumbel distribution, fitted by its
//! moments; the range then holds all but one of [`RETURN`] samples: so many that what saturates costs as much as the
//! wider step, which all elements of a tensor pay. Where both ends are alike, the one that varied more speaks
//! for the other as well, up to [`LOPSIDED`] samples: that it varied less may be chance. Not so at a graph's input, whose step
//! is an error that nothing behind it can mend. With more samples the observed range is trusted more, and from [`TRUSTED`] on
//! entirely. No range is wider than what the ranges of an operator's inputs lead to.

use offshoot_ir::grid::quant_of_range;
use offshoot_ir::{Graph, Quant, ValueId};

use super::classes::is_activation;
use super::interval;
use super::reach::{Observed, Reach};

/// One of this many samples exceeds the range: fewer and more.
const RETURN: [f64; 2] = [100.0, 400.0];
/// Squared steps of a range, times 12: a step's noise has a twelfth of its square.
const STEPS: f64 = 255.0 * 255.0 * 12.0;
/// Up to this many samples the extrapolated range is used as it is.
const FEW: usize = 32;
/// From this many samples on the observed range is used as it is.
const TRUSTED: usize = 128;
/// From this many samples on each end speaks for itself.
const LOPSIDED: usize = 64;
/// The ends are alike if their means differ by no more than this factor.
const ALIKE: f64 = 2.0;
/// A range becomes at most this many times as wide.
const MOST: f64 = 3.0;

/// Sum and sum of squares of the largest elements of single samples, and of the smallest.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extremes {
    samples: usize,
    high: [f64; 2],
    low: [f64; 2],
}

impl Extremes {
    /// Counts a sample with elements between `low` and `high`.
    pub(crate) fn add(&mut self, low: f32, high: f32) {
        self.samples += 1;
        for (sums, v) in [(&mut self.high, f64::from(high)), (&mut self.low, f64::from(low))] {
            sums[0] += v;
            sums[1] += v * v;
        }
    }

    /// The range of samples to come, where `range` is the observed one. `joint`: ends that are alike share their spread.
    /// `elements`: of the tensor.
    fn beyond(&self, (low, high): (f32, f32), joint: bool, elements: usize) -> (f32, f32) {
        let trust = self.samples.saturating_sub(FEW) as f64 / (TRUSTED - FEW) as f64;
        let share = 1.0 - trust.min(1.0);
        if share == 0.0 || self.samples < 2 {
            return (low, high);
        }
        let n = self.samples as f64;
        // Zero is in every range, so ends on its other side do not count.
        let width = f64::from(high.max(0.0)) - f64::from(low.min(0.0));
        // Mean of the samples' ends, and the distance of the extrapolated end from it.
        let end = |[sum, squares]: [f64; 2]| {
            let mean = sum / n;
            let deviation = (squares / n - mean * mean).max(0.0).sqrt();
            let scale = deviation * 6f64.sqrt() / std::f64::consts::PI;
            // Least noise of a step in proportion to the width, for each element, and of one excess of this scale.
            let period = STEPS * scale / (width * elements.max(1) as f64).max(f64::MIN_POSITIVE);
            let period = period.max(RETURN[0]).min(RETURN[1]);
            (mean, scale * (period.ln() - 0.577_215_664_901_532_9))
        };
        let ((mean_high, mut far_high), (mean_low, mut far_low)) = (end(self.high), end(self.low));
        let (up, down) = (mean_high, -mean_low);
        if joint && up.min(down) > 0.0 && up.max(down) <= ALIKE * up.min(down) {
            let single = self.samples.saturating_sub(FEW) as f64 / (LOPSIDED - FEW) as f64;
            let (own, wider) = (single.min(1.0), far_high.max(far_low));
            far_high = far_high * own + wider * (1.0 - own);
            far_low = far_low * own + wider * (1.0 - own);
        }
        let above = ((mean_high + far_high - f64::from(high)) * share).max(0.0);
        let below = ((f64::from(low) - mean_low + far_low) * share).max(0.0);
        let most = (MOST - 1.0) * width;
        let (above, below) = (above.min(most), below.min(most));
        if !(above.is_finite() && below.is_finite()) {
            return (low, high);
        }
        ((f64::from(low) - below) as f32, (f64::from(high) + above) as f32)
    }
}

/// Ranges of samples to come, by value, where `ranges` are the observed ones within `reach`.
pub(crate) fn ranges(
    graph: &Graph,
    observed: &Observed,
    reach: &Reach,
    ranges: &[(f32, f32)],
) -> Vec<(f32, f32)> {
    let mut expected: Vec<(f32, f32)> = graph.values.iter().map(interval::constant).collect();
    let one = |i: usize, (least, most): (f32, f32)| {
        let range = ranges[i];
        if reach.of(ValueId(i as u32)).is_some() {
            return range;
        }
        let joint = !graph.inputs.contains(&ValueId(i as u32));
        let (low, high) =
            observed.extremes.get(i).map_or(range, |e| e.beyond(range, joint, graph.values[i].len()));
        // Rounding may carry an observed value beyond the bound.
        (low.max(least).min(range.0), high.min(most).max(range.1))
    };
    for &id in graph.inputs.iter().filter(|id| is_activation(graph, **id)) {
        expected[id.0 as usize] = one(id.0 as usize, interval::ALL);
    }
    for node in graph.nodes.iter().filter(|n| is_activation(graph, n.output)) {
        let bounds = interval::image(graph, node, &expected);
        expected[node.output.0 as usize] = one(node.output.0 as usize, bounds);
    }
    // Constants and integers have the ranges that they are given.
    let given = |(i, range): (usize, (f32, f32))| {
        if is_activation(graph, ValueId(i as u32)) { range } else { ranges[i] }
    };
    expected.into_iter().enumerate().map(given).collect()
}

/// A scale at which whole numbers from `low` to `high` are exact, and its zero point; `None` if there are too many of them.
pub(crate) fn whole(low: f32, high: f32) -> Option<Quant> {
    let (low, high) = (low.min(0.0).floor(), high.max(0.0).ceil());
    let width = high - low;
    if !(1.0..=255.0).contains(&width) {
        return None;
    }
    let steps = (255.0 / width).floor();
    let zero = -128.0 - low * steps;
    (zero <= 127.0).then(|| Quant::per_tensor((1.0 / f64::from(steps)) as f32, zero as i32))
}

/// Whether all values are whole numbers.
pub(crate) fn are_whole<'a>(values: impl IntoIterator<Item = &'a f32>) -> bool {
    values.into_iter().all(|v| v.fract() == 0.0)
}

/// Scale and zero point of a range; whole numbers stay exact where possible.
pub(crate) fn quant((low, high): (f32, f32), is_whole: bool) -> Quant {
    whole(low, high).filter(|_| is_whole).unwrap_or_else(|| quant_of_range(low, high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::grid::round_to_grid;

    fn extremes(n: usize, of: impl Fn(usize) -> (f32, f32)) -> (Extremes, (f32, f32)) {
        let (mut e, mut range) = (Extremes::default(), (0.0f32, 0.0f32));
        for (low, high) in (0..n).map(of) {
            e.add(low, high);
            range = (range.0.min(low), range.1.max(high));
        }
        (e, range)
    }

    #[test]
    fn few_samples_leave_room() {
        let wave = |i: usize| (-1.0 - (i % 5) as f32 * 0.1, 2.0 + (i % 7) as f32 * 0.2);
        let (e, range) = extremes(24, wave);
        let wide = e.beyond(range, true, 1);
        assert!(wide.1 > range.1 + 1.0 && wide.1 < range.1 + 3.0 && wide.0 < range.0 - 0.3, "{wide:?}");
        // The many elements of a large tensor would pay for a wider step.
        let large = e.beyond(range, true, 100_000);
        assert!(range.1 < large.1 && large.1 < wide.1, "{large:?}");
        let (e, range) = extremes(80, wave);
        let half = e.beyond(range, true, 1);
        assert!(half.1 > range.1 && half.1 < wide.1);
        let (e, range) = extremes(128, wave);
        assert_eq!(e.beyond(range, true, 1), range);
    }

    #[test]
    fn ends_that_are_alike_share_their_spread() {
        let both = |i: usize| (-1.5 - (i % 2) as f32 * 0.1, 2.0 + (i % 7) as f32 * 0.2);
        let (e, range) = extremes(24, both);
        let wide = e.beyond(range, true, 1);
        assert!((wide.1 - 2.6 - (-1.55 - wide.0)).abs() < 0.1, "{wide:?}");
        assert!(e.beyond(range, false, 1).0 > -2.0);
        let (many, range) = extremes(64, both);
        assert_eq!(many.beyond(range, true, 1), many.beyond(range, false, 1));
        // As behind SiLU: the lower end says nothing about the upper one.
        let one = |i: usize| (-0.2 - (i % 2) as f32 * 0.01, 2.0 + (i % 7) as f32 * 0.2);
        let (e, range) = extremes(24, one);
        assert!(e.beyond(range, true, 1).0 > -0.3, "{:?}", e.beyond(range, true, 1));
    }

    #[test]
    fn what_never_varies_stays() {
        let (e, range) = extremes(8, |_| (0.0, 1.0));
        assert_eq!(e.beyond(range, true, 1), (0.0, 1.0));
    }

    #[test]
    fn whole_numbers_are_exact() {
        for (low, high) in [(-1.0, 1.0), (0.0, 1.0), (-2.0, 2.0), (0.0, 20.0), (-7.0, 200.0), (0.0, 255.0)] {
            let quant = whole(low, high).unwrap();
            let mut v: f32 = low;
            while v <= high {
                assert!((round_to_grid(v, &quant) - v).abs() <= v.abs() * 1e-6, "{v} {quant:?}");
                v += 1.0;
            }
        }
        assert_eq!(whole(0.0, 300.0), None);
        assert_eq!(whole(0.0, 0.0), None);
    }
}
