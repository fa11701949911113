//! Convolutions as matrix products over gathered windows; depthwise convolutions directly.

use ndarray::{Array2, ArrayD, ArrayView2, IxDyn};
use offshoot_ir::Window;

fn slice(a: &ArrayD<f32>) -> std::borrow::Cow<'_, [f32]> {
    match a.as_slice() {
        Some(s) => s.into(),
        None => a.iter().copied().collect::<Vec<_>>().into(),
    }
}

fn matrix(rows: usize, columns: usize, values: Vec<f32>) -> Array2<f32> {
    // Lengths are products of the same extents, so this cannot fail.
    Array2::from_shape_vec((rows, columns), values).unwrap_or_else(|_| Array2::zeros((rows, columns)))
}

/// Elements of a product, whichever layout it has.
fn row_major(product: Array2<f32>) -> Vec<f32> {
    match product.is_standard_layout() {
        true => product.into_raw_vec_and_offset().0,
        false => product.iter().copied().collect(),
    }
}

fn array(shape: &[usize], values: Vec<f32>) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap_or_else(|_| ArrayD::zeros(IxDyn(shape)))
}

/// x NHWC, w OHWI (I = C / groups) → `shape`.
pub(crate) fn conv2d(
    x: &ArrayD<f32>,
    w: &ArrayD<f32>,
    bias: Option<&ArrayD<f32>>,
    window: &Window,
    groups: usize,
    shape: &[usize],
) -> ArrayD<f32> {
    let [n, h, width, c] = [x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]];
    let [oh, ow, oc] = [shape[1], shape[2], shape[3]];
    let [kh, kw] = window.kernel.map(usize::from);
    let [sh, sw] = window.stride.map(usize::from);
    let [dh, dw] = window.dilation.map(usize::from);
    let (top, left) = (usize::from(window.pad[0]), usize::from(window.pad[1]));
    let (xs, ws) = (slice(x), slice(w));
    let (in_g, out_g) = (c / groups, oc / groups);
    let source = |o: usize, k: usize, stride: usize, dilation: usize, before: usize, extent: usize| {
        (o * stride + k * dilation).checked_sub(before).filter(|i| *i < extent)
    };
    let mut out = vec![0.0f32; n * oh * ow * oc];
    if in_g == 1 && out_g == 1 {
        // Weights [C, kh, kw, 1] permuted to [kh, kw, C], so that channels run innermost.
        let taps = kh * kw;
        let mut turned = vec![0.0; taps * c];
        for ch in 0..c {
            for t in 0..taps {
                turned[t * c + ch] = ws[ch * taps + t];
            }
        }
        for (p, pixel) in out.chunks_exact_mut(oc).enumerate() {
            let (img, y, xo) = (p / (oh * ow), p / ow % oh, p % ow);
            for ky in 0..kh {
                let Some(iy) = source(y, ky, sh, dh, top, h) else { continue };
                for kx in 0..kw {
                    let Some(ix) = source(xo, kx, sw, dw, left, width) else { continue };
                    let from = &xs[((img * h + iy) * width + ix) * c..][..c];
                    let filter = &turned[(ky * kw + kx) * c..][..c];
                    for ((o, v), f) in pixel.iter_mut().zip(from).zip(filter) {
                        *o += v * f;
                    }
                }
            }
        }
    } else {
        let depth = kh * kw * in_g;
        for g in 0..groups {
            let filters = ArrayView2::from_shape((out_g, depth), &ws[g * out_g * depth..][..out_g * depth]);
            let Ok(filters) = filters else { continue };
            let rows = n * oh * ow;
            // A kernel of one pixel over one group sees the input as it is.
            if groups == 1
                && depth == c
                && window.stride == [1; 2]
                && window.pad == [0; 4]
                && xs.len() == rows * c
            {
                if let Ok(pixels) = ArrayView2::from_shape((rows, c), &xs) {
                    out = row_major(pixels.dot(&filters.t()));
                }
                continue;
            }
            let mut windows = vec![0.0f32; rows * depth];
            for (p, row) in windows.chunks_exact_mut(depth).enumerate() {
                let (img, y, xo) = (p / (oh * ow), p / ow % oh, p % ow);
                for ky in 0..kh {
                    let Some(iy) = source(y, ky, sh, dh, top, h) else { continue };
                    for kx in 0..kw {
                        let Some(ix) = source(xo, kx, sw, dw, left, width) else { continue };
                        let from = &xs[((img * h + iy) * width + ix) * c + g * in_g..][..in_g];
                        row[(ky * kw + kx) * in_g..][..in_g].copy_from_slice(from);
                    }
                }
            }
            let product = row_major(matrix(rows, depth, windows).dot(&filters.t()));
            for (pixel, row) in out.chunks_exact_mut(oc).zip(product.chunks_exact(out_g.max(1))) {
                pixel[g * out_g..][..out_g].copy_from_slice(row);
            }
        }
    }
    add_bias(&mut out, oc, bias);
    array(shape, out)
}

