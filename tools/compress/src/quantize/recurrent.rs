//! Recurrent layers in int8: which layers have such a form, and what they compute.
//!
//! The state is int8 at every step, and its rounding error feeds into the next step. The layer is therefore run with
//! a rounded state, as on the device, instead of rounding its output afterwards. Biases and gates stay float32.

use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_ir::grid::round_to_grid;
use offshoot_ir::{Graph, Node, Op, Quant, RecurrentKind, Returns, ValueId};
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

/// Runs a layer whose output is int8.
pub(crate) fn run(graph: &Graph, node: &Node, inputs: &[&Batch], samples: usize) -> Result<Batch> {
    let failed = |reason: String| Error::Execution { node: node.name.clone(), source: reason.into() };
    let Op::Recurrent { kind, returns, reverse } = node.op else {
        return Err(failed("is not a recurrent layer".into()));
    };
    let quant = graph.value(node.output).quant.as_ref().ok_or_else(|| failed("has no scale".into()))?;
    let array = |id: ValueId| {
        let value = graph.value(id);
        let array = ArrayD::from_shape_vec(value.shape.clone(), real_values(value));
        array.map(Arc::new).map_err(|e| failed(e.to_string()))
    };
    let weights = node.inputs[1..4].iter().map(|&id| array(id)).collect::<Result<Vec<_>>>()?;
    let initial = node.inputs.get(4).filter(|&&id| graph.value(id).data.is_some());
    let initial = initial.map(|&id| array(id)).transpose()?;
    (0..samples)
        .into_par_iter()
        .map(|i| {
            // Operands in the operator's order: the input, its weights.
            let x = Arc::new(inputs[0][i].clone());
            let operands = [vec![x], weights.clone()].concat();
            let own = layer(kind, reverse, &operands).map_err(failed)?;
            let given = inputs.get(1).map(|batch| &batch[i]).or(initial.as_deref());
            let all = moments(&own, &inputs[0][i], given, &|h| round_to_grid(h, quant)).map_err(failed)?;
            Ok(output(&all, returns))
        })
        .collect()
}
