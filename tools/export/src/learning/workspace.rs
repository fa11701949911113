//! The workspace of a train step: memory that is free between steps.

use super::Candidate;
use offshoot::format::learn::{ErrorSource, LearnLayer};
use offshoot::graph::learn::Shape;
use offshoot::kernels::gradient::grid::PoolingGrid;

/// Largest workspace for planes, as a fraction of the arena of inference.
const PLANES_PART: (u64, u64) = (15, 64);

/// Words of workspace that the layers need, or more if that saves instructions and is small beside the `arena` bytes of
/// inference.
pub(super) fn words(chosen: &[&Candidate<'_>], layers: &[LearnLayer], arena: u32) -> usize {
    let own = chosen.iter().zip(layers).map(|(c, l)| c.shape.workspace_words(l.part));
    let blocks = layers.windows(2).enumerate().filter(|(_, l)| l[0].error_source == ErrorSource::Next).map(
        |(i, l)| {
            let second = &chosen[i + 1].shape;
            let features = pooling_grid(second, &l[1].error_source).features();
            chosen[i].shape.block_words(l[0].part, second, features)
        },
    );
    own.chain(blocks).max().unwrap_or(0).max(planes(chosen, layers, arena))
}

/// The pooling grid of a layer's features.
fn pooling_grid(shape: &Shape, error_source: &ErrorSource) -> PoolingGrid {
    let grid = match error_source {
        ErrorSource::Local { grid, .. } => (*grid).into(),
        ErrorSource::Output | ErrorSource::Next => 1,
    };
    PoolingGrid::new(grid, shape.geometry.output, shape.geometry.out_c)
}

/// Words of workspace with which train steps of int8 layers take fewer instructions, up to [`PLANES_PART`] of the
/// arena of inference.
fn planes(chosen: &[&Candidate<'_>], layers: &[LearnLayer], arena: u32) -> usize {
    let most = (u64::from(arena) * PLANES_PART.0 / PLANES_PART.1 / 4) as usize;
    let own = chosen.iter().zip(layers).filter(|(_, l)| l.error_source != ErrorSource::Next).filter_map(
        |(c, l)| {
            let grid = pooling_grid(&c.shape, &l.error_source);
            c.shape.planes_words(l.part, grid.cells[0] * grid.cells[1], most)
        },
    );
    own.max().unwrap_or(0)
}
