//! Rounding of weights, and the resulting error of an operator's output.

use std::ops::Range;

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::moments::Moment;
use super::vectors::vectorised;

/// Quantised weights of one operator.
#[derive(Clone, Debug)]
pub(crate) struct FittedWeights {
    /// Row-major, in the layout of the float weights.
    pub(crate) codes: Vec<i8>,
    /// One for each output channel.
    pub(crate) scales: Vec<f32>,
}

/// Output error caused by the error of the weights.
pub(super) fn error(w: &[f32], codes: &[i8], scale: f32, h: Option<&Moment>) -> f64 {
    errors(std::iter::once((w, codes, scale)), w.len(), h).first().copied().unwrap_or(0.0)
}

/// [`error`] for many rows of `width` weights with the same moments (weights, codes, scale), by one matrix product.
pub(super) fn errors<'a>(
    rows: impl Iterator<Item = (&'a [f32], &'a [i8], f32)>,
    width: usize,
    h: Option<&Moment>,
) -> Vec<f64> {
    let mut differences: Vec<f32> = Vec::new();
    for (w, codes, scale) in rows {
        differences.extend(w.iter().zip(codes).map(|(w, &q)| w - scale * f32::from(q)));
    }
    let count = differences.len().checked_div(width).unwrap_or(0);
    let Some(d) = ArrayView2::from_shape((count, width), &differences).ok().filter(|d| !d.is_empty()) else {
        return vec![0.0; count];
    };
    let sum = |a: ArrayView1<'_, f32>, b: ArrayView1<'_, f32>| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    match h {
        None => d.outer_iter().map(|d| sum(d, d)).collect(),
        Some(Moment { rows: Some(x), damping, .. }) => {
            let product = d.dot(&x.t());
            let share = 1.0 / x.nrows().max(1) as f64;
            let one = |(d, p)| sum(p, p) * share + f64::from(*damping) * sum(d, d);
            d.outer_iter().zip(product.outer_iter()).map(one).collect()
        }
        Some(h) => {
            let product = d.dot(&h.matrix);
            d.outer_iter().zip(product.outer_iter()).map(|(d, p)| sum(d, p)).collect()
        }
    }
}

/// Upper Cholesky factor of the inverse of `h`, for error feedback. `None` if `h` is not positive definite.
///
/// With `h` reversed in both axes and factored as `L·Lᵀ`, reversing `L` gives an upper `U` with `U·Uᵀ = h`; then
/// `h⁻¹ = U⁻ᵀ·U⁻¹`, whose upper factor's rows are those of `U⁻¹`.
pub(super) fn inverse_factor(h: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
    vectorised(
        #[inline(always)]
        || inverse_factor_of(h),
    )
}

/// Rows that are computed together: what they read is then loaded once for all.
const TOGETHER: usize = 4;
/// Rows for which the rows above are read from memory once.
const PANEL: usize = 64;

#[inline(always)]
fn inverse_factor_of(h: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
    let n = h.nrows();
    let mut l = vec![0.0f64; n * n];
    for first in (0..n).step_by(PANEL) {
        factor_panel(h, &mut l, first..(first + PANEL).min(n))?;
    }
    let mut inv = vec![0.0f64; n * n];
    for first in (0..n).step_by(TOGETHER) {
        match n - first >= TOGETHER {
            true => invert_rows::<TOGETHER>(&l, &mut inv, n, first),
            false => (first..n).for_each(|first| invert_rows::<1>(&l, &mut inv, n, first)),
        }
    }
    let mut u = Array2::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            u[[n - 1 - i, n - 1 - j]] = inv[i * n + j] as f32;
        }
    }
    Some(u)
}

