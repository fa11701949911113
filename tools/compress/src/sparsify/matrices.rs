//! Which constants of a graph are matrices of weights.

use offshoot_ir::{Data, Graph, Op, ValueId};

/// A constant that an operator multiplies its input by: rows are output channels, columns what one of them reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The constant.
    pub id: ValueId,
    /// Its name.
    pub name: String,
    /// Output channels.
    pub rows: usize,
    /// Inputs of one: of a convolution the window, row by row, channels last.
    pub columns: usize,
    /// Whether the last such operator reads it.
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
/// can take: not those of grouped convolutions (depthwise ones have next to nothing to leave out), nor of operators
/// that only scale.
fn multiplies(op: &Op) -> bool {
    match op {
        Op::Conv2d { groups, .. } => *groups == 1,
        Op::ConvTranspose2d { .. }
        | Op::MatMul { .. }
        | Op::Binary { .. }
        | Op::PRelu
        | Op::BatchNorm { .. }
        | Op::LayerNorm { .. } => false,
        // Whatever else has float constants of two axes and more multiplies by them.
        _ => true,
    }
}

/// All of them, in the order of the graph.
pub fn matrices(graph: &Graph) -> Vec<Matrix> {
    let mut found: Vec<Matrix> = Vec::new();
    for node in graph.nodes.iter().filter(|n| multiplies(&n.op)) {
        let before = found.len();
        for &id in node.inputs.iter().skip(1) {
            let value = graph.value(id);
            let floats = matches!(value.data.as_deref(), Some(Data::F32(_)));
            // One row is a state or a single score.
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
