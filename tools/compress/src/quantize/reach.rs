//! The range within which the values of each tensor matter.
//!
//! Masks use numbers far away from all others (-1e9, -1e4, the smallest float, -inf), and so does the padding of a
//! maximum pool. Such a number must not stretch the range of an int8 tensor: it saturates instead. Where the
//! operators that read a tensor cannot distinguish numbers beyond some bound (the exponential of a softmax
//! underflows, a maximum never falls below its least observed value, a clip clips), the tensor need not represent
//! them. The bounds are propagated backwards from the outputs, from the ranges of the calibration samples. They are
//! used only where they make a range finite or less than half as wide; elsewhere the usual ranges are as good.

use offshoot_ir::{
    BinaryKind, BinaryMathKind, Graph, Node, Op, PoolKind, ReduceKind, ScatterKind, UnaryKind, ValueId,
};

use super::margin::{self, Extremes};
use super::tensors::{Batch, map, real_values};

/// All numbers.
const ALL: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);
/// A range must become this many times narrower for the bound to be used.
const WORTH: f32 = 2.0;
/// A row is masked as a whole if its largest element is below this and far below that of other rows: its largest
/// element is then not a score.
const MASKED: f32 = -5e3;

/// Observations of each value during calibration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Smallest and largest element; may be infinite.
    pub(crate) range: Vec<(f32, f32)>,
    /// For values read by a softmax or arg max: the smallest, over all rows except masked ones, of the largest
    /// element of each row along its axis; infinite for other values.
    pub(crate) least_peak: Vec<f32>,
    /// Smallest and largest elements of single samples.
    pub(crate) extremes: Vec<Extremes>,
    /// Whether all elements are whole numbers.
    pub(crate) whole: Vec<bool>,
    /// For values that convolutions and fully connected layers read: the range of each channel; empty for others.
    pub(crate) channels: Vec<Vec<(f32, f32)>>,
}

impl Observed {
    /// Adds a constant, which is not observed.
    pub(crate) fn add_constant(&mut self) {
        self.range.push((0.0, 0.0));
        self.least_peak.push(f32::INFINITY);
        self.extremes.push(Extremes::default());
        self.whole.push(true);
        self.channels.push(Vec::new());
    }
}

/// Bounds by value; `None` where all numbers matter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reach {
    bounds: Vec<Option<(f32, f32)>>,
}

/// The axis along which a reader of `id` looks for the largest element, if there is such a reader.
pub(crate) fn peak_axis(graph: &Graph, id: ValueId) -> Option<usize> {
    graph.nodes.iter().filter(|n| n.inputs.first() == Some(&id)).find_map(|n| match n.op {
        Op::Softmax { axis } | Op::ArgMax { axis, .. } => Some(axis),
        _ => None,
    })
}

/// The least of the rows' largest elements, leaving out rows that are masked as a whole.
pub(crate) fn least_peak(peaks: &[f32]) -> f32 {
    let most = peaks.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let masked = |p: f32| p <= MASKED && most - p > -MASKED;
    peaks.iter().copied().filter(|p| !masked(*p) && p.is_finite()).fold(f32::INFINITY, f32::min)
}

impl Reach {
    /// All numbers matter.
    pub(crate) fn whole(graph: &Graph) -> Self {
        Self { bounds: vec![None; graph.values.len()] }
    }

    /// Computes the bounds for the float network `graph`.
    pub(crate) fn new(graph: &Graph, observed: &Observed) -> Self {
        let mut needed: Vec<Option<(f32, f32)>> = vec![None; graph.values.len()];
        let hull = |a: Option<(f32, f32)>, b: (f32, f32)| {
            Some(a.map_or(b, |a: (f32, f32)| (a.0.min(b.0), a.1.max(b.1))))
        };
        for &id in &graph.outputs {
            needed[id.0 as usize] = Some(ALL);
        }
        for node in graph.nodes.iter().rev() {
            let out = needed[node.output.0 as usize].unwrap_or(ALL);
            for at in 0..node.inputs.len() {
                let id = node.inputs[at];
                let needs = Needs { graph, observed, node, out };
                needed[id.0 as usize] = hull(needed[id.0 as usize], needs.of_input(at));
            }
        }
        let bounds = (0..graph.values.len()).map(|i| {
            let (range, needed) = (observed.range[i], needed[i].unwrap_or(ALL));
            let low = range.0.max(needed.0).min(needed.1);
            let high = range.1.min(needed.1).max(low);
            let worth = |(from, to): (f32, f32)| (range.1 - range.0) >= WORTH * (to - from);
            // Zero is always represented.
            let zero = (low.min(0.0), high.max(0.0));
            let finite = low.is_finite() && high.is_finite();
            let data = graph.values[i].data.is_some();
            // Whole numbers, as of a mask, are exact in their own range, and would vanish in a smaller one.
            let whole = observed.whole.get(i).is_some_and(|whole| *whole);
            let exact = whole && margin::whole(range.0, range.1).is_some();
            (finite && !exact && !data && range.0 < range.1 && worth(zero)).then_some((low, high))
        });
        Self { bounds: bounds.collect() }
    }

