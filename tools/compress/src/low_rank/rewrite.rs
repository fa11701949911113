//! Splits layers in a graph, and joins them again.

use std::sync::Arc;

use nalgebra::DMatrix;
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Value, ValueId, Window};

use super::layer::{Cut, SplitLayer, column_of, row_of};
use crate::{Error, Result};

/// Suffix of the names of the first operator, the intermediate tensor, and the factors.
const FIRST: &str = "/rank";

/// `graph` with each of `layers` split at its rank. Operators keep their names; the new ones before them are called
/// `NAME/rank`. At its full rank a layer computes what it did before.
///
/// # Errors
/// A rank is 0 or above the full one; a layer does not belong to the graph.
pub fn split(graph: &Graph, layers: &[(&SplitLayer, usize)]) -> Result<Graph> {
    let mut out = Graph { nodes: Vec::new(), ..graph.clone() };
    let mut extra = Names::of(graph);
    for (index, node) in graph.nodes.iter().enumerate() {
        match layers.iter().find(|(layer, _)| layer.node == index) {
            Some((layer, rank)) => one(&mut out, &mut extra, node, layer, *rank)?,
            None => out.nodes.push(node.clone()),
        }
    }
    let out = out.prune_unreachable();
    out.validate().map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
    Ok(out)
}

/// Names already used.
struct Names(std::collections::BTreeSet<String>);

impl Names {
    fn of(graph: &Graph) -> Self {
        Self(graph.values.iter().map(|v| v.name.clone()).collect())
    }

    fn fresh(&mut self, base: String) -> String {
        let mut name = base.clone();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = format!("{base}{count}");
        }
        name
    }
}

fn one(out: &mut Graph, names: &mut Names, node: &Node, layer: &SplitLayer, rank: usize) -> Result<()> {
    if rank == 0 || rank > layer.full() || layer.name != node.name {
        let reason = format!("rank {rank} for `{}`, whose full rank is {}", node.name, layer.full());
        return Err(Error::Option { option: "rank", reason });
    }
    let (x, w) = (node.inputs[0], node.inputs[1]);
    let shape = out.value(w).shape.clone();
    let f = &layer.factors;
    let first = |k: usize, i: usize| f.first[(k, i)] as f32;
    let columns = f.first.ncols();
    let first: Vec<f32> = (0..rank * columns).map(|at| first(at / columns, at % columns)).collect();
    let (first_shape, second_shape, second) = match (layer.cut, &shape[..]) {
        (Cut::Spatial, &[o, kh, kw, i]) => {
            let at = |p: usize| f.second[(p / rank % kw * o + p / (rank * kw), p % rank)] as f32;
            (vec![rank, kh, 1, i], vec![o, 1, kw, rank], (0..o * kw * rank).map(at).collect())
        }
        _ => {
            let o = shape[0];
            let second: Vec<f32> = (0..o * rank).map(|p| f.second[(p / rank, p % rank)] as f32).collect();
            let mut narrow = shape.clone();
            narrow[0] = rank;
            let wide = if shape.len() == 4 { vec![o, 1, 1, rank] } else { vec![o, rank] };
            (narrow, wide, second)
        }
    };
    let base = out.value(w).name.clone();
    let first = out.add_constant(names.fresh(format!("{base}{FIRST}")), first_shape, Data::F32(first));
    let second = out.add_constant(names.fresh(format!("{base}{FIRST}.out")), second_shape, Data::F32(second));
    // Height, width or rows of the intermediate tensor.
    let mut between = out.value(node.output).shape.clone();
    if layer.cut == Cut::Spatial {
        between[2] = out.value(x).shape[2];
    }
    if let Some(last) = between.last_mut() {
        *last = rank;
    }
    let hidden = out.add_value(Value {
        name: names.fresh(format!("{}{FIRST}", out.value(node.output).name)),
        shape: between,
        dtype: DType::F32,
        quant: None,
        data: None,
        channels_first_outside: false,
    });
    let (before, after) = windows(&node.op, layer.cut);
    out.nodes.push(Node {
        name: format!("{}{FIRST}", node.name),
        op: before,
        inputs: vec![x, first],
        output: hidden,
    });
    let mut inputs = vec![hidden, second];
    let shift = layer.shift(rank);
    if shift.iter().any(|s| *s != 0.0) {
        let mut bias = shift;
        if let Some(Data::F32(old)) = node.inputs.get(2).and_then(|&b| out.value(b).data.clone()).as_deref() {
            bias.iter_mut().zip(old).for_each(|(b, o)| *b += o);
        }
        let name = node.inputs.get(2).map_or(format!("{base}.bias"), |&b| out.value(b).name.clone());
        let len = bias.len();
        inputs.push(out.add_constant(names.fresh(format!("{name}{FIRST}")), vec![len], Data::F32(bias)));
    } else {
        inputs.extend(node.inputs.get(2));
    }
    out.nodes.push(Node { name: node.name.clone(), op: after, inputs, output: node.output });
    Ok(())
}

/// Both operators of a split layer.
fn windows(op: &Op, cut: Cut) -> (Op, Op) {
    match op {
        Op::Conv2d { window, activation, .. } => {
            let (first, second) = match cut {
                Cut::Channels => {
                    (*window, Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] })
                }
                Cut::Spatial => (column_of(window), row_of(window)),
            };
            let conv = |window, activation| Op::Conv2d { window, groups: 1, activation };
            (conv(first, Activation::None), conv(second, *activation))
        }
        _ => (Op::FullyConnected { activation: Activation::None }, op.clone()),
    }
}

