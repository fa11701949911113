//! One step of one layer of an int8 network, in whole numbers only: the same bits on cores with and without an FPU.
//!
//! Real numbers behind the whole ones: `x = s_in (q - z_in)`, `h = s_out (q - z_out)`, `w[o] = s_w[o] q`. The scale of a
//! channel's weights is not in the file but in its requantisation: `s_in s_w[o] / s_out = multiplier · 2^(shift - 31)`.
//! Errors are whole numbers of sixteen bits times a [`Magnitude`] that is the same for the layer. A step of a weight is
//! `gradient · factor · 2^-shift` of its units, rounded stochastically: one random number a weight, in the order of
//! channels, the bias before the weights. A channel without an error draws none.

mod errors;
pub(crate) mod gradient;
pub mod magnitude;
pub mod softmax;
mod sparse;
mod step;
mod update;

use super::grid::Grid;
use super::layers::geometry::{Geometry, Order};
use super::rules::Rule;
use super::{Codes, Random};
use crate::graph::learn::MAX_GRID;
use crate::kernels;
use errors::Errors;
use gradient::{Starts, Tensors};
pub use magnitude::Magnitude;
pub use step::Coefficient;
use update::Update;

/// A layer and what it has just computed.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Input, `[height, width, channels]`.
    pub x: &'a [i8],
    /// Output, `[height, width, channels]`.
    pub h: &'a [i8],
    /// In the order of [`Geometry::order`]; halves of words if that is [`Order::Blocked`]. Of int16 weights the upper
    /// byte, rounded: what inference computes with.
    pub weights: &'a mut [i8],
    /// Of int16 weights what the upper byte leaves, in 1/256 of its unit; empty for int8. In the order of the plain form.
    pub fine: &'a mut [i8],
    /// One an output channel, in units of `s_in s_w[o]`.
    pub bias: &'a mut [i32],
    /// The bias holds `-in_zp · Σ weights`, as those of arranged operators do.
    pub folded: bool,
    /// One an output channel, or one for all.
    pub multiplier: &'a [i32],
    /// As many as multipliers.
    pub shift: &'a [i8],
    /// Numbers of its quantisation.
    pub quant: Quant,
}

/// Quantisation of a layer's input and output.
#[derive(Clone, Copy, Debug)]
pub struct Quant {
    /// Zero point of the input.
    pub in_zp: i32,
    /// Zero point of the output.
    pub out_zp: i32,
    /// Outputs strictly between these have slope 1, others 0.
    pub bounds: (i8, i8),
    /// Scale of the input.
    pub s_in: Magnitude,
    /// Scale of the output.
    pub s_out: Magnitude,
}

/// What it is to learn.
#[derive(Clone, Copy, Debug)]
pub struct Lesson<'a> {
    /// Which error.
    pub rule: Rule,
    /// The label's way to the features.
    pub codes: Codes<'a>,
    /// Features of the output.
    pub grid: Grid,
    /// The class.
    pub label: usize,
    /// Learning rate, before it is normalised.
    pub rate: Magnitude,
    /// Divide the rate by one plus the energy of a patch.
    pub normalised: bool,
    /// Leave weights as they are.
    pub bias_only: bool,
}

/// Room that a step needs.
#[derive(Debug)]
pub struct Room<'a> {
    /// A number a class; afterwards residuals in 2^-15.
    pub residual: &'a mut [i32],
    /// A number a class.
    pub sums: &'a mut [i64],
    /// [`Geometry::gradients`]
    pub gradients: &'a mut [i32],
}