/// The rows `panel` of the lower factor of the reversed `h`, where `l` has the rows before them. `None` if a pivot is not positive.
#[inline(always)]
fn factor_panel(h: ArrayView2<'_, f32>, l: &mut [f64], panel: Range<usize>) -> Option<()> {
    let n = h.nrows();
    let (head, own) = l.split_at_mut(panel.start * n);
    let rows = panel.len();
    let whole = rows / TOGETHER * TOGETHER;
    for j in 0..panel.start {
        let above = &head[j * n..][..=j];
        for r in (0..whole).step_by(TOGETHER) {
            factor_column::<TOGETHER>(h, &mut own[r * n..], panel.start + r, above);
        }
        for r in whole..rows {
            factor_column::<1>(h, &mut own[r * n..], panel.start + r, above);
        }
    }
    for r in 0..rows {
        let i = panel.start + r;
        if r < whole && r % TOGETHER == 0 {
            // Columns that belong to earlier rows of the panel.
            let (before, own) = own.split_at_mut(r * n);
            for q in 0..r {
                let above = &before[q * n..][..=panel.start + q];
                factor_column::<TOGETHER>(h, own, i, above);
            }
        }
        let done = if r < whole { r / TOGETHER * TOGETHER } else { 0 };
        let (before, own) = own.split_at_mut(r * n);
        for q in done..r {
            factor_column::<1>(h, own, i, &before[q * n..][..=panel.start + q]);
        }
        let [dot] = dots([&own[..i]], &own[..i]);
        let pivot = f64::from(h[[n - 1 - i, n - 1 - i]]) - dot;
        if pivot.is_nan() || pivot <= 0.0 {
            return None;
        }
        own[i] = pivot.sqrt();
    }
    Some(())
}

/// One column of rows `first` to `first + R` of the lower factor, which lie in `own`. `above` is the row of the factor up to and
/// with its diagonal to which the column belongs.
#[inline(always)]
fn factor_column<const R: usize>(h: ArrayView2<'_, f32>, own: &mut [f64], first: usize, above: &[f64]) {
    let n = h.nrows();
    let Some((diagonal, above)) = above.split_last() else { return };
    let j = above.len();
    let dots = dots::<R>(std::array::from_fn(|r| &own[r * n..][..j]), above);
    for (r, dot) in dots.into_iter().enumerate() {
        own[r * n + j] = (f64::from(h[[n - 1 - first - r, n - 1 - j]]) - dot) / diagonal;
    }
}

/// Rows `first` to `first + R` of the inverse of the lower factor `l`: `inv[i] = (e_i - sum_j<i l[i][j] inv[j]) / l[i][i]`.
#[inline(always)]
fn invert_rows<const R: usize>(l: &[f64], inv: &mut [f64], n: usize, first: usize) {
    let (head, own) = inv.split_at_mut(first * n);
    let mut rest = own.chunks_exact_mut(n);
    let mut rows: [&mut [f64]; R] = std::array::from_fn(|_| rest.next().unwrap_or_default());
    let whole = first / TOGETHER * TOGETHER;
    for j in (0..whole).step_by(TOGETHER) {
        subtract::<R, TOGETHER>(&mut rows, &l[first * n..], head, n, j);
    }
    for j in whole..first {
        subtract::<R, 1>(&mut rows, &l[first * n..], head, n, j);
    }
    for r in 0..R {
        let (before, row) = rows.split_at_mut(r);
        let (row, i) = (&mut row[0], first + r);
        let factors = &l[i * n..][..=i];
        for (q, above) in before.iter().enumerate() {
            let factor = factors[first + q];
            row[..=first + q].iter_mut().zip(above.iter()).for_each(|(x, v)| *x -= factor * v);
        }
        row[i] += 1.0;
        let d = factors[i];
        row[..=i].iter_mut().for_each(|v| *v /= d);
    }
}

