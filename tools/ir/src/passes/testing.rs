//! Small graphs for the passes' tests.

use super::edit;
use crate::{DType, Data, Graph, Node, Op, Quant, ValueId};

/// Builds a graph, node by node.
#[derive(Default)]
pub(super) struct Build(pub(super) Graph);

impl Build {
    pub(super) fn input(&mut self, shape: &[usize]) -> ValueId {
        let id = edit::tensor(&mut self.0, "in", shape.to_vec(), DType::F32, None);
        self.0.inputs.push(id);
        id
    }

    pub(super) fn input_i8(&mut self, shape: &[usize], quant: Quant) -> ValueId {
        let id = edit::tensor(&mut self.0, "in", shape.to_vec(), DType::I8, Some(quant));
        self.0.inputs.push(id);
        id
    }

    /// A float constant of distinct elements.
    pub(super) fn ramp(&mut self, shape: &[usize]) -> ValueId {
        let n = shape.iter().product::<usize>();
        self.constant(shape, (0..n).map(|i| 0.5 + i as f32).collect())
    }

    pub(super) fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> ValueId {
        edit::constant(&mut self.0, "const", shape.to_vec(), Data::F32(data), None)
    }

    /// Appends an operator; its output has the first input's type.
    pub(super) fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let at = self.0.nodes.len();
        edit::insert(&mut self.0, at, op, inputs.to_vec(), shape.to_vec(), inputs[0])
    }

    pub(super) fn transpose(&mut self, x: ValueId, perm: &[usize]) -> ValueId {
        let shape = edit::permuted(&self.0.value(x).shape, perm);
        self.node(Op::Transpose { perm: perm.to_vec() }, &[x], &shape)
    }

    pub(super) fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.0.outputs = outputs.to_vec();
        self.0.validate().expect("test graphs are well formed");
        self.0
    }
}

/// Names of the operators, in order.
pub(super) fn names(graph: &Graph) -> Vec<&'static str> {
    graph.validate().expect("a pass's result is well formed");
    graph.nodes.iter().map(|n: &Node| n.op.name()).collect()
}
