//! Functions of one element that a file writes as several operators between a Dequantize and a Quantize, or as one without an
//! int8 kernel: a table gives the file's own numbers.

use std::collections::{HashMap, HashSet};

use offshoot_ir::{DType, Data, Lookup, Node, Op, Value, ValueId};

use super::constants::reals;
use super::table::Table;

/// Most operators of a function.
const MOST: usize = 32;
/// Most elements of a constant that is searched for a single number.
const MOST_ELEMENTS: usize = 1024;

/// Element-wise operators that compute one tensor from another of the same shape, and from numbers.
pub(super) struct Function {
    /// The tensor that the function is of.
    pub(super) of: ValueId,
    /// The operators, each after those whose outputs it reads.
    pub(super) nodes: Vec<usize>,
    /// Their operators and inputs, in the same order.
    steps: Vec<Node>,
    numbers: HashMap<ValueId, f32>,
}

impl Function {
    /// The largest function of one tensor that ends in `y`. Nothing else reads the tensors in between.
    pub(super) fn ending_in(t: &Table, y: ValueId) -> Option<Self> {
        let last = t.producer(y)?;
        let mut inside = vec![last];
        element_wise(t, t.node(last)).then_some(())?;
        // Operators whose outputs only operators inside read, until one tensor is left that the others come from.
        loop {
            let open = open_inputs(t, &inside);
            if let [of] = open[..] {
                // What it is a function of may itself be computed so.
                let more = t.producer(of).filter(|&p| absorbs(t, p, of, &inside));
                match more.filter(|_| inside.len() < MOST) {
                    Some(p) => inside.push(p),
                    None => return Self::new(t, of, y, inside),
                }
            } else {
                let next = open.iter().find_map(|&id| t.producer(id).filter(|&p| absorbs(t, p, id, &inside)));
                inside.push(next.filter(|_| inside.len() < MOST)?);
            }
        }
    }

    fn new(t: &Table, of: ValueId, y: ValueId, mut inside: Vec<usize>) -> Option<Self> {
        let mut known = HashSet::from([of]);
        let mut nodes = Vec::with_capacity(inside.len());
        while !inside.is_empty() {
            let ready = |n: &usize| {
                t.node(*n).inputs.iter().all(|id| known.contains(id) || t.value(*id).data.is_some())
            };
            let at = inside.iter().position(ready)?;
            let n = inside.swap_remove(at);
            known.insert(t.node(n).output);
            nodes.push(n);
        }
        let same = t.value(of).shape == t.value(y).shape;
        let steps: Vec<Node> = nodes.iter().map(|&n| t.node(n).clone()).collect();
        let numbers =
            steps.iter().flat_map(|s| &s.inputs).filter_map(|id| Some((*id, number(t.value(*id))?)));
        let numbers = numbers.collect();
        same.then_some(Self { of, nodes, steps, numbers })
    }

    /// The function of a number, in float32 and operator by operator.
    pub(super) fn apply(&self, x: f32) -> f32 {
        let mut values = self.numbers.clone();
        values.insert(self.of, x);
        let mut y = x;
        for step in &self.steps {
            let at = |i: usize| step.inputs.get(i).and_then(|id| values.get(id)).copied().unwrap_or(f32::NAN);
            y = match step.op {
                Op::Unary(kind) => kind.apply(at(0)),
                Op::Binary { kind, .. } => kind.apply(at(0), at(1)),
                Op::PRelu if at(0) < 0.0 => at(0) * at(1),
                _ => at(0),
            };
            if let Some(activation) = step.op.activation() {
                let (low, high) = activation.bounds();
                y = y.max(low).min(high);
            }
            values.insert(step.output, y);
        }
        y
    }

    /// Whether it is a single operator that has an int8 form of its own.
    pub(super) fn is_plain(&self) -> bool {
        match &self.steps[..] {
            [Node { op: Op::Binary { kind, .. }, .. }] => !kind.is_float_only(),
            [one] => one.op != Op::PRelu,
            _ => false,
        }
    }
}

/// The tensors that operators inside read and none of them writes, without constants.
fn open_inputs(t: &Table, inside: &[usize]) -> Vec<ValueId> {
    let written: HashSet<ValueId> = inside.iter().map(|&n| t.node(n).output).collect();
    let mut open = Vec::new();
    for id in inside.iter().flat_map(|&n| &t.node(n).inputs) {
        if t.value(*id).data.is_none() && !written.contains(id) && !open.contains(id) {
            open.push(*id);
        }
    }
    open
}

/// Whether operator `p`, which writes `y`, is element-wise, and only operators inside read `y`.
fn absorbs(t: &Table, p: usize, y: ValueId, inside: &[usize]) -> bool {
    !t.is_output(y) && t.readers(y).iter().all(|r| inside.contains(r)) && element_wise(t, t.node(p))
}

/// Whether every element of the node's output depends on the same element of its inputs, and on single numbers.
fn element_wise(t: &Table, node: &Node) -> bool {
    let y = t.value(node.output);
    let whole = |id: &ValueId| t.value(*id).shape == y.shape && t.value(*id).data.is_none();
    let fits = |id: &ValueId| whole(id) || number(t.value(*id)).is_some();
    matches!(node.op, Op::Unary(_) | Op::Binary { .. } | Op::PRelu)
        && y.dtype == DType::F32
        && node.inputs.iter().any(whole)
        && node.inputs.iter().all(fits)
}

/// The number of which a constant consists.
fn number(value: &Value) -> Option<f32> {
    if value.len() > MOST_ELEMENTS {
        return None;
    }
    let uniform = match value.data.as_deref()? {
        Data::F32(v) => v.windows(2).all(|w| w[0].to_bits() == w[1].to_bits()),
        Data::I8(v) => v.windows(2).all(|w| w[0] == w[1]),
        Data::I32(v) => v.windows(2).all(|w| w[0] == w[1]),
        Data::I16(v) => v.windows(2).all(|w| w[0] == w[1]),
        Data::I64(_) => false,
    };
    let one_scale = value.quant.as_ref().is_none_or(|q| q.axis.is_none());
    reals(value).filter(|_| uniform && one_scale)?.first().copied()
}

/// `dequantize → function → quantize` to a table, where no int8 kernel computes the function at once.
pub(super) fn function_between(t: &mut Table, n: usize) -> Option<usize> {
    if !matches!(t.node(n).op, Op::Quantize) {
        return None;
    }
    let y = t.node(n).inputs[0];
    let function = Function::ending_in(t, y).filter(|f| !f.is_plain())?;
    let d = t.node(t.producer(function.of)?);
    if !matches!(d.op, Op::Dequantize) || t.sole_reader(y) != Some(n) {
        return None;
    }
    let x = d.inputs[0];
    let int8 = |id: ValueId| Some(t.value(id)).filter(|v| v.dtype == DType::I8);
    let grid = |id: ValueId| int8(id)?.quant.clone().filter(|q| q.axis.is_none());
    let lookup = Lookup::of(grid(x)?, grid(t.node(n).output)?, |v| function.apply(v));
    let (name, output) = (t.node(function.nodes[0]).name.clone(), t.node(n).output);
    t.replace(n, Node { name, op: Op::Lookup(lookup), inputs: vec![x], output });
    Some(n)
}
