//! Chains and small nets of element-wise operators that are a function of one tensor: `x · sigmoid(x)`, `log(|x| + 0.3)`.
//!
//! The exporter makes one table of such a function if the operators in between have float numbers. It then rounds once, takes
//! one look-up an element, and a threshold inside of it decides on the tensor's own codes.

use offshoot_ir::pointwise::Pointwise;
use offshoot_ir::{Graph, Op};

/// Fewest operators of a function; a single one has a table of its own.
const LEAST: usize = 2;

/// `float`, with the operators of such functions in float32 too.
pub(super) fn joined(graph: &Graph, float: &[bool]) -> Vec<bool> {
    let mut joined = float.to_vec();
    let pointwise = Pointwise::new(graph, |at| !float[at]);
    let computes = |at: &usize| !matches!(graph.nodes[*at].op, Op::Reshape);
    for node in &graph.nodes {
        // What is float32 already is no tensor that a table could read.
        let int8 = |id| graph.producer(id).is_none_or(|at| !float[at]);
        if computes_nothing(&node.op) || !pointwise.root(node.output).is_some_and(int8) {
            continue;
        }
        let nodes = pointwise.nodes(node.output);
        if nodes.iter().filter(|at| computes(at)).count() >= LEAST {
            nodes.into_iter().for_each(|at| joined[at] = true);
        }
    }
    joined
}

fn computes_nothing(op: &Op) -> bool {
    matches!(op, Op::Reshape)
}
