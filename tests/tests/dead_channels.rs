//! Removing dead channels leaves the bytes that the device computes: random int8 chains with rows, columns and
//! depthwise filters of zeros, and the half dead MLPerf Tiny person detector, before and after the passes.

use offshoot::{AlignedBytes, Engine, Model};
use offshoot_data::npy::{self, Array};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, PoolKind, Quant, Value, ValueId, Window, passes,
};
use offshoot_tests::data;
use proptest::prelude::*;

/// Multiplicative generator (splitmix64): the same graph for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() % (high - low + 1) as u64) as i64
    }

    /// True once in `n`.
    fn once_in(&mut self, n: i64) -> bool {
        self.within(1, n) == 1
    }

    fn int8(&mut self) -> i8 {
        self.within(-128, 127) as i8
    }

    fn int8s(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.int8()).collect()
    }
}

/// A chain of operators as it grows; int8, or float32 with values of the same kind.
struct Chain {
    graph: Graph,
    random: Random,
    int8: bool,
    at: ValueId,
}

impl Chain {
    fn new(seed: u64, int8: bool) -> Self {
        let mut chain = Self { graph: Graph::default(), random: Random(seed), int8, at: ValueId(0) };
        let shape = [1, chain.extent(4, 7), chain.extent(4, 7), chain.extent(1, 4)];
        chain.at = chain.activation(&shape);
        chain.graph.inputs.push(chain.at);
        chain
    }

    fn extent(&mut self, low: i64, high: i64) -> usize {
        self.random.within(low, high) as usize
    }

    fn shape(&self) -> Vec<usize> {
        self.graph.value(self.at).shape.clone()
    }

    fn value(&mut self, shape: &[usize], dtype: DType, quant: Option<Quant>, data: Option<Data>) -> ValueId {
        let name = format!("t{}", self.graph.values.len());
        self.graph.add_value(Value {
            name,
            shape: shape.to_vec(),
            dtype,
            quant,
            data: data.map(Into::into),
            channels_first_outside: false,
        })
    }

    fn activation(&mut self, shape: &[usize]) -> ValueId {
        if !self.int8 {
            return self.value(shape, DType::F32, None, None);
        }
        let scale = self.random.within(20, 100) as f32 / 1000.0;
        // Often an end of the range, as after Relu; then constants below it are held at the zero point.
        let zero_point = if self.random.once_in(2) { -128 } else { i32::from(self.random.int8()) };
        self.value(shape, DType::I8, Some(Quant::per_tensor(scale, zero_point)), None)
    }

    fn push(&mut self, op: Op, inputs: Vec<ValueId>, output: ValueId) {
        let name = format!("n{}", self.graph.nodes.len());
        self.graph.nodes.push(Node { name, op, inputs, output });
        self.at = output;
    }

    fn fused(&mut self) -> Activation {
        match self.random.within(0, 2) {
            0 => Activation::None,
            1 => Activation::Relu,
            _ => Activation::Clip { min: 0.0, max: 3.0 },
        }
    }

    /// Appends an operator with weights `[rows, taps…, cols]`, many rows and columns of them zeros.
    fn linear(&mut self, op: Op, w_shape: &[usize], y_shape: &[usize]) {
        let (rows, cols) = (w_shape[0], w_shape[w_shape.len() - 1]);
        let mut w = self.random.int8s(w_shape.iter().product());
        let dead_rows: Vec<bool> = (0..rows).map(|_| self.random.once_in(3)).collect();
        let dead_cols: Vec<bool> = (0..cols).map(|_| cols > 1 && self.random.once_in(5)).collect();
        let row_len = w.len() / rows;
        for (i, w) in w.iter_mut().enumerate() {
            if dead_rows[i / row_len] || dead_cols[i % cols] {
                *w = 0;
            }
        }
        let bias: Vec<i32> = (0..rows).map(|_| self.random.within(-9000, 9000) as i32).collect();
        let scales = if self.random.once_in(3) { 1 } else { rows };
        let scale: Vec<f32> = (0..scales).map(|_| self.random.within(1, 40) as f32 / 20_000.0).collect();
        let axis = (scales > 1).then_some(0);
        let quant = |factor: f32| {
            let scale: Vec<f32> = scale.iter().map(|s| s * factor).collect();
            Some(Quant { zero_point: vec![0; scale.len()], scale, axis })
        };
        let x = self.at;
        let mut inputs = vec![x];
        if self.int8 {
            let factor = self.graph.value(x).quant.as_ref().map_or(1.0, |q| q.scale[0]);
            inputs.push(self.value(w_shape, DType::I8, quant(1.0), Some(Data::I8(w))));
            if !self.random.once_in(4) {
                inputs.push(self.value(&[rows], DType::I32, quant(factor), Some(Data::I32(bias))));
            }
        } else {
            let w = w.iter().map(|&q| f32::from(q) / 256.0).collect();
            let bias = bias.iter().map(|&q| q as f32 / 4096.0).collect();
            inputs.push(self.value(w_shape, DType::F32, None, Some(Data::F32(w))));
            if !self.random.once_in(4) {
                inputs.push(self.value(&[rows], DType::F32, None, Some(Data::F32(bias))));
            }
        }
        let y = self.activation(y_shape);
        self.push(op, inputs, y);
    }

