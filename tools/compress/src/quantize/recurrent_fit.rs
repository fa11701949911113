//! Fits the weights of recurrent layers.

use std::sync::Arc;

use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, Returns};

use super::execute::Environment;
use super::form::Form;
use super::moments::Moments;
use super::options::Settings;
use super::tensors::{Batch, decibels, real_values};
use super::weights;
use crate::Result;

/// Fits both matrices of a layer; returns its output and the weights' signal-to-noise ratio. `before` is the float
/// layer's output.
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
        // The states after each step stand in for those before: all but one are the same.
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