fn add_bias(out: &mut [f32], channels: usize, bias: Option<&ArrayD<f32>>) {
    let Some(bias) = bias else { return };
    let bias = slice(bias);
    for row in out.chunks_exact_mut(channels) {
        for (o, b) in row.iter_mut().zip(bias.iter()) {
            *o += b;
        }
    }
}

/// x NHWC, w OHWI (I = C / groups) → `shape`, by scattering inputs to outputs.
pub(crate) fn conv_transpose2d(
    x: &ArrayD<f32>,
    w: &ArrayD<f32>,
    bias: Option<&ArrayD<f32>>,
    window: &Window,
    groups: usize,
    shape: &[usize],
) -> ArrayD<f32> {
    let [n, h, width, c] = [x.shape()[0], x.shape()[1], x.shape()[2], x.shape()[3]];
    let [oh, ow, oc] = [shape[1], shape[2], shape[3]];
    let [kh, kw] = window.kernel.map(usize::from);
    let [sh, sw] = window.stride.map(usize::from);
    let [dh, dw] = window.dilation.map(usize::from);
    let (top, left) = (usize::from(window.pad[0]), usize::from(window.pad[1]));
    let (xs, ws) = (slice(x), slice(w));
    let (in_g, out_g) = (c / groups, oc / groups);
    let mut out = vec![0.0f32; n * oh * ow * oc];
    for img in 0..n {
        for iy in 0..h {
            for ix in 0..width {
                let from = &xs[((img * h + iy) * width + ix) * c..][..c];
                for ky in 0..kh {
                    let Some(y) = (iy * sh + ky * dh).checked_sub(top).filter(|y| *y < oh) else { continue };
                    for kx in 0..kw {
                        let Some(xo) = (ix * sw + kx * dw).checked_sub(left).filter(|v| *v < ow) else {
                            continue;
                        };
                        let pixel = &mut out[((img * oh + y) * ow + xo) * oc..][..oc];
                        for (o, v) in pixel.iter_mut().enumerate() {
                            let part = &from[(o / out_g) * in_g..][..in_g];
                            let filter = &ws[((o * kh + ky) * kw + kx) * in_g..][..in_g];
                            *v += part.iter().zip(filter).map(|(a, b)| a * b).sum::<f32>();
                        }
                    }
                }
            }
        }
    }
    add_bias(&mut out, oc, bias);
    array(shape, out)
}

/// x […, I], w [O, I] → `shape` […, O].
pub(crate) fn fully_connected(
    x: &ArrayD<f32>,
    w: &ArrayD<f32>,
    bias: Option<&ArrayD<f32>>,
    shape: &[usize],
) -> ArrayD<f32> {
    let (o, i) = (w.shape()[0], w.shape()[1]);
    let rows = x.len() / i.max(1);
    let (x, w) = (slice(x), slice(w));
    let product = match (ArrayView2::from_shape((rows, i), &x), ArrayView2::from_shape((o, i), &w)) {
        (Ok(x), Ok(w)) => x.dot(&w.t()),
        _ => Array2::zeros((rows, o)),
    };
    let mut out = row_major(product);
    add_bias(&mut out, o, bias);
    array(shape, out)
}

