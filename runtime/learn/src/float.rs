//! One train step of a float32 layer, or of the first layer of a block of two: rule, gradients, step.

use super::descent::Descent;
use super::layers::Slope;
use super::layers::adaptor;
use super::layers::window::{gradients, pull_back};
use super::rules::{LocalError, LocalRule};
use super::step;
use crate::target_projection::TargetProjection;
use offshoot_kernels::gradient::grid::PoolingGrid;
use offshoot_kernels::layer::Geometry;

/// A layer with the input and output of the current sample.
#[derive(Debug)]
pub struct FloatLayer<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Activation slope.
    pub slope: Slope,
    /// Input, `[height, width, channels]`; not read for a normalisation.
    pub x: &'a [f32],
    /// Output, `[height, width, channels]`.
    pub h: &'a [f32],
    /// The part that learns.
    pub part: FloatParameters<'a>,
}

/// The part of a layer that learns.
#[derive(Debug)]
pub enum FloatParameters<'a> {
    /// Weights in the order of [`Geometry::order`], and biases.
    All {
        /// One per output channel.
        bias: &'a mut [f32],
        /// All weights.
        weights: &'a mut [f32],
    },
    /// Biases.
    Bias(&'a mut [f32]),
    /// `z = scale · (W x + bias)`, per output channel.
    Scale {
        /// One per output channel.
        bias: &'a mut [f32],
        /// One per output channel.
        scale: &'a mut [f32],
    },
    /// `z = scale · n + bias` of a normalisation.
    Norm {
        /// One per channel.
        scale: &'a mut [f32],
        /// One per channel.
        bias: &'a mut [f32],
    },
    /// A low-rank adaptor `up (down x)` added to frozen weights.
    LowRank(LowRank<'a>),
}

/// A low-rank adaptor and its workspace.
#[derive(Debug)]
pub struct LowRank<'a> {
    /// `[out_c, rank]`
    pub up: &'a mut [f32],
    /// `[rank, k_h, k_w, c]`
    pub down: &'a mut [f32],
    /// Geometry of the lower factor as a layer.
    pub geometry: Geometry,
    /// Workspace for the activations between the factors, `[rank, pixels]`.
    pub inner: &'a mut [f32],
    /// Workspace for their errors, `[rank, pixels]`.
    pub pulled: &'a mut [f32],
}

/// The target of a train step.
#[derive(Debug)]
pub struct StepTarget<'a> {
    /// Local rule.
    pub rule: LocalRule,
    /// Projection from the label to the features.
    pub projection: TargetProjection<'a>,
    /// Pooling grid whose cells are the features of the output.
    pub grid: PoolingGrid,
    /// Class of the sample.
    pub label: usize,
}

/// How steps are taken.
#[derive(Debug)]
pub struct Way<'a> {
    /// Rate before normalisation, momentum, noise.
    pub descent: Descent<'a>,
    /// Divide the rate by one plus the energy of a patch.
    pub normalised: bool,
}

/// Mean of a feature's pixels.
fn pooled(grid: &PoolingGrid, h: &[f32], j: usize) -> f32 {
    let mut sum = 0.0;
    grid.pixels(j, |at| sum += h[at]);
    sum * mean(grid)
}

fn mean(grid: &PoolingGrid) -> f32 {
    let (pixels, cells) = grid.cell_pixels();
    cells as f32 / pixels.max(1) as f32
}

/// Errors of a layer's features.
struct Errors<'a> {
    error: LocalError<'a>,
    targets: bool,
}

impl<'a> Errors<'a> {
    fn new(h: &[f32], target: &StepTarget<'a>, residual: &'a mut [f32]) -> Self {
        let features = target.grid.features();
        let each = (0..features).map(|j| pooled(&target.grid, h, j));
        let error = LocalError::new(target.rule, target.projection, features, each, target.label, residual);
        Self { error, targets: target.rule.reads_activation() }
    }

    fn of_feature(&self, h: &[f32], grid: &PoolingGrid, j: usize) -> f32 {
        let own = if self.targets { pooled(grid, h, j) } else { 0.0 };
        self.error.at(j, own) * mean(grid)
    }
}