/// A pair made by [`split`] by channels, or one of the same form: two dense operators with nothing in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    /// Index of the first node.
    pub(super) first: usize,
    /// Index of the second.
    pub(super) second: usize,
}

/// Pairs of dense operators where the second is 1×1 or fully connected and the only reader of the first, which has
/// neither bias nor activation.
pub(super) fn pairs(graph: &Graph) -> Vec<Pair> {
    let pair = |second: usize| {
        let node = &graph.nodes[second];
        if !super::layer::splits(graph, node) && graph.value(*node.inputs.get(1)?).shape.last() != Some(&1) {
            return None;
        }
        let plain = match &node.op {
            Op::Conv2d { window, groups: 1, .. } => {
                window.kernel == [1; 2] && window.stride == [1; 2] && window.pad == [0; 4]
            }
            Op::FullyConnected { .. } => true,
            _ => false,
        };
        let hidden = *node.inputs.first()?;
        let first = graph.producer(hidden)?;
        let before = &graph.nodes[first];
        let same = matches!(
            (&before.op, &node.op),
            (Op::Conv2d { groups: 1, .. }, Op::Conv2d { .. })
                | (Op::FullyConnected { .. }, Op::FullyConnected { .. })
        );
        let alone = graph.consumers(hidden).len() == 1 && !graph.outputs.contains(&hidden);
        let bare = before.inputs.len() == 2 && before.op.activation() == Some(Activation::None);
        let constant = |id: ValueId| matches!(graph.value(id).data.as_deref(), Some(Data::F32(_)));
        let known = before.inputs.get(1).is_some_and(|&w| constant(w)) && constant(node.inputs[1]);
        (plain && same && alone && bare && known).then_some(Pair { first, second })
    };
    (0..graph.nodes.len()).filter_map(pair).collect()
}

/// Weights of a pair: `[r, n]` and `[o, r]`.
pub(super) fn factors(graph: &Graph, pair: Pair) -> Option<(DMatrix<f64>, DMatrix<f64>)> {
    let floats = |id: ValueId| match graph.value(id).data.as_deref() {
        Some(Data::F32(data)) => Some((graph.value(id).shape[0], data.clone())),
        _ => None,
    };
    let (r, first) = floats(graph.nodes[pair.first].inputs[1])?;
    let (o, second) = floats(graph.nodes[pair.second].inputs[1])?;
    let of = |rows: usize, data: &[f32]| {
        let columns = data.len() / rows.max(1);
        DMatrix::from_fn(rows, columns, |i, j| f64::from(data[i * columns + j]))
    };
    let (first, second) = (of(r, &first), of(o, &second));
    (second.ncols() == r).then_some((first, second))
}

/// Joins pairs of operators whose product has no more weights than both factors: `r (n + o) ≥ n o`; with `all`, every
/// pair. The function stays the same.
///
/// # Errors
/// None for a well-formed graph.
pub fn join(graph: &Graph, all: bool) -> Result<Graph> {
    let mut out = graph.clone();
    loop {
        let found = pairs(&out).into_iter().find_map(|pair| {
            let (first, second) = factors(&out, pair)?;
            let (r, n, o) = (first.nrows(), first.ncols(), second.nrows());
            (all || r * (n + o) >= n * o).then(|| (pair, second * first))
        });
        let Some((pair, product)) = found else { break };
        let (first, mut second) = (out.nodes[pair.first].clone(), out.nodes[pair.second].clone());
        let mut shape = out.value(first.inputs[1]).shape.clone();
        shape[0] = product.nrows();
        let columns = product.ncols();
        let data = (0..product.len()).map(|i| product[(i / columns, i % columns)] as f32).collect();
        let old = out.value(second.inputs[1]).name.clone();
        let name = Names::of(&out).fresh(old.trim_end_matches(".out").trim_end_matches(FIRST).to_owned());
        let weights = out.add_constant(name, shape, Data::F32(data));
        let activation = second.op.activation().unwrap_or_default();
        second.op = first.op.clone();
        if let Some(a) = second.op.activation_mut() {
            *a = activation;
        }
        (second.inputs[0], second.inputs[1]) = (first.inputs[0], weights);
        out.nodes[pair.second] = second;
        out.nodes.remove(pair.first);
    }
    let out = out.prune_unreachable();
    out.validate().map_err(|e| Error::Execution { node: graph.name.clone(), source: Box::new(e) })?;
    Ok(out)
}

/// Cuts pairs to ranks, dropping the last ranks first.
pub(super) fn truncate(graph: &Graph, ranks: &[(Pair, usize)]) -> Graph {
    let mut out = graph.clone();
    for &(pair, rank) in ranks {
        let (first, second) = (graph.nodes[pair.first].inputs[1], graph.nodes[pair.second].inputs[1]);
        let hidden = graph.nodes[pair.first].output;
        let old = graph.value(first).shape[0];
        let rank = rank.clamp(1, old);
        let mut cut = |id: ValueId, shape: Vec<usize>, keep: &dyn Fn(usize) -> bool| {
            let value = out.value_mut(id);
            if let Some(Data::F32(data)) = value.data.as_deref() {
                let data = data.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, v)| *v).collect();
                (value.shape, value.data) = (shape, Some(Arc::new(Data::F32(data))));
            }
        };
        let mut shape = graph.value(first).shape.clone();
        let width: usize = shape[1..].iter().product();
        shape[0] = rank;
        cut(first, shape, &|i| i / width < rank);
        let mut shape = graph.value(second).shape.clone();
        if let Some(last) = shape.last_mut() {
            *last = rank;
        }
        cut(second, shape, &|i| i % old < rank);
        if let Some(last) = out.value_mut(hidden).shape.last_mut() {
            *last = rank;
        }
    }
    out
}
