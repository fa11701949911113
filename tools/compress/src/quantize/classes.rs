//! Which tensors must have the same scale and zero point.
//!
//! TFLite's specification requires it for operators that only move or select elements. Tensors with the same scale
//! and zero point form a class (union-find); each class gets one range. Where operators join several tensors (Concat,
//! Min, Max), a tensor stays in a class of its own, and is requantised on the way in, if its scale is fixed (Softmax,
//! Sigmoid, Tanh) or if it has other readers that would lose accuracy from the coarser grid of the joined range.

use offshoot_ir::{
    BinaryKind, DType, Graph, Node, Op, PoolKind, Quant, ReduceKind, ScatterKind, UnaryKind, ValueId,
};

use offshoot_ir::grid;

use super::recurrent;

/// Factor by which a joined range may be wider than a tensor's own before the tensor keeps its own: one bit.
const TOLERATED_RATIO: f32 = 2.0;

/// Classes of a graph's values.
pub(crate) struct Classes {
    parent: Vec<u32>,
    /// Whether each node stays float.
    float: Vec<bool>,
    /// Scale and zero point that the specification fixes for the output of each node.
    fixed: Vec<Option<Quant>>,
}

impl Classes {
    /// Whether node `i` stays float.
    pub(crate) fn is_float(&self, i: usize) -> bool {
        self.float.get(i).copied().unwrap_or(false)
    }

    /// The scale and zero point that the specification fixes for the output of node `i`.
    pub(crate) fn fixed(&self, i: usize) -> Option<&Quant> {
        self.fixed.get(i)?.as_ref()
    }

    /// Classes of `graph`; `float[i]`: node i is not quantised. `ranges`: (minimum, maximum) of each value
    /// over the calibration data. `own`: an output whose range is a small part of the one that the specification fixes has a
    /// scale of its own, where the device can do that.
    pub(crate) fn new(graph: &Graph, float: &[bool], ranges: &[(f32, f32)], own: bool) -> Self {
        let of_node =
            |node: &Node| fixed_quant(node).filter(|quant| !(own && is_narrow(node, quant, ranges)));
        let mut classes = Self {
            parent: (0..graph.values.len() as u32).collect(),
            float: float.to_vec(),
            fixed: graph.nodes.iter().map(of_node).collect(),
        };
        let mut fixed: Vec<bool> = vec![false; graph.values.len()];
        for (i, (node, _)) in graph.nodes.iter().zip(float).enumerate().filter(|(_, (_, float))| !**float) {
            let out = node.output.0 as usize;
            if classes.fixed(i).is_some() {
                fixed[out] = true;
            }
            // A given initial state has the scale of the states that follow, and widens their range.
            if let Some(id) = recurrent::given_state(graph, node) {
                classes.join(id, node.output, &mut fixed);
            }
            match shared(node) {
                Sharing::None => {}
                Sharing::One if is_sparse_mean(node, ranges) => {}
                Sharing::One => {
                    fixed[out] |= fixed[classes.find(node.inputs[0]) as usize];
                    classes.join(node.inputs[0], node.output, &mut fixed);
                }
                Sharing::Many => {
                    for &id in &node.inputs {
                        let value = graph.value(id);
                        if value.data.is_some()
                            || value.dtype != DType::F32
                            || fixed[classes.find(id) as usize]
                        {
                            continue;
                        }
                        let alone = graph.consumers(id).len() == 1 && !graph.outputs.contains(&id);
                        let width = |id: ValueId| {
                            let (low, high) = ranges[id.0 as usize];
                            high.max(0.0) - low.min(0.0)
                        };
                        if alone || width(node.output) <= TOLERATED_RATIO * width(id) {
                            classes.join(id, node.output, &mut fixed);
                        }
                    }
                }
            }
        }
        classes
    }

    /// Representative of the class of `id`: an index into the values.
    pub(crate) fn find(&self, id: ValueId) -> u32 {
        let mut i = id.0;
        while self.parent[i as usize] != i {
            i = self.parent[i as usize];
        }
        i
    }

    fn join(&mut self, a: ValueId, b: ValueId, fixed: &mut [bool]) {
        let (a, b) = (self.find(a), self.find(b));
        let any = fixed[a as usize] || fixed[b as usize];
        self.parent[a.max(b) as usize] = a.min(b);
        fixed[a.min(b) as usize] = any;
    }
}

/// Whether the output of a function takes less than half of the codes that the specification's scale gives it. Its table can
/// have any scale.
fn is_narrow(node: &Node, quant: &Quant, ranges: &[(f32, f32)]) -> bool {
    const SHARE: f32 = 0.5;
    let Op::Unary(_) = node.op else { return false };
    let (low, high) = ranges[node.output.0 as usize];
    let (least, most) = grid::bounds(quant);
    low < high && low.min(0.0) >= SHARE * least && high <= SHARE * most
}

/// Whether the output range of an average pool is so much narrower than its input's that it needs a scale of its own:
/// with the input's scale it would lose two bits or more.
pub(crate) fn is_sparse_mean(node: &Node, ranges: &[(f32, f32)]) -> bool {
    const NARROWER: f32 = 4.0;
    let width = |id: ValueId| {
        let (low, high) = ranges[id.0 as usize];
        high.max(0.0) - low.min(0.0)
    };
    let one_count = match node.op {
        Op::Pool { kind: PoolKind::Average, window, .. } => window.pad == [0; 4],
        Op::Pool { kind: PoolKind::AverageIncludePad, .. } => true,
        _ => false,
    };
    one_count && width(node.inputs[0]) >= NARROWER * width(node.output)
}

/// Which inputs share scale and zero point with the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// None.
    None,
    /// The first.
    One,
    /// All.
    Many,
}

/// Sharing that an operator requires.
pub(crate) fn shared(node: &Node) -> Sharing {
    match &node.op {
        Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Pad { .. }
        | Op::Pool { .. }
        | Op::Resize(_)
        | Op::Expand
        | Op::Gather(_)
        | Op::History { .. }
        | Op::Reduce { kind: ReduceKind::Max | ReduceKind::Min, .. } => Sharing::One,
        Op::Concat { .. }
        | Op::Switch
        | Op::Scatter { kind: ScatterKind::Set | ScatterKind::Max | ScatterKind::Min, .. }
        | Op::Binary { kind: BinaryKind::Min | BinaryKind::Max, .. } => Sharing::Many,
        _ => Sharing::None,
    }
}

/// Scale and zero point that the specification fixes for an operator's output.
fn fixed_quant(node: &Node) -> Option<Quant> {
    match &node.op {
        Op::Recurrent { .. } => recurrent::fixed_quant(node),
        Op::Softmax { .. } | Op::Unary(UnaryKind::Sigmoid) => Some(Quant::per_tensor(1.0 / 256.0, -128)),
        Op::Unary(UnaryKind::Tanh) => Some(Quant::per_tensor(1.0 / 128.0, 0)),
        _ => None,
    }
}

/// Whether a value is a floating-point activation, and so is to be quantised.
pub(crate) fn is_activation(graph: &Graph, id: ValueId) -> bool {
    let value = graph.value(id);
    value.data.is_none() && value.dtype == DType::F32
}
