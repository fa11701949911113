//! Histograms of activations and the choice of a range from them.

use ndarray::ArrayD;
use offshoot_ir::Quant;
use offshoot_ir::grid::on_grid;
pub(crate) use offshoot_ir::grid::quant_of_range;

use super::options::Clipping;
use super::tensors::elements;
use super::vectors::vectorised;

/// Bins of a histogram: 32 per step of the full int8 range.
pub(crate) const BINS: usize = 8192;

/// Histogram over a fixed range. Each bin also keeps the sum of its values: its mean then stands for them, which
/// represents discrete inputs (pixels) exactly.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    low: f32,
    high: f32,
    counts: Vec<u64>,
    sums: Vec<f64>,
}

impl Histogram {
    /// Empty, over `[low, high]`.
    pub(crate) fn new(low: f32, high: f32) -> Self {
        Self { low, high, counts: vec![0; BINS], sums: vec![0.0; BINS] }
    }

    /// Counts values; values outside count as the end of the range.
    pub(crate) fn add(&mut self, values: &[f32]) {
        const PART: usize = 64;
        let (low, high) = (self.low, self.high);
        let per_unit = BINS as f32 / (high - low).max(f32::MIN_POSITIVE);
        vectorised(
            #[inline(always)]
            || {
                for part in values.chunks(PART) {
                    let mut within = [0.0f32; PART];
                    let mut bins = [0i32; PART];
                    for ((value, bin), v) in within.iter_mut().zip(&mut bins).zip(part) {
                        *value = v.max(low).min(high);
                        *bin = (((*value - low) * per_unit) as i32).min(BINS as i32 - 1);
                    }
                    for (value, bin) in within.iter().zip(&bins).take(part.len()) {
                        self.counts[*bin as usize] += 1;
                        self.sums[*bin as usize] += f64::from(*value);
                    }
                }
            },
        );
    }

    /// Adds another histogram of the same range.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
        for (a, b) in self.sums.iter_mut().zip(&other.sums) {
            *a += b;
        }
    }

    /// (mean, count) of the non-empty bins, ascending.
    fn points(&self) -> Vec<(f32, f64)> {
        let points = self.counts.iter().zip(&self.sums).filter(|(c, _)| **c > 0);
        points.map(|(&c, &s)| ((s / c as f64) as f32, c as f64)).collect()
    }

    /// Range for this way of clipping; contains 0. [`Clipping::Auto`] is resolved by the caller and treated as `Mse`.
    pub(crate) fn range(&self, clipping: Clipping) -> (f32, f32) {
        let full = (self.low.min(0.0), self.high.max(0.0));
        match clipping {
            Clipping::MinMax => full,
            Clipping::Percentile(percent) => self.percentile(percent, full),
            Clipping::Mse | Clipping::Auto => self.least_error(full),
        }
    }

    /// Share of the values outside the range of `quant`.
    pub(crate) fn clipped(&self, quant: &Quant) -> f32 {
        let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
        // A value up to half a step further out still rounds to the bound.
        let (low, high) = ((-128.5 - zero) * scale, (127.5 - zero) * scale);
        let (mut outside, mut all) = (0.0, 0.0);
        for (v, c) in self.points() {
            all += c;
            if v < low || v > high {
                outside += c;
            }
        }
        if all > 0.0 { (outside / all) as f32 } else { 0.0 }
    }

    fn percentile(&self, percent: f32, full: (f32, f32)) -> (f32, f32) {
        let points = self.points();
        let total: f64 = points.iter().map(|p| p.1).sum();
        // One-sided values (after a ReLU) are cut at one end only: that end gets the whole share.
        let sides = if self.low >= 0.0 || self.high <= 0.0 { 1.0 } else { 2.0 };
        let cut = total * (1.0 - f64::from(percent) / 100.0) / sides;
        let end = |mut points: Box<dyn Iterator<Item = &(f32, f64)> + '_>, otherwise: f32| {
            let mut passed = 0.0;
            points
                .find(|p| {
                    passed += p.1;
                    passed > cut
                })
                .map_or(otherwise, |p| p.0)
        };
        let low = end(Box::new(points.iter()), full.0);
        let high = end(Box::new(points.iter().rev()), full.1);
        // Within one bin of the end nothing is cut: the end itself is used.
        let bin = (self.high - self.low) / BINS as f32;
        let low = if low - full.0 <= bin { full.0 } else { low };
        let high = if full.1 - high <= bin { full.1 } else { high };
        (low.min(0.0), high.max(0.0))
    }

    /// A coarse grid over both ends, then ever finer steps around the best pair.
    fn least_error(&self, full: (f32, f32)) -> (f32, f32) {
        const COARSE: usize = 20;
        let points = self.points();
        // Infinity where the error is not below the limit: the sum ends there.
        let error = |low: f32, high: f32, limit: f64| -> f64 {
            let quant = quant_of_range(low, high);
            let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
            let mut sum = 0.0;
            for part in points.chunks(64) {
                for &(v, c) in part {
                    sum += c * f64::from(on_grid(v, scale, zero) - v).powi(2);
                }
                if sum >= limit {
                    return f64::INFINITY;
                }
            }
            sum
        };
        // Shares of the full range: (low, high).
        let steps = |end: f32| if end == 0.0 { 1 } else { COARSE };
        let mut best = ((1.0, 1.0), error(full.0, full.1, f64::INFINITY));
        let consider = |share: (f32, f32), best: &mut ((f32, f32), f64)| {
            if share.0 < 0.01 && share.1 < 0.01
                || share.0 > 1.0
                || share.1 > 1.0
                || share.0 < 0.0
                || share.1 < 0.0
            {
                return;
            }
            let e = error(full.0 * share.0, full.1 * share.1, best.1);
            if e < best.1 {
                *best = (share, e);
            }
        };
        for i in 0..steps(full.0) {
            for j in 0..steps(full.1) {
                consider((1.0 - i as f32 / COARSE as f32, 1.0 - j as f32 / COARSE as f32), &mut best);
            }
        }
        let mut step = 0.5 / COARSE as f32;
        while step > 1e-3 {
            let (low, high) = best.0;
            for (a, b) in [
                (-1.0, 0.0),
                (1.0, 0.0),
                (0.0, -1.0),
                (0.0, 1.0),
                (-1.0, -1.0),
                (1.0, 1.0),
                (-1.0, 1.0),
                (1.0, -1.0),
            ] {
                consider((low + a * step, high + b * step), &mut best);
            }
            if best.0 == (low, high) {
                step *= 0.5;
            }
        }
        (full.0 * best.0.0, full.1 * best.0.1)
    }
}

