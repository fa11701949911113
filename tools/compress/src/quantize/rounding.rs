//! Rounding of weights, and the resulting error of an operator's output.

use ndarray::{Array2, ArrayView1, ArrayView2};
use pulp::Arch;

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
    Arch::new().dispatch(
        #[inline(always)]
        || inverse_factor_of(h),
    )
}

#[inline(always)]
fn inverse_factor_of(h: ArrayView2<'_, f32>) -> Option<Array2<f32>> {
    let n = h.nrows();
    let mut l = vec![0.0f64; n * n];
    for i in 0..n {
        for j in 0..=i {
            let (head, tail) = l.split_at(i * n);
            let (row_i, row_j) = (&tail[..j], if j < i { &head[j * n..j * n + j] } else { &tail[..j] });
            let dot = dot(row_i, row_j);
            let value = f64::from(h[[n - 1 - i, n - 1 - j]]) - dot;
            if i == j {
                if value <= 0.0 {
                    return None;
                }
                l[i * n + i] = value.sqrt();
            } else {
                l[i * n + j] = value / l[j * n + j];
            }
        }
    }
    // Inverse of the lower factor, row by row: inv[i] = (e_i - sum_j<i l[i][j] inv[j]) / l[i][i].
    let mut inv = vec![0.0f64; n * n];
    for i in 0..n {
        let (head, tail) = inv.split_at_mut(i * n);
        let row = &mut tail[..n];
        for j in 0..i {
            let factor = l[i * n + j];
            if factor != 0.0 {
                row[..=j].iter_mut().zip(&head[j * n..=j * n + j]).for_each(|(r, v)| *r -= factor * v);
            }
        }
        row[i] += 1.0;
        let d = l[i * n + i];
        row[..=i].iter_mut().for_each(|v| *v /= d);
    }
    let mut u = Array2::zeros((n, n));
    for i in 0..n {
        for j in 0..=i {
            u[[n - 1 - i, n - 1 - j]] = inv[i * n + j] as f32;
        }
    }
    Some(u)
}

/// The dot product, in eight sums that the compiler keeps in vectors; they are added up as ndarray does it.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = a.remainder().iter().zip(b.remainder());
    for (a, b) in a.zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let (low, high) = sums.split_at(4);
    let whole = low.iter().zip(high).fold(0.0, |sum, (low, high)| sum + (low + high));
    rest.fold(whole, |sum, (a, b)| sum + a * b)
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
    Arch::new().dispatch(
        #[inline(always)]
        || feedback(w, scales, factor, zeros, nearest),
    )
}

#[inline(always)]
fn feedback(
    w: &[f32],
    scales: &[f32],
    factor: &Array2<f32>,
    zeros: bool,
    nearest: impl Fn(f32) -> f32,
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
