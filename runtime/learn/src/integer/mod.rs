//! One step of one layer of an int8 network, in whole numbers only: the same bits on cores with and without an FPU.
//!
//! Real numbers behind the whole ones: `x = s_in (q - z_in)`, `h = s_out (q - z_out)`, `w[o] = s_w[o] q`. The scale of a
//! channel's weights is not in the file but in its requantisation: `s_in s_w[o] / s_out = multiplier · 2^(shift - 31)`.
//! Errors are whole numbers of sixteen bits times a [`Magnitude`] that is the same for the layer. A step of a weight is
//! `gradient · factor · 2^-shift` of its units, rounded stochastically: one random number a weight, in the order of
//! channels, the bias before the weights. A channel without an error draws none.

mod block;
mod errors;
pub mod magnitude;
mod motion;
mod parts;
pub mod softmax;
pub(super) mod sparse;
mod step;
mod update;

use super::float::LowRank;
use super::rules::LocalRule;
use crate::target_projection::TargetProjection;
pub use block::{BlockWorkspace, Second, learn_first};
use errors::Errors;
pub use magnitude::Magnitude;
pub use motion::Motion;
use offshoot_kernels as kernels;
use offshoot_kernels::Random;
use offshoot_kernels::gradient::grid::PoolingGrid;
use offshoot_kernels::gradient::planes::Plan;
use offshoot_kernels::gradient::{Starts, Tensors};
use offshoot_kernels::layer::Geometry;
use parts::Steps;
pub use step::Coefficient;

/// A layer and what it has just computed.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Input, `[height, width, channels]`.
    pub x: &'a [i8],
    /// Output, `[height, width, channels]`.
    pub h: &'a [i8],
    /// The bias holds `-in_zp · Σ weights`, as those of arranged operators do.
    pub folded: bool,
    /// Numbers of its quantisation.
    pub quant: Quant,
    /// What of it learns.
    pub part: Part<'a>,
}

/// What of a layer learns.
#[derive(Debug)]
pub enum Part<'a> {
    /// Weights and biases.
    All {
        /// In the order of [`Geometry::order`]; halves of words if that is [`Order::Tiled`](offshoot_kernels::layer::Order::Tiled). Of int16 weights the upper
        /// byte, rounded: what inference computes with.
        weights: &'a mut [i8],
        /// Of int16 weights what the upper byte leaves, in 1/256 of its unit; empty for int8. In the order of the plain form.
        fine: &'a mut [i8],
        /// One an output channel, in units of `s_in s_w[o]`.
        bias: &'a mut [i32],
        /// Requantisation, which stays.
        scales: Scales<'a>,
    },
    /// Biases.
    Bias {
        /// One an output channel, in units of `s_in s_w[o]`.
        bias: &'a mut [i32],
        /// Requantisation, which stays.
        scales: Scales<'a>,
    },
    /// Biases, and the scale of each output channel by way of its requantisation.
    Scale {
        /// One an output channel, in units of `s_in s_w[o]`, which stay what they were.
        bias: &'a mut [i32],
        /// One an output channel, or one for all.
        multiplier: &'a mut [i32],
        /// As many as multipliers.
        shift: &'a mut [i8],
    },
    /// An adaptor of float32 numbers, and room for an error a pixel.
    LowRank(LowRank<'a>, &'a mut [f32]),
}

/// Multipliers and shifts of requantisation.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// One an output channel, or one for all.
    pub multiplier: &'a [i32],
    /// As many as multipliers.
    pub shift: &'a [i8],
}

impl Scales<'_> {
    /// Of an output channel: `s_in s_w[o] / s_out`.
    fn of(&self, channel: usize) -> Magnitude {
        let at = if self.multiplier.len() == 1 { 0 } else { channel };
        requantised(self.multiplier[at], self.shift[at])
    }
}