/// Smallest and largest element, which may be infinite; `None` if any is NaN.
pub(crate) fn extremes(array: &ArrayD<f32>) -> Option<(f32, f32)> {
    const LANES: usize = 16;
    let values = elements(array);
    let mut lows = [f32::INFINITY; LANES];
    let mut highs = [f32::NEG_INFINITY; LANES];
    let mut odd = [0u32; LANES];
    vectorised(
        #[inline(always)]
        || {
            for part in values.chunks(LANES) {
                for (((v, low), high), odd) in part.iter().zip(&mut lows).zip(&mut highs).zip(&mut odd) {
                    *odd |= u32::from(v.is_nan());
                    *low = if v < low { *v } else { *low };
                    *high = if v > high { *v } else { *high };
                }
            }
        },
    );
    let low = lows.into_iter().fold(f32::INFINITY, f32::min);
    let high = highs.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if odd.contains(&1) {
        return None;
    }
    Some(if low > high { (0.0, 0.0) } else { (low, high) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::grid::round_to_grid;
    use proptest::prelude::*;

    fn histogram(values: &[f32]) -> Histogram {
        let low = values.iter().copied().fold(0.0, f32::min);
        let high = values.iter().copied().fold(0.0, f32::max);
        let mut h = Histogram::new(low, high);
        h.add(values);
        h
    }

    #[test]
    fn one_outlier_is_clipped_by_percentile_and_kept_by_min_max() {
        let mut values: Vec<f32> = (0..100_000).map(|i| i as f32 / 100_000.0).collect();
        values.push(100.0);
        let h = histogram(&values);
        assert_eq!(h.range(Clipping::MinMax), (0.0, 100.0));
        assert!(h.range(Clipping::Percentile(99.99)).1 < 1.1);
    }

    #[test]
    fn least_error_beats_both_ends_of_a_heavy_tail() {
        // A Laplace-like distribution, by its quantiles.
        let values: Vec<f32> = (1..20_000)
            .map(|i| {
                let p = i as f32 / 20_000.0 - 0.5;
                -p.signum() * (1.0 - 2.0 * p.abs()).ln()
            })
            .collect();
        let h = histogram(&values);
        let error = |range: (f32, f32)| -> f32 {
            let q = quant_of_range(range.0, range.1);
            values.iter().map(|&v| (round_to_grid(v, &q) - v).powi(2)).sum()
        };
        let best = error(h.range(Clipping::Mse));
        assert!(best <= error(h.range(Clipping::MinMax)));
        assert!(best <= error(h.range(Clipping::Percentile(99.0))));
    }

    #[test]
    fn pixels_stay_exact() {
        let values: Vec<f32> = (0..=255).map(|v| v as f32).collect();
        let range = histogram(&values).range(Clipping::Mse);
        let q = quant_of_range(range.0, range.1);
        assert_eq!((q.scale[0], q.zero_point[0]), (1.0, -128));
    }

    #[test]
    fn nothing_but_zeros_still_has_a_scale() {
        let q = quant_of_range(0.0, 0.0);
        assert!(q.scale[0] > 0.0);
        assert_eq!(histogram(&[0.0; 8]).range(Clipping::Mse), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn zero_is_exact_and_bounds_are_within_a_step(low in -1e4f32..0.0, high in 0.0f32..1e4) {
            let q = quant_of_range(low, high);
            prop_assert!(q.scale[0] > 0.0 && (-128..=127).contains(&q.zero_point[0]));
            prop_assert_eq!(round_to_grid(0.0, &q), 0.0);
            prop_assert!((round_to_grid(low, &q) - low).abs() <= q.scale[0] * 1.01);
            prop_assert!((round_to_grid(high, &q) - high).abs() <= q.scale[0] * 1.01);
        }
    }
}
