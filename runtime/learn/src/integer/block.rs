//! Blocks of two int8 layers with one rule: the error of the second layer comes back through its weights to the first.
//!
//! Goes one channel of the first layer at a time, so that only one channel's errors are buffered. The second layer's
//! weight scales differ by channel, so each error is multiplied by its channel's scale relative to the largest, in 15
//! bits. The errors of a channel are then shifted to at most 16 bits, by as much as the largest of them needs.

use super::errors::{Errors, room_bits};
use super::layer::{IntegerLayer, IntegerParameters, Quant, Scales, StepTarget, Workspace, normalised};
use super::magnitude::Magnitude;
use super::motion::Motion;
use super::parts::Steps;
use crate::layers::window::{gradients, pull_back};
use offshoot_kernels::Random;
use offshoot_kernels::geometry::tiled_weight;
use offshoot_kernels::gradient::Starts;
use offshoot_kernels::layer::{Geometry, Order};

/// The second layer of a block, before its own step.
#[derive(Clone, Copy, Debug)]
pub struct Second<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Output.
    pub h: &'a [i8],
    /// Quantisation of input and output.
    pub quant: Quant,
    /// In the order of [`Geometry::order`].
    pub weights: &'a [i8],
    /// Requantisation.
    pub scales: Scales<'a>,
}

/// Workspace for the errors that come back.
#[derive(Debug)]
pub struct BlockWorkspace<'a> {
    /// One number per feature of the second layer.
    pub features: &'a mut [i32],
    /// One number per pixel or per channel of the second layer, whichever is more.
    pub second: &'a mut [i32],
    /// One number per pixel of the first layer.
    pub plane: &'a mut [i32],
}

/// Runs one train step of the first layer of a block; `target` is that of the second layer, which learns afterwards, by
/// [`super::learn`].
pub fn learn_first(
    layer: &mut IntegerLayer<'_>,
    second: &Second<'_>,
    target: &StepTarget<'_>,
    motion: Motion<'_>,
    workspace: &mut Workspace<'_>,
    back: &mut BlockWorkspace<'_>,
    random: &mut Random,
) {
    let (g, above) = (layer.geometry, &second.geometry);
    let errors = Errors::new((second.h, &second.quant), target, workspace, &mut Starts::new());
    let (down, unit) = scaled(second, target, &errors, workspace.residual, back);
    let rate = normalised(layer, target);
    let (h, x, quant) = (layer.h, layer.x, layer.quant);
    let length = g.taps() * g.depth();
    let mut steps = Steps::new(layer, rate, unit.scaled(down), motion, random);
    for channel in 0..g.out_c {
        back.plane.fill(0);
        for o in above.readers(channel) {
            for j in (o..target.grid.features()).step_by(above.out_c.max(1)) {
                let error = back.features[j];
                target.grid.pixels(j, |at| {
                    let active = second.quant.is_active(second.h[at]);
                    back.second[at / above.out_c] = if active { error } else { 0 };
                });
            }
            let add = |sum: i32, e: i32, w: i32| sum.wrapping_add(e.wrapping_mul(w));
            pull_back(above, o, channel, back.second, back.plane, |at| weight(second, at), add);
        }
        let outputs = || h.get(channel..).unwrap_or(&[]).iter().step_by(g.out_c);
        let mut most = 0u32;
        for (e, h) in back.plane.iter_mut().zip(outputs()) {
            *e = if quant.is_active(*h) { *e } else { 0 };
            most = most.max(e.unsigned_abs());
        }
        let bits = (u32::BITS - most.leading_zeros()) as i32;
        let up = (bits - room_bits(g.pixels())).max(0);
        let (mut total, mut product) = (0i32, 0i32);
        for (e, h) in back.plane.iter_mut().zip(outputs()) {
            *e = rounded((*e).into(), up);
            total = total.wrapping_add(*e);
            product = product.wrapping_add(e.wrapping_mul(i32::from(*h) - quant.out_zp));
        }
        if steps.is_whole() {
            let own = &mut workspace.gradients[..length];
            let mut places = own.iter_mut();
            let add = |sum: i32, e: i32, x: i8| sum.wrapping_add(e.wrapping_mul(i32::from(x) - quant.in_zp));
            gradients(&g, channel, x, back.plane, add, |_, sum| {
                if let Some(place) = places.next() {
                    *place = sum;
                }
            });
            steps.whole(channel, total, own, up);
        } else {
            steps.adaptor_errors(back.plane, up);
            steps.few(channel, total, product, up);
        }
    }
    steps.finish();
}

