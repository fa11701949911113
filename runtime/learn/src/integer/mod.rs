//! One train step of an int8 layer in integers only: the same bits on cores with and without an FPU.
//!
//! Real values: `x = s_in (q - z_in)`, `h = s_out (q - z_out)`, `w[o] = s_w[o] q`. The file does not hold a channel's
//! weight scale directly; it follows from the requantisation, `s_in s_w[o] / s_out = multiplier · 2^(shift - 31)`.
//! Errors are 16-bit integers times a [`Magnitude`] that the whole layer shares. The step of a weight is `gradient ·
//! factor · 2^-shift` in its own units, rounded stochastically: one random number per weight, in channel order, the
//! bias before the weights. A channel without an error draws none.

mod block;
mod errors;
mod layer;
pub mod magnitude;
mod motion;
mod parts;
pub mod softmax;
pub(super) mod sparse;
mod step;
mod update;

pub use block::{BlockWorkspace, Second, learn_first};
use errors::Errors;
use layer::normalised;
pub use layer::{IntegerLayer, IntegerParameters, Quant, Scales, StepTarget, Workspace};
pub use magnitude::Magnitude;
pub use motion::Motion;
use offshoot_kernels as kernels;
use offshoot_kernels::Random;
use offshoot_kernels::gradient::planes::PlaneExtents;
use offshoot_kernels::gradient::{Starts, Tensors};
use parts::Steps;
pub use step::Coefficient;

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
