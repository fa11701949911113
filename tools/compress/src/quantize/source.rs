//! Checks the float network, and decides which of its operators stay float.

use std::collections::BTreeSet;

use offshoot_ir::{
    DType, Graph, Node, Op, PoolKind, RecurrentKind, ScatterKind, UnaryKind, ValueId, elementary,
};

use super::form::is_weighted;
use super::options::QuantizeOptions;
use super::tensors::real_values;
use super::{front_end, indices, recurrent};
use crate::{Error, Result};

/// Checks that the network is float and its weights are finite. Other constants, such as masks, may be infinite:
/// calibration finds out whether that matters.
pub(crate) fn check(graph: &Graph) -> Result<()> {
    if let Some(v) = graph.values.iter().find(|v| v.quant.is_some() || v.dtype == DType::I8) {
        return Err(Error::AlreadyQuantized { tensor: v.name.clone() });
    }
    let masks = |id: ValueId| {
        let readers = graph.nodes.iter().filter(|n| n.inputs.contains(&id));
        let mut readers = readers.peekable();
        let arithmetic = |op: &Op| {
            matches!(
                op,
                Op::Binary { .. }
                    | Op::Reshape
                    | Op::Expand
                    | Op::Transpose { .. }
                    | Op::Slice { .. }
                    | Op::Scatter { kind: ScatterKind::Set, .. }
            )
        };
        readers.peek().is_some() && readers.all(|n| arithmetic(&n.op))
    };
    for (i, value) in graph.values.iter().enumerate() {
        if value.data.is_none() || value.dtype != DType::F32 {
            continue;
        }
        let mask = masks(ValueId(i as u32));
        let bad = |v: &f32| v.is_nan() || v.is_infinite() && !mask;
        if let Some(bad) = real_values(value).into_iter().find(bad) {
            return Err(Error::NotFinite { tensor: value.name.clone(), value: bad });
        }
    }
    Ok(())
}

/// Which nodes stay float, and why if the user did not ask for it.
pub(crate) fn float_nodes(graph: &Graph, options: &QuantizeOptions) -> Result<(Vec<bool>, Vec<String>)> {
    for wanted in &options.keep_float {
        if !graph.nodes.iter().any(|n| is_meant(graph, n, wanted)) {
            return Err(unknown(graph, wanted));
        }
    }
    let mut warnings = Vec::new();
    let exact = indices::arithmetic(graph)
        .into_iter()
        .zip(front_end::nodes(graph))
        .map(|(index, front)| index || front);
    let float = graph.nodes.iter().zip(exact).map(|(node, exact)| {
        let computed =
            is_weighted(&node.op) && node.inputs[1..].iter().any(|&id| graph.value(id).data.is_none());
        if computed {
            warnings.push(format!(
                "operator `{}` ({}) stays float: its weights are computed, not constant",
                node.name,
                node.op.name()
            ));
        }
        // A layer of constants alone, as a positional embedding that is projected, has nothing to quantise.
        let fixed = is_weighted(&node.op) && graph.value(node.inputs[0]).data.is_some();
        let recurrent = recurrent::obstacle(graph, node);
        if let Some(reason) = recurrent {
            warnings.push(format!("operator `{}` ({}) stays float: {reason}", node.name, node.op.name()));
        }
        exact
            || computed
            || fixed
            || recurrent.is_some()
            || options.keep_float.iter().any(|k| is_meant(graph, node, k))
    });
    Ok((float.collect(), warnings))
}

/// Whether the user means this operator: by its ONNX name, by that of the tensor that it completes, or by its kind,
/// as named by ONNX or in reports.
pub(crate) fn is_meant(graph: &Graph, node: &Node, wanted: &str) -> bool {
    node.name == wanted
        || graph.value(node.output).name == wanted
        || kinds(&node.op).iter().any(|kind| kind.eq_ignore_ascii_case(wanted))
}