    /// The bounds of a value, if numbers beyond them do not matter.
    pub(crate) fn of(&self, id: ValueId) -> Option<(f32, f32)> {
        self.bounds.get(id.0 as usize).copied().flatten()
    }

    /// Clamps a tensor to its bounds.
    pub(crate) fn limit(&self, id: ValueId, batch: &mut Batch) {
        if let Some((low, high)) = self.of(id) {
            map(
                batch,
                #[inline(always)]
                move |v| v.max(low).min(high),
            );
        }
    }

    /// Ranges of values within their bounds.
    pub(crate) fn ranges(&self, observed: &Observed) -> Vec<(f32, f32)> {
        let within = |(&(low, high), bounds): (&(f32, f32), &Option<(f32, f32)>)| match bounds {
            Some((from, to)) => (low.max(*from).min(*to), high.min(*to).max(*from)),
            None => (low, high),
        };
        observed.range.iter().zip(&self.bounds).map(within).collect()
    }
}

/// The input ranges that an operator needs.
struct Needs<'a> {
    graph: &'a Graph,
    observed: &'a Observed,
    node: &'a Node,
    /// The range needed of its output.
    out: (f32, f32),
}

impl Needs<'_> {
    fn range(&self, id: ValueId) -> (f32, f32) {
        let value = self.graph.value(id);
        if value.data.is_none() {
            return self.observed.range[id.0 as usize];
        }
        let ends = |r: (f32, f32), v: f32| (r.0.min(v), r.1.max(v));
        real_values(value).into_iter().fold((f32::INFINITY, f32::NEG_INFINITY), ends)
    }

    /// The needed range of input `at`: numbers beyond a bound are equivalent to the bound.
    fn of_input(&self, at: usize) -> (f32, f32) {
        let node = self.node;
        let mut out = self.out;
        if let Some(activation) = node.op.activation() {
            let (low, high) = activation.bounds();
            out = (out.0.max(low), out.1.min(high));
        }
        let found = self.range(node.output);
        match &node.op {
            Op::Softmax { axis } => {
                let row = self.graph.value(node.inputs[0]).shape.get(*axis).copied().unwrap_or(1);
                // The sum of everything left out is less than a quarter of a step of the output, 1 / 256.
                (self.peak() - (1024.0 * row.max(1) as f32).ln(), f32::INFINITY)
            }
            // A number below the least of the rows' largest is never the largest.
            Op::ArgMax { .. } => (self.peak() - 1.0, f32::INFINITY),
            Op::Pool { kind: PoolKind::Max, .. } | Op::Reduce { kind: ReduceKind::Max, .. } => {
                (out.0.max(found.0), out.1)
            }
            Op::Reduce { kind: ReduceKind::Min, .. } => (out.0, out.1.min(found.1)),
            Op::Binary { kind, .. } => self.of_operand(*kind, at, out, found),
            Op::Unary(kind) => unary(*kind, out, found),
            Op::Resize(rule) if rule.bilinear => ALL,
            // Data and updates, but not indices.
            Op::Scatter { kind: ScatterKind::Set, .. } if at != 1 => out,
            Op::Switch if at + 1 == node.inputs.len() => ALL,
            Op::Reshape
            | Op::Quantize
            | Op::Dequantize
            | Op::Requantize
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Concat { .. }
            | Op::Switch
            | Op::Expand
            | Op::History { .. }
            | Op::Resize(_) => out,
            _ => ALL,
        }
    }

    fn peak(&self) -> f32 {
        let peak = self.observed.least_peak[self.node.inputs[0].0 as usize];
        if peak.is_finite() { peak } else { f32::NEG_INFINITY }
    }

    /// The needed range of operand `at` of arithmetic: beyond it the output lies beyond its own bound, whatever the
    /// other operand.
    fn of_operand(&self, kind: BinaryKind, at: usize, out: (f32, f32), found: (f32, f32)) -> (f32, f32) {
        let other = self.range(self.node.inputs[1 - at.min(1)]);
        let need = match (kind, at) {
            (BinaryKind::Add, _) => (out.0 - other.1, out.1 - other.0),
            (BinaryKind::Sub, 0) => (out.0 + other.0, out.1 + other.1),
            (BinaryKind::Sub, _) => (other.0 - out.1, other.1 - out.0),
            (BinaryKind::Mul, _) if other.0 > 0.0 => (scaled(out.0, other.0), scaled(out.1, other.0)),
            (BinaryKind::Mul, _) if other.1 < 0.0 => (scaled(out.1, other.1), scaled(out.0, other.1)),
            (BinaryKind::Div, 0) if other.0 > 0.0 => {
                (scaled(out.0, 1.0 / other.1), scaled(out.1, 1.0 / other.1))
            }
            // Its zeros are zeros of the output.
            (BinaryKind::Math(BinaryMathKind::Keep), 0) => (out.0.min(0.0), out.1.max(0.0)),
            (BinaryKind::Max, _) => (out.0.max(found.0), out.1),
            (BinaryKind::Min, _) => (out.0, out.1.min(found.1)),
            _ => ALL,
        };
        // Infinity minus infinity gives no bound.
        (if need.0.is_nan() { ALL.0 } else { need.0 }, if need.1.is_nan() { ALL.1 } else { need.1 })
    }
}