    /// A convolution with a kernel of up to 3×3, stride and padding; with one filter or two a channel if
    /// `depthwise`.
    fn conv(&mut self, depthwise: bool) {
        let x = self.shape();
        let k = self.extent(1, 3).min(x[1]).min(x[2]);
        let stride = self.extent(1, 2);
        let mut pad = [0; 4];
        if self.random.once_in(2) {
            pad.fill_with(|| self.random.within(0, k as i64 - 1) as u16);
        }
        let extent = |i: usize| (x[1 + i] + usize::from(pad[i] + pad[i + 2]) - k) / stride + 1;
        let (rows, groups) =
            if depthwise { (x[3] * self.extent(1, 2), x[3]) } else { (self.extent(1, 8), 1) };
        let window = Window { kernel: [k as u16; 2], stride: [stride as u16; 2], dilation: [1; 2], pad };
        let op = Op::Conv2d { window, groups, activation: self.fused() };
        self.linear(op, &[rows, k, k, x[3] / groups], &[1, extent(0), extent(1), rows]);
    }

    /// `x + conv1×1(x)`.
    fn residual(&mut self) {
        let (x, shape) = (self.at, self.shape());
        let window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
        let op = Op::Conv2d { window, groups: 1, activation: self.fused() };
        self.linear(op, &[shape[3], 1, 1, shape[3]], &shape);
        let (branch, sum) = (self.at, self.activation(&shape));
        let op = Op::Binary { kind: BinaryKind::Add, activation: self.fused() };
        self.push(op, vec![x, branch], sum);
    }

    /// A pool over 2×2 that keeps scale and zero point.
    fn pool(&mut self) {
        let x = self.shape();
        let kind = match self.random.within(0, 2) {
            0 => PoolKind::Average,
            1 => PoolKind::AverageIncludePad,
            _ => PoolKind::Max,
        };
        let pad = [self.random.within(0, 1) as u16, 0, 0, self.random.within(0, 1) as u16];
        let k = 2.min(x[1]).min(x[2]);
        let pad = if k == 2 { pad } else { [0; 4] };
        let window = Window { kernel: [k as u16; 2], stride: [1; 2], dilation: [1; 2], pad };
        let extent = |i: usize| x[1 + i] + usize::from(pad[i] + pad[i + 2]) - k + 1;
        let shape = [1, extent(0), extent(1), x[3]];
        let y = self.like(&shape);
        self.push(Op::Pool { kind, window, activation: Activation::None }, vec![self.at], y);
    }

    /// A new tensor with the current one's numbers.
    fn like(&mut self, shape: &[usize]) -> ValueId {
        let (dtype, quant) = (self.graph.value(self.at).dtype, self.graph.value(self.at).quant.clone());
        self.value(shape, dtype, quant, None)
    }

    /// Flattens and ends in two fully connected operators.
    fn head(&mut self) {
        let n = self.shape().iter().product();
        let flat = self.like(&[1, n]);
        self.push(Op::Reshape, vec![self.at], flat);
        let (hidden, out) = (self.extent(1, 6), self.extent(1, 4));
        let op = Op::FullyConnected { activation: self.fused() };
        self.linear(op, &[hidden, n], &[1, hidden]);
        let op = Op::FullyConnected { activation: Activation::None };
        self.linear(op, &[out, hidden], &[1, out]);
    }

    fn finish(mut self) -> (Graph, Random) {
        self.graph.outputs = vec![self.at];
        self.graph.validate().unwrap();
        (self.graph, self.random)
    }
}

