//! Makes recurrent layers return only what is read: a slice of the last step becomes the final state, and where both
//! final state and memory are needed one layer returns both.

use super::edit::{self, Index};
use super::transpose::moves_only_units;
use crate::{Graph, Node, Op, RecurrentKind, Result, Returns, ValueId};

/// Runs the pass; see the module documentation.
///
/// # Errors
/// None; all passes share this signature.
pub(super) fn run(graph: Graph) -> Result<Graph> {
    Ok(edit::repeat(graph, |g| {
        let index = Index::new(g);
        (0..g.nodes.len()).any(|at| last_of_sequence(g, &index, at) || last_of_state(g, &index, at))
    }))
}

/// Replaces the `Slice` of the step that a layer computes last, if nothing else reads the sequence. Movements in
/// between that keep the order of elements are removed with it.
fn last_of_sequence(g: &mut Graph, index: &Index, at: usize) -> bool {
    let Op::Slice { start, step } = &g.nodes[at].op else { return false };
    let (mut states, out) = (g.nodes[at].inputs[0], g.nodes[at].output);
    let sliced = g.value(states).shape.clone();
    let layer = loop {
        let Some(producer) = index.producer(states).filter(|_| index.used_once(states)) else { return false };
        let node = &g.nodes[producer];
        match &node.op {
            Op::Recurrent { .. } => break producer,
            Op::Reshape => {}
            Op::Transpose { perm } if moves_only_units(&g.value(node.inputs[0]).shape, perm) => {}
            _ => return false,
        }
        states = node.inputs[0];
    };
    let Op::Recurrent { kind, returns: Returns::Sequence, reverse } = g.nodes[layer].op else {
        return false;
    };
    let [n, t, h] = g.value(states).shape[..] else { return false };
    // With one sample a step is a contiguous run of elements; with several, only the plain form is recognised.
    let last = if reverse { 0 } else { t - 1 };
    let shape = &g.value(out).shape;
    let plain = sliced == [n, t, h] && *shape == [n, 1, h] && *start == [0, last, 0];
    let strides = edit::strides(&sliced);
    let first: usize = start.iter().zip(&strides).map(|(s, stride)| s * stride).sum();
    let long: Vec<usize> = (0..shape.len()).filter(|&i| shape[i] != 1).collect();
    let run = match long[..] {
        [] => h == 1,
        [axis] => shape[axis] == h && strides[axis] == 1 && step[axis] == 1,
        _ => false,
    };
    if !(plain || n == 1 && run && first == last * h) {
        return false;
    }
    g.value_mut(states).shape = vec![n, h];
    g.nodes[layer].op = Op::Recurrent { kind, returns: Returns::Last, reverse };
    g.nodes[at].op = Op::Reshape;
    g.nodes[at].inputs = vec![states];
    true
}

/// Merges a layer that returns its last state with an identical one that returns state and memory.
fn last_of_state(g: &mut Graph, index: &Index, at: usize) -> bool {
    let Op::Recurrent { kind: RecurrentKind::Lstm, returns: Returns::Last, reverse } = g.nodes[at].op else {
        return false;
    };
    let both = Op::Recurrent { kind: RecurrentKind::Lstm, returns: Returns::State, reverse };
    let own = g.nodes[at].clone();
    let twin = g.nodes.iter().position(|n| n.op == both && n.inputs == own.inputs);
    let Some(twin) = twin.filter(|_| !index.is_output(own.output)) else { return false };
    // The slice takes the layer's position; the layer that returns both moves before it.
    let state: ValueId = g.nodes[twin].output;
    let slice = Op::Slice { start: vec![0, 0], step: vec![1, 1] };
    g.nodes[at] = Node { op: slice, inputs: vec![state], ..own };
    if twin > at {
        let node = g.nodes.remove(twin);
        g.nodes.insert(at, node);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, names};
    use super::*;

    fn operands(b: &mut Build, kind: RecurrentKind) -> Vec<ValueId> {
        let x = b.input(&[1, 5, 2]);
        let (rows, biases) = (kind.gates() * 3, kind.biases() * 3);
        vec![x, b.ramp(&[rows, 2]), b.ramp(&[rows, 3]), b.ramp(&[biases])]
    }

    #[test]
    fn the_last_step_alone_is_no_sequence() {
        for (reverse, from) in [(false, 4), (true, 0), (false, 3)] {
            let mut b = Build::default();
            let own = operands(&mut b, RecurrentKind::Gru);
            let op = Op::Recurrent { kind: RecurrentKind::Gru, returns: Returns::Sequence, reverse };
            let y = b.node(op, &own, &[1, 5, 3]);
            let slice = Op::Slice { start: vec![0, from, 0], step: vec![1; 3] };
            let y = b.node(slice, &[y], &[1, 1, 3]);
            let g = run(b.finish(&[y])).expect("runs");
            let second = if from == 3 { "slice" } else { "reshape" };
            assert_eq!(names(&g), ["recurrent", second]);
        }
    }

    #[test]
    fn state_and_memory_are_computed_once() {
        let mut b = Build::default();
        let own = operands(&mut b, RecurrentKind::Lstm);
        let op = |returns| Op::Recurrent { kind: RecurrentKind::Lstm, returns, reverse: false };
        let last = b.node(op(Returns::Last), &own, &[1, 3]);
        let h = b.node(Op::Reshape, &[last], &[3]);
        let both = b.node(op(Returns::State), &own, &[1, 6]);
        let memory = b.node(Op::Slice { start: vec![0, 3], step: vec![1; 2] }, &[both], &[1, 3]);
        let g = run(b.finish(&[h, memory])).expect("runs");
        assert_eq!(names(&g), ["recurrent", "slice", "reshape", "slice"]);
    }
}
