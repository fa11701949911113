//! Adaptors: a few learned parameters beside frozen weights that correct a domain shift. Low-rank: Hu et al.,
//! arXiv:2106.09685. Scales and biases of a normalisation: Frankle, Schwab and Morcos, arXiv:2003.00152.

use crate::weights::Weights;
use offshoot_kernels::layer::Geometry;

/// Steps scale and bias of a normalisation, `z = scale ∘ n + bias`: `∂J/∂scale[o] = error(o) · n[o]`.
pub fn learn_scale(
    scale: &mut [f32],
    bias: &mut [f32],
    normalised: &[f32],
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    for (o, ((scale, bias), n)) in scale.iter_mut().zip(bias).zip(normalised).enumerate() {
        let step = rate * error(o);
        *scale -= step * n;
        *bias -= step;
    }
}

/// Steps the bias only.
pub fn learn_bias(bias: &mut [f32], rate: f32, error: impl Fn(usize) -> f32) {
    for (o, bias) in bias.iter_mut().enumerate() {
        *bias -= rate * error(o);
    }
}

/// Adds `up (down x)` to `z`: `down: [rank, inputs]`, `up: [outputs, rank]`. Leaves `inner: [rank]` for
/// [`learn_low_rank`].
pub fn add_low_rank(down: &impl Weights, up: &impl Weights, x: &[f32], inner: &mut [f32], z: &mut [f32]) {
    for (r, inner) in inner.iter_mut().enumerate() {
        *inner = x.iter().enumerate().fold(0.0, |sum, (i, x)| sum + down.at(r, i) * x);
    }
    for (o, z) in z.iter_mut().enumerate() {
        *z = inner.iter().enumerate().fold(*z, |sum, (r, inner)| sum + up.at(o, r) * inner);
    }
}

/// Applies the lower factor at all pixels: `inner: [rank, pixels]`, `down: [rank, k_h, k_w, c]`. The output channels of
/// `g` are the ranks.
pub fn lower<X: Copy>(g: &Geometry, down: &[f32], x: &[X], real: impl Fn(X) -> f32, inner: &mut [f32]) {
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [stride_h, stride_w] = g.window.stride.map(usize::from);
    inner.fill(0.0);
    for (r, plane) in inner.chunks_exact_mut(g.pixels().max(1)).enumerate() {
        for ky in 0..k_h {
            let (y0, y1, iy) = g.reach(0, ky);
            for kx in 0..k_w {
                let (x0, x1, ix) = g.reach(1, kx);
                let weights = &down[g.weight(r, ky * k_w + kx)..][..g.depth()];
                for y in y0..y1 {
                    let row = (iy + (y - y0) * stride_h) * g.input[1] + ix;
                    let Some(pixels) = x.get(row * g.c..) else { break };
                    let sums = &mut plane[y * g.output[1] + x0..y * g.output[1] + x1];
                    for (sum, x) in sums.iter_mut().zip(pixels.chunks(stride_w * g.c)) {
                        *sum = weights.iter().zip(x).fold(*sum, |sum, (w, x)| sum + w * real(*x));
                    }
                }
            }
        }
    }
}

/// Contribution of the upper factor, `up: [out_c, rank]`, to an output channel at a pixel.
#[inline]
pub fn upper(up: &[f32], inner: &[f32], pixels: usize, channel: usize, pixel: usize) -> f32 {
    let rank = inner.len() / pixels.max(1);
    let row = &up[channel * rank..][..rank];
    row.iter().enumerate().fold(0.0, |sum, (r, up)| sum + up * inner[r * pixels + pixel])
}

/// Runs one step of a low-rank adaptor. The lower factor's error comes through the upper factor before its step, within
/// the same layer. `pulled: [rank]` is workspace.
pub fn learn_low_rank(
    down: &mut impl Weights,
    up: &mut impl Weights,
    x: &[f32],
    inner: &[f32],
    pulled: &mut [f32],
    outputs: usize,
    rate: f32,
    error: impl Fn(usize) -> f32,
) {
    pulled.fill(0.0);
    for o in 0..outputs {
        let e = error(o);
        for (r, pulled) in pulled.iter_mut().enumerate() {
            *pulled += e * up.at(o, r);
        }
        up.descend(o, rate * e, inner);
    }
    for (r, e) in pulled.iter().enumerate() {
        down.descend(r, rate * e, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::Float;
    use offshoot_kernels::Random;

    /// Recovers a shifted layer: `z = W x` learns `W' x` with `W' - W` of rank one.
    #[test]
    fn a_low_rank_shift_is_learned() {
        let mut random = Random::new(8);
        let (a, b): ([f32; 6], [f32; 5]) =
            (core::array::from_fn(|_| random.normal()), core::array::from_fn(|_| random.normal()));
        let mut down: [f32; 12] = core::array::from_fn(|_| 0.3 * random.normal());
        let mut up = [0.0f32; 10];
        let mut losses = [0.0f32; 2];
        for step in 0..3000 {
            let x: [f32; 6] = core::array::from_fn(|_| random.normal());
            let dot: f32 = a.iter().zip(x).map(|(a, x)| a * x).sum();
            let (mut z, mut inner, mut pulled) = ([0.0; 5], [0.0; 2], [0.0; 2]);
            let (mut down, mut up) = (Float::new(&mut down, 6), Float::new(&mut up, 2));
            add_low_rank(&down, &up, &x, &mut inner, &mut z);
            let error = |o: usize| z[o] - b[o] * dot;
            losses[usize::from(step >= 2900)] += (0..5).map(|o| error(o) * error(o)).sum::<f32>();
            learn_low_rank(&mut down, &mut up, &x, &inner, &mut pulled, 5, 0.01, error);
        }
        assert!(losses[1] / 100.0 < 0.01 * losses[0] / 2900.0 + 1e-6, "{losses:?}");
    }

    #[test]
    fn scale_and_bias_follow_the_gradient() {
        let (mut scale, mut bias) = ([1.0f32; 2], [0.0f32; 2]);
        for step in 0..400 {
            let n = if step % 2 == 0 { [1.0, -1.0] } else { [-0.5, 2.0] };
            let (s, b) = (scale, bias);
            let error = |o: usize| s[o] * n[o] + b[o] - (3.0 * n[o] - 1.0);
            learn_scale(&mut scale, &mut bias, &n, 0.2, error);
        }
        assert!(scale.iter().all(|s| (s - 3.0).abs() < 1e-2) && bias.iter().all(|b| (b + 1.0).abs() < 1e-2));
        learn_bias(&mut bias, 1.0, |o| o as f32);
        assert!((bias[1] + 2.0).abs() < 1e-2);
    }
}
