//! Folds addition, subtraction, multiplication and division by a constant per channel (or one for all) into the
//! weights and bias of the float operator before it: Conv2d, ConvTranspose2d, FullyConnected.

use super::edit::{self, Index};
use crate::integers::Integers;
use crate::{Activation, BinaryKind, DType, Graph, Op, Result, ValueId};

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

/// `y = x · scale + shift`, with one element of each per channel.
pub(super) struct Affine {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

fn step(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = &g.nodes[at];
    let Op::Binary { kind, activation } = node.op else {
        return false;
    };
    if g.value(node.output).dtype != DType::F32 {
        return false;
    }
    let Some(&channels) = g.value(node.output).shape.last() else {
        return false;
    };
    let out = &g.value(node.output).shape;
    for (x, c) in [(0, 1), (1, 0)] {
        let (x, c) = (node.inputs[x], node.inputs[c]);
        if g.value(x).shape != *out {
            continue;
        }
        let Some(values) = per_channel(g, c, channels) else {
            continue;
        };
        let constant_left = c == node.inputs[0];
        let (one, zero) = (vec![1.0; channels], vec![0.0; channels]);
        let negated = |v: &[f32]| v.iter().map(|v| -v).collect();
        let affine = match (kind, constant_left) {
            (BinaryKind::Add, _) => Affine { scale: one, shift: values },
            (BinaryKind::Sub, false) => Affine { scale: one, shift: negated(&values) },
            (BinaryKind::Sub, true) => Affine { scale: negated(&one), shift: values },
            (BinaryKind::Mul, _) => Affine { scale: values, shift: zero },
            (BinaryKind::Div, false) if values.iter().all(|&v| v != 0.0) => {
                Affine { scale: values.iter().map(|v| 1.0 / v).collect(), shift: zero }
            }
            _ => continue,
        };
        return into_linear(g, index, at, x, &affine, activation);
    }
    false
}

/// A constant as one value per channel: it has a single element, or its last axis is the channels and the others are
/// 1.
pub(super) fn per_channel(g: &Graph, id: ValueId, channels: usize) -> Option<Vec<f32>> {
    let data = edit::floats(g, id)?;
    match data {
        [v] => Some(vec![*v; channels]),
        _ if data.len() == channels && g.value(id).shape.last() == Some(&channels) => Some(data.to_vec()),
        _ => None,
    }
}

/// Folds node `at`, an affine map of `x`, into the linear operator that writes `x`. Returns `false` if there is none
/// or if something else reads `x`.
pub(super) fn into_linear(
    g: &mut Graph,
    index: &Index,
    at: usize,
    x: ValueId,
    affine: &Affine,
    activation: Activation,
) -> bool {
    let Some(linear) = index.producer(x).filter(|_| index.used_once(x)) else {
        return false;
    };
    let node = &g.nodes[linear];
    let is_linear =
        matches!(node.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. });
    if !is_linear || node.op.activation() != Some(Activation::None) || g.value(x).dtype != DType::F32 {
        return false;
    }
    let w = node.inputs[1];
    let bias = node.inputs.get(2).copied();
    let channels = affine.scale.len();
    let (Some(weights), Some(&rows)) = (edit::floats(g, w), g.value(w).shape.first()) else {
        return false;
    };
    let old_bias = match bias {
        None => vec![0.0; channels],
        Some(b) => match edit::floats(g, b) {
            Some(b) => b.to_vec(),
            None => return false,
        },
    };
    if rows != channels || channels == 0 || old_bias.len() != channels {
        return false;
    }
    if affine.scale.iter().any(|&s| s != 1.0) {
        let row = (weights.len() / rows).max(1);
        let scaled = match Integers::find(weights, row) {
            Some(integers) => integers.scaled(row, &affine.scale),
            None => {
                let rows = weights.chunks(row).zip(&affine.scale);
                rows.flat_map(|(row, &s)| row.iter().map(move |w| w * s)).collect()
            }
        };
        let (name, shape) = (g.value(w).name.clone(), g.value(w).shape.clone());
        let new = edit::constant_f32(g, &name, shape, scaled);
        g.nodes[linear].inputs[1] = new;
    }
    let shifted: Vec<f32> =
        old_bias.iter().zip(affine.scale.iter().zip(&affine.shift)).map(|(b, (s, t))| b * s + t).collect();
    if bias.is_some() || shifted.iter().any(|&b| b != 0.0) {
        let name = bias.map_or_else(|| format!("{}/bias", g.nodes[linear].name), |b| g.value(b).name.clone());
        let new = edit::constant_f32(g, &name, vec![channels], shifted);
        g.nodes[linear].inputs.truncate(2);
        g.nodes[linear].inputs.push(new);
    }
    if let Some(a) = g.nodes[linear].op.activation_mut() {
        *a = activation;
    }
    // The linear operator comes before every reader of the result, so it can write the result itself.
    g.nodes[linear].output = g.nodes[at].output;
    g.nodes.remove(at);
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    #[test]
    fn scale_and_shift_go_into_weights_and_bias() {
        let mut b = Build::default();
        let x = b.input(&[1, 2]);
        let w = b.constant(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let op = Op::FullyConnected { activation: Activation::None };
        let y = b.node(op, &[x, w], &[1, 2]);
        let (m, a) = (b.constant(&[2], vec![2.0, 10.0]), b.constant(&[], vec![1.0]));
        let mul = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
        let sub = Op::Binary { kind: BinaryKind::Sub, activation: Activation::Relu };
        let y = b.node(mul, &[y, m], &[1, 2]);
        let y = b.node(sub, &[a, y], &[1, 2]);
        let g = run(b.finish(&[y])).expect("runs");
        assert_eq!(names(&g), ["fully_connected"]);
        let node = &g.nodes[0];
        assert_eq!(edit::floats(&g, node.inputs[1]), Some(&[-2.0, -4.0, -30.0, -40.0][..]));
        assert_eq!(edit::floats(&g, node.inputs[2]), Some(&[1.0, 1.0][..]));
        assert_eq!(node.op.activation(), Some(Activation::Relu));
    }
}
