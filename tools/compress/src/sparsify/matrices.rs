//! The weight matrices of a graph.

use offshoot_ir::{Data, Graph, Op, ValueId};

/// A constant by which an operator multiplies its input: rows are output channels, columns the inputs of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The constant.
    pub id: ValueId,
    /// Its name.
    pub name: String,
    /// Output channels.
    pub rows: usize,
    /// Inputs of one output channel; for a convolution the window, row by row, channels last.
    pub columns: usize,
    /// Whether the last weighted operator reads it.
    pub last: bool,
}

impl Matrix {
    /// Number of weights.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Whether the parameters of an operator are matrices with output channels along their first axis that sparse kernels
/// can take. Grouped convolutions (depthwise ones have next to nothing to prune) and operators that only scale do not
/// count.
fn multiplies(op: &Op) -> bool {
    match op {
        Op::Conv2d { groups, .. } => *groups == 1,
        Op::ConvTranspose2d { .. }
        | Op::MatMul { .. }
        | Op::Binary { .. }
        | Op::PRelu
        | Op::BatchNorm { .. }
        | Op::LayerNorm { .. } => false,
        // All other operators with float constants of two or more axes multiply by them.
        _ => true,
    }
}

/// All weight matrices, in the order of the graph.
pub fn matrices(graph: &Graph) -> Vec<Matrix> {
    let mut found: Vec<Matrix> = Vec::new();
    for node in graph.nodes.iter().filter(|n| multiplies(&n.op)) {
        let before = found.len();
        for &id in node.inputs.iter().skip(1) {
            let value = graph.value(id);
            let floats = matches!(value.data.as_deref(), Some(Data::F32(_)));
            // A single row is a state or a single score.
            let matrix = value.shape.len() > 1 && value.shape[0] > 1 && !value.is_empty();
            if !floats || !matrix || found.iter().any(|m| m.id == id) {
                continue;
            }
            let rows = value.shape[0];
            found.push(Matrix {
                id,
                name: value.name.clone(),
                rows,
                columns: value.len() / rows,
                last: true,
            });
        }
        if found.len() > before {
            found[..before].iter_mut().for_each(|m| m.last = false);
        }
    }
    found
}
