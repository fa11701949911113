//! Rounding of weights, and the resulting error of an operator's output.

use ndarray::{Array2, ArrayView1, ArrayView2};

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
pub(super) fn error(w: &[f32], codes: &[i8], scale: f32, h: Option<ArrayView2<'_, f32>>) -> f64 {
    errors(std::iter::once((w, codes, scale)), w.len(), h).first().copied().unwrap_or(0.0)
}

/// [`error`] for many rows of `width` weights with the same moments (weights, codes, scale), by one matrix product.
pub(super) fn errors<'a>(
    rows: impl Iterator<Item = (&'a [f32], &'a [i8], f32)>,
    width: usize,
    h: Option<ArrayView2<'_, f32>>,
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
        Some(h) => {
            let product = d.dot(&h);
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

/// Rows that are factored together: each row above them is then read once for all.
const TOGETHER: usize = 4;

#[inline(always)]
fn inverse_factor_of(h: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
    let n = h.nrows();
    let whole = n / TOGETHER * TOGETHER;
    let mut l = vec![0.0f64; n * n];
    for first in (0..whole).step_by(TOGETHER) {
        factor_rows::<TOGETHER>(h, &mut l, first)?;
    }
    for first in whole..n {
        factor_rows::<1>(h, &mut l, first)?;
    }
    let mut inv = vec![0.0f64; n * n];
    for first in (0..whole).step_by(TOGETHER) {
        invert_rows::<TOGETHER>(&l, &mut inv, n, first);
    }
    for first in whole..n {
        invert_rows::<1>(&l, &mut inv, n, first);
    }
    let mut u = Array2::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            u[[n - 1 - i, n - 1 - j]] = inv[i * n + j] as f32;
        }
    }
    Some(u)
}

/// Rows `first` to `first + R` of the lower factor of the reversed `h`, below the rows of `l` before them. `None` if a pivot is
/// not positive.
#[inline(always)]
fn factor_rows<const R: usize>(h: ArrayView2<'_, f32>, l: &mut [f64], first: usize) -> Option<()> {
    let n = h.nrows();
    let wanted = |i: usize, j: usize| f64::from(h[[n - 1 - i, n - 1 - j]]);
    let (head, own) = l.split_at_mut(first * n);
    for j in 0..first {
        let above = &head[j * n..][..=j];
        let dots = dots::<R>(std::array::from_fn(|r| &own[r * n..][..j]), &above[..j]);
        for (r, dot) in dots.into_iter().enumerate() {
            own[r * n + j] = (wanted(first + r, j) - dot) / above[j];
        }
    }
    for r in 0..R {
        for q in 0..=r {
            let j = first + q;
            let [dot] = dots([&own[r * n..][..j]], &own[q * n..][..j]);
            let value = wanted(first + r, j) - dot;
            if q < r {
                own[r * n + j] = value / own[q * n + j];
            } else if value > 0.0 {
                own[r * n + j] = value.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(())
}

/// Rows `first` to `first + R` of the inverse of the lower factor `l`: `inv[i] = (e_i - sum_j<i l[i][j] inv[j]) / l[i][i]`.
#[inline(always)]
fn invert_rows<const R: usize>(l: &[f64], inv: &mut [f64], n: usize, first: usize) {
    let (head, own) = inv.split_at_mut(first * n);
    for j in 0..first {
        let above = &head[j * n..][..=j];
        let factors: [f64; R] = std::array::from_fn(|r| l[(first + r) * n + j]);
        let mut rest = own.chunks_exact_mut(n);
        let rows: [&mut [f64]; R] =
            std::array::from_fn(|_| rest.next().map_or(&mut [][..], |row| &mut row[..=j]));
        if factors.contains(&0.0) {
            for (row, factor) in rows.into_iter().zip(factors).filter(|(_, factor)| *factor != 0.0) {
                row.iter_mut().zip(above).for_each(|(x, v)| *x -= factor * v);
            }
        } else {
            subtract(rows, factors, above);
        }
    }
    for r in 0..R {
        let (before, row) = own.split_at_mut(r * n);
        let diagonal = &l[(first + r) * n..][..=first + r];
        for q in 0..r {
            let (factor, end) = (diagonal[first + q], first + q);
            if factor != 0.0 {
                row[..=end].iter_mut().zip(&before[q * n..][..=end]).for_each(|(x, v)| *x -= factor * v);
            }
        }
        row[first + r] += 1.0;
        let d = diagonal[first + r];
        row[..=first + r].iter_mut().for_each(|v| *v /= d);
    }
}

/// Subtracts `above` times its factor from each of the rows, which are as long.
#[inline(always)]
fn subtract<const R: usize>(mut rows: [&mut [f64]; R], factors: [f64; R], above: &[f64]) {
    const LANES: usize = 8;
    let whole = above.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let above = &above[at..][..LANES];
        for (row, factor) in rows.iter_mut().zip(factors) {
            row[at..][..LANES].iter_mut().zip(above).for_each(|(x, v)| *x -= factor * v);
        }
    }
    for (row, factor) in rows.iter_mut().zip(factors) {
        row[whole..].iter_mut().zip(&above[whole..]).for_each(|(x, v)| *x -= factor * v);
    }
}

/// The dot product of `b` with each of the rows, in eight sums that the compiler keeps in vectors; they are added up as ndarray
/// does it.
#[inline(always)]
fn dots<const R: usize>(rows: [&[f64]; R], b: &[f64]) -> [f64; R] {
    const LANES: usize = 8;
    let mut sums = [[0.0; LANES]; R];
    let whole = b.len() / LANES * LANES;
    for at in (0..whole).step_by(LANES) {
        let b = &b[at..][..LANES];
        for (sums, row) in sums.iter_mut().zip(rows) {
            for ((sum, a), b) in sums.iter_mut().zip(&row[at..][..LANES]).zip(b) {
                *sum += a * b;
            }
        }
    }
    std::array::from_fn(|r| {
        let (low, high) = sums[r].split_at(LANES / 2);
        let sum = low.iter().zip(high).fold(0.0, |sum, (low, high)| sum + (low + high));
        rows[r][whole..].iter().zip(&b[whole..]).fold(sum, |sum, (a, b)| sum + a * b)
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