/// Batched product; batch axes are equal.
pub(crate) fn matmul(a: &ArrayD<f32>, b: &ArrayD<f32>, transpose_b: bool, shape: &[usize]) -> ArrayD<f32> {
    let rank = shape.len();
    let (m, n) = (shape[rank - 2], shape[rank - 1]);
    let k = a.shape()[a.ndim() - 1];
    let (xs, ys) = (slice(a), slice(b));
    let mut out = Vec::with_capacity(shape.iter().product());
    for (x, y) in xs.chunks_exact((m * k).max(1)).zip(ys.chunks_exact((n * k).max(1))) {
        let x = matrix(m, k, x.to_vec());
        let product =
            if transpose_b { x.dot(&matrix(n, k, y.to_vec()).t()) } else { x.dot(&matrix(k, n, y.to_vec())) };
        out.extend(product.iter());
    }
    array(shape, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(shape: &[usize]) -> ArrayD<f32> {
        let n = shape.iter().product::<usize>();
        array(shape, (0..n).map(|v| ((v * 7 + 3) % 11) as f32 - 5.0).collect())
    }

    /// Direct from the definition, one output at a time.
    fn naive(
        x: &ArrayD<f32>,
        w: &ArrayD<f32>,
        window: &Window,
        groups: usize,
        shape: &[usize],
    ) -> ArrayD<f32> {
        let (in_g, out_g) = (x.shape()[3] / groups, shape[3] / groups);
        ArrayD::from_shape_fn(IxDyn(shape), |at| {
            let mut sum = 0.0;
            for ky in 0..usize::from(window.kernel[0]) {
                for kx in 0..usize::from(window.kernel[1]) {
                    let place = |o: usize, k: usize, a: usize| {
                        (o * usize::from(window.stride[a]) + k * usize::from(window.dilation[a]))
                            .checked_sub(usize::from(window.pad[a]))
                            .filter(|i| *i < x.shape()[a + 1])
                    };
                    let (Some(iy), Some(ix)) = (place(at[1], ky, 0), place(at[2], kx, 1)) else { continue };
                    for i in 0..in_g {
                        sum += x[[at[0], iy, ix, (at[3] / out_g) * in_g + i]] * w[[at[3], ky, kx, i]];
                    }
                }
            }
            sum
        })
    }

    #[test]
    fn convolutions_are_those_of_the_definition() {
        let window = Window { kernel: [3, 2], stride: [2, 1], dilation: [1, 2], pad: [1, 0, 2, 1] };
        for (c, o, groups) in [(4, 6, 1), (4, 6, 2), (4, 4, 4)] {
            let (x, w) = (ramp(&[2, 5, 6, c]), ramp(&[o, 3, 2, c / groups]));
            let shape = [2, 3, 5, o];
            assert_eq!(conv2d(&x, &w, None, &window, groups, &shape), naive(&x, &w, &window, groups, &shape));
        }
    }

    #[test]
    fn a_transposed_convolution_spreads_its_input() {
        let window = Window { kernel: [1, 2], stride: [1, 2], dilation: [1, 1], pad: [0; 4] };
        let x = array(&[1, 1, 2, 1], vec![1.0, 10.0]);
        let w = array(&[1, 1, 2, 1], vec![2.0, 3.0]);
        let y = conv_transpose2d(&x, &w, None, &window, 1, &[1, 1, 4, 1]);
        assert_eq!(y.iter().copied().collect::<Vec<_>>(), [2.0, 3.0, 20.0, 30.0]);
    }
}
