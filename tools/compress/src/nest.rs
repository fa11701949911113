//! Weight-shared sub-networks: quantises a sub-network with the integer weights of a larger one, so that several
//! networks of a file share one store of weights ([`offshoot_export::compile_nested`]).
//!
//! Sorted training (SortedNet, arXiv:2309.00255) makes sub-networks that use prefixes of the larger network's
//! channels. Their weights equal the larger network's up to a factor per channel, where normalisation was
//! recalibrated and folded in. The codes then stay the same, and the factor goes into the channel's scale.

use std::collections::HashMap;
use std::sync::Arc;

use offshoot_ir::{DType, Data, Graph, Node, Op, Quant, ValueId};
use serde::Serialize;

use crate::{Error, Result};

/// Largest share of the energy of a layer's weights that may differ from the larger network's, after factors per
/// channel.
const ALIKE: f64 = 1e-5;

/// Source of the scales of a sub-network's activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scales {
    /// The larger network's: channels need no multipliers of their own.
    #[default]
    Shared,
    /// Its own calibration: five more bytes per channel.
    Own,
}

/// Report on the layers of a sub-network.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NestReport {
    /// Layers that use the larger network's codes.
    pub shared: Vec<String>,
    /// Layers with codes of their own, and why.
    pub own: Vec<(String, String)>,
}

/// A float graph and its quantised form.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'g> {
    /// After the lossless passes.
    pub float: &'g Graph,
    /// The result of [`crate::quantize::quantize`].
    pub quantised: &'g Graph,
}

/// Returns the quantised `sub` with the codes of `whole` in every layer whose float weights are a prefix of the
/// larger network's along output and input channels, up to a factor per output channel. Layers are matched by node
/// name.
///
/// # Errors
/// [`Error::Nest`] if no layer shares weights: the networks are not of one family.
pub fn nest(whole: Pair<'_>, sub: Pair<'_>, scales: Scales) -> Result<(Graph, NestReport)> {
    let mut graph = sub.quantised.clone();
    let input_scales: Vec<Option<f32>> = sub.quantised.values.iter().map(scale).collect();
    if scales == Scales::Shared {
        let numbers: HashMap<&str, &Quant> = (whole.quantised.values.iter())
            .filter(|v| v.dtype == DType::I8 && v.data.is_none())
            .filter_map(|v| Some((v.name.as_str(), v.quant.as_ref()?)))
            .collect();
        for value in graph.values.iter_mut().filter(|v| v.dtype == DType::I8 && v.data.is_none()) {
            if let Some(&quant) = numbers.get(value.name.as_str()) {
                value.quant = Some(quant.clone());
            }
        }
    }
    let mut report = NestReport::default();
    for index in 0..graph.nodes.len() {
        let node = graph.nodes[index].clone();
        if !matches!(node.op, Op::Conv2d { .. } | Op::FullyConnected { .. }) {
            continue;
        }
        let weights = graph.value(node.inputs[1]);
        let Some(old) = weights.quant.clone().filter(|_| weights.dtype == DType::I8) else { continue };
        match codes(whole, sub, &node) {
            Ok((codes, quant)) => {
                let value = graph.value_mut(node.inputs[1]);
                (value.data, value.quant) = (Some(Arc::new(Data::I8(codes))), Some(quant));
                report.shared.push(node.name.clone());
            }
            Err(reason) => report.own.push((node.name.clone(), reason)),
        }
        let Some(before) = input_scales[node.inputs[0].0 as usize] else { continue };
        rescale_bias(&mut graph, &node, before, &old);
    }
    if report.shared.is_empty() {
        return Err(Error::Nest(
            report.own.into_iter().map(|(node, reason)| format!("`{node}`: {reason}")).collect(),
        ));
    }
    Ok((graph, report))
}

fn scale(value: &offshoot_ir::Value) -> Option<f32> {
    value.quant.as_ref().and_then(|q| q.scale.first().copied())
}

/// The node of that name, if there is exactly one.
fn node<'g>(graph: &'g Graph, name: &str) -> Option<&'g Node> {
    let mut found = graph.nodes.iter().filter(|n| n.name == name);
    found.next().filter(|_| found.next().is_none())
}