/// Runs one train step. `residual` is workspace for one number per class, `errors` for one per output pixel. Leaves in
/// `residual` what [`learn_head`] descends.
pub fn learn(
    layer: &mut FloatLayer<'_>,
    target: &StepTarget<'_>,
    mut way: Way<'_>,
    residual: &mut [f32],
    errors: &mut [f32],
) {
    let (g, slope, h) = (layer.geometry, layer.slope, layer.h);
    let grid = &target.grid;
    let local = Errors::new(h, target, residual);
    normalise(layer, &mut way, grid.cell_pixels().1);
    let mut steps = Steps::new(layer, way.descent);
    for channel in 0..g.out_c {
        let mut total = 0.0;
        for j in (channel..grid.features()).step_by(g.out_c) {
            let of_feature = local.of_feature(h, grid, j);
            grid.pixels(j, |at| {
                let e = of_feature * slope.at(h[at]);
                errors[at / g.out_c] = e;
                total += e;
            });
        }
        steps.channel(channel, errors, total);
    }
    steps.finish();
}

/// The second layer of a block, before its own step.
#[derive(Clone, Copy, Debug)]
pub struct Second<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Activation slope.
    pub slope: Slope,
    /// Output.
    pub h: &'a [f32],
    /// Weights.
    pub weights: &'a [f32],
}

/// Workspace of [`learn_first`].
#[derive(Debug)]
pub struct Workspace<'a> {
    /// One number per class.
    pub residual: &'a mut [f32],
    /// One number per feature of the second layer.
    pub features: &'a mut [f32],
    /// One number per pixel of the second layer.
    pub second: &'a mut [f32],
    /// One number per pixel of the first layer.
    pub plane: &'a mut [f32],
}

/// Runs one train step of the first layer of a block. The error comes back through the second layer's weights, one
/// channel of the first layer at a time, so that only one channel's errors are buffered. The second layer learns
/// afterwards, by [`learn`].
pub fn learn_first(
    layer: &mut FloatLayer<'_>,
    second: &Second<'_>,
    target: &StepTarget<'_>,
    mut way: Way<'_>,
    workspace: &mut Workspace<'_>,
) {
    let (g, slope, h) = (layer.geometry, layer.slope, layer.h);
    let Workspace { residual, features, second: errors, plane } = workspace;
    let grid = &target.grid;
    let local = Errors::new(second.h, target, residual);
    for (j, e) in features.iter_mut().enumerate().take(grid.features()) {
        *e = local.of_feature(second.h, grid, j);
    }
    normalise(layer, &mut way, grid.cell_pixels().1);
    let mut steps = Steps::new(layer, way.descent);
    let above = &second.geometry;
    for channel in 0..g.out_c {
        plane.fill(0.0);
        for o in above.readers(channel) {
            for j in (o..grid.features()).step_by(above.out_c) {
                let of_feature = features[j];
                grid.pixels(j, |at| errors[at / above.out_c] = of_feature * second.slope.at(second.h[at]));
            }
            pull_back(above, o, channel, errors, plane, |at| second.weights[at], |sum, e, w| sum + e * w);
        }
        let mut total = 0.0;
        for (e, h) in plane.iter_mut().zip(h.get(channel..).unwrap_or(&[]).iter().step_by(g.out_c)) {
            *e *= slope.at(*h);
            total += *e;
        }
        steps.channel(channel, plane, total);
    }
    steps.finish();
}

/// Divides the rate by one plus the energy of the gradient's inputs.
fn normalise(layer: &FloatLayer<'_>, way: &mut Way<'_>, cells: usize) {
    if way.normalised {
        let g = &layer.geometry;
        let energy = match layer.part {
            FloatParameters::Scale { .. } | FloatParameters::Norm { .. } => {
                step::patch_energy(layer.h, g.pixels() * g.out_c, 1, cells)
            }
            _ => step::patch_energy(layer.x, g.input[0] * g.input[1], g.taps(), cells),
        };
        way.descent.rate = step::normalised(way.descent.rate, energy);
    }
}

/// Steps a layer channel by channel.
struct Steps<'s, 'a, 'd> {
    layer: &'s mut FloatLayer<'a>,
    descent: Descent<'d>,
}

impl<'s, 'a, 'd> Steps<'s, 'a, 'd> {
    fn new(layer: &'s mut FloatLayer<'a>, descent: Descent<'d>) -> Self {
        if let FloatParameters::LowRank(own) = &mut layer.part {
            own.pulled.fill(0.0);
            adaptor::lower(&own.geometry, own.down, layer.x, |x| x, own.inner);
        }
        Self { layer, descent }
    }

