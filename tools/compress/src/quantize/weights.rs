//! Integer weights: symmetric, one scale per output channel, codes in [-127, 127], or 15 or 3 levels.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};
use offshoot_ir::grid::{self, round};
use rayon::prelude::*;

use super::codebook;
use super::form::Form;
use super::moments::Moments;
use super::options::WeightScale;
use super::rounding::{FittedWeights, errors, inverse_factor, with_feedback};
use super::vectors::vectorised;

/// The integer grid, and how weights are rounded to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) form: Form,
    pub(crate) scale: WeightScale,
    pub(crate) feedback: bool,
}

impl Grid {
    /// Largest code.
    fn top(self) -> f32 {
        grid::top(self.form.bits())
    }

    /// See [`grid::spread`].
    fn spread(self) -> i8 {
        grid::spread(self.form.bits())
    }

    /// Lower end of the scale search, in hundredths of the full range: few levels need a narrow range.
    fn reach(self) -> usize {
        if self.form.bits() == 8 { 50 } else { 90 }
    }
}

/// Quantises `weights` `[channels, n]`.
///
/// `floors`: least scale of each channel (so that bias and multiplier fit their formats). `moments`: of the input;
/// without them all inputs count alike and `grid.feedback` has no effect.
pub(crate) fn fit(
    weights: &[f32],
    channels: usize,
    moments: Option<&Moments>,
    grid: Grid,
    floors: &[f32],
) -> FittedWeights {
    if let Form::Codebook(levels) = grid.form {
        return codebook::fit(weights, channels, moments, levels, grid.feedback, floors);
    }
    let (option, top, spread) = (grid.scale, grid.top(), grid.spread());
    let floors: Vec<f32> = floors.iter().map(|f| f * f32::from(spread)).collect();
    let n = weights.len().checked_div(channels).unwrap_or(0);
    if n == 0 {
        return FittedWeights { codes: Vec::new(), scales: floors.iter().map(|f| f.max(1.0)).collect() };
    }
    let factors: Option<Vec<Option<Array2<f32>>>> = grid
        .feedback
        .then(|| moments.map(|m| m.groups.par_iter().map(|h| inverse_factor(h.matrix.view())).collect()))
        .flatten();
    let usual = usual_scale(weights, top);
    let group_of = |o: usize| moments.map(|m| o * m.groups.len() / channels);
    let candidates = |o: usize, w: &[f32]| -> Vec<Candidate> {
        let h = moments.zip(group_of(o)).map(|(m, g)| m.groups[g].matrix.view());
        let full = w.iter().fold(0.0f32, |m, v| m.max(v.abs())) / top;
        if full <= 0.0 {
            return vec![(vec![0; n], usual.max(floors[o]))];
        }
        let full = full.max(floors[o]).max(f32::MIN_POSITIVE);
        let mut scales = Vec::with_capacity(2);
        if option != WeightScale::Mse {
            scales.push(full);
        }
        if option != WeightScale::MinMax {
            let least = least_error_scale(w, h, full, floors[o], grid);
            // The same scale again would be the same candidates.
            if !scales.contains(&least) {
                scales.push(least);
            }
        }
        let factor = factors.as_ref().zip(group_of(o)).and_then(|(f, g)| f[g].as_ref());
        let mut fed = match factor {
            Some(factor) => with_feedback(w, &scales, factor, true, |v| round(v).clamp(-top, top)),
            None => Vec::new(),
        }
        .into_iter();
        let mut all = Vec::with_capacity(4);
        for scale in scales {
            all.push((nearest(w, scale, top), scale));
            all.extend(fed.next().map(|codes| (codes, scale)));
        }
        all
    };
    // Blocks of channels with the same moments: their errors are one matrix product. Wide layers use large blocks, so
    // that the moments are read less often. The size depends only on the layer, and the results do not depend on it.
    let most = if n >= WIDE { 8 * BLOCK } else { BLOCK };
    let mut blocks: Vec<Range<usize>> = Vec::new();
    for o in 0..channels {
        match blocks.last_mut() {
            Some(block) if block.len() < most && group_of(block.start) == group_of(o) => block.end = o + 1,
            _ => blocks.push(o..o + 1),
        }
    }
    let rows: Vec<Vec<Candidate>> = blocks
        .into_par_iter()
        .map(|block| {
            let h = moments.zip(group_of(block.start)).map(|(m, g)| &m.groups[g]);
            let own = |o: usize| &weights[o * n..(o + 1) * n];
            let all: Vec<Vec<Candidate>> = block.clone().map(|o| candidates(o, own(o))).collect();
            let pairs = || block.clone().zip(&all).flat_map(|(o, all)| all.iter().map(move |c| (own(o), c)));
            let mut errors =
                errors(pairs().map(|(w, (codes, scale))| (w, codes.as_slice(), *scale)), n, h).into_iter();
            let best = |all: Vec<Candidate>| {
                let mut best: Option<(f64, Candidate)> = None;
                for (candidate, e) in all.into_iter().zip(&mut errors) {
                    if best.as_ref().is_none_or(|b| e < b.0) {
                        best = Some((e, candidate));
                    }
                }
                // Each channel has a candidate.
                best.map_or_else(|| (vec![0; n], usual), |b| b.1)
            };
            all.into_iter().map(best).collect()
        })
        .collect();
    let scales = rows.iter().flatten().map(|r| r.1 / f32::from(spread)).collect();
    let mut codes = Vec::with_capacity(weights.len());
    for (row, _) in rows.iter().flatten() {
        codes.extend(row.iter().map(|q| q * spread));
    }
    FittedWeights { codes, scales }
}

