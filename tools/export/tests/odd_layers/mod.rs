//! Layers with channels that the fast kernels do not hold.

use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, Value, ValueId, Window};

/// A generator of numbers.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    pub(crate) fn byte(&mut self) -> i8 {
        self.below(256) as u8 as i8
    }
}

/// What is odd about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Oddity {
    /// Weights of -128.
    Least,
    /// A weight scale so small that the output is one value.
    Dead,
    /// A bias beyond 2^29.
    Bias,
    /// A multiplier of more than a half.
    Multiplier,
}

pub(crate) const ODDITIES: [Oddity; 4] = [Oddity::Least, Oddity::Dead, Oddity::Bias, Oddity::Multiplier];

fn value(graph: &mut Graph, name: &str, shape: &[usize], zero: i32) -> ValueId {
    let quant = Some(Quant::per_tensor(0.05, zero));
    let (name, shape) = (name.to_owned(), shape.to_vec());
    graph.add_value(Value { name, shape, dtype: DType::I8, quant, data: None, channels_first_outside: false })
}

/// One layer with `odd` in one channel of `every`.
pub(crate) fn layer(kind: usize, odd: &[Oddity], every: usize, relu: bool, n: &mut Numbers) -> Graph {
    let mut graph = Graph::default();
    let (channels, inputs) = (1 + n.below(24), 1 + n.below(12));
    let [h, w] = [1 + n.below(6), 1 + n.below(6)];
    let activation = if relu { Activation::Relu } else { Activation::None };
    let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 4] };
    let channels = if kind == 3 { channels.max(2) } else { channels };
    let (x, weights, y, op) = match kind {
        0 => (vec![1, inputs], vec![channels, inputs], vec![1, channels], Op::FullyConnected { activation }),
        1 => {
            let window = Window { kernel: [1; 2], pad: [0; 4], ..window };
            let op = Op::Conv2d { window, groups: 1, activation };
            (vec![1, h, w, inputs], vec![channels, 1, 1, inputs], vec![1, h, w, channels], op)
        }
        2 => {
            let op = Op::Conv2d { window, groups: 1, activation };
            (vec![1, h, w, inputs], vec![channels, 3, 3, inputs], vec![1, h, w, channels], op)
        }
        _ => {
            let op = Op::Conv2d { window, groups: channels, activation };
            (vec![1, h, w, channels], vec![channels, 3, 3, 1], vec![1, h, w, channels], op)
        }
    };
    let zero = i32::from(n.byte());
    let input = value(&mut graph, "x", &x, zero);
    graph.inputs.push(input);
    let taps: usize = weights[1..].iter().product();
    let mut codes: Vec<i8> = (0..channels * taps).map(|_| n.byte().max(-127)).collect();
    let mut scale: Vec<f32> = (0..channels).map(|o| 0.004 + 0.0003 * (o % 7) as f32).collect();
    let mut bias: Vec<i32> = (0..channels).map(|_| n.below(4001) as i32 - 2000).collect();
    for o in 0..channels {
        if odd.is_empty() || n.below(every) > 0 {
            continue;
        }
        match odd[n.below(odd.len())] {
            Oddity::Least => (0..1 + n.below(3)).for_each(|_| codes[o * taps + n.below(taps)] = -128),
            Oddity::Dead => scale[o] = 1e-12,
            Oddity::Bias => bias[o] = (1 << 29) + n.below(1 << 30) as i32,
            Oddity::Multiplier => scale[o] = 0.6 + n.below(8) as f32,
        }
    }
    let w = graph.add_constant("w", weights, Data::I8(codes));
    graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; channels], axis: Some(0) });
    let bias = graph.add_constant("b", vec![channels], Data::I32(bias));
    let output = value(&mut graph, "y", &y, if relu { -128 } else { 7 });
    graph.nodes.push(Node { name: "layer".into(), op, inputs: vec![input, w, bias], output });
    graph.outputs = vec![output];
    graph
}

/// A large fully connected layer with such channels, 3 of its 120.
pub(crate) fn large(oddity: Oddity, depthwise: bool) -> Graph {
    let mut graph = Graph::default();
    let (channels, inputs) = (120, if depthwise { 9 } else { 256 });
    let mut n = Numbers(11);
    let activation = Activation::Relu;
    let (x, y, weights, op) = if depthwise {
        let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 4] };
        let shape = vec![1, 6, 6, channels];
        (shape.clone(), shape, vec![channels, 3, 3, 1], Op::Conv2d { window, groups: channels, activation })
    } else {
        (vec![1, inputs], vec![1, channels], vec![channels, inputs], Op::FullyConnected { activation })
    };
    let input = value(&mut graph, "x", &x, -128);
    let mut codes: Vec<i8> = (0..channels * inputs).map(|_| n.below(101) as i8 - 50).collect();
    let mut scale = vec![0.003f32; channels];
    let mut bias = vec![10; channels];
    for o in [1, 40, 77] {
        match oddity {
            Oddity::Least => (0..inputs).for_each(|i| codes[o * inputs + i] = -128),
            Oddity::Dead => scale[o] = 1e-12,
            Oddity::Bias => bias[o] = 1 << 30,
            Oddity::Multiplier => scale[o] = 0.8,
        }
    }
    let w = graph.add_constant("w", weights, Data::I8(codes));
    graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; channels], axis: Some(0) });
    let b = graph.add_constant("b", vec![channels], Data::I32(bias));
    let output = value(&mut graph, "y", &y, -128);
    graph.nodes.push(Node { name: "layer".into(), op, inputs: vec![input, w, b], output });
    (graph.inputs, graph.outputs) = (vec![input], vec![output]);
    graph
}
