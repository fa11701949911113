//! Recurrent layers in int8: which layers have such a form, and what they compute.
//!
//! The state is int8 at every step, and its rounding error feeds into the next step. The layer is therefore run with
//! a rounded state, as on the device, instead of rounding its output afterwards. Biases and gates stay float32.

use std::sync::Arc;

use ndarray::{ArrayD, Axis, concatenate};
use offshoot_ir::grid::round_to_grid;
use offshoot_ir::{DType, Graph, Node, Op, Quant, RecurrentKind, Returns, ValueId};
use offshoot_reference::recurrent::{layer, moments, output};
use rayon::prelude::*;

use super::tensors::{Batch, real_values};
use crate::{Error, Result};

/// Why a layer stays float; `None` if it has an int8 form.
pub(crate) fn obstacle(graph: &Graph, node: &Node) -> Option<&'static str> {
    let Op::Recurrent { kind, returns, .. } = node.op else { return None };
    let constant = node.inputs[1..4].iter().all(|&id| graph.value(id).data.is_some());
    if !constant {
        return Some("its weights are computed, not constant");
    }
    if returns == Returns::State {
        return Some("it returns state and memory, which have no common scale");
    }
    (kind == RecurrentKind::Lstm && node.inputs.len() > 4)
        .then_some("an int8 LSTM starts from zeros, but this one has a given initial state")
}

/// The initial state of a layer with calibrated scales, if it is computed.
pub(crate) fn given_state(graph: &Graph, node: &Node) -> Option<ValueId> {
    let given = matches!(node.op, Op::Recurrent { .. }) && fixed_quant(node).is_none();
    node.inputs.get(4).copied().filter(|&id| given && graph.value(id).data.is_none())
}

/// Scale and zero point of the output: 1/128 where it lies within one; a given state may lie beyond.
pub(crate) fn fixed_quant(node: &Node) -> Option<Quant> {
    match node.op {
        Op::Recurrent { kind, returns, .. } if returns != Returns::State => {
            let bounded = kind.is_bounded() && (node.inputs.len() == 4 || kind == RecurrentKind::Tanh);
            bounded.then(|| Quant::per_tensor(1.0 / 128.0, 0))
        }
        _ => None,
    }
}

/// Runs a layer. Its state is carried through `sequence` samples, and rounded if its output is int8.
pub(crate) fn run(graph: &Graph, node: &Node, inputs: &[&Batch], sequence: usize) -> Result<Batch> {
    let failed = |reason: String| Error::Execution { node: node.name.clone(), source: reason.into() };
    let Op::Recurrent { kind, returns, reverse } = node.op else {
        return Err(failed("is not a recurrent layer".into()));
    };
    let output_value = graph.value(node.output);
    let quant = output_value.quant.as_ref();
    if output_value.dtype == DType::I8 && quant.is_none() {
        return Err(failed("has no scale".into()));
    }
    let array = |id: ValueId| {
        let value = graph.value(id);
        let array = ArrayD::from_shape_vec(value.shape.clone(), real_values(value));
        array.map(Arc::new).map_err(|e| failed(e.to_string()))
    };
    let weights = node.inputs[1..4].iter().map(|&id| array(id)).collect::<Result<Vec<_>>>()?;
    let initial = node.inputs.get(4).filter(|&&id| graph.value(id).data.is_some());
    let initial = initial.map(|&id| array(id)).transpose()?;
    let hold = |h: f32| quant.map_or(h, |quant| round_to_grid(h, quant));
    let one = |(first, pieces): (usize, &[ArrayD<f32>])| -> Result<Batch> {
        let views: Vec<_> = pieces.iter().map(|a| a.view()).collect();
        let whole = concatenate(Axis(1), &views).map_err(|e| failed(e.to_string()))?;
        // Operands in the operator's order: the input, its weights.
        let operands = [vec![Arc::new(whole.clone())], weights.clone()].concat();
        let own = layer(kind, reverse, &operands).map_err(failed)?;
        let given = inputs.get(1).map(|batch| &batch[first]).or(initial.as_deref());
        let mut all = moments(&own, &whole, given, &hold).map_err(failed)?;
        let steps = all.len() / pieces.len().max(1);
        if pieces.len() > 1 {
            all.iter_mut().for_each(|m| m.at %= steps.max(1));
        }
        Ok(all.chunks(steps.max(1)).map(|piece| output(piece, returns)).collect())
    };
    let sequences: Vec<(usize, &[ArrayD<f32>])> = inputs[0]
        .chunks(sequence.max(1))
        .scan(0, |first, pieces| {
            let at = *first;
            *first += pieces.len();
            Some((at, pieces))
        })
        .collect();
    let parts = sequences.into_par_iter().map(one).collect::<Result<Vec<Batch>>>()?;
    Ok(parts.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{Data, Value};

    #[test]
    fn pieces_of_a_sequence_are_the_sequence() {
        let mut g = Graph::default();
        let mut value = |name: &str, shape: &[usize]| {
            g.add_value(Value {
                name: name.into(),
                shape: shape.to_vec(),
                dtype: DType::F32,
                quant: None,
                data: None,
                channels_first_outside: false,
            })
        };
        let (x, y) = (value("x", &[1, 2, 1]), value("y", &[1, 2, 2]));
        let constant =
            |g: &mut Graph, shape: &[usize], v: Vec<f32>| g.add_constant("c", shape.to_vec(), Data::F32(v));
        let w = constant(&mut g, &[2, 1], vec![0.5, -0.3]);
        let r = constant(&mut g, &[2, 2], vec![0.9, 0.1, -0.2, 0.8]);
        let b = constant(&mut g, &[2], vec![0.1, 0.2]);
        let op = Op::Recurrent { kind: RecurrentKind::Relu, returns: Returns::Sequence, reverse: false };
        let node = Node { name: "r".into(), op, inputs: vec![x, w, r, b], output: y };
        let piece = |v: [f32; 2]| ArrayD::from_shape_vec(vec![1, 2, 1], v.to_vec()).unwrap();
        let pieces = vec![piece([1.0, 2.0]), piece([-1.0, 0.5]), piece([3.0, 1.0])];
        let long = vec![ArrayD::from_shape_vec(vec![1, 6, 1], vec![1.0, 2.0, -1.0, 0.5, 3.0, 1.0]).unwrap()];
        let all = |batch: Batch| batch.into_iter().flatten().collect::<Vec<f32>>();
        let whole = all(run(&g, &node, &[&long], 1).unwrap());
        assert_eq!(all(run(&g, &node, &[&pieces], usize::MAX).unwrap()), whole);
        // A reset after two pieces: the third starts anew.
        let reset = all(run(&g, &node, &[&pieces], 2).unwrap());
        let anew = all(run(&g, &node, &[&vec![pieces[2].clone()]], 1).unwrap());
        assert_eq!((&reset[..8], &reset[8..]), (&whole[..8], &anew[..]));
        // The last states of the pieces.
        let last = Node {
            op: Op::Recurrent { kind: RecurrentKind::Relu, returns: Returns::Last, reverse: false },
            ..node
        };
        let states = all(run(&g, &last, &[&pieces], usize::MAX).unwrap());
        assert_eq!(states, [&whole[2..4], &whole[6..8], &whole[10..]].concat());
    }
}
