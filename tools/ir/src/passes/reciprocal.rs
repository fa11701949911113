//! Divisions by constants as products, for number formats without a division. In float32 the result may differ in the last bit,
//! so this is no lossless pass.

use super::edit;
use crate::{BinaryKind, DType, Graph, Op, Result};

/// How many times smaller than the largest a factor may be: all of them get one int8 scale.
const WIDEST: f32 = 16.0;

/// Replaces float32 divisions by constants of like sizes with products. Values keep their places.
///
/// # Errors
/// `graph` is not well formed.
pub fn reciprocals(graph: Graph) -> Result<Graph> {
    let mut graph = graph;
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let Op::Binary { kind: BinaryKind::Div, activation } = node.op else { continue };
        let (x, divisor) = (node.inputs[0], node.inputs[1]);
        let variable = graph.value(x).data.is_none() && graph.value(x).dtype == DType::F32;
        let Some(numbers) = edit::floats(&graph, divisor).filter(|_| variable) else { continue };
        let factors: Vec<f32> = numbers.iter().map(|v| 1.0 / v).collect();
        let largest = factors.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        if !factors.iter().all(|f| f.is_normal() && WIDEST * f.abs() >= largest) {
            continue;
        }
        let (name, shape) =
            (format!("{}/reciprocal", graph.value(divisor).name), graph.value(divisor).shape.clone());
        let factor = edit::constant_f32(&mut graph, &name, shape, factors);
        let node = &mut graph.nodes[at];
        node.op = Op::Binary { kind: BinaryKind::Mul, activation };
        node.inputs[1] = factor;
    }
    graph.validate()?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;
    use crate::{Activation, Data};

    #[test]
    fn constants_of_like_sizes_become_factors() {
        for (numbers, product) in [
            (vec![4.0, 0.5], true),
            (vec![1.0, 100.0], false),
            (vec![1.0, 0.0], false),
            (vec![1e-40, 1e-40], false),
        ] {
            let mut b = Build::default();
            let x = b.input(&[1, 2]);
            let c = b.constant(&[2], numbers.clone());
            let op = Op::Binary { kind: BinaryKind::Div, activation: Activation::Relu };
            let y = b.node(op, &[x, c], &[1, 2]);
            let before = b.finish(&[y]);
            let g = reciprocals(before.clone()).unwrap();
            assert_eq!(names(&g), [if product { "mul" } else { "div" }], "{numbers:?}");
            assert_eq!(g.values[..before.values.len()], before.values[..]);
            if product {
                let factor = g.value(g.nodes[0].inputs[1]).data.as_deref();
                assert_eq!(factor, Some(&Data::F32(vec![0.25, 2.0])));
                assert_eq!(g.nodes[0].op.activation(), Some(Activation::Relu));
            }
        }
    }
}