/// The codes of a layer as a part of the larger network's, and their scales; or why it cannot share them.
fn codes(whole: Pair<'_>, sub: Pair<'_>, layer: &Node) -> std::result::Result<(Vec<i8>, Quant), String> {
    let named = |graph| node(graph, &layer.name).filter(|n| n.inputs.len() > 1);
    let (Some(all), Some(all_float), Some(own_float)) =
        (named(whole.quantised), named(whole.float), named(sub.float))
    else {
        return Err("the large network does not have exactly one such layer".into());
    };
    let (own, large) = (sub.float.value(own_float.inputs[1]), whole.float.value(all_float.inputs[1]));
    let stored = whole.quantised.value(all.inputs[1]);
    let (Some(Data::F32(w)), Some(Data::F32(all_w)), Some(Data::I8(all_codes)), Some(quant)) =
        (own.data.as_deref(), large.data.as_deref(), stored.data.as_deref(), &stored.quant)
    else {
        return Err("its weights are not int8 in both networks".into());
    };
    let (rank, last) = (own.shape.len(), own.shape.len().wrapping_sub(1));
    let prefix = rank == large.shape.len()
        && rank >= 2
        && (0..rank).all(|axis| {
            let (own, large) = (own.shape[axis], large.shape[axis]);
            own == large || own < large && (axis == 0 || axis == last)
        });
    if !prefix {
        return Err(format!("{:?} is not a prefix of {:?}", own.shape, large.shape));
    }
    let (out_c, c, whole_c) = (own.shape[0], own.shape[last], large.shape[last]);
    let rows: usize = own.shape[1..last].iter().product();
    let at = |o: usize, row: usize| {
        let (o_row, own_row) = ((o * rows + row) * whole_c, (o * rows + row) * c);
        (o_row..o_row + c, own_row..own_row + c)
    };
    let (mut new, mut scale) = (Vec::with_capacity(w.len()), Vec::with_capacity(out_c));
    let (mut energy, mut difference) = (0.0, 0.0);
    for o in 0..out_c {
        let pairs = || {
            let stretch = move |row| {
                let (large, own) = at(o, row);
                w[own].iter().zip(&all_w[large]).map(|(&a, &b)| (f64::from(a), f64::from(b)))
            };
            (0..rows).flat_map(stretch)
        };
        let square: f64 = pairs().map(|(_, b)| b * b).sum();
        let ratio = if square > 0.0 { pairs().map(|(a, b)| a * b).sum::<f64>() / square } else { 1.0 };
        energy += pairs().map(|(a, _)| a * a).sum::<f64>();
        difference += pairs().map(|(a, b)| (a - ratio * b).powi(2)).sum::<f64>();
        // Scales are positive; a factor that differs from 1 only by rounding counts as 1.
        let ratio = if (ratio - 1.0).abs() < 1e-5 { 1.0 } else { ratio };
        if !(ratio > 0.0 && ratio.is_finite()) {
            return Err(format!("channel {o} is the large network's multiplied by {ratio}"));
        }
        scale.push((f64::from(quant.scale[o.min(quant.scale.len() - 1)]) * ratio) as f32);
        (0..rows).for_each(|row| new.extend_from_slice(&all_codes[at(o, row).0]));
    }
    if difference > ALIKE * energy {
        let percent = 100.0 * (difference / energy).sqrt();
        return Err(format!("its weights differ from the large network's by {percent:.1} % of their size"));
    }
    Ok((new, Quant { zero_point: vec![0; scale.len()], scale, axis: Some(0) }))
}

/// Rescales a bias from its former scales to the current scales of input and weights.
fn rescale_bias(graph: &mut Graph, node: &Node, input_before: f32, weights_before: &Quant) {
    let Some(&bias) = node.inputs.get(2) else { return };
    let input = graph.value(node.inputs[0]).quant.as_ref().and_then(|q| q.scale.first().copied());
    let (Some(input), Some(weights)) = (input, graph.value(node.inputs[1]).quant.clone()) else { return };
    let of = |quant: &Quant, o: usize| f64::from(quant.scale[o.min(quant.scale.len() - 1)]);
    let channels = graph.value(bias).len();
    let scale: Vec<f32> = (0..channels).map(|o| (f64::from(input) * of(&weights, o)) as f32).collect();
    let Some(Data::I32(old)) = graph.value(bias).data.as_deref() else { return };
    let real = |(o, &b): (usize, &i32)| {
        let before = f64::from(input_before) * of(weights_before, o);
        (f64::from(b) * before / (f64::from(input) * of(&weights, o))).round() as i32
    };
    let new = old.iter().enumerate().map(real).collect();
    // Two layers may share a bias whose scales now differ.
    let id = own(graph, bias, node);
    let value = graph.value_mut(id);
    value.data = Some(Arc::new(Data::I32(new)));
    value.quant = Some(Quant { zero_point: vec![0; channels], scale, axis: Some(0) });
}

/// Makes a constant that only this node reads.
fn own(graph: &mut Graph, id: ValueId, node: &Node) -> ValueId {
    if graph.consumers(id).len() < 2 {
        return id;
    }
    let copy = graph.value(id).clone();
    let new = graph.add_value(copy);
    let name = format!("{}:{}", graph.value(new).name, node.name);
    graph.value_mut(new).name = name;
    for n in graph.nodes.iter_mut().filter(|n| n.output == node.output) {
        n.inputs[2] = new;
    }
    new
}
