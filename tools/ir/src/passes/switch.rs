//! Makes switches of selections that compute everything: experts that are stacked and gathered by one index, weights that are
//! gathered by one index, and a sum of two tensors that a truth value and its inverse multiply. Only the chosen branch of a switch
//! runs on a device, so this is done where a branch has a layer of its own.

use super::edit::{self, Index};
use super::transpose::permute_constant;
use crate::{Activation, BinaryKind, DType, Data, Graph, Indexing, Node, Op, Result, UnaryKind, ValueId};

/// Most branches of a switch between weights: a longer table is an embedding rather than experts.
const MOST_EXPERTS: usize = 64;

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    let chooses = |node: &Node| match node.op {
        Op::Gather(_) => true,
        Op::Binary { kind, .. } => kind == BinaryKind::Add,
        _ => false,
    };
    if !graph.nodes.iter().any(chooses) {
        return Ok(graph);
    }
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| {
            stacked(g, &index, at) || weights(g, &index, at) || joined(g, &index, at) || truth(g, &index, at)
        })
    }))
}

/// An index of one element, before it was reshaped or expanded.
fn single(g: &Graph, index: &Index, mut id: ValueId) -> Option<ValueId> {
    while let Some(node) = index.producer(id).map(|at| &g.nodes[at])
        && matches!(node.op, Op::Reshape | Op::Expand)
    {
        id = node.inputs[0];
    }
    let value = g.value(id);
    (value.dtype == DType::I32 && value.len() == 1).then_some(id)
}

/// What one index chooses: the tensor, the axis, and the index.
fn chosen(g: &Graph, index: &Index, node: &Node) -> Option<(ValueId, usize, ValueId)> {
    let Op::Gather(indexing) = node.op else { return None };
    let x = *node.inputs.first()?;
    let at = *node.inputs.get(1)?;
    let shape = &g.value(x).shape;
    let axis = match indexing {
        Indexing::Slices { axis } => axis,
        Indexing::Tuples { batch: 0 } if g.value(at).len() == 1 => 0,
        Indexing::Elements { axis } => {
            // Every element has the same index along the axis.
            let mut one = shape.clone();
            *one.get_mut(axis)? = 1;
            Some(axis).filter(|_| g.value(at).shape == one)?
        }
        Indexing::Tuples { .. } => return None,
    };
    let one = single(g, index, at)?;
    // Slices: a longer index would give several.
    let rows = g.value(node.output).len() * shape.get(axis)? == g.value(x).len();
    rows.then_some((x, axis, one))
}

/// Whether the value has a layer that nothing else needs.
fn has_layer(g: &Graph, index: &Index, id: ValueId) -> bool {
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        let Some(node) = index.producer(id).filter(|_| index.used_once(id)).map(|at| &g.nodes[at]) else {
            continue;
        };
        let constant = |id: &ValueId| g.value(*id).data.is_some();
        match node.op {
            Op::Conv2d { .. }
            | Op::ConvTranspose2d { .. }
            | Op::FullyConnected { .. }
            | Op::MatMul { .. }
            | Op::Recurrent { .. } => return true,
            _ => open.extend(node.inputs.iter().filter(|id| !constant(id))),
        }
    }
    false
}

/// A gather of one part of a stack to a switch between the parts.
fn stacked(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    let Some((x, axis, one)) = chosen(g, index, &node) else { return false };
    let Some(stack) = index.producer(x).filter(|_| index.used_once(x)).map(|at| g.nodes[at].clone()) else {
        return false;
    };
    let parts = &stack.inputs;
    let alone = |id: &ValueId| g.value(*id).shape.get(axis) == Some(&1);
    let is_stack = stack.op == Op::Concat { axis } && parts.iter().all(alone);
    if !is_stack || !parts.iter().any(|id| has_layer(g, index, *id)) {
        return false;
    }
    let shape = g.value(parts[0]).shape.clone();
    let inputs = parts.iter().copied().chain([one]).collect();
    let switch = edit::insert(g, at, Op::Switch, inputs, shape, x);
    g.nodes[at].name.clone_from(&node.name);
    g.nodes[at + 1] = Node { op: Op::Reshape, inputs: vec![switch], ..node };
    true
}

/// A constant for each value of an index, reshaped and transposed.
struct Table {
    constants: Vec<ValueId>,
    index: ValueId,
}

