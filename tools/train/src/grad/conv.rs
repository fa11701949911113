//! Convolutions: without a matrix of windows for a single group or depthwise, otherwise with one.

use ndarray::{ArrayD, ArrayView2};
use offshoot_ir::Window;

use super::window::Windows;
use super::{Tensor, array, flat};
use crate::convolve::Convolution;

/// x NHWC, w OHWI (I = C / groups), b? [O]; gradients in that order.
pub(super) fn conv2d(
    x: &[Tensor],
    dy: &ArrayD<f32>,
    window: &Window,
    groups: usize,
    wanted: &[bool],
) -> Vec<Option<ArrayD<f32>>> {
    let (image, w) = (dims(&x[0]), flat(&x[1]));
    let [_, rows, columns, o] = dims(dy);
    let (xs, ds) = (flat(&x[0]), flat(dy));
    let (in_g, out_g) = (image[3] / groups, o / groups);
    let convolution = Convolution { image, places: [rows, columns], window };
    if groups == 1 || in_g == 1 && out_g == 1 {
        let (dx, dw): (&dyn Fn() -> Vec<f32>, &dyn Fn() -> Vec<f32>) = if groups == 1 {
            (&|| convolution.input(&w, &ds, o), &|| convolution.weights(&xs, &ds, o))
        } else {
            (&|| convolution.depthwise_input(&w, &ds), &|| convolution.depthwise_weights(&xs, &ds))
        };
        return vec![
            wanted[0].then(|| array(x[0].shape(), dx())),
            wanted[1].then(|| array(x[1].shape(), dw())),
            bias(&ds, o, wanted),
        ];
    }
    let windows = Windows { image, places: [rows, columns], window };
    let mut dx = vec![0.0; if wanted[0] { xs.len() } else { 0 }];
    let mut dw = vec![0.0; if wanted[1] { w.len() } else { 0 }];
    let depth = windows.taps() * in_g;
    for g in 0..groups {
        let dyg = columns_of(&ds, o, g * out_g, out_g);
        let dyg = matrix(&dyg, windows.count(), out_g);
        if wanted[1] {
            let gathered = windows.gather(&xs, g * in_g, in_g);
            let product = dyg.t().dot(&matrix(&gathered, windows.count(), depth));
            dw[g * out_g * depth..][..out_g * depth].iter_mut().zip(&product).for_each(|(a, b)| *a = *b);
        }
        if wanted[0] {
            let filters = matrix(&w[g * out_g * depth..][..out_g * depth], out_g, depth);
            let product = dyg.dot(&filters);
            // A product with a single row or column may be column-major.
            windows.scatter(&flat(&product.into_dyn()), g * in_g, in_g, &mut dx);
        }
    }
    vec![
        wanted[0].then(|| array(x[0].shape(), dx)),
        wanted[1].then(|| array(x[1].shape(), dw)),
        bias(&ds, o, wanted),
    ]
}

/// x NHWC, w OHWI (I = C / groups), b? [O]; the windows lie over the output, one for each input pixel.
pub(super) fn conv_transpose2d(
    x: &[Tensor],
    dy: &ArrayD<f32>,
    window: &Window,
    groups: usize,
    wanted: &[bool],
) -> Vec<Option<ArrayD<f32>>> {
    let ([_, h, width, c], image) = (dims(&x[0]), dims(dy));
    let windows = Windows { image, places: [h, width], window };
    let (xs, ds, w) = (flat(&x[0]), flat(dy), flat(&x[1]));
    let o = image[3];
    let (in_g, out_g, taps) = (c / groups, o / groups, windows.taps());
    let depth = taps * out_g;
    let mut dx = vec![0.0; xs.len()];
    let mut dw = vec![0.0; w.len()];
    // Tap t of filter o for input i is at [o][t][i] in the IR and at [i][t][o] here.
    let place = |g: usize, i: usize, t: usize, o: usize| ((g * out_g + o) * taps + t) * in_g + i;
    for g in 0..groups {
        let gathered = windows.gather(&ds, g * out_g, out_g);
        let gathered = matrix(&gathered, windows.count(), depth);
        if wanted[0] {
            let mut turned = vec![0.0; in_g * depth];
            each(in_g, taps, out_g, |i, t, o| turned[(i * taps + t) * out_g + o] = w[place(g, i, t, o)]);
            let product = gathered.dot(&matrix(&turned, in_g, depth).t());
            for (pixel, row) in product.outer_iter().enumerate() {
                for (i, v) in row.iter().enumerate() {
                    dx[pixel * c + g * in_g + i] = *v;
                }
            }
        }
        if wanted[1] {
            let xg = columns_of(&xs, c, g * in_g, in_g);
            let product = matrix(&xg, windows.count(), in_g).t().dot(&gathered);
            each(in_g, taps, out_g, |i, t, o| dw[place(g, i, t, o)] = product[[i, t * out_g + o]]);
        }
    }
    vec![
        wanted[0].then(|| array(x[0].shape(), dx)),
        wanted[1].then(|| array(x[1].shape(), dw)),
        bias(&ds, o, wanted),
    ]
}

fn bias(dy: &[f32], channels: usize, wanted: &[bool]) -> Option<ArrayD<f32>> {
    (wanted.get(2) == Some(&true)).then(|| array(&[channels], column_sums(dy, channels)))
}

/// Sum of the rows of a matrix of `columns` columns.
pub(super) fn column_sums(rows: &[f32], columns: usize) -> Vec<f32> {
    let mut sums = vec![0.0; columns];
    for row in rows.chunks_exact(columns.max(1)) {
        sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
    }
    sums
}

/// `count` columns from `start` of a matrix of `columns` columns.
fn columns_of(rows: &[f32], columns: usize, start: usize, count: usize) -> std::borrow::Cow<'_, [f32]> {
    if count == columns {
        return rows.into();
    }
    rows.chunks_exact(columns).flat_map(|row| &row[start..start + count]).copied().collect::<Vec<_>>().into()
}

fn each(a: usize, b: usize, c: usize, mut visit: impl FnMut(usize, usize, usize)) {
    for i in 0..a {
        for j in 0..b {
            for k in 0..c {
                visit(i, j, k);
            }
        }
    }
}

fn dims(a: &ArrayD<f32>) -> [usize; 4] {
    // Images are NHWC in a validated graph.
    a.shape().try_into().unwrap_or([0; 4])
}

/// `values` has `rows · columns` elements.
pub(super) fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("as many elements as rows times columns")
}