/// One step.
pub fn learn(layer: &mut Layer<'_>, lesson: &Lesson<'_>, room: &mut Room<'_>, random: &mut Random) {
    let (g, quant) = (layer.geometry, layer.quant);
    let mut starts = Starts::new();
    let errors = Errors::new(layer, lesson, room, &mut starts);
    let rate = if lesson.normalised { normalised(layer, lesson) } else { lesson.rate };
    // Of a gradient `Σ error · (x - z_in)`, before the channel's own scale is divided out:
    // rate · unit · s_in / s_w = rate · unit · s_in² / (s_out · multiplier). Of a bias s_in² less.
    let of_bias = rate.times(errors.unit).over(quant.s_out);
    let of_weight = of_bias.times(quant.s_in).times(quant.s_in);
    let tensors = Tensors {
        geometry: &g,
        x: layer.x,
        h: layer.h,
        bounds: quant.bounds,
        zero: quant.in_zp,
        whole: gradient::whole_columns(&g),
    };
    let (cells, length) = (lesson.grid.features() / g.out_c.max(1), g.taps() * g.depth());
    let mut update = Update::new(&mut *layer.weights, &mut *layer.fine, &g, random);
    let mut step = |channel: usize, total: i32, gradients: &[i32]| {
        let scale = if layer.multiplier.len() == 1 { 0 } else { channel };
        let requantised = Magnitude::new(layer.multiplier[scale].unsigned_abs().into(), -31);
        let scale = requantised.scaled(layer.shift[scale].into());
        let bias = &mut layer.bias[channel];
        *bias = bias.saturating_sub(update.step(of_bias.over_roughly(scale), total));
        if !lesson.bias_only {
            let moved = update.channel(channel, of_weight.over_roughly(scale), gradients);
            if layer.folded {
                *bias = bias.saturating_add(quant.in_zp.saturating_mul(moved));
            }
        }
        if layer.folded {
            *bias = (*bias).clamp(-update::MOST_BIAS, update::MOST_BIAS);
        }
    };
    if matches!(g.order, Order::Depthwise { .. }) && !lesson.bias_only {
        for channel in (0..g.out_c).step_by(4) {
            let gradients = &mut room.gradients[..4 * length];
            gradients.fill(0);
            let lanes = (g.out_c - channel).min(4);
            let mut totals = [0i32; 4];
            for row in 0..lesson.grid.cells[0] {
                let mut of_cells: gradient::RowErrors = [[0; 4]; MAX_GRID as usize];
                let first = row * lesson.grid.cells[1];
                for (column, own) in of_cells.iter_mut().take(lesson.grid.cells[1]).enumerate() {
                    for (lane, error) in own.iter_mut().take(lanes).enumerate() {
                        *error = errors.at((first + column) * g.out_c + channel + lane, room.residual);
                    }
                }
                let row = (&lesson.grid, row);
                gradient::add_planes(&tensors, channel, row, &of_cells, gradients, &mut totals, &mut starts);
            }
            for (lane, gradients) in gradients.chunks_exact(length.max(1)).take(lanes).enumerate() {
                if totals[lane] != 0 || gradients.iter().any(|&g| g != 0) {
                    step(channel + lane, totals[lane], gradients);
                }
            }
        }
        return;
    }
    let thin = !lesson.bias_only && tensors.is_thin();
    for channel in 0..g.out_c {
        let gradients = &mut room.gradients[..length];
        gradients.fill(0);
        let mut total = 0i32;
        if thin {
            let error = |cell: usize| errors.at(cell * g.out_c + channel, room.residual);
            total = tensors.add_thin(channel, &lesson.grid, error, gradients, &mut starts);
        }
        for cell in (0..cells).filter(|_| !thin) {
            let error = errors.at(cell * g.out_c + channel, room.residual);
            if error != 0 {
                let pixels = lesson.grid.cell(cell);
                let active = if lesson.bias_only {
                    tensors.active(channel, pixels)
                } else {
                    tensors.add_cell(channel, pixels, error, gradients, &mut starts)
                };
                total = total.wrapping_add(error.wrapping_mul(active));
            }
        }
        if total != 0 || gradients.iter().any(|&g| g != 0) {
            step(channel, total, gradients);
        }
    }
}

/// The rate over one plus the energy of a mean patch in each cell.
fn normalised(layer: &Layer<'_>, lesson: &Lesson<'_>) -> Magnitude {
    let g = &layer.geometry;
    let sum = kernels::energy(layer.x, layer.quant.in_zp as i8);
    let pixels = Magnitude::new((g.input[0] * g.input[1]) as u64, 0);
    let energy =
        Magnitude::new(sum.saturating_mul((g.taps() * lesson.grid.cell_pixels().1) as u64), 0).over(pixels);
    lesson.rate.over(energy.times(layer.quant.s_in).times(layer.quant.s_in).plus_one())
}