/// Writes the errors of the second layer's features, times their channels' relative scales, to `back.features`. Returns
/// the power of two that was divided out, and the value of one error unit times one weight unit without that power.
fn scaled(
    second: &Second<'_>,
    target: &StepTarget<'_>,
    errors: &Errors<'_>,
    residual: &[i32],
    back: &mut BlockWorkspace<'_>,
) -> (i32, Magnitude) {
    let above = &second.geometry;
    let largest = (0..above.out_c).map(|o| second.scales.of(o)).fold(Magnitude::ZERO, |a, b| {
        if b.over_roughly(a).whole(15) > 1 << 15 || a == Magnitude::ZERO { b } else { a }
    });
    for (o, part) in back.second.iter_mut().enumerate().take(above.out_c) {
        *part = second.scales.of(o).over(largest).whole(15).min(1 << 15) as i32;
    }
    // Sums of `terms` products with 7-bit weights stay within 31 bits.
    let readers = above.readers(0).len().max(1);
    let terms = (above.taps() * readers).next_power_of_two().trailing_zeros() as i32;
    let down = (terms + 16 + 7 - 31).max(0);
    for (j, e) in back.features.iter_mut().enumerate().take(target.grid.features()) {
        let product = i64::from(errors.at(j, residual)) * i64::from(back.second[j % above.out_c.max(1)]);
        *e = rounded(product, 15 + down);
    }
    let scale = largest.times(second.quant.s_out).over(second.quant.s_in);
    (down, errors.unit.times(scale))
}

/// `number / 2^bits`, rounded to nearest.
fn rounded(number: i64, bits: i32) -> i32 {
    let half = if bits > 0 { 1 << (bits - 1) } else { 0 };
    ((number + half) >> bits) as i32
}

/// The weight at an index of the plain order.
fn weight(second: &Second<'_>, at: usize) -> i32 {
    let g = &second.geometry;
    let Order::Tiled { row } = g.order else {
        return second.weights.get(at).copied().unwrap_or(0).into();
    };
    let halves: &[i16] = bytemuck::try_cast_slice(second.weights).unwrap_or(&[]);
    let segment = (usize::from(g.window.kernel[1]) * g.c).max(1);
    let all = usize::from(g.window.kernel[0]) * row;
    let length = (g.taps() * g.c).max(1);
    let (o, i) = (at / length, at % length);
    if halves.len() * 2 < g.places() {
        0
    } else {
        tiled_weight(halves, all, o, i / segment * row + i % segment)
    }
}

