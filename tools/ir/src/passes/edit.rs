//! Helpers of the passes: writers and readers of a tensor, removal of an operator, new tensors and constants.

use std::collections::HashSet;
use std::sync::Arc;

use crate::{DType, Data, Graph, Node, Op, Quant, Value, ValueId};

/// Producers and numbers of readers, for one state of a graph.
pub(super) struct Index {
    producer: Vec<Option<usize>>,
    uses: Vec<usize>,
    output: Vec<bool>,
}

impl Index {
    pub(super) fn new(graph: &Graph) -> Self {
        let n = graph.values.len();
        let mut index = Self { producer: vec![None; n], uses: vec![0; n], output: vec![false; n] };
        for (i, node) in graph.nodes.iter().enumerate() {
            index.producer[node.output.0 as usize] = Some(i);
            for id in &node.inputs {
                index.uses[id.0 as usize] += 1;
            }
        }
        for id in &graph.outputs {
            index.output[id.0 as usize] = true;
        }
        index
    }

    /// Index of the node that writes `id`.
    pub(super) fn producer(&self, id: ValueId) -> Option<usize> {
        self.producer[id.0 as usize]
    }

    /// Whether `id` is a graph output.
    pub(super) fn is_output(&self, id: ValueId) -> bool {
        self.output[id.0 as usize]
    }

    /// Whether exactly one operator reads `id`, exactly once, and `id` is not a graph output.
    pub(super) fn used_once(&self, id: ValueId) -> bool {
        self.uses[id.0 as usize] == 1 && !self.is_output(id)
    }
}

/// Applies `step` until it changes nothing more. Each application must make progress; the bound only keeps a mistake
/// in that from hanging. After each, operators that no output depends on are removed.
pub(super) fn repeat(mut graph: Graph, mut step: impl FnMut(&mut Graph) -> bool) -> Graph {
    let bound = 64 * (graph.nodes.len() + 16);
    for _ in 0..bound {
        if !step(&mut graph) {
            break;
        }
        graph = graph.prune_unreachable();
    }
    graph
}

/// Makes every operator that reads `old` read `new` instead. Graph outputs are unchanged.
pub(super) fn redirect(graph: &mut Graph, old: ValueId, new: ValueId) {
    for id in graph.nodes.iter_mut().flat_map(|n| &mut n.inputs) {
        if *id == old {
            *id = new;
        }
    }
}

/// Removes node `at`, whose output equals its first input. If its output is a graph output, the producer of the input
/// writes that instead. Where that is impossible (the input is a graph input, a constant or itself an output), the
/// node stays and the result is `false`.
pub(super) fn bypass(graph: &mut Graph, index: &Index, at: usize) -> bool {
    let (x, out) = (graph.nodes[at].inputs[0], graph.nodes[at].output);
    if index.is_output(out) {
        let Some(producer) = index.producer(x).filter(|_| !index.is_output(x)) else {
            return false;
        };
        graph.nodes[producer].output = out;
        redirect(graph, x, out);
    } else {
        redirect(graph, out, x);
    }
    graph.nodes.remove(at);
    true
}

/// `base`, with a number appended if a tensor has that name already.
pub(super) fn fresh_name(graph: &Graph, base: &str) -> String {
    let taken: HashSet<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    if !taken.contains(base) {
        return base.into();
    }
    let mut n = 1_u64;
    loop {
        let name = format!("{base}.{n}");
        if !taken.contains(name.as_str()) {
            return name;
        }
        n += 1;
    }
}

/// A new tensor, not yet written, with a name made from `base`.
pub(super) fn tensor(
    graph: &mut Graph,
    base: &str,
    shape: Vec<usize>,
    dtype: DType,
    quant: Option<Quant>,
) -> ValueId {
    let name = fresh_name(graph, base);
    graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
}

/// A new constant, with a name made from `base`.
pub(super) fn constant(
    graph: &mut Graph,
    base: &str,
    shape: Vec<usize>,
    data: Data,
    quant: Option<Quant>,
) -> ValueId {
    let name = fresh_name(graph, base);
    let id = graph.add_constant(name, shape, data);
    graph.value_mut(id).quant = quant;
    id
}

