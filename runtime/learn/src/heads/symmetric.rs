//! Symmetric matrices stored by their lower half, row by row: `a[i (i + 1) / 2 + j]` for `j ≤ i`.

use super::vector;

/// Words of a symmetric matrix with `rows` rows.
pub(super) fn words(rows: usize) -> Option<usize> {
    Some(rows.checked_add(1)?.checked_mul(rows)? / 2)
}

/// Row `i` of the lower half.
fn row(a: &[f32], i: usize) -> &[f32] {
    let start = i * (i + 1) / 2;
    &a[start..start + i + 1]
}

/// `factor · I`.
pub(super) fn set_identity(a: &mut [f32], rows: usize, factor: f32) {
    a.fill(0.0);
    for i in 0..rows {
        a[i * (i + 1) / 2 + i] = factor;
    }
}

/// `A += factor · v vᵀ`.
pub(super) fn add_outer(a: &mut [f32], factor: f32, v: &[f32]) {
    let mut rest = a;
    for (i, &vi) in v.iter().enumerate() {
        let (row, behind) = core::mem::take(&mut rest).split_at_mut(i + 1);
        vector::add(row, factor * vi, &v[..i + 1]);
        rest = behind;
    }
}

/// `y = A x`.
pub(super) fn product(a: &[f32], x: &[f32], y: &mut [f32]) {
    y.fill(0.0);
    for (i, &xi) in x.iter().enumerate() {
        let row = row(a, i);
        // The part of the row left of the diagonal is also the part of the column above it.
        vector::add(&mut y[..i], xi, &row[..i]);
        y[i] += vector::dot(row, &x[..i + 1]);
    }
}

/// `y = A (x, 1)`.
pub(super) fn product_with_one(a: &[f32], x: &[f32], y: &mut [f32]) {
    let last = row(a, x.len());
    let (head, tail) = y.split_at_mut(x.len());
    product(a, x, head);
    vector::add(head, 1.0, last);
    tail.fill(with_one(last, x));
}

/// `w·(x, 1)`: the last word of `w` is the bias.
pub(super) fn with_one(w: &[f32], x: &[f32]) -> f32 {
    vector::dot(w, x) + w.last().copied().unwrap_or(0.0)
}

/// Sum of the diagonal.
pub(super) fn trace(a: &[f32], rows: usize) -> f32 {
    (0..rows).fold(0.0, |sum, i| sum + a[i * (i + 1) / 2 + i])
}

/// Cholesky: `A = L Lᵀ`, with `L` overwriting `A`. Pivots below `least` are raised to it, so that no input makes this
/// fail.
pub(super) fn factorise(a: &mut [f32], rows: usize, least: f32) {
    for i in 0..rows {
        let start = i * (i + 1) / 2;
        let (above, current) = a.split_at_mut(start);
        for j in 0..i {
            let other = row(above, j);
            let sum = current[j] - vector::dot(&current[..j], &other[..j]);
            current[j] = sum / other[j];
        }
        let pivot = current[i] - vector::dot(&current[..i], &current[..i]);
        current[i] = libm::sqrtf(if pivot > least { pivot } else { least });
    }
}

/// Solves `L Lᵀ x = b`, with `x` overwriting `b`.
pub(super) fn solve(factor: &[f32], b: &mut [f32]) {
    for i in 0..b.len() {
        let row = row(factor, i);
        b[i] = (b[i] - vector::dot(&row[..i], &b[..i])) / row[i];
    }
    for i in (0..b.len()).rev() {
        let row = row(factor, i);
        b[i] /= row[i];
        let value = b[i];
        vector::add(&mut b[..i], -value, &row[..i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_what_it_multiplied() {
        let n = 7;
        let mut a = vec![0.0; words(n).unwrap()];
        set_identity(&mut a, n, 0.5);
        for k in 0..n {
            let v: Vec<f32> = (0..n).map(|i| ((i * 5 + k * 3) % 7) as f32 / 3.0 - 1.0).collect();
            add_outer(&mut a, 0.7, &v);
        }
        let x: Vec<f32> = (0..n).map(|i| i as f32 - 2.5).collect();
        let mut b = vec![9.0; n];
        product(&a, &x, &mut b);
        factorise(&mut a, n, 1e-6);
        solve(&a, &mut b);
        for (x, b) in x.iter().zip(&b) {
            assert!((x - b).abs() < 1e-3, "{x} {b}");
        }
    }

    #[test]
    fn a_singular_matrix_has_a_factor() {
        let mut a = vec![0.0; 3];
        factorise(&mut a, 2, 1e-6);
        let mut b = [1.0, 2.0];
        solve(&a, &mut b);
        assert!(b.iter().all(|b| b.is_finite()));
    }
}