/// The table that the value comes from, if one index chooses it; its constants are added to the graph.
fn table(g: &mut Graph, index: &Index, id: ValueId) -> Option<Table> {
    let mut moves: Vec<Node> = Vec::new();
    let mut from = id;
    let gather = loop {
        let node = g.nodes[index.producer(from)?].clone();
        match node.op {
            Op::Reshape | Op::Transpose { .. } => {
                from = node.inputs[0];
                moves.push(node);
            }
            Op::Gather(_) => break node,
            _ => return None,
        }
    };
    let (x, axis, one) = chosen(g, index, &gather)?;
    let (shape, name) = (g.value(x).shape.clone(), g.value(x).name.clone());
    edit::floats(g, x)?;
    let data = g.value(x).data.clone()?;
    let count = shape[axis];
    if count > MOST_EXPERTS {
        return None;
    }
    let strides = edit::strides(&shape);
    let mut rest = shape.clone();
    rest[axis] = 1;
    let steps: Vec<isize> = strides.iter().map(|&s| s as isize).collect();
    let mut constants = Vec::new();
    for i in 0..count {
        let offsets = edit::offsets(&rest, &steps, (i * strides[axis]) as isize);
        let own: Data = edit::gather(&data, &offsets);
        let own_shape = g.value(gather.output).shape.clone();
        let mut constant = edit::constant(g, &name, own_shape, own, None);
        for node in moves.iter().rev() {
            match &node.op {
                Op::Transpose { perm } => constant = permute_constant(g, constant, perm)?,
                _ => g.value_mut(constant).shape = g.value(node.output).shape.clone(),
            }
        }
        constants.push(constant);
    }
    Some(Table { constants, index: one })
}

/// Replaces node `at` by a switch between one such node for each branch, with the inputs that `inputs` gives.
fn spread(g: &mut Graph, at: usize, branches: Vec<Vec<ValueId>>, index: ValueId) {
    let node = g.nodes[at].clone();
    let shape = g.value(node.output).shape.clone();
    let mut made = Vec::new();
    for (i, inputs) in branches.into_iter().enumerate() {
        made.push(edit::insert(g, at + i, node.op.clone(), inputs, shape.clone(), node.output));
        g.nodes[at + i].name = format!("{}/{i}", node.name);
    }
    let last = at + made.len();
    made.push(index);
    g.nodes[last] = Node { op: Op::Switch, inputs: made, ..node };
}

/// A product with a gathered matrix to a switch between products with constant ones.
fn weights(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    if !matches!(node.op, Op::MatMul { .. }) || node.inputs.len() != 2 {
        return false;
    }
    for side in [1, 0] {
        let (own, other) = (node.inputs[side], node.inputs[1 - side]);
        let matrix = matches!(g.value(own).shape[..], [.., r, c] if r > 1 && c > 1);
        if !matrix || g.value(other).data.is_some() {
            continue;
        }
        let Some(found) = table(g, index, own) else { continue };
        let with =
            |constant: &ValueId| if side == 1 { vec![other, *constant] } else { vec![*constant, other] };
        let branches = found.constants.iter().map(with).collect();
        spread(g, at, branches, found.index);
        return true;
    }
    false
}

/// An operator on a switch and a table with the same index, such as a bias, moves into the branches.
fn joined(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    if !matches!(node.op, Op::Binary { .. }) {
        return false;
    }
    for side in [0, 1] {
        let (own, other) = (node.inputs[side], node.inputs[1 - side]);
        let switch = index.producer(own).filter(|_| index.used_once(own)).map(|at| g.nodes[at].clone());
        let Some(switch) = switch.filter(|switch| switch.op == Op::Switch) else { continue };
        let Some((&chooses, parts)) = switch.inputs.split_last() else { continue };
        let Some(found) = table(g, index, other) else { continue };
        if single(g, index, chooses) != Some(found.index) || parts.len() != found.constants.len() {
            continue;
        }
        let with = |(part, constant): (&ValueId, &ValueId)| match side {
            0 => vec![*part, *constant],
            _ => vec![*constant, *part],
        };
        let branches = parts.iter().zip(&found.constants).map(with).collect();
        spread(g, at, branches, found.index);
        return true;
    }
    false
}