/// Names of an operator's kind: the one used in reports, then ONNX's.
fn kinds(op: &Op) -> Vec<String> {
    let onnx: Vec<String> = match op {
        Op::Conv2d { .. } => vec!["Conv".into()],
        Op::ConvTranspose2d { .. } => vec!["ConvTranspose".into()],
        Op::FullyConnected { .. } => vec!["Gemm".into(), "MatMul".into()],
        Op::Pool { kind: PoolKind::Max, .. } => vec!["MaxPool".into(), "GlobalMaxPool".into()],
        Op::Pool { .. } => vec!["AveragePool".into(), "GlobalAveragePool".into()],
        Op::Unary(UnaryKind::Clip { .. }) => vec!["Clip".into(), "Relu".into()],
        Op::Unary(UnaryKind::Elementary(kind)) => vec![elementary::onnx_name(*kind)],
        Op::Unary(kind) => format!("{kind:?}").split(' ').next().map(str::to_owned).into_iter().collect(),
        Op::Recurrent { kind, .. } => match kind {
            RecurrentKind::Lstm => vec!["LSTM".into()],
            RecurrentKind::Tanh | RecurrentKind::Relu => vec!["RNN".into()],
            _ => vec!["GRU".into()],
        },
        Op::BatchNorm { .. } => vec!["BatchNormalization".into()],
        Op::LayerNorm { .. } => vec!["LayerNormalization".into()],
        Op::Reshape => vec!["Flatten".into(), "Squeeze".into(), "Unsqueeze".into()],
        Op::Slice { .. } => vec!["Split".into(), "Gather".into()],
        Op::Resize(_) => vec!["Upsample".into()],
        Op::Gather(_) => vec!["GatherElements".into(), "GatherND".into()],
        Op::Scatter { .. } => vec!["ScatterElements".into(), "ScatterND".into(), "OneHot".into()],
        Op::TopK { .. } => vec!["TopK".into()],
        Op::Switch => vec!["If".into()],
        Op::GridSample { .. } => vec!["GridSample".into()],
        Op::Spectrum { .. } => vec!["STFT".into(), "DFT".into()],
        Op::Reduce { kind, .. } => vec![format!("Reduce{kind:?}")],
        _ => Vec::new(),
    };
    std::iter::once(op.name().to_owned()).chain(onnx).collect()
}

fn unknown(graph: &Graph, wanted: &str) -> Error {
    /// Most names to list.
    const MOST: usize = 40;
    let kinds: BTreeSet<String> = graph
        .nodes
        .iter()
        .map(|n| match kinds(&n.op).as_slice() {
            [own, onnx @ ..] if !onnx.is_empty() => format!("{own} ({})", onnx.join(", ")),
            all => all.concat(),
        })
        .collect();
    let mut names: Vec<String> = graph.nodes.iter().map(|n| n.name.clone()).collect();
    names.dedup();
    let more = names.len().saturating_sub(MOST);
    names.truncate(MOST);
    if more > 0 {
        names.push(format!("and {more} more"));
    }
    Error::KeepFloat { wanted: wanted.to_owned(), kinds: kinds.into_iter().collect(), names }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{Activation, BinaryKind, Value};

    #[test]
    fn operators_are_kept_by_every_name_they_have() {
        let mut graph = Graph::default();
        let [x, y] = ["x", "sum"].map(|name| {
            graph.add_value(Value {
                name: name.into(),
                shape: vec![1, 2],
                dtype: DType::F32,
                quant: None,
                data: None,
                channels_first_outside: false,
            })
        });
        let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        graph.nodes.push(Node { name: "node_7".into(), op, inputs: vec![x, x], output: y });
        (graph.inputs, graph.outputs) = (vec![x], vec![y]);
        let kept = |wanted: &str| {
            let options = QuantizeOptions { keep_float: vec![wanted.into()], ..QuantizeOptions::default() };
            float_nodes(&graph, &options).map(|(float, _)| float)
        };
        for wanted in ["node_7", "sum", "add", "Add"] {
            assert_eq!(kept(wanted).unwrap(), [true], "{wanted}");
        }
        let message = kept("Conv").unwrap_err().to_string();
        assert!(message.contains("add") && message.contains("node_7"), "{message}");
    }
}
