//! Pairs that a file leaves out. Many exporters write them only before convolutions and products; activations and sums between
//! them have none. Where the numbers around a tensor tell its range, it gets a pair, so that the operators on both sides
//! compute in int8:
//! - Another reader of it quantises it: all readers take those integers.
//! - Samples gave its range.
//! - What it is computed from bounds it: a sigmoid, a sum of two quantised tensors.
//! - Beyond some numbers the result that is quantised does not change any more: a Relu or HardSwish behind it, a sum with a
//!   quantised tensor.
//!
//! A range that would make steps much coarser than those of the result is none; calibration gives a better one.

mod insert;
mod range;

use std::collections::{HashMap, HashSet};

use offshoot_ir::grid::quant_of_range;
use offshoot_ir::{
    BinaryKind, DType, Graph, Node, Op, PoolKind, Quant, ReduceKind, UnaryKind, Value, ValueId,
};

use insert::{insert, integers};
use range::{Range, before_function, combined, image, is_smooth};

use super::function::Function;
use super::table::Table;

/// How much coarser than a step of the result the effect of one step of a tensor may be.
const COARSER: f32 = 3.0;

/// What is known of a graph's float tensors.
struct Known<'g> {
    graph: &'g Graph,
    readers: Vec<Vec<usize>>,
    /// What a tensor cannot leave, as far as its operator's inputs tell.
    bounds: Vec<Option<Range>>,
    /// Outside of which a tensor's numbers change nothing that is quantised.
    needed: Vec<Option<Range>>,
    /// Functions of one tensor, by their result: a table computes each at once.
    functions: &'g HashMap<ValueId, Part>,
    /// Tensors inside these functions.
    inside: HashSet<ValueId>,
    /// Outputs of layers with int8 weights, or with weights that become so.
    layers: HashSet<ValueId>,
    /// Whether a Quantize or a layer with int8 weights depends on the tensor, or a layer whose output has a measured range.
    leads: Vec<bool>,
    /// Ranges that samples gave.
    measured: &'g HashMap<ValueId, (f32, f32)>,
}

/// Adds pairs where ranges are known. The graph is as the rules of `lift` leave it. Also returns the names of operators whose
/// outputs have a measured range; `None` if nothing was added.
pub(super) fn add(
    table: Table,
    ranges: &HashMap<ValueId, (f32, f32)>,
    kept: &HashSet<ValueId>,
) -> (Graph, Option<Vec<String>>) {
    let functions = functions(&table);
    let graph = table.into_graph();
    let found = Known::of(&graph, &functions, ranges, false).missing(kept, false);
    if found.is_empty() {
        return (graph, None);
    }
    let measured = |n: &&Node| {
        let quantised = |r: usize| matches!(graph.nodes[r].op, Op::Quantize);
        found.contains_key(&n.output)
            && ranges.contains_key(&n.output)
            && !graph.consumers(n.output).into_iter().any(quantised)
    };
    let names = graph.nodes.iter().filter(measured).map(|n| n.name.clone()).collect();
    (insert(graph, &found), Some(names))
}

/// The float tensors of a quantised graph that would be int8 if their range was known.
pub fn open(graph: &Graph) -> Vec<ValueId> {
    let table = Table::new(graph.clone());
    let functions = functions(&table);
    let ranges = HashMap::new();
    let mut found: Vec<ValueId> =
        Known::of(graph, &functions, &ranges, true).missing(&HashSet::new(), true).into_keys().collect();
    found.sort_unstable();
    found
}

/// A function of one tensor, with the tensors between that and the result.
struct Part {
    function: Function,
    inside: HashSet<ValueId>,
}

/// The functions of one tensor that are not part of a larger one.
fn functions(t: &Table) -> HashMap<ValueId, Part> {
    let mut found = HashMap::new();
    for result in (0..t.len()).filter(|&n| t.is_alive(n)).map(|n| t.node(n).output) {
        if let Some(function) = Function::ending_in(t, result) {
            let inside = function.nodes.iter().map(|&n| t.node(n).output).filter(|y| *y != result).collect();
            found.insert(result, Part { function, inside });
        }
    }
    let inner: HashSet<ValueId> = found.values().flat_map(|part| part.inside.iter().copied()).collect();
    found.retain(|result, _| !inner.contains(result));
    found
}