/// The operand at which the factor of least magnitude reaches `bound`.
fn scaled(bound: f32, factor: f32) -> f32 {
    let needed = bound / factor;
    if needed.is_nan() { bound.signum() * factor.signum() * f32::INFINITY } else { needed }
}

/// The needed input range of a function of one element, where it is flat to the resolution of int8.
fn unary(kind: UnaryKind, out: (f32, f32), found: (f32, f32)) -> (f32, f32) {
    match kind {
        UnaryKind::Clip { min, max } => (out.0.max(min), out.1.min(max)),
        // Below a quarter of a step the output is zero.
        UnaryKind::Exp if found.1.is_finite() && found.1 > 0.0 => ((found.1 / 1024.0).ln(), f32::INFINITY),
        UnaryKind::Sigmoid => (-10.0, 10.0),
        UnaryKind::Tanh => (-6.0, 6.0),
        UnaryKind::Erf => (-4.0, 4.0),
        UnaryKind::HardSwish => (-3.0, f32::INFINITY),
        UnaryKind::Gelu | UnaryKind::GeluTanh => (-6.0, f32::INFINITY),
        UnaryKind::Elu { .. } | UnaryKind::Softplus => (-12.0, f32::INFINITY),
        UnaryKind::Neg => (-out.1, -out.0),
        _ => ALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::{Activation, DType, Data, Value};

    fn value(graph: &mut Graph, name: &str, shape: &[usize]) -> ValueId {
        graph.add_value(Value {
            name: name.into(),
            shape: shape.to_vec(),
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        })
    }

    fn node(graph: &mut Graph, op: Op, inputs: &[ValueId], output: ValueId) {
        graph.nodes.push(Node {
            name: format!("n{}", graph.nodes.len()),
            op,
            inputs: inputs.to_vec(),
            output,
        });
    }

    fn observed(ranges: &[(f32, f32)]) -> Observed {
        Observed {
            range: ranges.to_vec(),
            least_peak: vec![f32::INFINITY; ranges.len()],
            ..Observed::default()
        }
    }

    #[test]
    fn a_computed_mask_before_a_softmax_saturates() {
        let mut g = Graph::default();
        let [x, m, a, y] = ["x", "m", "a", "y"].map(|n| value(&mut g, n, &[1, 4]));
        let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        node(&mut g, add, &[x, m], a);
        node(&mut g, Op::Softmax { axis: 1 }, &[a], y);
        (g.inputs, g.outputs) = (vec![x, m], vec![y]);
        let mut seen = observed(&[(-3.0, 3.0), (-1e9, 0.0), (-1e9, 3.0), (0.0, 1.0)]);
        seen.least_peak[a.0 as usize] = 0.5;
        let reach = Reach::new(&g, &seen);
        let floor = 0.5 - 4096f32.ln();
        assert_eq!(reach.of(a), Some((floor, 3.0)));
        assert_eq!(reach.of(m), Some((floor - 3.0, 0.0)));
        assert_eq!((reach.of(x), reach.of(y)), (None, None));
    }

    /// An input of zeros and ones that a large number makes a mask of.
    #[test]
    fn whole_numbers_of_a_mask_keep_their_range() {
        let mut g = Graph::default();
        let [x, m, b, a, y] = ["x", "m", "b", "a", "y"].map(|n| value(&mut g, n, &[1, 4]));
        let k = g.add_constant("k".to_owned(), vec![1, 4], Data::F32(vec![-1e9; 4]));
        let op = |kind| Op::Binary { kind, activation: Activation::None };
        node(&mut g, op(BinaryKind::Mul), &[m, k], b);
        node(&mut g, op(BinaryKind::Add), &[x, b], a);
        node(&mut g, Op::Softmax { axis: 1 }, &[a], y);
        (g.inputs, g.outputs) = (vec![x, m], vec![y]);
        let ranges = [(-3.0, 3.0), (0.0, 1.0), (-1e9, 0.0), (-1e9, 3.0), (0.0, 1.0), (-1e9, -1e9)];
        let mut seen = observed(&ranges);
        seen.least_peak[a.0 as usize] = 0.5;
        assert!(Reach::new(&g, &seen).of(m).is_some());
        seen.whole = vec![false, true, true, false, false, true];
        let reach = Reach::new(&g, &seen);
        assert_eq!(reach.of(m), None);
        assert!(reach.of(b).is_some(), "a range too wide for int8 saturates all the same");
    }

    #[test]
    fn what_pads_a_maximum_pool_saturates() {
        let mut g = Graph::default();
        let [x, p, y] = ["x", "p", "y"].map(|n| value(&mut g, n, &[1, 4, 4, 1]));
        let pad = Op::Pad { before: vec![0; 4], after: vec![0; 4], mode: None, value: f32::NEG_INFINITY };
        node(&mut g, pad, &[x], p);
        node(&mut g, Op::Reduce { kind: ReduceKind::Max, axes: vec![1] }, &[p], y);
        (g.inputs, g.outputs) = (vec![x], vec![y]);
        let reach = Reach::new(&g, &observed(&[(0.0, 4.0), (f32::NEG_INFINITY, 4.0), (1.0, 4.0)]));
        assert_eq!(reach.of(p), Some((1.0, 4.0)));
        // The graph's output exposes every number of a tensor: nothing saturates.
        g.outputs = vec![p, y];
        let reach = Reach::new(&g, &observed(&[(0.0, 4.0), (f32::NEG_INFINITY, 4.0), (1.0, 4.0)]));
        assert_eq!(reach.of(p), None);
    }

    #[test]
    fn usual_ranges_stay() {
        let mut g = Graph::default();
        let [x, y] = ["x", "y"].map(|n| value(&mut g, n, &[1, 4]));
        node(&mut g, Op::Softmax { axis: 1 }, &[x], y);
        (g.inputs, g.outputs) = (vec![x], vec![y]);
        let mut seen = observed(&[(-9.0, 5.0), (0.0, 1.0)]);
        seen.least_peak[0] = 1.0;
        assert_eq!(Reach::new(&g, &seen), Reach::whole(&g));
    }

    #[test]
    fn masked_rows_have_no_score() {
        assert_eq!(least_peak(&[2.0, -1e9, 0.5]), 0.5);
        assert_eq!(least_peak(&[-400.0, 300.0]), -400.0);
        assert_eq!(least_peak(&[f32::NEG_INFINITY, 1.0]), 1.0);
    }

    #[test]
    fn factors_and_differences_pass_bounds_on() {
        let mut g = Graph::default();
        let [m, s, d, y] = ["m", "s", "d", "y"].map(|n| value(&mut g, n, &[1, 4]));
        let c = g.add_constant("c", vec![], Data::F32(vec![2.0]));
        let op = |kind| Op::Binary { kind, activation: Activation::None };
        node(&mut g, op(BinaryKind::Mul), &[m, c], s);
        node(&mut g, op(BinaryKind::Sub), &[d, s], y);
        let z = value(&mut g, "z", &[1, 4]);
        node(&mut g, Op::Unary(UnaryKind::Clip { min: -8.0, max: 8.0 }), &[y], z);
        (g.inputs, g.outputs) = (vec![m, d], vec![z]);
        let mut ranges = vec![(0.0, 0.0); g.values.len()];
        for (id, range) in
            [(m, (0.0, 1e6)), (s, (0.0, 2e6)), (d, (-1.0, 1.0)), (y, (-2e6, 1.0)), (z, (-8.0, 1.0))]
        {
            ranges[id.0 as usize] = range;
        }
        let reach = Reach::new(&g, &observed(&ranges));
        // 1 - s is -8 or less from s = 9 on, and s = 2 m.
        assert_eq!(reach.of(s), Some((0.0, 9.0)));
        assert_eq!(reach.of(m), Some((0.0, 4.5)));
    }
}