/// Subtracts rows `first` to `first + J` of the inverse, which are in `head`, times the rows' factors in those columns. Elements to
/// the right of a diagonal are zero.
#[inline(always)]
fn subtract<const R: usize, const J: usize>(
    rows: &mut [&mut [f64]; R],
    factors: &[f64],
    head: &[f64],
    n: usize,
    first: usize,
) {
    const LANES: usize = 8;
    let factors: [[f64; J]; R] = std::array::from_fn(|r| std::array::from_fn(|q| factors[r * n + first + q]));
    let length = first + J;
    let above: [&[f64]; J] = std::array::from_fn(|q| &head[(first + q) * n..][..length]);
    let whole = length / LANES * LANES;
    let parts: [&[[f64; LANES]]; J] = above.map(|above| above[..whole].as_chunks().0);
    let mut own: [&mut [[f64; LANES]]; R] = rows.each_mut().map(|row| row[..whole].as_chunks_mut().0);
    for at in 0..whole / LANES {
        let above: [&[f64; LANES]; J] = std::array::from_fn(|q| &parts[q][at]);
        for (row, factors) in own.iter_mut().zip(&factors) {
            let mut sums = row[at];
            for (above, factor) in above.iter().zip(factors) {
                sums = std::array::from_fn(|k| sums[k] - factor * above[k]);
            }
            row[at] = sums;
        }
    }
    for (row, factors) in rows.iter_mut().zip(&factors) {
        for (above, factor) in above.iter().zip(factors) {
            row[whole..length].iter_mut().zip(&above[whole..]).for_each(|(x, v)| *x -= factor * v);
        }
    }
}

/// The dot product of `b` with each of the rows, in eight sums that the compiler keeps in vectors; they are added up as ndarray
/// does it.
#[inline(always)]
fn dots<const R: usize>(rows: [&[f64]; R], b: &[f64]) -> [f64; R] {
    const LANES: usize = 8;
    let mut sums = [[0.0; LANES]; R];
    let (parts, rest) = b.as_chunks::<LANES>();
    let rows: [(&[[f64; LANES]], &[f64]); R] = rows.map(|row| row[..b.len()].as_chunks());
    for (at, b) in parts.iter().enumerate() {
        for (sums, (row, _)) in sums.iter_mut().zip(&rows) {
            let products: [f64; LANES] = std::array::from_fn(|k| row[at][k] * b[k]);
            *sums = std::array::from_fn(|k| sums[k] + products[k]);
        }
    }
    // Otherwise the compiler keeps a lane of all rows in one vector, for the sums below, and gathers every operand.
    let sums = std::hint::black_box(sums);
    std::array::from_fn(|r| {
        let (low, high) = sums[r].split_at(LANES / 2);
        let sum = low.iter().zip(high).fold(0.0, |sum, (low, high)| sum + (low + high));
        rows[r].1.iter().zip(rest).fold(sum, |sum, (a, b)| sum + a * b)
    })
}

/// Rounds one weight after the other and moves the error to those not rounded yet, once for each of the scales. With
/// `zeros`, a weight of zero stays zero, as in SparseGPT (Frantar and Alistarh 2023): pruned weights do not come back.
pub(super) fn with_feedback(
    w: &[f32],
    scales: &[f32],
    factor: &Array2<f32>,
    zeros: bool,
    nearest: impl Fn(f32) -> f32,
) -> Vec<Vec<i8>> {
    vectorised(
        #[inline(always)]
        || feedback(w, scales, factor, zeros, &nearest),
    )
}

#[inline(always)]
fn feedback(
    w: &[f32],
    scales: &[f32],
    factor: &Array2<f32>,
    zeros: bool,
    nearest: &impl Fn(f32) -> f32,
) -> Vec<Vec<i8>> {
    let mut left = vec![w.to_vec(); scales.len()];
    let mut codes = vec![vec![0; w.len()]; scales.len()];
    // Slices, so that the compiler makes vector instructions of the loop that takes all the time.
    let factor = factor.as_standard_layout();
    let rows = factor.as_slice().unwrap_or_default().chunks_exact(w.len().max(1));
    for (i, row) in rows.enumerate() {
        for ((left, codes), scale) in left.iter_mut().zip(&mut codes).zip(scales) {
            let q = if zeros && w[i] == 0.0 { 0.0 } else { nearest(left[i] / scale) };
            codes[i] = q as i8;
            let e = (left[i] - q * scale) / row[i];
            left[i + 1..].iter_mut().zip(&row[i + 1..]).for_each(|(v, u)| *v -= e * u);
        }
    }
    codes
}
