//! One train step of an int8 layer in integers only: the same bits on cores with and without an FPU.
//!
//! Real values: `x = s_in (q - z_in)`, `h = s_out (q - z_out)`, `w[o] = s_w[o] q`. The file does not hold a channel's
//! weight scale directly; it follows from the requantisation, `s_in s_w[o] / s_out = multiplier · 2^(shift - 31)`.
//! Errors are 16-bit integers times a [`Magnitude`] that the whole layer shares. The step of a weight is `gradient ·
//! factor · 2^-shift` in its own units, rounded stochastically: one random number per weight, in channel order, the
//! bias before the weights. A channel without an error draws none.

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
use offshoot_kernels::gradient::planes::PlaneExtents;
use offshoot_kernels::gradient::{Starts, Tensors};
use offshoot_kernels::layer::Geometry;
use parts::Steps;
pub use step::Coefficient;

/// A layer with the input and output of the current sample.
#[derive(Debug)]
pub struct IntegerLayer<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Input, `[height, width, channels]`.
    pub x: &'a [i8],
    /// Output, `[height, width, channels]`.
    pub h: &'a [i8],
    /// Whether biases include `-in_zp · Σ weights`, as in tiled, channel-planar and sparse operators.
    pub folded: bool,
    /// Quantisation of input and output.
    pub quant: Quant,
    /// The part that learns.
    pub part: IntegerParameters<'a>,
}

/// The part of a layer that learns.
#[derive(Debug)]
pub enum IntegerParameters<'a> {
    /// Weights and biases.
    All {
        /// In the order of [`Geometry::order`]; two weights per 16-bit word if that is
        /// [`Order::Tiled`](offshoot_kernels::layer::Order::Tiled). For int16 weights, the rounded upper byte, which
        /// inference computes with.
        weights: &'a mut [i8],
        /// For int16 weights, the remainder after the rounded upper byte, in 1/256 of its unit, in the order of the
        /// plain weights; empty for int8.
        fine: &'a mut [i8],
        /// One per output channel, in units of `s_in s_w[o]`.
        bias: &'a mut [i32],
        /// Requantisation, which does not learn.
        scales: Scales<'a>,
    },
    /// Biases.
    Bias {
        /// One per output channel, in units of `s_in s_w[o]`.
        bias: &'a mut [i32],
        /// Requantisation, which does not learn.
        scales: Scales<'a>,
    },
    /// Biases, and the scale of each output channel, which learns through its requantisation.
    Scale {
        /// One per output channel, in units of the original `s_in s_w[o]`.
        bias: &'a mut [i32],
        /// One per output channel, or one for all.
        multiplier: &'a mut [i32],
        /// One per multiplier.
        shift: &'a mut [i8],
    },
    /// A float32 adaptor, and workspace for one error per pixel.
    LowRank(LowRank<'a>, &'a mut [f32]),
}

/// Multipliers and shifts of requantisation.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// One per output channel, or one for all.
    pub multiplier: &'a [i32],
    /// One per multiplier.
    pub shift: &'a [i8],
}

impl Scales<'_> {
    /// Scale of an output channel: `s_in s_w[o] / s_out`.
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
    /// Whether the activation does not clamp output `h`.
    fn is_active(&self, h: i8) -> bool {
        h > self.bounds.0 && h < self.bounds.1
    }
}

/// The target of a train step.
#[derive(Clone, Copy, Debug)]
pub struct StepTarget<'a> {
    /// Local rule.
    pub rule: LocalRule,
    /// Projection from the label to the features.
    pub projection: TargetProjection<'a>,
    /// Pooling grid whose cells are the features of the output.
    pub grid: PoolingGrid,
    /// Class of the sample.
    pub label: usize,
    /// Learning rate before normalisation.
    pub rate: Magnitude,
    /// Divide the rate by one plus the energy of a patch.
    pub normalised: bool,
}

/// Workspace of a train step.
#[derive(Debug)]
pub struct Workspace<'a> {
    /// One number per class; holds the residuals afterwards, in 2^-15.
    pub residual: &'a mut [i32],
    /// One number per class.
    pub sums: &'a mut [i64],
    /// At least [`Geometry::gradients`] words; with more, some layers take fewer instructions on some cores.
    pub gradients: &'a mut [i32],
}

/// Runs one train step of a layer.
pub fn learn(
    layer: &mut IntegerLayer<'_>,
    target: &StepTarget<'_>,
    motion: Motion<'_>,
    workspace: &mut Workspace<'_>,
    random: &mut Random,
) {
    let (g, quant) = (layer.geometry, layer.quant);
    let mut starts = Starts::new();
    let errors = Errors::new((layer.h, &quant), target, workspace, &mut starts);
    let rate = normalised(layer, target);
    let whole = matches!(layer.part, IntegerParameters::All { .. });
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
    let plan = PlaneExtents::new(&g, cells, workspace.gradients.len());
    let lanes = if plan.is_some() { kernels::gradient::planes::LANES } else { 1 };
    for first in (0..g.out_c).step_by(lanes) {
        let (gradients, scratch) = workspace.gradients.split_at_mut(lanes * length);
        gradients.fill(0);
        let error = |feature: usize| errors.at(feature, workspace.residual);
        let mut totals = [0i32; kernels::gradient::planes::LANES];
        // The last group of lanes may overlap channels that are done already.
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

/// The rate, divided by one plus the energy of a mean patch in each cell if the target asks for it: of the input, or of
/// the output if scales learn.
fn normalised(layer: &IntegerLayer<'_>, target: &StepTarget<'_>) -> Magnitude {
    if !target.normalised {
        return target.rate;
    }
    let (g, quant) = (&layer.geometry, &layer.quant);
    let scale = matches!(layer.part, IntegerParameters::Scale { .. });
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
