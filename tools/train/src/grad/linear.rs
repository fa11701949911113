//! Matrix products.

use ndarray::ArrayD;

use super::conv::{column_sums, matrix};
use super::{Tensor, array, flat};

/// x […, I], w [O, I], b? [O].
pub(super) fn fully_connected(x: &[Tensor], dy: &ArrayD<f32>, wanted: &[bool]) -> Vec<Option<ArrayD<f32>>> {
    let (o, i) = (x[1].shape()[0], x[1].shape()[1]);
    let (xs, w, ds) = (flat(&x[0]), flat(&x[1]), flat(dy));
    let rows = xs.len() / i.max(1);
    let d = matrix(&ds, rows, o);
    let owned = |a: ndarray::Array2<f32>, shape: &[usize]| array(shape, a.iter().copied().collect());
    vec![
        wanted[0].then(|| owned(d.dot(&matrix(&w, o, i)), x[0].shape())),
        wanted[1].then(|| owned(d.t().dot(&matrix(&xs, rows, i)), x[1].shape())),
        (wanted.get(2) == Some(&true)).then(|| array(&[o], column_sums(&ds, o))),
    ]
}

/// a [batch…, m, k], b [batch…, k, n], or [batch…, n, k] if `transpose_b`.
pub(super) fn matmul(
    x: &[Tensor],
    dy: &ArrayD<f32>,
    transpose_b: bool,
    wanted: &[bool],
) -> Vec<Option<ArrayD<f32>>> {
    let rank = dy.ndim();
    let (m, n) = (dy.shape()[rank - 2], dy.shape()[rank - 1]);
    let k = x[0].shape()[rank - 1];
    let (a, b, ds) = (flat(&x[0]), flat(&x[1]), flat(dy));
    let (mut da, mut db) = (Vec::new(), Vec::new());
    for (index, d) in ds.chunks_exact((m * n).max(1)).enumerate() {
        let d = matrix(d, m, n);
        let a = matrix(&a[index * m * k..][..m * k], m, k);
        let b = &b[index * k * n..][..k * n];
        if wanted[0] {
            let product = if transpose_b { d.dot(&matrix(b, n, k)) } else { d.dot(&matrix(b, k, n).t()) };
            da.extend(product.iter());
        }
        if wanted[1] {
            let product = if transpose_b { d.t().dot(&a) } else { a.t().dot(&d) };
            db.extend(product.iter());
        }
    }
    vec![wanted[0].then(|| array(x[0].shape(), da)), wanted[1].then(|| array(x[1].shape(), db))]
}
