//! Vector-Jacobian products: for each operator of the IR, the gradient of its inputs from that of its output.
//!
//! One file per family, as in the reference executor, whose forward results they differentiate. All functions are
//! pure and handle one shard of a batch; the tape sums over shards.

mod conv;
mod elementwise;
mod linear;
mod movement;
pub(crate) mod norm;
mod pool;
mod recurrent;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use offshoot_ir::indexed::chosen_branch;
use offshoot_ir::{Node, Op, ReduceKind};

use crate::error::{Error, Result};

/// A tensor shared by several readers.
pub(crate) type Tensor = Arc<ArrayD<f32>>;

/// Why an operator has no gradient; `None` if it has one.
pub(crate) fn refusal(op: &Op) -> Option<&'static str> {
    match op {
        Op::ArgMax { .. } | Op::TopK { .. } | Op::Cast => Some("an index has no gradient"),
        Op::Scatter { .. } => Some("training through a scatter is not supported"),
        Op::GridSample { .. } => Some("training through a sampled grid is not supported"),
        Op::Spectrum { .. } | Op::MicroFrontend(_) => {
            Some("training through a Fourier transform is not supported")
        }
        Op::Quantize | Op::Dequantize | Op::Requantize | Op::Lookup(_) => {
            Some("the graph is quantised; train the float graph with fake quantisation instead")
        }
        _ => None,
    }
}

/// Gradients of the inputs that are `wanted`, from `dy`, the gradient of the output `y` (after the fused activation).
pub(crate) fn backward(
    node: &Node,
    x: &[Tensor],
    y: &ArrayD<f32>,
    mut dy: ArrayD<f32>,
    wanted: &[bool],
) -> Result<Vec<Option<ArrayD<f32>>>> {
    if let Some(reason) = refusal(&node.op) {
        return Err(Error::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            reason: reason.into(),
        });
    }
    if let Some(activation) = node.op.activation() {
        let (min, max) = activation.bounds();
        if min != f32::NEG_INFINITY || max != f32::INFINITY {
            ndarray::Zip::from(&mut dy).and(y).for_each(|d, y| {
                // A select instead of a branch, so that it is vectorised.
                *d = if min < *y && *y < max { *d } else { 0.0 };
            });
        }
    }
    let wants = |i: usize| wanted.get(i).copied().unwrap_or(false);
    let one = |dx: ArrayD<f32>| vec![Some(dx)];
    Ok(match &node.op {
        Op::Conv2d { window, groups, .. } => conv::conv2d(x, &dy, window, *groups, wanted),
        Op::ConvTranspose2d { window, groups, .. } => conv::conv_transpose2d(x, &dy, window, *groups, wanted),
        Op::FullyConnected { .. } => linear::fully_connected(x, &dy, wanted),
        Op::MatMul { transpose_b } => linear::matmul(x, &dy, *transpose_b, wanted),
        Op::Pool { kind, window, .. } => one(pool::pool(&x[0], &dy, *kind, window)),
        Op::Binary { kind, .. } => elementwise::binary(*kind, &x[0], &x[1], &dy, [wants(0), wants(1)]),
        Op::Unary(kind) => one(elementwise::unary(*kind, &x[0], y, dy)),
        Op::PRelu => elementwise::prelu(&x[0], &x[1], dy),
        Op::Softmax { axis } => one(norm::softmax(y, dy, *axis)),
        Op::BatchNorm { epsilon } => norm::batch_norm_stored(x, dy, *epsilon),
        Op::LayerNorm { epsilon } => norm::layer_norm(&x[0], &x[1], dy, *epsilon),
        Op::Recurrent { kind, returns, reverse } => {
            recurrent::recurrent(x, &dy, *kind, *returns, *reverse, wanted)?
        }
        Op::Reshape => one(like(dy, x[0].shape())),
        Op::Transpose { perm } => {
            let mut back = vec![0; perm.len()];
            perm.iter().enumerate().for_each(|(i, p)| back[*p] = i);
            one(dy.permuted_axes(IxDyn(&back)).as_standard_layout().into_owned())
        }
        Op::Concat { axis } => movement::concat(x, &dy, *axis, wanted),
        Op::Slice { start, step } => one(movement::slice(x[0].shape(), &dy, start, step)),
        Op::Pad { before, mode, .. } => one(movement::pad(x[0].shape(), &dy, before, *mode)),
        Op::Resize(rule) => one(movement::resize(x[0].shape(), &dy, rule)?),
        Op::History { axis, state, .. } => {
            let before: Vec<usize> = (0..x[0].ndim()).map(|i| if i == *axis { *state } else { 0 }).collect();
            one(movement::pad(x[0].shape(), &dy, &before, None))
        }
        Op::Expand => one(elementwise::sum_to(dy, x[0].shape())),
        Op::Reduce { kind, axes } => {
            let kept: Vec<usize> = (x[0].shape().iter().enumerate())
                .map(|(i, d)| if axes.contains(&i) { 1 } else { *d })
                .collect();
            let (dy, y) = (like(dy, &kept), like(y.clone(), &kept));
            one(match kind {
                ReduceKind::Mean | ReduceKind::Sum => movement::spread(x[0].shape(), &dy, axes, *kind),
                ReduceKind::Max | ReduceKind::Min => movement::to_extremes(&x[0], &y, &dy),
            })
        }
        Op::Switch => {
            let (index, branches) = x.split_last().ok_or_else(|| Error::Unsupported {
                node: node.name.clone(),
                op: node.op.name(),
                reason: "it has no branches".into(),
            })?;
            let chosen = chosen_branch(index.first().copied().unwrap_or(0.0), branches.len());
            let of = |i: usize| if i == chosen { dy.clone() } else { ArrayD::zeros(dy.raw_dim()) };
            (0..branches.len()).map(|i| wants(i).then(|| of(i))).chain([None]).collect()
        }
        Op::Gather(indexing) => vec![movement::gather(&x[0], &x[1], &dy, *indexing), None],
        Op::ArgMax { .. }
        | Op::TopK { .. }
        | Op::Cast
        | Op::Scatter { .. }
        | Op::GridSample { .. }
        | Op::Spectrum { .. }
        | Op::MicroFrontend(_)
        | Op::Quantize
        | Op::Dequantize
        | Op::Requantize
        | Op::Lookup(_) => Vec::new(),
    })
}

/// The same elements in another shape of equal size.
pub(crate) fn like(a: ArrayD<f32>, shape: &[usize]) -> ArrayD<f32> {
    let a = if a.is_standard_layout() { a } else { a.as_standard_layout().into_owned() };
    // Shapes come from a validated graph, so the sizes are equal.
    a.into_shape_with_order(IxDyn(shape)).unwrap_or_else(|_| ArrayD::zeros(IxDyn(shape)))
}

/// An array of shape `shape` from `values`.
pub(crate) fn array(shape: &[usize], values: Vec<f32>) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap_or_else(|_| ArrayD::zeros(IxDyn(shape)))
}

/// Elements in row-major order.
pub(crate) fn flat(a: &ArrayD<f32>) -> std::borrow::Cow<'_, [f32]> {
    match a.as_slice() {
        Some(s) => s.into(),
        None => a.iter().copied().collect::<Vec<_>>().into(),
    }
}
