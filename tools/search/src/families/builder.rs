//! Builds graphs of operators that [`offshoot_train::network::Network`] has no layers for.

use offshoot_ir::{Activation, BinaryKind, DType, Data, Graph, Node, Op, UnaryKind, Value, ValueId};

use offshoot_data::Random;

/// A graph under construction.
pub(super) struct Builder {
    pub(super) graph: Graph,
    random: Random,
}

impl Builder {
    pub(super) fn new(name: &str, input: Vec<usize>, seed: u64) -> (Self, ValueId) {
        let mut graph = Graph { name: name.into(), ..Graph::default() };
        let id = graph.add_value(value("input", input));
        graph.inputs.push(id);
        (Self { graph, random: Random::new(seed, 77) }, id)
    }

    pub(super) fn push(&mut self, name: &str, op: Op, inputs: Vec<ValueId>, shape: Vec<usize>) -> ValueId {
        let output = self.graph.add_value(value(&format!("{name}.out"), shape));
        self.graph.nodes.push(Node { name: name.into(), op, inputs, output });
        output
    }

    /// Normal weights of variance `gain` / fan-in.
    pub(super) fn weights(&mut self, name: &str, shape: Vec<usize>, gain: f64) -> ValueId {
        let fan_in: usize = shape.iter().skip(1).product();
        let deviation = (gain / fan_in.max(1) as f64).sqrt();
        let count: usize = shape.iter().product();
        let data = (0..count).map(|_| (self.random.normal() * deviation) as f32).collect();
        self.graph.add_constant(format!("{name}.weight"), shape, Data::F32(data))
    }

    pub(super) fn filled(&mut self, name: &str, count: usize, with: f32) -> ValueId {
        self.graph.add_constant(name, vec![count], Data::F32(vec![with; count]))
    }

    pub(super) fn shape(&self, id: ValueId) -> Vec<usize> {
        self.graph.value(id).shape.clone()
    }

    /// Fully connected over the last axis.
    pub(super) fn dense(&mut self, name: &str, x: ValueId, outputs: usize, gain: f64) -> ValueId {
        let mut shape = self.shape(x);
        let inputs = shape.pop().unwrap_or(1);
        shape.push(outputs);
        let weights = self.weights(name, vec![outputs, inputs], gain);
        let bias = self.filled(&format!("{name}.bias"), outputs, 0.0);
        self.push(name, Op::FullyConnected { activation: Activation::None }, vec![x, weights, bias], shape)
    }

    pub(super) fn unary(&mut self, name: &str, x: ValueId, kind: UnaryKind) -> ValueId {
        let shape = self.shape(x);
        self.push(name, Op::Unary(kind), vec![x], shape)
    }

    pub(super) fn binary(&mut self, name: &str, kind: BinaryKind, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.shape(a);
        self.push(name, Op::Binary { kind, activation: Activation::None }, vec![a, b], shape)
    }

    pub(super) fn layer_norm(&mut self, name: &str, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let width = shape.last().copied().unwrap_or(1);
        let gamma = self.filled(&format!("{name}.gamma"), width, 1.0);
        let beta = self.filled(&format!("{name}.beta"), width, 0.0);
        self.push(name, Op::LayerNorm { epsilon: 1e-5 }, vec![x, gamma, beta], shape)
    }

    pub(super) fn reshape(&mut self, name: &str, x: ValueId, shape: Vec<usize>) -> ValueId {
        self.push(name, Op::Reshape, vec![x], shape)
    }

    pub(super) fn finish(mut self, output: ValueId) -> Graph {
        self.graph.outputs.push(output);
        self.graph
    }
}

fn value(name: &str, shape: Vec<usize>) -> Value {
    Value {
        name: name.into(),
        shape,
        dtype: DType::F32,
        quant: None,
        data: None,
        channels_first_outside: false,
    }
}