/// `a·c + b·(1 - c)` with a truth value c to a switch between b and a.
fn truth(g: &mut Graph, index: &Index, at: usize) -> bool {
    let node = g.nodes[at].clone();
    if node.op != (Op::Binary { kind: BinaryKind::Add, activation: Activation::None }) {
        return false;
    }
    let shape = g.value(node.output).shape.clone();
    // A tensor of the output's shape, and the value of one element that multiplies it.
    let product = |id: ValueId| {
        let product = g.nodes.get(index.producer(id).filter(|_| index.used_once(id))?)?;
        let multiplies = match product.op {
            Op::Binary { kind, activation: Activation::None } => kind == BinaryKind::Mul || is_keep(kind),
            _ => false,
        };
        let [a, b] = product.inputs[..] else { return None };
        let fits = |x: ValueId, c: ValueId| g.value(x).shape == shape && g.value(c).len() == 1;
        let swaps = matches!(product.op, Op::Binary { kind: BinaryKind::Mul, .. });
        if !multiplies {
            None
        } else if fits(a, b) {
            Some((a, b))
        } else {
            (swaps && fits(b, a)).then_some((b, a))
        }
    };
    let [left, right] = node.inputs[..] else { return false };
    let (Some((a, c)), Some((b, inverse))) = (product(left), product(right)) else { return false };
    let not = Op::Unary(UnaryKind::HardSigmoid { alpha: -1.0, beta: 1.0 });
    let inverts = |y: ValueId, x: ValueId| {
        index.producer(y).is_some_and(|at| g.nodes[at].op == not && g.nodes[at].inputs == [x])
    };
    let (yes, no, condition) = match () {
        () if inverts(inverse, c) => (a, b, c),
        () if inverts(c, inverse) => (b, a, inverse),
        () => return false,
    };
    let float = |id: ValueId| g.value(id).dtype == DType::F32;
    let layers = has_layer(g, index, yes) || has_layer(g, index, no);
    if !layers || ![yes, no, condition].into_iter().all(float) || !is_truth(g, index, condition) {
        return false;
    }
    // A conversion cuts off the fraction, and in int8 the number for true may be a little less than 1.
    let more = edit::constant_f32(g, "more", vec![1], vec![1.5]);
    let one = g.value(condition).shape.clone();
    let one = if one.is_empty() { vec![1] } else { one };
    let multiply = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
    let above = edit::insert(g, at, multiply, vec![condition, more], one.clone(), condition);
    let chooses = edit::insert(g, at + 1, Op::Cast, vec![above], one, above);
    g.value_mut(chooses).dtype = DType::I32;
    g.nodes[at + 2] = Node { op: Op::Switch, inputs: vec![no, yes, chooses], ..node };
    true
}

fn is_keep(kind: BinaryKind) -> bool {
    kind == BinaryKind::Math(crate::BinaryMathKind::Keep)
}

