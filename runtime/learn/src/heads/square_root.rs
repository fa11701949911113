//! Square roots of symmetric matrices: a lower triangle `L`, stored row by row, with `A = L Lᵀ`. A sample `x` turns `A` into
//! `A + x xᵀ` by plane rotations that take `[L | x]` to `[L' | 0]` (Golub and Van Loan, *Matrix Computations*, 6.5). No step can
//! make `A` indefinite, and rounding grows with the root of its condition, so float32 lasts.

use super::vector;

/// Row `i`, up to the diagonal.
fn row(factor: &[f32], i: usize) -> &[f32] {
    let start = i * (i + 1) / 2;
    &factor[start..start + i + 1]
}

/// Adds `v vᵀ`, where element `i` of `v` is `value(i)` and those before `from` are zero. Leaves the rotation of each column in
/// `rotations`: cosine and sine, from column `from` on.
pub(super) fn add(
    factor: &mut [f32],
    rows: usize,
    from: usize,
    rotations: &mut [f32],
    mut value: impl FnMut(usize) -> f32,
) {
    for i in from..rows {
        let start = i * (i + 1) / 2;
        let (before, diagonal) = factor[start + from..start + i + 1].split_at_mut(i - from);
        let mut v = value(i);
        for (l, rotation) in before.iter_mut().zip(rotations[2 * from..].chunks_exact(2)) {
            let (cosine, sine, old) = (rotation[0], rotation[1], *l);
            *l = cosine * old + sine * v;
            v = cosine * v - sine * old;
        }
        let length = libm::sqrtf(diagonal[0] * diagonal[0] + v * v);
        let turn = if length > 0.0 { [diagonal[0] / length, v / length] } else { [1.0, 0.0] };
        rotations[2 * i..2 * i + 2].copy_from_slice(&turn);
        diagonal[0] = length;
    }
}

/// Solves `L z = b`, with `z` overwriting `b`.
#[cfg(feature = "head-anomaly")]
pub(super) fn solve_lower(factor: &[f32], b: &mut [f32]) {
    for i in 0..b.len() {
        let row = row(factor, i);
        b[i] = (b[i] - vector::dot(&row[..i], &b[..i])) / row[i];
    }
}

/// Solves `Lᵀ x = b`, with `x` overwriting `b`.
#[cfg(feature = "head-regression")]
pub(super) fn solve_upper(factor: &[f32], b: &mut [f32]) {
    for i in (0..b.len()).rev() {
        let row = row(factor, i);
        b[i] /= row[i];
        let value = b[i];
        vector::add(&mut b[..i], -value, &row[..i]);
    }
}

/// Takes `value` into `side`, `L⁻¹ b`, by the rotations that [`add`] left from column `from` on.
#[cfg(feature = "head-regression")]
pub(super) fn rotate(side: &mut [f32], from: usize, rotations: &[f32], value: f32) {
    let mut value = value;
    for (s, rotation) in side[from..].iter_mut().zip(rotations[2 * from..].chunks_exact(2)) {
        let (cosine, sine, old) = (rotation[0], rotation[1], *s);
        *s = cosine * old + sine * value;
        value = cosine * value - sine * old;
    }
}

/// Sum of squares of all elements: the trace of `A`.
#[cfg(feature = "head-anomaly")]
pub(super) fn trace(factor: &[f32]) -> f32 {
    vector::dot(factor, factor)
}

#[cfg(all(test, feature = "head-anomaly"))]
mod tests {
    use super::super::symmetric;
    use super::*;

    #[test]
    fn is_the_factor_of_the_sum() {
        let n = 6;
        let mut sum = vec![0.0; n * (n + 1) / 2];
        let (mut factor, mut rotations) = (sum.clone(), vec![0.0; 2 * n]);
        for k in 0..9 {
            let from = k % 3;
            let v: Vec<f32> = (0..n)
                .map(|i| if i < from { 0.0 } else { ((i * 5 + k * 3) % 7) as f32 / 3.0 - 1.0 })
                .collect();
            symmetric::add_outer(&mut sum, 1.0, &v);
            add(&mut factor, n, from, &mut rotations, |i| v[i]);
        }
        let trace_of_sum = symmetric::trace(&sum, n);
        assert!((trace(&factor) - trace_of_sum).abs() < 1e-4 * trace_of_sum);
        for i in 0..n {
            for j in 0..=i {
                let product = vector::dot(&row(&factor, i)[..=j], row(&factor, j));
                let expected = sum[i * (i + 1) / 2 + j];
                assert!((product - expected).abs() < 1e-4, "{i} {j}: {product} {expected}");
            }
        }
        symmetric::factorise(&mut sum, n, 1e-9);
        let mut z = vec![1.0, -2.0, 0.5, 3.0, 0.0, 1.0];
        solve_lower(&factor, &mut z);
        let energy = vector::dot(&z, &z);
        let mut x = vec![1.0, -2.0, 0.5, 3.0, 0.0, 1.0];
        let b = x.clone();
        symmetric::solve(&sum, &mut x);
        assert!((energy - vector::dot(&b, &x)).abs() < 1e-3 * energy);
    }
}
