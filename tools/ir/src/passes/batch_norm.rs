//! Batch normalisation with constant statistics is a scale and a shift per channel: it is folded into the linear
//! operator before it, or else becomes a multiplication and an addition.

use super::affine::{Affine, into_linear};
use super::edit::{self, Index};
use crate::{Activation, BinaryKind, DType, Graph, Op, Result};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| step(g, &index, at))
    }))
}

fn step(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    let Op::BatchNorm { epsilon } = node.op else {
        return false;
    };
    if g.value(node.output).dtype != DType::F32 {
        return false;
    }
    let parameter = |i: usize| edit::floats(g, node.inputs[i]);
    let (Some(gamma), Some(beta), Some(mean), Some(variance)) =
        (parameter(1), parameter(2), parameter(3), parameter(4))
    else {
        return false;
    };
    // In f64, so that folding adds no rounding except that of the result.
    let scale: Vec<f64> = gamma
        .iter()
        .zip(variance)
        .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt())
        .collect();
    let affine = Affine {
        shift: beta
            .iter()
            .zip(mean.iter().zip(&scale))
            .map(|(&b, (&m, s))| (f64::from(b) - f64::from(m) * s) as f32)
            .collect(),
        scale: scale.iter().map(|&s| s as f32).collect(),
    };
    let x = node.inputs[0];
    if into_linear(g, index, at, x, &affine, Activation::None) {
        return true;
    }
    let shape = g.value(node.output).shape.clone();
    let channels = affine.scale.len();
    let scale = edit::constant_f32(g, &format!("{}/scale", node.name), vec![channels], affine.scale);
    let shift = edit::constant_f32(g, &format!("{}/shift", node.name), vec![channels], affine.shift);
    let op = |kind| Op::Binary { kind, activation: Activation::None };
    let product = edit::insert(g, at, op(BinaryKind::Mul), vec![x, scale], shape, node.output);
    g.nodes[at + 1].op = op(BinaryKind::Add);
    g.nodes[at + 1].inputs = vec![product, shift];
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    #[test]
    fn folds_into_a_linear_operator_or_becomes_arithmetic() {
        let mut b = Build::default();
        let x = b.input(&[1, 2]);
        let w = b.constant(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let one = b.constant(&[2], vec![2.0, 1.0]);
        let statistics = [one, one, one, one];
        let bn = Op::BatchNorm { epsilon: 0.0 };
        let op = Op::FullyConnected { activation: Activation::None };
        let y = b.node(op, &[x, w], &[1, 2]);
        let y = b.node(bn.clone(), &[&[y][..], &statistics].concat(), &[1, 2]);
        let z = b.node(bn, &[&[x][..], &statistics].concat(), &[1, 2]);
        let g = run(b.finish(&[y, z])).expect("runs");
        assert_eq!(names(&g), ["fully_connected", "mul", "add"]);
        let weights = edit::floats(&g, g.nodes[0].inputs[1]).expect("weights");
        assert!((weights[0] - 2.0_f32.sqrt()).abs() < 1e-6);
        assert_eq!(weights[3], 4.0);
    }
}
