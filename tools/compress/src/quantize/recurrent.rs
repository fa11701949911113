//! Recurrent layers in int8: what their weights are fitted to, and what they compute while the rest is judged.
//!
//! The state is int8 from step to step, and a rounding comes back in the next step: the layer is run with it, as the
//! device does, not rounded behind. Biases stay float32, as the gates do.

use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, RecurrentKind, Returns, ValueId};
use offshoot_reference::recurrent::{layer, moments, output};
use rayon::prelude::*;

use super::clip::round_to_grid;
use super::fit::Settings;
use super::moments::Moments;
use super::policy::Form;
use super::walk::{Batch, Environment, decibels, real_values};
use super::weights;
use crate::{Error, Result};

/// Why a layer stays float; `None` if it has an int8 form.
pub(crate) fn obstacle(graph: &Graph, node: &Node) -> Option<&'static str> {
    let Op::Recurrent { kind, returns, .. } = node.op else { return None };
    let constant = node.inputs[1..4].iter().all(|&id| graph.value(id).data.is_some());
    if !constant {
        return Some("its weights are computed, not constant");
    }
    if returns == Returns::State {
        return Some("it gives state and memory, which have no common scale");
    }
    (kind == RecurrentKind::Lstm && node.inputs.len() > 4)
        .then_some("an int8 LSTM begins with zeros, and this one with a given state")
}

/// The state that a layer with calibrated numbers begins with, if it is computed.
pub(crate) fn given_state(graph: &Graph, node: &Node) -> Option<ValueId> {
    let given = matches!(node.op, Op::Recurrent { .. }) && fixed_quant(node).is_none();
    node.inputs.get(4).copied().filter(|&id| given && graph.value(id).data.is_none())
}

/// Numbers of the output: 1/128 where it lies within one; a given state may lie beyond.
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
        return Err(failed("is no recurrent layer".into()));
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

/// Fits both matrices of a layer; gives its output and the weights' signal-to-noise ratio. `before`: what the float layer gives.
pub(crate) fn fit(
    graph: &mut Graph,
    node: &Node,
    rounded: &Environment,
    before: &Batch,
    settings: Settings,
) -> Result<(Batch, f32)> {
    let units = graph.value(node.inputs[2]).shape[1];
    let inputs = graph.value(node.inputs[1]).shape[1];
    let sequence = matches!(node.op, Op::Recurrent { returns: Returns::Sequence, .. });
    let (mut signal, mut error) = (0.0, 0.0);
    for (id, width, seen) in [
        (node.inputs[1], inputs, rounded.get(node.inputs[0])),
        // The states after each step stand for those before: all but one are the same.
        (node.inputs[2], units, Some(before).filter(|_| sequence)),
    ] {
        let real = real_values(graph.value(id));
        let rows = graph.value(id).shape[0];
        let linear = Op::FullyConnected { activation: Activation::None };
        let moments = seen.and_then(|x| Moments::new(&linear, x, width, false));
        let grid =
            weights::Grid { form: Form::Even(8), scale: settings.weight_scale, feedback: settings.feedback };
        let fitted = weights::fit(&real, rows, moments.as_ref(), grid, &vec![0.0; rows]);
        let value = graph.value_mut(id);
        value.dtype = DType::I8;
        value.quant = Some(Quant { zero_point: vec![0; rows], scale: fitted.scales, axis: Some(0) });
        value.data = Some(Arc::new(Data::I8(fitted.codes)));
        for (a, q) in real.iter().zip(real_values(graph.value(id))) {
            signal += f64::from(*a).powi(2);
            error += f64::from(a - q).powi(2);
        }
    }
    let batch = rounded.run(graph, node, false)?;
    Ok((batch, decibels(signal, error)))
}
