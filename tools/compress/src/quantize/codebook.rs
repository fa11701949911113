//! Weights of a few values: a codebook of integers for each layer, and a scale for each output channel.
//!
//! k-means in one dimension (Lloyd 1982; Han et al. 2016, "Deep Compression") on the weights in units of their
//! channel's scale, each weighted by the importance of its input, alternating with a least-squares fit of the scales.
//! The device reads the levels from the packed table of [`offshoot::format::record::ConvPacked`], which takes any
//! levels.

use ndarray::Array2;

use super::moments::Moments;
use super::rounding::{FittedWeights, error, inverse_factor, with_feedback};

/// Alternations between levels and scales.
const TURNS: usize = 6;
/// Iterations of k-means in each.
const MEANS: usize = 12;

/// Quantises `weights` `[channels, n]` to `levels` levels, one of which is zero (to fill incomplete blocks).
/// Arguments as for [`super::weights::fit`].
pub(super) fn fit(
    weights: &[f32],
    channels: usize,
    moments: Option<&Moments>,
    levels: u8,
    feedback: bool,
    floors: &[f32],
) -> FittedWeights {
    let n = weights.len().checked_div(channels).unwrap_or(0);
    if n == 0 {
        return FittedWeights { codes: Vec::new(), scales: floors.iter().map(|f| f.max(1.0)).collect() };
    }
    let group = |o: usize| moments.map_or(0, |m| o * m.groups.len() / channels);
    let importance =
        |o: usize, i: usize| moments.map_or(1.0, |m| f64::from(m.groups[group(o)].matrix[[i, i]]));
    let rows: Vec<&[f32]> = weights.chunks(n).collect();
    let largest = |w: &[f32]| w.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let usual = (largest(weights) / 127.0).max(f32::MIN_POSITIVE);
    let start = |w: &[f32], floor: f32| {
        let scale = largest(w) / 127.0;
        if scale > 0.0 { scale.max(floor) } else { usual.max(floor) }
    };
    let mut scales: Vec<f32> = rows.iter().zip(floors).map(|(w, f)| start(w, *f)).collect();
    let mut book: Vec<f32> = Vec::new();
    for _ in 0..TURNS {
        let mut points: Vec<(f32, f64)> = Vec::with_capacity(weights.len());
        for (o, w) in rows.iter().enumerate() {
            let square = f64::from(scales[o]).powi(2);
            points.extend(w.iter().enumerate().map(|(i, v)| (v / scales[o], importance(o, i) * square)));
        }
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if book.is_empty() {
            book = quantiles(&points, usize::from(levels));
        }
        means(&points, &mut book);
        for (o, w) in rows.iter().enumerate() {
            let (mut cross, mut square) = (0.0, 0.0);
            for (i, v) in w.iter().enumerate() {
                let (h, level) = (importance(o, i), f64::from(nearest(&book, v / scales[o])));
                cross += h * f64::from(*v) * level;
                square += h * level * level;
            }
            let scale = (cross / square) as f32;
            if scale.is_finite() && scale > 0.0 {
                scales[o] = scale.max(floors[o]);
            }
        }
    }
    let factors: Vec<Option<Array2<f32>>> = match moments.filter(|_| feedback) {
        Some(m) => m.groups.iter().map(|h| inverse_factor(h.matrix.view())).collect(),
        None => vec![None],
    };
    let mut codes = Vec::with_capacity(weights.len());
    for (o, w) in rows.iter().enumerate() {
        let plain: Vec<i8> = w.iter().map(|v| nearest(&book, v / scales[o]) as i8).collect();
        let h = moments.map(|m| &m.groups[group(o)]);
        let fed = factors[group(o).min(factors.len() - 1)].as_ref();
        let one = |factor| with_feedback(w, &scales[o..=o], factor, false, |v| nearest(&book, v)).pop();
        let fed = fed.and_then(one);
        match fed {
            Some(fed) if error(w, &fed, scales[o], h) < error(w, &plain, scales[o], h) => codes.extend(fed),
            _ => codes.extend(plain),
        }
    }
    FittedWeights { codes, scales }
}