/// A new f32 constant.
pub(super) fn constant_f32(graph: &mut Graph, base: &str, shape: Vec<usize>, data: Vec<f32>) -> ValueId {
    constant(graph, base, shape, Data::F32(data), None)
}

/// Elements of a float constant.
pub(super) fn floats(graph: &Graph, id: ValueId) -> Option<&[f32]> {
    match graph.value(id).data.as_deref() {
        Some(Data::F32(d)) => Some(d),
        _ => None,
    }
}

/// The element of a float constant with a single element, of any rank.
pub(super) fn scalar(graph: &Graph, id: ValueId) -> Option<f32> {
    match floats(graph, id)? {
        [v] => Some(*v),
        _ => None,
    }
}

/// Inserts a node with `op` before position `at`; returns the new tensor that it writes, with the type of `like`.
pub(super) fn insert(
    graph: &mut Graph,
    at: usize,
    op: Op,
    inputs: Vec<ValueId>,
    shape: Vec<usize>,
    like: ValueId,
) -> ValueId {
    let (base, dtype, quant) = {
        let v = graph.value(like);
        (v.name.clone(), v.dtype, v.quant.clone())
    };
    let output = tensor(graph, &base, shape, dtype, quant);
    graph.nodes.insert(at, Node { name: base, op, inputs, output });
    output
}

/// `items` rearranged so that element i is old element `perm[i]`.
pub(super) fn permuted<T: Clone>(items: &[T], perm: &[usize]) -> Vec<T> {
    perm.iter().map(|&p| items[p].clone()).collect()
}

/// Row-major strides of `shape`.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut out = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        out[i - 1] = out[i] * shape[i];
    }
    out
}

/// For each element of a row-major tensor of `shape`, its offset in another with strides `stride`.
pub(super) fn offsets(shape: &[usize], stride: &[isize], base: isize) -> Vec<usize> {
    let n: usize = shape.iter().product();
    let mut out = Vec::with_capacity(n);
    let mut at = vec![0usize; shape.len()];
    let mut offset = base;
    for _ in 0..n {
        // The caller's strides stay inside its tensor, so the offset is never negative here.
        out.push(offset as usize);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            offset += stride[axis];
            if at[axis] < shape[axis] {
                break;
            }
            offset -= stride[axis] * shape[axis] as isize;
            at[axis] = 0;
        }
    }
    out
}

/// The elements at `offsets`.
pub(super) fn gather(data: &Data, offsets: &[usize]) -> Data {
    fn pick<T: Copy>(d: &[T], offsets: &[usize]) -> Vec<T> {
        offsets.iter().map(|&o| d[o]).collect()
    }
    match data {
        Data::F32(d) => Data::F32(pick(d, offsets)),
        Data::I8(d) => Data::I8(pick(d, offsets)),
        Data::I16(d) => Data::I16(pick(d, offsets)),
        Data::I32(d) => Data::I32(pick(d, offsets)),
        Data::I64(d) => Data::I64(pick(d, offsets)),
    }
}

/// Whether two graphs are equal; constants that share an allocation are not compared by element.
pub(super) fn same(a: &Graph, b: &Graph) -> bool {
    let value = |x: &Value, y: &Value| {
        let data = match (&x.data, &y.data) {
            (Some(p), Some(q)) => Arc::ptr_eq(p, q) || p == q,
            (None, None) => true,
            _ => false,
        };
        data && x.name == y.name
            && x.shape == y.shape
            && x.dtype == y.dtype
            && x.quant == y.quant
            && x.channels_first_outside == y.channels_first_outside
    };
    a.nodes == b.nodes
        && a.inputs == b.inputs
        && a.outputs == b.outputs
        && a.values.len() == b.values.len()
        && a.values.iter().zip(&b.values).all(|(x, y)| value(x, y))
}