/// Whether the value is 0 or 1: a step, or moves or products of truth values.
fn is_truth(g: &Graph, index: &Index, id: ValueId) -> bool {
    let Some(node) = index.producer(id).map(|at| &g.nodes[at]) else { return false };
    match node.op {
        Op::Unary(UnaryKind::HardSigmoid { alpha, .. }) if alpha.abs() == f32::MAX => true,
        Op::Unary(UnaryKind::HardSigmoid { alpha, beta }) if (alpha, beta) == (-1.0, 1.0) => {
            is_truth(g, index, node.inputs[0])
        }
        Op::Binary { kind: BinaryKind::Math(crate::BinaryMathKind::Equal), .. } => true,
        Op::Binary { kind: BinaryKind::Mul | BinaryKind::Max, .. } => {
            node.inputs.iter().all(|&id| is_truth(g, index, id))
        }
        Op::Reshape | Op::Transpose { .. } => is_truth(g, index, node.inputs[0]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    fn index(b: &mut Build, scores: ValueId) -> ValueId {
        let at = b.node(Op::ArgMax { axis: 1, select_last: false }, &[scores], &[1]);
        b.0.value_mut(at).dtype = DType::I32;
        at
    }

    fn layer(b: &mut Build, x: ValueId) -> ValueId {
        let w = b.ramp(&[3, 4]);
        b.node(Op::FullyConnected { activation: Activation::None }, &[x, w], &[1, 3])
    }

    #[test]
    fn stacked_experts_become_branches() {
        for with_layers in [true, false] {
            let mut b = Build::default();
            let x = b.input(&[1, 4]);
            let at = index(&mut b, x);
            let parts: Vec<ValueId> = (0..3)
                .map(|_| {
                    let y = if with_layers {
                        layer(&mut b, x)
                    } else {
                        b.node(Op::Unary(UnaryKind::Tanh), &[x], &[1, 4])
                    };
                    let n = b.0.value(y).len();
                    b.node(Op::Reshape, &[y], &[1, 1, n])
                })
                .collect();
            let n = b.0.value(parts[0]).len();
            let stack = b.node(Op::Concat { axis: 0 }, &parts, &[3, 1, n]);
            let y = b.node(Op::Gather(Indexing::Slices { axis: 0 }), &[stack, at], &[1, 1, n]);
            let g = run(b.finish(&[y])).expect("runs");
            assert_eq!(names(&g).contains(&"switch"), with_layers);
            assert_eq!(names(&g).contains(&"concat"), !with_layers);
        }
    }

    #[test]
    fn gathered_weights_become_branches_with_their_bias() {
        let mut b = Build::default();
        let x = b.input(&[1, 4]);
        let at = index(&mut b, x);
        let (table, biases) = (b.ramp(&[5, 4, 3]), b.ramp(&[5, 3]));
        let w = b.node(Op::Gather(Indexing::Slices { axis: 0 }), &[table, at], &[1, 4, 3]);
        let w = b.node(Op::Reshape, &[w], &[4, 3]);
        let bias = b.node(Op::Gather(Indexing::Slices { axis: 0 }), &[biases, at], &[1, 3]);
        let y = b.node(Op::MatMul { transpose_b: false }, &[x, w], &[1, 3]);
        let y =
            b.node(Op::Binary { kind: BinaryKind::Add, activation: Activation::None }, &[y, bias], &[1, 3]);
        let g = run(b.finish(&[y])).expect("runs");
        let names = names(&g);
        assert_eq!(names.iter().filter(|n| **n == "matmul").count(), 5);
        assert_eq!(names.iter().filter(|n| **n == "add").count(), 5);
        assert_eq!(names.iter().filter(|n| **n == "switch").count(), 1);
        // The second expert's weights.
        let second = g.nodes.iter().filter(|n| matches!(n.op, Op::MatMul { .. })).nth(1).expect("five");
        assert_eq!(edit::floats(&g, second.inputs[1]).map(|w| w[0]), Some(12.5));
    }

    #[test]
    fn an_embedding_stays_a_table() {
        let mut b = Build::default();
        let x = b.input(&[1, 4]);
        let at = index(&mut b, x);
        let (table, w) = (b.ramp(&[8, 4]), b.ramp(&[4, 3]));
        let row = b.node(Op::Gather(Indexing::Slices { axis: 0 }), &[table, at], &[1, 4]);
        let y = b.node(Op::MatMul { transpose_b: false }, &[row, w], &[1, 3]);
        let g = run(b.finish(&[y])).expect("runs");
        assert!(!names(&g).contains(&"switch"));
    }

    #[test]
    fn a_truth_value_chooses_between_layers() {
        let mut b = Build::default();
        let x = b.input(&[1, 4]);
        let most = b.node(Op::Reduce { kind: crate::ReduceKind::Max, axes: vec![1] }, &[x], &[1, 1]);
        let step = UnaryKind::HardSigmoid { alpha: f32::MAX, beta: 0.0 };
        let c = b.node(Op::Unary(step), &[most], &[1, 1]);
        let not = b.node(Op::Unary(UnaryKind::HardSigmoid { alpha: -1.0, beta: 1.0 }), &[c], &[1, 1]);
        let (p, q) = (layer(&mut b, x), layer(&mut b, x));
        let op = |kind| Op::Binary { kind, activation: Activation::None };
        let p = b.node(op(BinaryKind::Mul), &[p, c], &[1, 3]);
        let q = b.node(op(BinaryKind::Mul), &[q, not], &[1, 3]);
        let y = b.node(op(BinaryKind::Add), &[p, q], &[1, 3]);
        let g = run(b.finish(&[y])).expect("runs");
        assert!(names(&g).contains(&"switch") && !names(&g).contains(&"add"));
    }
}