/// The level nearest to `v`; `book` is ascending and not empty.
fn nearest(book: &[f32], v: f32) -> f32 {
    let above = book.partition_point(|l| *l < v).min(book.len() - 1);
    let below = above.saturating_sub(1);
    if (v - book[below]).abs() <= (book[above] - v).abs() { book[below] } else { book[above] }
}

/// Initial levels at equal quantiles of the points, ascending, one of them zero.
fn quantiles(points: &[(f32, f64)], levels: usize) -> Vec<f32> {
    let at = |k: usize| points[((2 * k + 1) * points.len() / (2 * levels)).min(points.len() - 1)].0;
    whole((0..levels).map(at).collect())
}

/// Rounds levels to int8; the one nearest to zero becomes zero.
fn whole(mut book: Vec<f32>) -> Vec<f32> {
    book.iter_mut().for_each(|l| *l = l.round().clamp(-127.0, 127.0));
    if let Some(least) = book.iter_mut().min_by(|a, b| a.abs().total_cmp(&b.abs())) {
        *least = 0.0;
    }
    book.sort_by(f32::total_cmp);
    book
}

/// Lloyd's iterations on sorted points, then rounding to integers.
fn means(points: &[(f32, f64)], book: &mut Vec<f32>) {
    for _ in 0..MEANS {
        let mut sums = vec![(0.0f64, 0.0f64); book.len()];
        let mut k = 0;
        for &(v, a) in points {
            while k + 1 < book.len() && v > book[k].midpoint(book[k + 1]) {
                k += 1;
            }
            sums[k].0 += a * f64::from(v);
            sums[k].1 += a;
        }
        for (level, (sum, weight)) in book.iter_mut().zip(sums) {
            if *level != 0.0 && weight > 0.0 {
                *level = (sum / weight) as f32;
            }
        }
        book.sort_by(f32::total_cmp);
    }
    *book = whole(std::mem::take(book));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::form::Form;
    use crate::quantize::options::WeightScale;
    use crate::quantize::weights::{self, Grid};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Normally distributed numbers.
    fn bell(n: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..6).map(|_| next()).sum()).collect()
    }

    #[test]
    fn a_codebook_errs_less_than_even_steps() {
        let w = bell(8 * 64, 5);
        let total = |f: &FittedWeights| -> f64 {
            (0..8).map(|o| error(&w[o * 64..][..64], &f.codes[o * 64..][..64], f.scales[o], None)).sum()
        };
        let grid = |form| {
            weights::fit(&w, 8, None, Grid { form, scale: WeightScale::Auto, feedback: false }, &[0.0; 8])
        };
        let (even, book) = (grid(Form::Even(4)), grid(Form::Codebook(16)));
        assert!(total(&book) < 0.85 * total(&even), "{} {}", total(&book), total(&even));
        let (even, book) = (grid(Form::Even(2)), grid(Form::Codebook(4)));
        assert!(total(&book) < total(&even), "{} {}", total(&book), total(&even));
    }

    proptest! {
        #[test]
        fn levels_are_few_and_zero_is_one(
            seed in any::<u64>(),
            levels in 3u8..=16,
            zero in 0usize..4,
        ) {
            let mut w = bell(4 * 20, seed);
            w[zero * 20..][..20].fill(0.0);
            let f = fit(&w, 4, None, levels, false, &[0.0; 4]);
            let kinds: BTreeSet<i8> = f.codes.iter().copied().chain([0]).collect();
            prop_assert!(kinds.len() <= usize::from(levels), "{kinds:?}");
            prop_assert!(f.codes[zero * 20..][..20].iter().all(|c| *c == 0));
            prop_assert!(f.scales.iter().all(|s| s.is_finite() && *s > 0.0));
            prop_assert!(!f.codes.contains(&i8::MIN));
        }
    }
}
