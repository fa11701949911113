//! Recovery without training: fits each remaining layer anew, in closed form, to the outputs of the uncompressed one.
//!
//! Layers are fitted in execution order, so that each makes up for the loss of those before it: with X the windows
//! that the small network delivers and Y the uncompressed layer's outputs before its activation, `ΔW = (XᵀX + λI)⁻¹
//! Xᵀ(Y − XW − b)` (ridge regression around the present weights). Needs samples, but no labels. He, Zhang and Sun
//! (2017) fit one layer at a time.

use std::sync::Arc;

use nalgebra::DMatrix;
use ndarray::{Array2, ArrayD, Axis};
use offshoot_ir::{Activation, Data, Graph, Node, Op};

use super::groups::Groups;
use crate::quantize::execute::Environment;
use crate::quantize::moments::{patches, rows_of};
use crate::quantize::tensors::{Batch, activate};
use crate::{Error, Result};

/// λ as a share of the mean diagonal element of XᵀX.
const RIDGE: f64 = 1e-3;
/// Layers wider than this are not fitted: the matrix would cost too much.
const MAX_WIDTH: usize = 2048;

/// Fits the convolutions and fully connected layers of `small`, which is `graph` sliced by `removed`, on `samples`
/// (one array for each graph input). `progress` receives (operators done, operators in all).
///
/// # Errors
/// The samples do not fit the graph.
pub fn refit(
    graph: &Graph,
    groups: &Groups,
    removed: &[bool],
    small: Graph,
    samples: &[Vec<ArrayD<f32>>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Graph> {
    crate::quantize::calibrate::check(graph, samples)?;
    let mut small = small;
    let mut exact = Environment::new(graph, samples.len());
    let mut now = Environment::new(&small, samples.len());
    for (i, (&id, &new)) in graph.inputs.iter().zip(&small.inputs).enumerate() {
        let batch: Batch = samples.iter().map(|s| s[i].clone()).collect();
        exact.set(id, batch.clone());
        now.set(new, batch);
    }
    // Slicing keeps operators and their order.
    for (index, source) in graph.nodes.iter().enumerate() {
        let node = small.nodes[index].clone();
        let mut wanted = exact.run(graph, source, true)?;
        if fits(&small, &node) {
            let last = graph.value(source.output).shape.len() - 1;
            let along = groups.along(source.output, last);
            let extent = graph.value(source.output).shape[last];
            let kept: Vec<usize> = (0..extent).filter(|&c| along.is_none_or(|g| !removed[g[c]])).collect();
            let target: Batch = wanted.iter().map(|y| y.select(Axis(last), &kept)).collect();
            layer(&mut small, &node, &now, &target)?;
        }
        activate(source.op.activation().unwrap_or(Activation::None), &mut wanted);
        exact.set(source.output, wanted);
        exact.finish(source);
        now.set(node.output, now.run(&small, &node, false)?);
        now.finish(&node);
        progress(index + 1, graph.nodes.len());
    }
    Ok(small)
}

/// Whether an operator has constant weights of its own and is a plain sum over a window.
fn fits(graph: &Graph, node: &Node) -> bool {
    let Some(&w) = node.inputs.get(1) else { return false };
    let alone = graph.consumers(w).len() == 1 && graph.value(w).data.is_some();
    let width: usize = graph.value(w).shape.iter().skip(1).product();
    matches!(node.op, Op::Conv2d { .. } | Op::FullyConnected { .. }) && alone && width <= MAX_WIDTH
}

/// Fits one layer to the outputs `target`.
fn layer(graph: &mut Graph, node: &Node, now: &Environment, target: &Batch) -> Result<()> {
    let failed =
        |reason: &str| Error::Execution { node: node.name.clone(), source: reason.to_owned().into() };
    let x = now.get(node.inputs[0]).ok_or_else(|| failed("its input was not computed"))?;
    let given = now.run(graph, node, true)?;
    let outputs = target[0].shape().last().copied().unwrap_or(0);
    let residual = rows_of(target, outputs) - rows_of(&given, outputs);
    let weights = node.inputs[1];
    let width: usize = graph.value(weights).shape[1..].iter().product();
    let groups = match &node.op {
        Op::Conv2d { groups, .. } => *groups,
        _ => 1,
    };
    let filters = outputs / groups.max(1);
    let mut change = Array2::<f32>::zeros((outputs, width));
    let mut bias = vec![0.0_f32; outputs];
    for g in 0..groups {
        let rows = match &node.op {
            Op::Conv2d { window, .. } => patches(x, window, groups, g),
            _ => rows_of(x, width),
        };
        let part = residual.slice_axis(Axis(1), (g * filters..(g + 1) * filters).into());
        let Some(solution) = ridge(&rows, &part.to_owned(), node.inputs.len() > 2) else { continue };
        for o in 0..filters {
            for i in 0..width {
                change[[g * filters + o, i]] = solution[(i, o)] as f32;
            }
            if node.inputs.len() > 2 {
                bias[g * filters + o] = solution[(width, o)] as f32;
            }
        }
    }
    for (&id, change) in node.inputs[1..].iter().zip([change.into_raw_vec_and_offset().0, bias]) {
        if let Some(Data::F32(data)) = graph.value_mut(id).data.as_mut().map(Arc::make_mut) {
            data.iter_mut().zip(change).for_each(|(d, c)| *d += c);
        }
    }
    Ok(())
}

/// `(XᵀX + λI)⁻¹ XᵀR`; with `bias`, X has a last column of ones. `None` if the result is not finite.
fn ridge(x: &Array2<f32>, r: &Array2<f32>, bias: bool) -> Option<DMatrix<f64>> {
    let mut x = x.clone();
    if bias {
        x.push_column(Array2::ones((x.nrows(), 1)).column(0)).ok()?;
    }
    let (n, outputs) = (x.ncols(), r.ncols());
    let (square, mixed) = (x.t().dot(&x), x.t().dot(r));
    let mut a = DMatrix::from_fn(n, n, |i, j| f64::from(square[[i, j]]));
    let b = DMatrix::from_fn(n, outputs, |i, j| f64::from(mixed[[i, j]]));
    // The bias is not penalised.
    let width = n - usize::from(bias);
    let trace: f64 = (0..width).map(|i| a[(i, i)]).sum();
    let lambda = (RIDGE * trace / width.max(1) as f64).max(1e-9);
    (0..width).for_each(|i| a[(i, i)] += lambda);
    let solution = a.cholesky()?.solve(&b);
    solution.iter().all(|v| v.is_finite()).then_some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ridge_finds_the_line_through_points() {
        let x = Array2::from_shape_fn((64, 2), |(i, j)| ((i * (3 + 4 * j)) % 17) as f32 - 8.0);
        let y = Array2::from_shape_fn((64, 1), |(i, _)| 2.0 * x[[i, 0]] - 0.5 * x[[i, 1]] + 3.0);
        let s = ridge(&x, &y, true).expect("solved");
        for (i, wanted) in [2.0, -0.5, 3.0].into_iter().enumerate() {
            assert!((s[(i, 0)] - wanted).abs() < 0.02, "{s}");
        }
    }
}
