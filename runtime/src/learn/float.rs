//! One step of one layer of a float32 network: rule, gradients, step.

use super::grid::Grid;
use super::layers::Slope;
use super::layers::geometry::Geometry;
use super::layers::window::gradients;
use super::rules::{LocalError, Rule};
use super::{Codes, step};

/// A layer and what it has just computed.
#[derive(Debug)]
pub struct Layer<'a> {
    /// Extents.
    pub geometry: Geometry,
    /// Slope of the activation.
    pub slope: Slope,
    /// Input, `[height, width, channels]`.
    pub x: &'a [f32],
    /// Output, `[height, width, channels]`.
    pub h: &'a [f32],
    /// In the order of [`Geometry::order`].
    pub weights: &'a mut [f32],
    /// One an output channel.
    pub bias: &'a mut [f32],
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
    pub rate: f32,
    /// Divide the rate by one plus the energy of a patch.
    pub normalised: bool,
    /// Leave weights as they are.
    pub bias_only: bool,
}

/// One step. `residual` is room for a number a class, `errors` for one a pixel of the output; afterwards `residual`
/// holds what a head that learns descends.
pub fn learn(layer: &mut Layer<'_>, lesson: &Lesson<'_>, residual: &mut [f32], errors: &mut [f32]) {
    let Layer { geometry: g, slope, x, h, .. } = *layer;
    let grid = &lesson.grid;
    let features = grid.features();
    let (pixels, cells) = grid.cell_pixels();
    let mean = cells as f32 / pixels.max(1) as f32;
    let pooled = |j: usize| {
        let mut sum = 0.0;
        grid.pixels(j, |at| sum += h[at]);
        sum * mean
    };
    let error = LocalError::new(
        lesson.rule,
        lesson.codes,
        features,
        (0..features).map(pooled),
        lesson.label,
        residual,
    );
    let rate = if lesson.normalised {
        step::normalised(lesson.rate, step::patch_energy(x, g.input[0] * g.input[1], g.taps(), cells))
    } else {
        lesson.rate
    };
    for channel in 0..g.out_c {
        let mut total = 0.0;
        for j in (channel..features).step_by(g.out_c) {
            let own = if matches!(lesson.rule, Rule::Squared { .. } | Rule::Absolute { .. }) {
                pooled(j)
            } else {
                0.0
            };
            let of_feature = error.at(j, own) * mean;
            grid.pixels(j, |at| {
                let e = of_feature * slope.at(h[at]);
                errors[at / g.out_c] = e;
                total += e;
            });
        }
        layer.bias[channel] -= rate * total;
        if !lesson.bias_only {
            gradients(&g, channel, x, errors, |at, sum| layer.weights[at] -= rate * sum);
        }
    }
}

/// One step of a head that learns: `table: [classes, features]`, after [`learn`] has left the residual.
pub fn learn_head(h: &[f32], grid: &Grid, table: &mut [f32], residual: &[f32], rate: f32, normalised: bool) {
    let (pixels, cells) = grid.cell_pixels();
    let mean = cells as f32 / pixels.max(1) as f32;
    let features = grid.features();
    let feature = |j: usize| {
        let mut sum = 0.0;
        grid.pixels(j, |at| sum += h[at]);
        sum * mean
    };
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