    /// Steps a channel by the `errors` of its pixels and their sum.
    fn channel(&mut self, channel: usize, errors: &[f32], total: f32) {
        let FloatLayer { geometry: g, x, h, part, .. } = &mut *self.layer;
        let descent = &mut self.descent;
        let outputs = || h.get(channel..).unwrap_or(&[]).iter().step_by(g.out_c).zip(errors);
        match part {
            FloatParameters::All { bias, weights } => {
                descent.step(channel, &mut bias[channel], total);
                let first = bias.len();
                gradients(
                    g,
                    channel,
                    x,
                    errors,
                    |sum, e, x| sum + e * x,
                    |at, sum| descent.step(first + at, &mut weights[at], sum),
                );
            }
            FloatParameters::Bias(bias) => descent.step(channel, &mut bias[channel], total),
            FloatParameters::Scale { bias, scale } => {
                let old = scale[channel];
                // Where the activation clamps, the output is not `scale · u`, but the error there is zero.
                let product = outputs().fold(0.0, |sum, (h, e)| sum + e * h);
                let of_scale = if old.abs() > LEAST_SCALE { product / old } else { 0.0 };
                descent.step(channel, &mut bias[channel], total * old);
                descent.step(bias.len() + channel, &mut scale[channel], of_scale);
            }
            FloatParameters::Norm { scale, bias } => {
                let (old, shift) = (scale[channel], bias[channel]);
                let product = outputs().fold(0.0, |sum, (h, e)| sum + e * (h - shift));
                let of_scale = if old.abs() > LEAST_SCALE { product / old } else { 0.0 };
                descent.step(channel, &mut scale[channel], of_scale);
                descent.step(scale.len() + channel, &mut bias[channel], total);
            }
            FloatParameters::LowRank(own) => own.channel(channel, errors, descent),
        }
    }

    fn finish(mut self) {
        if let FloatParameters::LowRank(own) = &mut self.layer.part {
            own.finish(self.layer.x, |x| x, &mut self.descent);
        }
    }
}

/// Below this, the output divided by the scale is meaningless.
const LEAST_SCALE: f32 = 1e-6;

impl LowRank<'_> {
    /// Accumulates the channel's part of the lower factor's error, then steps the channel's row of the upper factor.
    pub(super) fn channel(&mut self, channel: usize, errors: &[f32], descent: &mut Descent<'_>) {
        let (rank, pixels) = (self.geometry.out_c, self.geometry.pixels().max(1));
        let row = self.up[channel * rank..][..rank].iter_mut().enumerate();
        let inner = self.inner.chunks_exact(pixels).zip(self.pulled.chunks_exact_mut(pixels));
        for ((r, up), (inner, pulled)) in row.zip(inner) {
            let mut sum = 0.0;
            for ((e, inner), pulled) in errors.iter().zip(inner).zip(pulled) {
                sum += e * inner;
                *pulled += e * *up;
            }
            descent.step(channel * rank + r, up, sum);
        }
    }

    /// Steps the lower factor.
    pub(super) fn finish<X: Copy>(
        &mut self,
        x: &[X],
        real: impl Fn(X) -> f32 + Copy,
        descent: &mut Descent<'_>,
    ) {
        let (g, first) = (&self.geometry, self.up.len());
        for (r, pulled) in self.pulled.chunks_exact(g.pixels().max(1)).enumerate() {
            gradients(
                g,
                r,
                x,
                pulled,
                |sum, e, x| sum + e * real(x),
                |at, sum| descent.step(first + at, &mut self.down[at], sum),
            );
        }
    }
}

/// Runs one step of a local head, `table: [classes, features]`, on the residual that [`learn`] left.
pub fn learn_head(
    h: &[f32],
    grid: &PoolingGrid,
    table: &mut [f32],
    residual: &[f32],
    rate: f32,
    normalised: bool,
) {
    let features = grid.features();
    let feature = |j: usize| pooled(grid, h, j);
    let rate = if normalised {
        let energy = (0..features).map(feature).fold(0.0, |sum, h| sum + h * h);
        step::normalised(rate, energy)
    } else {
        rate
    };
    for j in 0..features {
        let h = feature(j);
        for (row, residual) in table.chunks_exact_mut(features.max(1)).zip(residual) {
            row[j] -= rate * residual * h;
        }
    }
}
