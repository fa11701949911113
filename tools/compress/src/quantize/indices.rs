//! Arithmetic on indices and conversions to them, which stay float32: int8 would round them to other elements.

use offshoot_ir::{DType, Graph, Node, Op};

/// For each node, whether it converts integers, or computes integers from integers and constants alone and an index
/// depends on them.
pub(crate) fn arithmetic(graph: &Graph) -> Vec<bool> {
    let mut whole = vec![false; graph.values.len()];
    for node in &graph.nodes {
        whole[node.output.0 as usize] = stays_whole(graph, node, &whole);
    }
    let mut needed = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let out = node.output.0 as usize;
        let to_integer = matches!(node.op, Op::Cast) && graph.value(node.output).dtype == DType::I32;
        if to_integer || (whole[out] && needed[out]) {
            node.inputs.iter().for_each(|id| needed[id.0 as usize] = true);
        }
    }
    let exact = |node: &Node| {
        let out = node.output.0 as usize;
        matches!(node.op, Op::Cast) || (whole[out] && needed[out])
    };
    graph.nodes.iter().map(exact).collect()
}

fn stays_whole(graph: &Graph, node: &Node, whole: &[bool]) -> bool {
    if graph.value(node.output).dtype != DType::F32 {
        return false;
    }
    let fits = |id: &offshoot_ir::ValueId| graph.value(*id).data.is_some() || whole[id.0 as usize];
    match node.op {
        Op::Cast => true,
        Op::Gather(_) => fits(&node.inputs[0]),
        Op::Binary { .. }
        | Op::Unary(_)
        | Op::Reshape
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Expand
        | Op::Concat { .. }
        | Op::Pad { .. }
        | Op::Reduce { .. } => node.inputs.iter().all(fits),
        _ => false,
    }
}