/// Codes of a channel's weights, and their scale.
type Candidate = (Vec<i8>, f32);

/// Channels whose errors are computed together.
const BLOCK: usize = 32;
/// Weights per channel from which on a layer counts as wide.
const WIDE: usize = 256;

/// Scale of an all-zero channel: what the whole tensor would have.
fn usual_scale(weights: &[f32], top: f32) -> f32 {
    let scale = weights.iter().fold(0.0f32, |m, v| m.max(v.abs())) / top;
    if scale > 0.0 { scale } else { 1.0 }
}

fn nearest(w: &[f32], scale: f32, top: f32) -> Vec<i8> {
    w.iter().map(|v| grid::weight_code(*v, scale, top)).collect()
}

/// Searches below the full range, by the diagonal of the moments.
fn least_error_scale(w: &[f32], h: Option<ArrayView2<'_, f32>>, full: f32, floor: f32, grid: Grid) -> f32 {
    let top = grid.top();
    let importance: Vec<f32> = match h {
        Some(h) => h.diag().to_vec(),
        None => vec![1.0; w.len()],
    };
    // Weights that a narrower range clips, the largest first.
    let least = full * top * (1.0 - grid.reach() as f32 / 100.0);
    let large = w.iter().zip(&importance).map(|(w, i)| (w.abs(), *i)).filter(|(w, _)| *w > least);
    let mut large: Vec<(f32, f32)> = large.collect();
    large.sort_by(|a, b| b.0.total_cmp(&a.0));
    vectorised(
        #[inline(always)]
        || {
            let mut best = (f64::INFINITY, full);
            for step in 0..=grid.reach() {
                let scale = full * (1.0 - step as f32 / 100.0);
                if scale < floor || scale <= 0.0 {
                    break;
                }
                if clipping_exceeds(&large, scale * top, best.0) {
                    continue;
                }
                if let Some(e) = error_below(w, &importance, scale, top, best.0) {
                    best = (e, scale);
                }
            }
            best.1
        },
    )
}

/// Whether the weights above `bound` alone have a weighted squared error of `limit`, each with the term that [`error_below`] adds
/// for it. `large` holds weights and their importance, the largest weight first.
fn clipping_exceeds(large: &[(f32, f32)], bound: f32, limit: f64) -> bool {
    // The sum of all terms is rounded in another order.
    const ROUNDING: f64 = 1.0 - 1e-9;
    let mut sum = 0.0;
    for (w, importance) in large.iter().take_while(|(w, _)| *w > bound) {
        let d = w - bound;
        sum += f64::from(importance * d * d);
        if sum * ROUNDING >= limit {
            return true;
        }
    }
    false
}