impl<'g> Known<'g> {
    fn of(
        graph: &'g Graph,
        functions: &'g HashMap<ValueId, Part>,
        measured: &'g HashMap<ValueId, (f32, f32)>,
        all: bool,
    ) -> Self {
        let mut readers = vec![Vec::new(); graph.values.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|id| readers[id.0 as usize].push(n));
        }
        let mut known = Self {
            graph,
            readers,
            bounds: vec![None; graph.values.len()],
            needed: vec![None; graph.values.len()],
            functions,
            inside: functions.values().flat_map(|f| f.inside.iter().copied()).collect(),
            layers: graph
                .nodes
                .iter()
                .filter(|n| has_weights(graph, n, measured))
                .map(|n| n.output)
                .collect(),
            leads: vec![false; graph.values.len()],
            measured,
        };
        for node in &graph.nodes {
            known.bounds[node.output.0 as usize] = known.bound(node);
        }
        let mut of_functions: HashMap<ValueId, Range> = HashMap::new();
        for node in graph.nodes.iter().rev() {
            let weights = node.inputs.get(1).filter(|_| is_linear(&node.op)).map(|w| graph.value(*w));
            let ranged = all || measured.contains_key(&node.output);
            let layer = weights.is_some_and(|w| w.dtype == DType::I8 || ranged && w.data.is_some());
            let leads = matches!(node.op, Op::Quantize) || layer || known.leads[node.output.0 as usize];
            for id in &node.inputs {
                known.leads[id.0 as usize] |= leads;
            }
            let y = node.output;
            known.needed[y.0 as usize] = of_functions.get(&y).copied().or_else(|| known.needed_by_readers(y));
            if let (Some(part), Some(result)) = (functions.get(&y), known.needed[y.0 as usize]) {
                let of = part.function.of;
                let own = |n: &usize| {
                    let reads = graph.nodes[*n].output;
                    reads == y || part.inside.contains(&reads)
                };
                if known.readers[of.0 as usize].iter().all(own)
                    && !graph.outputs.contains(&of)
                    && let Some(range) = before_function(&part.function, result)
                {
                    of_functions.insert(of, range);
                }
            }
        }
        known
    }

    fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    /// The scale and zero point of an int8 tensor.
    fn int8_grid(&self, id: ValueId) -> Option<&'g Quant> {
        let value = self.graph.value(id);
        value.quant.as_ref().filter(|_| value.dtype == DType::I8)
    }

    /// The range of an operand: that of a quantised or bounded tensor, or of a constant.
    fn operand(&self, id: ValueId) -> Option<Range> {
        let value = self.value(id);
        if value.data.is_none() {
            return self.bounds[id.0 as usize];
        }
        let all = super::constants::reals(value)?;
        let (low, high) =
            all.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |r, v| (r.0.min(*v), r.1.max(*v)));
        Some(Range { low, high, step: f32::MIN_POSITIVE })
    }

    /// [`Self::operand`] of a sum whose result is seen within a range: a constant without the numbers that say "never", as those of
    /// masks.
    fn seen(&self, id: ValueId, result: Range) -> Option<Range> {
        /// How many times larger than the range such numbers are.
        const NEVER: f32 = 100.0;
        let value = self.value(id);
        let Some(all) = super::constants::reals(value) else { return self.operand(id) };
        let largest = NEVER * (result.high - result.low);
        let near = all.into_iter().filter(|v| v.abs() <= largest);
        let (low, high) = near.fold((0.0f32, 0.0f32), |r, v| (r.0.min(v), r.1.max(v)));
        Some(Range { low, high, step: f32::MIN_POSITIVE })
    }

    /// What the output of an operator cannot leave.
    fn bound(&self, node: &Node) -> Option<Range> {
        let x = || self.operand(*node.inputs.first()?);
        let function = self.functions.get(&node.output).map(|part| &part.function);
        if let Some((function, of)) = function.and_then(|f| Some((f, self.bounds[f.of.0 as usize]?))) {
            return Some(image(|v| function.apply(v), of)).filter(Range::is_usable);
        }
        let range = match &node.op {
            Op::Dequantize => Range::of(self.int8_grid(node.inputs[0])?)?,
            Op::Unary(UnaryKind::Sigmoid | UnaryKind::HardSigmoid { .. }) | Op::Softmax { .. } => {
                Range { low: 0.0, high: 1.0, step: 1.0 / 256.0 }
            }
            Op::Unary(UnaryKind::Tanh) => Range { low: -1.0, high: 1.0, step: 1.0 / 128.0 },
            Op::Unary(kind) if is_smooth(*kind) => image(|v| kind.apply(v), x()?),
            Op::PRelu => {
                let (x, slopes) = (x()?, self.operand(*node.inputs.get(1)?)?);
                let below = Range { low: x.low.min(0.0), high: x.high.min(0.0), ..x };
                let above = Range { low: x.low.max(0.0), high: x.high.max(0.0), ..x };
                combined(BinaryKind::Mul, below, slopes)?.hull(above)
            }
            Op::Binary { kind, .. } => combined(*kind, x()?, self.operand(*node.inputs.get(1)?)?)?,
            Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand => x()?,
            Op::Concat { .. } => {
                let mut all = node.inputs.iter().map(|id| self.operand(*id));
                let first = all.next()??;
                all.try_fold(first, |hull, next| Some(hull.hull(next?)))?
            }
            Op::Pool { kind: PoolKind::Max | PoolKind::Average, .. }
            | Op::Reduce { kind: ReduceKind::Mean | ReduceKind::Max | ReduceKind::Min, .. } => x()?,
            Op::Pool { .. } => x()?.hull(Range { low: 0.0, high: 0.0, step: f32::INFINITY }),
            Op::Resize(_) => x()?,
            _ => return None,
        };
        let (low, high) = node.op.activation().unwrap_or_default().bounds();
        let range = Range { low: range.low.max(low).min(high), high: range.high.min(high).max(low), ..range };
        range.is_usable().then_some(range)
    }

    /// The hull of what the readers of a tensor need; `None` if one of them needs all numbers.
    fn needed_by_readers(&self, y: ValueId) -> Option<Range> {
        if self.graph.outputs.contains(&y) {
            return None;
        }
        let mut all = self.readers[y.0 as usize].iter().map(|&r| self.needed_by(&self.graph.nodes[r], y));
        let first = all.next()??;
        all.try_fold(first, |hull, next| Some(hull.hull(next?)))
    }

    fn needed_by(&self, reader: &Node, y: ValueId) -> Option<Range> {
        if matches!(reader.op, Op::Quantize) {
            return Range::of(self.int8_grid(reader.output)?);
        }
        // A fused activation hides numbers beyond its bounds.
        let after = self.needed[reader.output.0 as usize]?;
        let (low, high) = reader.op.activation().unwrap_or_default().bounds();
        let after = Range { low: after.low.max(low), high: after.high.min(high), ..after };
        let range = match &reader.op {
            Op::Reshape | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand | Op::Concat { .. } => after,
            Op::Pool { kind: PoolKind::Max, .. } => after,
            Op::Reduce { kind: ReduceKind::Max | ReduceKind::Min, .. } => after,
            Op::Pad { mode: Some(_), .. } => after,
            Op::Resize(rule) if !rule.bilinear => after,
            Op::Unary(UnaryKind::Clip { min, max }) => {
                Range { low: after.low.max(*min), high: after.high.min(*max), ..after }
            }
            Op::Binary { kind, .. } => {
                let &[a, b] = &reader.inputs[..] else { return None };
                if a == b {
                    return None;
                }
                let other = self.seen(if a == y { b } else { a }, after)?;
                let (low, high) = match (kind, a == y) {
                    (BinaryKind::Add, _) => (after.low - other.high, after.high - other.low),
                    (BinaryKind::Sub, true) => (after.low + other.low, after.high + other.high),
                    (BinaryKind::Sub, false) => (other.low - after.high, other.high - after.low),
                    _ => return None,
                };
                Range { low, high, ..after }
            }
            _ => return None,
        };
        range.is_usable().then_some(range)
    }

    /// Tensors that get a pair, with its grid. `all`: those without a grid too, as if they had one.
    fn missing(&self, kept: &HashSet<ValueId>, all: bool) -> HashMap<ValueId, Quant> {
        let mut int8: HashSet<ValueId> = HashSet::new();
        let mut found = HashMap::new();
        let mut take = |int8: &mut HashSet<ValueId>, y: ValueId, natural: Option<Quant>| {
            let grid = self.grid(y, natural).or_else(|| all.then(|| Quant::per_tensor(1.0, 0)));
            if let Some(quant) = grid {
                int8.insert(y);
                // A single Quantize behind it is the other half of its pair.
                if !self.is_quantised_alone(y) {
                    found.insert(y, quant);
                }
            }
        };
        for &x in &self.graph.inputs {
            // A sum with what was computed from it, or another reader beside a Quantize.
            let reads = &self.readers[x.0 as usize];
            let quantises = |r: &usize| matches!(self.graph.nodes[*r].op, Op::Quantize);
            let adds = |r: &usize| matches!(self.graph.nodes[*r].op, Op::Binary { .. });
            let joins = reads.iter().any(adds) || reads.iter().any(quantises) && !reads.iter().all(quantises);
            if self.value(x).dtype == DType::F32 && joins && self.leads[x.0 as usize] && !kept.contains(&x) {
                take(&mut int8, x, None);
            }
        }
        for node in &self.graph.nodes {
            let y = node.output;
            let movement = super::is_movement(&node.op) || matches!(node.op, Op::Concat { .. });
            let reads_int8 = |id: &ValueId| self.value(*id).data.is_some() || int8.contains(id);
            let dequantised = matches!(node.op, Op::Dequantize) && self.int8_grid(node.inputs[0]).is_some();
            if dequantised || movement && node.inputs.iter().all(reads_int8) {
                int8.insert(y);
                continue;
            }
            let by_table = self.functions.get(&y).is_some_and(|part| int8.contains(&part.function.of));
            let able = self.value(y).dtype == DType::F32
                && (by_table
                    || self.has_int8_form(node)
                        && node.inputs.iter().all(reads_int8)
                        && node.inputs.iter().any(|id| int8.contains(id)));
            let counts = self.leads[y.0 as usize] || all || self.measured.contains_key(&y);
            if able && counts && !self.inside.contains(&y) && !kept.contains(&y) {
                take(&mut int8, y, natural(&node.op));
            }
        }
        found
    }

    fn is_quantised_alone(&self, y: ValueId) -> bool {
        let readers = &self.readers[y.0 as usize];
        let quantises = |r: &usize| matches!(self.graph.nodes[*r].op, Op::Quantize);
        readers.len() == 1 && readers.iter().all(quantises) && !self.graph.outputs.contains(&y)
    }

    /// The grid of a tensor: the widest that a reader quantises it to, else that of its operator, or one over its
    /// range.
    fn grid(&self, y: ValueId, natural: Option<Quant>) -> Option<Quant> {
        let readers = self.readers[y.0 as usize].iter().map(|&r| &self.graph.nodes[r]);
        let quantised = readers.filter(|r| matches!(r.op, Op::Quantize)).map(|r| self.int8_grid(r.output));
        let quantised: Vec<&Quant> = quantised.flatten().filter(|q| q.axis.is_none()).collect();
        if let Some(widest) = quantised.into_iter().max_by(|a, b| a.scale[0].total_cmp(&b.scale[0])) {
            return Some(widest.clone());
        }
        if natural.is_some() {
            return natural;
        }
        let derived = match (self.bounds[y.0 as usize], self.needed[y.0 as usize]) {
            (Some(a), Some(b)) => {
                Some(Range { low: a.low.max(b.low), high: a.high.min(b.high), step: a.step.min(b.step) })
            }
            (one, other) => one.or(other),
        };
        if let Some(&(low, high)) = self.measured.get(&y) {
            // Numbers that change nothing need no codes.
            let (low, high) = derived.map_or((low, high), |d| (low.max(d.low), high.min(d.high)));
            return (low <= high && (high - low).is_finite()).then(|| quant_of_range(low, high));
        }
        let range = derived.filter(Range::is_usable)?;
        let quant = quant_of_range(range.low, range.high);
        (quant.scale[0] <= COARSER * range.step).then_some(quant)
    }

    /// Whether an int8 kernel computes the operator, given grids for what it reads and writes.
    fn has_int8_form(&self, node: &Node) -> bool {
        match &node.op {
            op if is_linear(op) => self.layers.contains(&node.output),
            Op::MatMul { .. } | Op::Pool { .. } | Op::Softmax { .. } | Op::Resize(_) | Op::PRelu => true,
            Op::Reduce { .. } => true,
            Op::Binary { kind, .. } => !kind.is_float_only(),
            Op::Unary(kind) => is_smooth(*kind),
            _ => false,
        }
    }
}

/// Whether a linear layer has int8 weights, or weights in float that came from such; with a measured range, any weights.
fn has_weights(graph: &Graph, node: &Node, measured: &HashMap<ValueId, (f32, f32)>) -> bool {
    let constant = |id: &ValueId| Some(graph.value(*id)).filter(|w| w.data.is_some());
    let weights = node.inputs.get(1).filter(|_| is_linear(&node.op)).and_then(constant);
    weights
        .is_some_and(|w| w.dtype == DType::I8 || measured.contains_key(&node.output) || integers(w).is_some())
}

/// The grid that TensorFlow Lite gives the results of an operator.
fn natural(op: &Op) -> Option<Quant> {
    match op {
        Op::Softmax { .. } | Op::Unary(UnaryKind::Sigmoid) => Some(Quant::per_tensor(1.0 / 256.0, -128)),
        Op::Unary(UnaryKind::Tanh) => Some(Quant::per_tensor(1.0 / 128.0, 0)),
        _ => None,
    }
}

fn is_linear(op: &Op) -> bool {
    matches!(op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. })
}
