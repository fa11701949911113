//! What a train step in integers works on: the layer, its target, and its workspace.

use super::magnitude::Magnitude;
use crate::float::LowRank;
use crate::rules::LocalRule;
use crate::target_projection::TargetProjection;
use offshoot_kernels as kernels;
use offshoot_kernels::gradient::grid::PoolingGrid;
use offshoot_kernels::layer::Geometry;

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
    pub(super) fn of(&self, channel: usize) -> Magnitude {
        let at = if self.multiplier.len() == 1 { 0 } else { channel };
        requantised(self.multiplier[at], self.shift[at])
    }
}

/// The real number that a multiplier and a shift stand for.
pub(super) fn requantised(multiplier: i32, shift: i8) -> Magnitude {
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
    pub(super) fn is_active(&self, h: i8) -> bool {
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

/// The rate, divided by one plus the energy of a mean patch in each cell if the target asks for it: of the input, or of
/// the output if scales learn.
pub(super) fn normalised(layer: &IntegerLayer<'_>, target: &StepTarget<'_>) -> Magnitude {
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