/// Weighted squared error of weights rounded with `scale`, if it is below `limit`. Terms are added up one after the other
/// until the sum reaches the limit.
#[inline(always)]
fn error_below(w: &[f32], importance: &[f32], scale: f32, top: f32, limit: f64) -> Option<f64> {
    const PART: usize = 64;
    let mut sum = 0.0;
    for (w, importance) in w.chunks(PART).zip(importance.chunks(PART)) {
        let mut terms = [0.0; PART];
        for ((term, v), importance) in terms.iter_mut().zip(w).zip(importance) {
            let d = v - scale * round(v / scale).clamp(-top, top);
            *term = importance * d * d;
        }
        for term in &terms[..w.len()] {
            sum += f64::from(*term);
        }
        if sum >= limit {
            return None;
        }
    }
    (sum < limit).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::moments::Moment;
    use super::super::rounding::error;
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u32, n: usize) -> Vec<f32> {
        let mut s = seed | 1;
        (0..n)
            .map(|_| {
                s ^= s << 13;
                s ^= s >> 17;
                s ^= s << 5;
                s as f32 / u32::MAX as f32 - 0.5
            })
            .collect()
    }

    fn correlated(n: usize) -> Moments {
        let rows = Array2::from_shape_vec((200, n), noise(7, 200 * n)).unwrap();
        let mix = Array2::from_shape_fn((n, n), |(i, j)| 0.8f32.powi((i as i32 - j as i32).abs()));
        let x = rows.dot(&mix);
        let matrix = x.t().dot(&x) / 200.0 + Array2::<f32>::eye(n) * 1e-3;
        Moments { groups: vec![Moment { matrix, damping: 1e-3, rows: None }] }
    }

    #[test]
    fn factor_is_that_of_the_inverse() {
        let m = correlated(6);
        let u = inverse_factor(m.groups[0].matrix.view()).unwrap();
        let product = u.t().dot(&u).dot(&m.groups[0].matrix);
        for ((i, j), v) in product.indexed_iter() {
            assert!((v - f32::from(u8::from(i == j))).abs() < 1e-2, "{i} {j} {v}");
        }
    }

    /// Panels, groups of rows and what is left of them.
    #[test]
    fn factor_of_many_inputs() {
        let mut m = correlated(150).groups.remove(0).matrix;
        // Inputs that never move.
        for i in [3, 70, 149] {
            m.row_mut(i).fill(0.0);
            m.column_mut(i).fill(0.0);
            m[[i, i]] = 1e-3;
        }
        let u = inverse_factor(m.view()).unwrap();
        for ((i, j), v) in u.t().dot(&u).dot(&m).indexed_iter() {
            assert!((v - f32::from(u8::from(i == j))).abs() < 2e-2, "{i} {j} {v}");
        }
        m[[80, 80]] = -1.0;
        assert!(inverse_factor(m.view()).is_none());
    }

    #[test]
    fn few_observations_give_the_error_of_their_moments() {
        let x = Array2::from_shape_vec((20, 64), noise(11, 20 * 64)).unwrap();
        let matrix = x.t().dot(&x) / 20.0 + Array2::<f32>::eye(64) * 1e-2;
        let (w, codes) = (noise(13, 64), vec![1i8; 64]);
        let of = |rows| error(&w, &codes, 0.1, Some(&Moment { matrix: matrix.clone(), damping: 1e-2, rows }));
        let (whole, few) = (of(None), of(Some(x.clone())));
        assert!((whole - few).abs() < 1e-4 * whole, "{whole} {few}");
    }

    #[test]
    fn feedback_disturbs_the_output_less() {
        let m = correlated(32);
        let w = noise(3, 4 * 32);
        let h = Some(&m.groups[0]);
        let total = |f: &FittedWeights| -> f64 {
            (0..4).map(|o| error(&w[o * 32..][..32], &f.codes[o * 32..][..32], f.scales[o], h)).sum()
        };
        let grid = Grid { form: Form::Even(8), scale: WeightScale::MinMax, feedback: false };
        let plain = fit(&w, 4, Some(&m), grid, &[0.0; 4]);
        let fed = fit(&w, 4, Some(&m), Grid { feedback: true, ..grid }, &[0.0; 4]);
        assert!(total(&fed) < 0.7 * total(&plain), "{} {}", total(&fed), total(&plain));
    }

    #[test]
    fn feedback_keeps_pruned_weights_at_zero() {
        let m = correlated(32);
        let mut w = noise(5, 2 * 32);
        w.iter_mut().enumerate().filter(|(i, _)| i % 3 != 0).for_each(|(_, w)| *w = 0.0);
        let grid = Grid { form: Form::Even(8), scale: WeightScale::MinMax, feedback: true };
        let fitted = fit(&w, 2, Some(&m), grid, &[0.0; 2]);
        assert!(w.iter().zip(&fitted.codes).all(|(w, q)| *w != 0.0 || *q == 0));
    }

    proptest! {
        #[test]
        fn scales_left_out_by_the_clipped_weights_are_not_the_best(
            w in proptest::collection::vec(-1f32..1.0, 1..300),
            outlier in 1f32..8.0,
            bits in proptest::sample::select(vec![2u8, 4, 8]),
        ) {
            let mut w = w;
            w[0] *= outlier;
            let grid = Grid { form: Form::Even(bits), scale: WeightScale::Mse, feedback: false };
            let full = w.iter().fold(0.0f32, |m, v| m.max(v.abs())) / grid.top();
            let importance = vec![1.0; w.len()];
            let mut best = (f64::INFINITY, full);
            for step in 0..=grid.reach() {
                let scale = full * (1.0 - step as f32 / 100.0);
                if let Some(e) = error_below(&w, &importance, scale, grid.top(), best.0) {
                    best = (e, scale);
                }
            }
            prop_assert_eq!(least_error_scale(&w, None, full, 0.0, grid), best.1);
        }

        #[test]
        fn codes_are_narrow_and_scales_positive(
            w in proptest::collection::vec(-10f32..10.0, 12),
            zero in 0usize..3,
            bits in proptest::sample::select(vec![2u8, 4, 8]),
        ) {
            let mut w = w;
            w[zero * 4..zero * 4 + 4].fill(0.0);
            let f = fit(&w, 3, None, Grid { form: Form::Even(bits), scale: WeightScale::Auto, feedback: false }, &[0.0; 3]);
            prop_assert!(f.scales.iter().all(|s| *s > 0.0 && s.is_finite()));
            let top = [64, 56, 127][bits as usize / 3];
            prop_assert!(f.codes.iter().all(|c| (-top..=top).contains(c)));
            prop_assert!(f.codes[zero * 4..zero * 4 + 4].iter().all(|c| *c == 0));
        }
    }
}