impl Steps<'_, '_, '_> {
    /// Whether weights learn.
    fn is_whole(&self) -> bool {
        matches!(self.part(), IntegerParameters::All { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::LocalRule;
    use crate::target_projection::TargetProjection;
    use offshoot_format::record::Window;
    use offshoot_kernels::gradient::grid::PoolingGrid;
    use std::vec::Vec;

    /// The steps of the first of two fully connected layers follow the gradient of the loss in real numbers.
    #[test]
    fn steps_of_the_first_layer_follow_the_gradient() {
        let mut random = Random::new(4);
        let (n, hidden, out, classes) = (6, 8, 12, 3);
        let mut draw =
            |count: usize| -> Vec<i8> { (0..count).map(|_| (random.next_u32() as i8) / 2).collect() };
        let (x, h, z) = (draw(n), draw(hidden), draw(out));
        let (below, above) = (Geometry::dense(1, n, hidden), Geometry::dense(1, hidden, out));
        let weights = draw(hidden * out);
        let one = Magnitude::from_f32(1.0);
        let quant = Quant { in_zp: 3, out_zp: -2, bounds: (-128, 127), s_in: one, s_out: one };
        // Scales of 2^-7 to 2^-4, as multipliers of one half.
        let (multiplier, shift): (Vec<i32>, Vec<i8>) =
            (0..out).map(|o| (1 << 30, -3 - (o % 3) as i8)).unzip();
        let second = Second {
            geometry: above,
            h: &z,
            quant,
            weights: &weights,
            scales: Scales { multiplier: &multiplier, shift: &shift },
        };
        let codes: Vec<i8> = (0..classes * out).map(|i| ((i * 37 % 91) as i8) - 45).collect();
        let scale = 0.001;
        let target = StepTarget {
            rule: LocalRule::CrossEntropy { scale },
            projection: TargetProjection::Small(&codes),
            grid: PoolingGrid::new(1, [1, 1], out),
            label: 1,
            rate: Magnitude::from_f32(1e-4),
            normalised: false,
        };
        // In real numbers.
        let real = |q: i8, zero: i32| f64::from(i32::from(q) - zero);
        let score = |k: usize| (0..out).map(|o| f64::from(codes[k * out + o]) * real(z[o], -2)).sum::<f64>();
        let e: Vec<f64> = (0..classes).map(|k| (f64::from(scale) * score(k)).exp()).collect();
        let sum: f64 = e.iter().sum();
        let residual = |k: usize| e[k] / sum - f64::from(u8::from(k == 1));
        let delta = |o: usize| {
            f64::from(scale) * (0..classes).map(|k| f64::from(codes[k * out + o]) * residual(k)).sum::<f64>()
        };
        let of = |c: usize| {
            let w = |o: usize| f64::from(weights[o * hidden + c]) * 0.5 * f64::from(shift[o]).exp2();
            (0..out).map(|o| delta(o) * w(o)).sum::<f64>()
        };
        let (mut sums, mut products) = (vec![0.0; hidden * n], vec![0.0; hidden * n]);
        let (own_multiplier, own_shift) = (vec![1 << 30; hidden], vec![-9; hidden]);
        for round in 0..300 {
            let (mut learned, mut bias) = (vec![0i8; hidden * n], vec![0; hidden]);
            let mut layer = IntegerLayer {
                geometry: below,
                x: &x,
                h: &h,
                folded: false,
                quant,
                part: IntegerParameters::All {
                    weights: &mut learned,
                    fine: &mut [],
                    bias: &mut bias,
                    scales: Scales { multiplier: &own_multiplier, shift: &own_shift },
                },
            };
            let mut workspace = Workspace {
                residual: &mut vec![0; classes],
                sums: &mut vec![0; classes],
                gradients: &mut vec![0; 64],
            };
            let mut back =
                BlockWorkspace { features: &mut vec![0; out], second: &mut vec![0; out], plane: &mut [0] };
            let mut own = Random::new(100 + round);
            learn_first(&mut layer, &second, &target, Motion::none(), &mut workspace, &mut back, &mut own);
            for c in 0..hidden {
                for i in 0..n {
                    // Units of 2^-10.
                    products[c * n + i] = -1e-4 * of(c) * real(x[i], 3) * 1024.0;
                    sums[c * n + i] += f64::from(learned[c * n + i]);
                }
            }
        }
        let power: f64 = products.iter().map(|p| p * p).sum();
        let error: f64 = sums.iter().zip(&products).map(|(s, p)| (s / 300.0 - p).powi(2)).sum();
        assert!(error < 0.02 * power + 0.001 * sums.len() as f64, "{error} of {power}");
    }

    #[test]
    fn weights_of_all_orders_are_found() {
        let window = Window { kernel: [2, 3], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
        let g = Geometry {
            input: [9, 9],
            c: 3,
            output: [8, 7],
            out_c: 4,
            window,
            order: Order::Tiled { row: 12 },
        };
        let halves = vec![0i16; g.places() / 2];
        let quant =
            Quant { in_zp: 0, out_zp: 0, bounds: (-128, 127), s_in: Magnitude::ZERO, s_out: Magnitude::ZERO };
        let scales = Scales { multiplier: &[1], shift: &[0] };
        let second = Second { geometry: g, h: &[], quant, weights: bytemuck::cast_slice(&halves), scales };
        assert!((0..g.weights()).all(|at| weight(&second, at) == 0));
        assert_eq!(weight(&Second { weights: &[], ..second }, 5), 0);
    }
}