fn requantised(multiplier: i32, shift: i8) -> Magnitude {
    Magnitude::new(multiplier.unsigned_abs().into(), -31).scaled(shift.into())
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

impl Quant {
    /// Whether an output is one that the activation does not hold.
    fn is_active(&self, h: i8) -> bool {
        h > self.bounds.0 && h < self.bounds.1
    }
}

/// What it is to learn.
#[derive(Clone, Copy, Debug)]
pub struct StepTarget<'a> {
    /// Which error.
    pub rule: LocalRule,
    /// The label's way to the features.
    pub codes: TargetProjection<'a>,
    /// Features of the output.
    pub grid: PoolingGrid,
    /// The class.
    pub label: usize,
    /// Learning rate, before it is normalised.
    pub rate: Magnitude,
    /// Divide the rate by one plus the energy of a patch.
    pub normalised: bool,
}

/// Workspace that a step needs.
#[derive(Debug)]
pub struct Workspace<'a> {
    /// A number a class; afterwards residuals in 2^-15.
    pub residual: &'a mut [i32],
    /// A number a class.
    pub sums: &'a mut [i64],
    /// [`Geometry::gradients`]; with more of it, gradients of some layers take fewer instructions on some cores.
    pub gradients: &'a mut [i32],
}

/// One step.
pub fn learn(
    layer: &mut Layer<'_>,
    target: &StepTarget<'_>,
    motion: Motion<'_>,
    workspace: &mut Workspace<'_>,
    random: &mut Random,
) {
    let (g, quant) = (layer.geometry, layer.quant);
    let mut starts = Starts::new();
    let errors = Errors::new((layer.h, &quant), target, workspace, &mut starts);
    let rate = normalised(layer, target);
    let whole = matches!(layer.part, Part::All { .. });
    let tensors = Tensors {
        geometry: &g,
        x: layer.x,
        h: layer.h,
        bounds: quant.bounds,
        zero: quant.in_zp,
        whole: kernels::gradient::whole_columns(&g),
    };
    let (cells, length) = (target.grid.features() / g.out_c.max(1), g.taps() * g.depth());
    let mut steps = Steps::new(layer, rate, errors.unit, motion, random);
    if !whole {
        steps.of_cells(target, &errors, workspace.residual);
        return steps.finish();
    }
    let plan = Plan::new(&g, cells, workspace.gradients.len());
    let lanes = if plan.is_some() { kernels::gradient::planes::LANES } else { 1 };
    for first in (0..g.out_c).step_by(lanes) {
        let (gradients, scratch) = workspace.gradients.split_at_mut(lanes * length);
        gradients.fill(0);
        let error = |feature: usize| errors.at(feature, workspace.residual);
        let mut totals = [0i32; kernels::gradient::planes::LANES];
        // The last lanes may have some of those before them among them.
        let base = if plan.is_some() { first.min(g.out_c - lanes) } else { first };
        let done = plan.is_some_and(|plan| {
            kernels::add_planes(
                &tensors,
                &plan,
                base,
                &target.grid,
                error,
                gradients,
                &mut totals,
                (scratch, first == 0),
            )
        });
        let own = gradients.chunks_exact_mut(length.max(1)).zip(totals).take(lanes);
        for (channel, (gradients, mut total)) in (base..g.out_c).zip(own).skip(first - base) {
            if !done {
                let of_cell = |cell: usize| error(cell * g.out_c + channel);
                total = tensors.add_channel(channel, &target.grid, of_cell, gradients, &mut starts);
            }
            steps.whole(channel, total, gradients, 0);
        }
    }
}

/// The rate, if it is to be over one plus the energy of a mean patch in each cell: of the input, or, if scales learn, of the output.
fn normalised(layer: &Layer<'_>, target: &StepTarget<'_>) -> Magnitude {
    if !target.normalised {
        return target.rate;
    }
    let (g, quant) = (&layer.geometry, &layer.quant);
    let scale = matches!(layer.part, Part::Scale { .. });
    let (sum, pixels, taps, unit) = if scale {
        (kernels::energy(layer.h, quant.out_zp as i8), g.pixels() * g.out_c, 1, quant.s_out)
    } else {
        (kernels::energy(layer.x, quant.in_zp as i8), g.input[0] * g.input[1], g.taps(), quant.s_in)
    };
    let pixels = Magnitude::new(pixels as u64, 0);
    let energy =
        Magnitude::new(sum.saturating_mul((taps * target.grid.cell_pixels().1) as u64), 0).over(pixels);
    target.rate.over(energy.times(unit).times(unit).plus_one())
}