fn random_graph(seed: u64, int8: bool) -> (Graph, Random) {
    let mut chain = Chain::new(seed, int8);
    chain.conv(false);
    for _ in 0..chain.extent(1, 5) {
        match chain.random.within(0, 7) {
            0..=2 => chain.conv(true),
            3 => chain.pool(),
            4 => chain.residual(),
            _ => chain.conv(false),
        }
    }
    if chain.random.once_in(2) {
        chain.head();
    } else {
        chain.conv(false);
    }
    chain.finish()
}

fn compiled(graph: &Graph) -> AlignedBytes {
    let compiled = compile(graph, &CompileOptions::default()).unwrap();
    assert!(compiled.report.fallbacks.is_empty());
    AlignedBytes::copy_of(&compiled.bytes)
}

fn run(model: &AlignedBytes, input: &[u8]) -> Vec<u8> {
    let model = Model::open(model.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    engine.input_mut(0).unwrap().copy_from_slice(input);
    engine.run().unwrap();
    engine.output(0).unwrap().to_vec()
}

/// Elements of all int8 or float32 constants with more than one axis.
fn weights(graph: &Graph) -> usize {
    let constants = graph.values.iter().filter(|v| v.data.is_some() && v.shape.len() > 1);
    constants.map(Value::len).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn int8_chains_give_the_same_bytes(seed: u64) {
        let (graph, mut random) = random_graph(seed, true);
        let (small, _) = passes::lossless(graph.clone()).unwrap();
        let (before, after) = (compiled(&graph), compiled(&small));
        for _ in 0..4 {
            let input = random.int8s(graph.value(graph.inputs[0]).len());
            let input: Vec<u8> = input.iter().map(|&q| q as u8).collect();
            prop_assert_eq!(run(&before, &input), run(&after, &input));
        }
    }

    #[test]
    fn float_chains_give_the_same_but_for_rounding(seed: u64) {
        let (graph, mut random) = random_graph(seed, false);
        let (small, _) = passes::lossless(graph.clone()).unwrap();
        let (before, after) = (compiled(&graph), compiled(&small));
        let input = random.int8s(graph.value(graph.inputs[0]).len());
        let input: Vec<u8> = input.iter().flat_map(|&q| (f32::from(q) / 64.0).to_le_bytes()).collect();
        let floats = |bytes: Vec<u8>| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let (y, z) = (floats(run(&before, &input)), floats(run(&after, &input)));
        let largest = y.iter().fold(1.0_f32, |m, v| m.max(v.abs()));
        for (y, z) in y.iter().zip(&z) {
            prop_assert!((y - z).abs() <= 1e-4 * largest, "{} {}", y, z);
        }
    }
}

/// Keeps the property tests from passing for want of dead channels.
#[test]
fn most_random_chains_become_smaller() {
    let smaller = |seed: &u64| {
        let (graph, _) = random_graph(*seed, true);
        weights(&passes::lossless(graph.clone()).unwrap().0) < weights(&graph)
    };
    let count = (0..200).filter(smaller).count();
    assert!(count > 120, "{count} of 200");
}

/// 971 of the network's 1498 rows that mix channels are zeros: 29,580 of 208,112 weights are left, and 29,066
/// without channels that nobody reads then and those that are constant over all inputs. Any image gives the same bytes.
#[test]
fn person_detector_is_half_dead() {
    let Some(onnx) = data("mlperf_tiny/vww_int8.onnx") else {
        return;
    };
    let graph = offshoot_import::import(&onnx).unwrap();
    let (small, _) = passes::lossless(graph.clone()).unwrap();
    let options = CompileOptions::default();
    let report = compile(&small, &options).unwrap().report;
    let weights: u64 = report.operators.iter().map(|o| o.weights).sum();
    assert_eq!((weights, report.macs), (29_066, 3_727_313));

    let (before, after) = (compiled(&graph), compiled(&small));
    let mut inputs: Vec<Vec<i8>> = vec![vec![-128; 96 * 96 * 3], vec![127; 96 * 96 * 3]];
    inputs.push(Random(1).int8s(96 * 96 * 3));
    if let Some(path) = data("golden_vww/x_i8.npy") {
        let Array::I8(images) = npy::read(&path).unwrap() else {
            panic!("{} is not int8", path.display());
        };
        inputs.extend(images.outer_iter().take(4).map(|x| x.iter().copied().collect()));
    }
    for (i, input) in inputs.iter().enumerate() {
        let input: Vec<u8> = input.iter().map(|&q| q as u8).collect();
        assert_eq!(run(&before, &input), run(&after, &input), "image {i}");
    }
}
