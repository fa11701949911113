//! Builds networks layer by layer, with random weights.

use std::f64::consts::PI;

use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, PoolKind, RecurrentKind, Returns, Value, ValueId,
    Window,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Padding at the edges of a window's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// No padding.
    Valid,
    /// Zero padding such that the output has the input's extent divided by the stride, rounded up; the odd element
    /// comes last.
    Same,
}

/// A graph under construction. Layers are appended to the last value.
#[derive(Debug)]
pub struct Network {
    graph: Graph,
    last: ValueId,
    rng: ChaCha8Rng,
}

impl Network {
    /// A network with the input `[1, height, width, channels]`; `seed` determines the initial weights.
    pub fn new(name: &str, shape: [usize; 3], seed: u64) -> Self {
        let mut graph = Graph { name: name.into(), ..Graph::default() };
        let [h, w, c] = shape;
        let last = graph.add_value(activation("input", vec![1, h, w, c]));
        graph.inputs.push(last);
        Self { graph, last, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The last value, to be returned to later.
    pub fn last(&self) -> ValueId {
        self.last
    }

    /// Makes `value` the last value, so that the next layer appends to it, for example as a second branch.
    #[must_use]
    pub fn back_to(mut self, value: ValueId) -> Self {
        self.last = value;
        self
    }

    /// Convolution with bias.
    #[must_use]
    pub fn conv(self, name: &str, filters: usize, kernel: [u16; 2], stride: [u16; 2], edge: Edge) -> Self {
        self.convolution(name, filters, kernel, stride, edge, 1)
    }

    /// Depthwise convolution with bias.
    #[must_use]
    pub fn depthwise(self, name: &str, kernel: [u16; 2], stride: [u16; 2], edge: Edge) -> Self {
        let channels = self.shape()[3];
        self.convolution(name, channels, kernel, stride, edge, channels)
    }

    fn convolution(
        mut self,
        name: &str,
        filters: usize,
        kernel: [u16; 2],
        stride: [u16; 2],
        edge: Edge,
        groups: usize,
    ) -> Self {
        let [_, h, w, c] = self.shape();
        let (top, bottom, out_h) = edges(h, kernel[0], stride[0], edge);
        let (left, right, out_w) = edges(w, kernel[1], stride[1], edge);
        let window = Window { kernel, stride, dilation: [1, 1], pad: [top, left, bottom, right] };
        let shape = vec![filters, usize::from(kernel[0]), usize::from(kernel[1]), c / groups];
        let fan_in = shape[1..].iter().product::<usize>();
        let weights = self.random(&format!("{name}.weight"), shape, fan_in);
        let bias =
            self.graph.add_constant(format!("{name}.bias"), vec![filters], Data::F32(vec![0.0; filters]));
        let op = Op::Conv2d { window, groups, activation: Activation::None };
        let inputs = vec![self.last, weights, bias];
        self.push(name, op, inputs, vec![1, out_h, out_w, filters])
    }

    /// Batch normalisation and ReLU.
    #[must_use]
    pub fn normalise_relu(self, name: &str) -> Self {
        self.normalise(&format!("{name}.norm")).relu(&format!("{name}.relu"))
    }

    /// Batch normalisation.
    #[must_use]
    pub fn normalise(mut self, name: &str) -> Self {
        let shape = self.shape();
        let mut inputs = vec![self.last];
        for (part, initial) in [("gamma", 1.0), ("beta", 0.0), ("mean", 0.0), ("variance", 1.0)] {
            let data = Data::F32(vec![initial; shape[3]]);
            inputs.push(self.graph.add_constant(format!("{name}.{part}"), vec![shape[3]], data));
        }
        self.push(name, Op::BatchNorm { epsilon: 1e-3 }, inputs, shape.to_vec())
    }

    /// ReLU.
    #[must_use]
    pub fn relu(self, name: &str) -> Self {
        let shape = self.graph.value(self.last).shape.clone();
        let op = Op::Unary(offshoot_ir::UnaryKind::Clip { min: 0.0, max: f32::INFINITY });
        let inputs = vec![self.last];
        self.push(name, op, inputs, shape)
    }

    /// Sum with `other`, which has the same shape.
    #[must_use]
    pub fn add(self, name: &str, other: ValueId) -> Self {
        let shape = self.shape().to_vec();
        let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        let inputs = vec![self.last, other];
        self.push(name, op, inputs, shape)
    }

    /// Mean over height and width, as a matrix `[1, channels]`.
    #[must_use]
    pub fn global_average(self, name: &str) -> Self {
        let [_, h, w, c] = self.shape();
        let window = Window { kernel: [h as u16, w as u16], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
        let op = Op::Pool { kind: PoolKind::Average, window, activation: Activation::None };
        let inputs = vec![self.last];
        let pooled = self.push(name, op, inputs, vec![1, 1, 1, c]);
        let inputs = vec![pooled.last];
        pooled.push(&format!("{name}.flatten"), Op::Reshape, inputs, vec![1, c])
    }

    /// Flattens the image to a matrix `[1, elements]`.
    #[must_use]
    pub fn flatten(self, name: &str) -> Self {
        let elements = self.graph.value(self.last).len();
        let inputs = vec![self.last];
        self.push(name, Op::Reshape, inputs, vec![1, elements])
    }

    /// Fully connected layer with bias on `[1, channels]`.
    #[must_use]
    pub fn dense(mut self, name: &str, outputs: usize) -> Self {
        let inputs = self.graph.value(self.last).shape[1];
        let weights = self.random(&format!("{name}.weight"), vec![outputs, inputs], inputs);
        let bias =
            self.graph.add_constant(format!("{name}.bias"), vec![outputs], Data::F32(vec![0.0; outputs]));
        let op = Op::FullyConnected { activation: Activation::None };
        let inputs = vec![self.last, weights, bias];
        self.push(name, op, inputs, vec![1, outputs])
    }

    /// A network with the input `[1, steps, features]`, for [`Self::recurrent`]; `seed` determines the initial weights.
    pub fn sequence(name: &str, [steps, features]: [usize; 2], seed: u64) -> Self {
        let mut network = Self::new(name, [1, steps, features], seed);
        network.graph.value_mut(network.last).shape = vec![1, steps, features];
        network
    }

    /// Recurrent layer on `[1, steps, features]`; without `sequence` it returns its last state, `[1, units]`. Weights
    /// of the input are normal with variance 1 / fan-in; those of the state are orthogonal by blocks (Saxe et al.
    /// 2014), so that states neither vanish nor explode; an LSTM's forget gate starts open (bias 1, Jozefowicz et al.
    /// 2015), as does a GRU's update gate.
    #[must_use]
    pub fn recurrent(mut self, name: &str, kind: RecurrentKind, units: usize, sequence: bool) -> Self {
        let [steps, features] = match self.graph.value(self.last).shape[..] {
            [_, steps, features] => [steps, features],
            _ => [1, self.shape()[3]],
        };
        let rows = kind.gates() * units;
        // `random` uses twice the variance.
        let weights = self.random(&format!("{name}.weight"), vec![rows, features], 2 * features);
        let state: Vec<f32> = (0..kind.gates()).flat_map(|_| self.orthogonal(units)).collect();
        let state = self.graph.add_constant(format!("{name}.state"), vec![rows, units], Data::F32(state));
        let mut bias = vec![0.0; kind.biases() * units];
        match kind {
            RecurrentKind::Lstm => bias[units..2 * units].fill(1.0),
            RecurrentKind::Gru | RecurrentKind::GruResetAfter => bias[..units].fill(1.0),
            RecurrentKind::Tanh | RecurrentKind::Relu => {}
        }
        let bias = self.graph.add_constant(format!("{name}.bias"), vec![bias.len()], Data::F32(bias));
        let (returns, shape) = match sequence {
            true => (Returns::Sequence, vec![1, steps, units]),
            false => (Returns::Last, vec![1, units]),
        };
        let inputs = vec![self.last, weights, state, bias];
        self.push(name, Op::Recurrent { kind, returns, reverse: false }, inputs, shape)
    }

    /// A classifier of sequences: one GRU (with the reset after the state's product, as in PyTorch and Keras), a
    /// fully connected layer on its last state, softmax. Input `[1, steps, features]`.
    pub fn gru(name: &str, shape: [usize; 2], units: usize, classes: usize, seed: u64) -> Graph {
        let start = Self::sequence(name, shape, seed);
        let net = start.recurrent("gru", RecurrentKind::GruResetAfter, units, false);
        net.dense("head", classes).softmax("softmax")
    }

    /// Adds a softmax over the channels and finishes the graph.
    pub fn softmax(self, name: &str) -> Graph {
        let shape = self.graph.value(self.last).shape.clone();
        let (axis, inputs) = (shape.len() - 1, vec![self.last]);
        self.push(name, Op::Softmax { axis }, inputs, shape).finish()
    }

    /// Finishes the graph; its output is the last value.
    pub fn finish(mut self) -> Graph {
        self.graph.outputs.push(self.last);
        self.graph
    }

    /// Shape of the last image.
    fn shape(&self) -> [usize; 4] {
        match self.graph.value(self.last).shape[..] {
            [n, h, w, c] => [n, h, w, c],
            [n, c] => [n, 1, 1, c],
            _ => [1; 4],
        }
    }

    fn push(mut self, name: &str, op: Op, inputs: Vec<ValueId>, shape: Vec<usize>) -> Self {
        let output = self.graph.add_value(activation(&format!("{name}.out"), shape));
        self.graph.nodes.push(Node { name: name.into(), op, inputs, output });
        self.last = output;
        self
    }

    /// A random orthogonal matrix `[n, n]`: normal rows, orthogonalised one after the other (Gram and Schmidt).
    fn orthogonal(&mut self, n: usize) -> Vec<f32> {
        let mut unit = || (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
        while rows.len() < n {
            let mut row: Vec<f64> =
                (0..n).map(|_| (-2.0 * (1.0 - unit()).ln()).sqrt() * (2.0 * PI * unit()).cos()).collect();
            for other in &rows {
                let along: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            if length > 1e-6 {
                row.iter_mut().for_each(|v| *v /= length);
                rows.push(row);
            }
        }
        rows.into_iter().flatten().map(|v| v as f32).collect()
    }

    /// Normal weights of variance 2 / fan-in (He et al. 2015).
    fn random(&mut self, name: &str, shape: Vec<usize>, fan_in: usize) -> ValueId {
        let deviation = (2.0 / fan_in as f64).sqrt();
        let count = shape.iter().product();
        let mut unit = || (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let data = (0..count)
            .map(|_| ((-2.0 * (1.0 - unit()).ln()).sqrt() * (2.0 * PI * unit()).cos() * deviation) as f32)
            .collect();
        self.graph.add_constant(name, shape, Data::F32(data))
    }
}

fn activation(name: &str, shape: Vec<usize>) -> Value {
    Value {
        name: name.into(),
        shape,
        dtype: DType::F32,
        quant: None,
        data: None,
        channels_first_outside: false,
    }
}

/// Padding before and after, and the output's extent.
fn edges(extent: usize, kernel: u16, stride: u16, edge: Edge) -> (u16, u16, usize) {
    let (k, s) = (usize::from(kernel), usize::from(stride));
    match edge {
        Edge::Valid => (0, 0, (extent - k) / s + 1),
        Edge::Same => {
            let out = extent.div_ceil(s);
            let pad = ((out - 1) * s + k).saturating_sub(extent);
            ((pad / 2) as u16, (pad - pad / 2) as u16, out)
        }
    }
}
