//! Low rank: a layer as the product of two, with an intermediate tensor of as many channels as the rank.
//!
//! `W = U V` by singular values, with their square roots on both sides (Maestro, Horváth et al. 2024): the first
//! intermediate channels hold the largest ones, so that a prefix is the best approximation of its rank.

use nalgebra::DMatrix;
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Value, Window};

use crate::{Error, Result};

/// Name of the operator that maps to the intermediate channels.
pub(crate) fn inner(name: &str) -> String {
    format!("{name}.inner")
}

/// `graph` with the named convolution (of one group) or fully connected layer as two: the first has its window and as
/// many outputs as its full rank, the second is 1×1 and has its bias and activation. The function stays the same.
///
/// # Errors
/// [`Error::Space`] if there is no such layer or its weights are not constant.
pub fn factor(graph: &Graph, name: &str) -> Result<Graph> {
    let fail = |reason: &str| Error::Space(format!("factor `{name}`: {reason}"));
    let at =
        graph.nodes.iter().position(|n| n.name == name).ok_or_else(|| fail("there is no such operator"))?;
    let node = graph.nodes[at].clone();
    let (activation, window) = match &node.op {
        Op::Conv2d { window, groups: 1, activation } => (*activation, Some(*window)),
        Op::FullyConnected { activation } => (*activation, None),
        _ => return Err(fail("only convolutions of one group and fully connected layers can be factored")),
    };
    let weights = graph.value(node.inputs[1]);
    let Some(Data::F32(data)) = weights.data.as_deref() else {
        return Err(fail("its weights are not constant"));
    };
    let outputs = weights.shape[0];
    let inputs = weights.len() / outputs.max(1);
    let matrix =
        DMatrix::from_row_slice(outputs, inputs, &data.iter().map(|&w| f64::from(w)).collect::<Vec<_>>());
    let svd = matrix.svd(true, true);
    let (Some(u), Some(v)) = (svd.u, svd.v_t) else { return Err(fail("it has no singular values")) };
    let rank = svd.singular_values.len();
    let mut order: Vec<usize> = (0..rank).collect();
    order.sort_by(|&a, &b| svd.singular_values[b].total_cmp(&svd.singular_values[a]));
    let root = |r: usize| svd.singular_values[r].max(0.0).sqrt();
    let left: Vec<f32> = (0..outputs)
        .flat_map(|o| order.iter().map(move |&r| (o, r)))
        .map(|(o, r)| (u[(o, r)] * root(r)) as f32)
        .collect();
    let right: Vec<f32> = order
        .iter()
        .flat_map(|&r| (0..inputs).map(move |i| (r, i)))
        .map(|(r, i)| (v[(r, i)] * root(r)) as f32)
        .collect();

    let mut out = graph.clone();
    let mut shape = weights.shape.clone();
    shape[0] = rank;
    let inner_name = inner(name);
    let first = out.add_constant(format!("{inner_name}.weight"), shape, Data::F32(right));
    let second_shape = if window.is_some() { vec![outputs, 1, 1, rank] } else { vec![outputs, rank] };
    let second = out.add_constant(format!("{}.factored", weights.name), second_shape, Data::F32(left));
    let mut between = graph.value(node.output).shape.clone();
    if let Some(last) = between.last_mut() {
        *last = rank;
    }
    let between = out.add_value(Value {
        name: format!("{inner_name}.out"),
        shape: between,
        dtype: DType::F32,
        quant: None,
        data: None,
        channels_first_outside: false,
    });
    let op = |window: Option<Window>, activation: Activation| match window {
        Some(window) => Op::Conv2d { window, groups: 1, activation },
        None => Op::FullyConnected { activation },
    };
    let point = window.map(|_| Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] });
    out.nodes[at].op = op(point, activation);
    out.nodes[at].inputs[0] = between;
    out.nodes[at].inputs[1] = second;
    let inputs = vec![node.inputs[0], first];
    out.nodes
        .insert(at, Node { name: inner_name, op: op(window, Activation::None), inputs, output: between });
    let out = out.prune_unreachable();
    out.validate()?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_train::network::{Edge, Network};

    #[test]
    fn two_layers_are_the_one() {
        let graph = Network::new("n", [5, 4, 3], 2)
            .conv("a", 6, [3, 3], [1, 1], Edge::Same)
            .relu("r")
            .global_average("mean")
            .dense("head", 4)
            .finish();
        let two = factor(&factor(&graph, "a").unwrap(), "head").unwrap();
        assert_eq!(two.nodes.len(), graph.nodes.len() + 2);
        let x = ndarray::Array::from_shape_fn((3, 5, 4, 3), |(i, h, w, c)| {
            ((i * 5 + h * 3 + w * 7 + c) % 11) as f32 - 5.0
        });
        let [a, b] = [&graph, &two].map(|g| offshoot_train::predict(g, &x.clone().into_dyn()).unwrap());
        assert!((&a - &b).iter().all(|d| d.abs() < 1e-3), "{a} {b}");
        assert!(factor(&graph, "r").is_err() && factor(&graph, "none").is_err());
    }
}
