//! Sparse layers: the bits of the dense ones on host and board, the exporter's estimates against the emulator's counts, and
//! learning beside them.

use std::collections::BTreeSet;

use offshoot::format::codec::Record;
use offshoot::{AlignedBytes, Model};
use offshoot_export::{CompileOptions, Compiled, LearningPlan, Prefer, compile};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, Value, ValueId, Window};
use offshoot_target::{Device, HostDevice};
use offshoot_tests::{Numbers, board};
use proptest::prelude::*;

/// What is left of a matrix of weights.
#[derive(Clone, Copy, Debug)]
struct Zeros {
    /// Neighbouring inputs that go together.
    unit: usize,
    /// Share that is left, in percent.
    left: usize,
}

struct Builder {
    graph: Graph,
    numbers: Numbers,
}

impl Builder {
    fn new(seed: u64, input: &[usize]) -> (Self, ValueId) {
        let mut b = Self { graph: Graph::default(), numbers: Numbers(seed | 1) };
        let x = b.value(input, 0.05, -5);
        b.graph.inputs.push(x);
        (b, x)
    }

    fn value(&mut self, shape: &[usize], scale: f32, zero: i32) -> ValueId {
        let (name, quant) = (format!("v{}", self.graph.values.len()), Some(Quant::per_tensor(scale, zero)));
        let (shape, dtype) = (shape.to_vec(), DType::I8);
        self.graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
    }

    fn layer(&mut self, x: ValueId, op: Op, weights: &[usize], output: &[usize], zeros: Zeros) -> ValueId {
        let (rows, columns) = (weights[0], weights[1..].iter().product::<usize>());
        let mut data = vec![0i8; rows * columns];
        for row in data.chunks_mut(columns) {
            for unit in row.chunks_mut(zeros.unit) {
                if self.numbers.below(100) < zeros.left {
                    unit.iter_mut().for_each(|w| *w = self.numbers.byte());
                }
            }
        }
        let per_channel = self.numbers.below(2) == 0;
        let count = if per_channel { rows } else { 1 };
        let scale: Vec<f32> = (0..count).map(|o| 0.01 + 0.001 * (o % 5) as f32).collect();
        let id = self.graph.values.len();
        let w = self.graph.add_constant(format!("w{id}"), weights.to_vec(), Data::I8(data));
        let axis = (count > 1).then_some(0);
        self.graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; count], axis });
        let bias = (0..rows).map(|_| self.numbers.below(4001) as i32 - 2000).collect();
        let b = self.graph.add_constant(format!("b{id}"), vec![rows], Data::I32(bias));
        let in_scale = self.graph.value(x).quant.as_ref().map_or(1.0, |q| q.scale[0]);
        let left = (columns * zeros.left).div_ceil(100).max(1);
        let zero = if op.activation() == Some(Activation::None) { 3 } else { -128 };
        let y = self.value(output, in_scale * 0.012 * 60.0 * (left as f32).sqrt(), zero);
        let name = format!("n{}", self.graph.nodes.len());
        self.graph.nodes.push(Node { name, op, inputs: vec![x, w, b], output: y });
        y
    }
}

/// A convolution, a pointwise one, a flattened row, two fully connected layers.
fn network(seed: u64) -> Graph {
    let mut n = Numbers(seed ^ 0x5bd1_e995 | 1);
    let mut zeros = || Zeros { unit: [1, 4, 2][n.below(3)], left: [0, 3, 8, 15, 30, 55][n.below(6)] };
    let (conv, point, first, second) = (zeros(), zeros(), zeros(), zeros());
    let (h, w, c) = (3 + n.below(6), 3 + n.below(6), 1 + n.below(7));
    let channels = if n.below(2) == 0 { 1 + n.below(20) } else { 8 };
    let (stride, pad) = (1 + n.below(2), n.below(2) as u16);
    let kernel = [1 + n.below(3), 1 + n.below(3)];
    let extent = |i: usize, k: usize| (i + 2 * usize::from(pad) - k) / stride + 1;
    let (out_h, out_w) = (extent(h, kernel[0]), extent(w, kernel[1]));
    let (wide, classes) = (1 + n.below(90), 1 + n.below(40));
    let relu = if n.below(2) == 0 { Activation::Relu } else { Activation::None };

    let (mut b, x) = Builder::new(seed, &[1, h, w, c]);
    let window = |k: [usize; 2], s: usize, p: u16| Window {
        kernel: k.map(|k| k as u16),
        stride: [s as u16; 2],
        dilation: [1; 2],
        pad: [p; 4],
    };
    let op = Op::Conv2d { window: window(kernel, stride, pad), groups: 1, activation: relu };
    let x = b.layer(x, op, &[channels, kernel[0], kernel[1], c], &[1, out_h, out_w, channels], conv);
    let op = Op::Conv2d { window: window([1, 1], 1, 0), groups: 1, activation: Activation::None };
    let x = b.layer(x, op, &[channels, 1, 1, channels], &[1, out_h, out_w, channels], point);
    let (flat, quant) = (out_h * out_w * channels, b.graph.value(x).quant.clone().unwrap());
    let y = b.value(&[1, flat], quant.scale[0], quant.zero_point[0]);
    b.graph.nodes.push(Node { name: "flat".into(), op: Op::Reshape, inputs: vec![x], output: y });
    let x = b.layer(y, Op::FullyConnected { activation: relu }, &[wide, flat], &[1, wide], first);
    let op = Op::FullyConnected { activation: Activation::Clip { min: -1.0, max: 3.0 } };
    let y = b.layer(x, op, &[classes, wide], &[1, classes], second);
    b.graph.outputs = vec![x, y];
    b.graph
}

fn compiled(graph: &Graph, prefer: Prefer, arrange: bool) -> Compiled {
    compile(graph, &CompileOptions { prefer, arrange, ..CompileOptions::default() }).unwrap()
}

fn sample(graph: &Graph, seed: u64) -> Vec<u8> {
    let mut n = Numbers(seed ^ 0x9e37_79b9 | 1);
    (0..graph.value(graph.inputs[0]).len()).map(|_| n.byte() as u8).collect()
}

const PREFERENCES: [Prefer; 4] = [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash];

fn outputs(file: &[u8], sample: &[u8]) -> Vec<Vec<u8>> {
    let mut host = HostDevice::new();
    host.load(file).unwrap();
    host.run(&[sample]).unwrap()
}

/// Kinds and forms of the sparse operators of a file.
fn forms(file: &[u8]) -> BTreeSet<String> {
    let form = |record: Record| match record {
        Record::FullyConnectedSparse(r) => Some(format!("fully connected {:?}", r.matrix.form)),
        Record::ConvSparse(r) => Some(format!("convolution {:?}", r.matrix.form)),
        _ => None,
    };
    Model::open(file).unwrap().ops().filter_map(|(.., record)| form(record)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn sparse_operators_give_the_bits_of_plain_ones(seed in any::<u64>()) {
        let graph = network(seed);
        let sample = sample(&graph, seed);
        let plain = AlignedBytes::copy_of(&compiled(&graph, Prefer::Balanced, false).bytes);
        let plain = outputs(plain.bytes(), &sample);
        for prefer in PREFERENCES {
            let file = AlignedBytes::copy_of(&compiled(&graph, prefer, true).bytes);
            prop_assert_eq!(&outputs(file.bytes(), &sample), &plain, "{:?}", prefer);
        }
    }
}

#[test]
fn sparse_networks_give_the_same_bits_on_cortex_m4() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let (mut device, mut host, mut met) = (board("qemu:cortex-m4"), HostDevice::new(), BTreeSet::new());
    let random = (0..28).map(|index| {
        let (seed, prefer) = (0x1234_5678_9abc + 977 * index, PREFERENCES[index as usize % 3]);
        (network(seed), seed, if index % 4 == 3 { Prefer::Flash } else { prefer })
    });
    // Convolutions whose gathering is made up for.
    let large = [Prefer::Speed, Prefer::Balanced, Prefer::Flash].into_iter();
    let large = large.flat_map(|prefer| {
        [4, 8, 10].map(|left| (layer(Zeros { unit: 1, left }, true), left as u64, prefer))
    });
    let one = (one_pixel(Zeros { unit: 1, left: 15 }), 3, Prefer::Flash);
    for (graph, seed, prefer) in random.chain(large).chain([one]) {
        let file = AlignedBytes::copy_of(&compiled(&graph, prefer, true).bytes);
        met.extend(forms(file.bytes()));
        host.load(file.bytes()).unwrap();
        device.load(file.bytes()).unwrap();
        let sample = sample(&graph, seed);
        let (here, there) = (host.digests(&[&sample]).unwrap(), device.digests(&[&sample]).unwrap());
        let first = here.iter().zip(&there).position(|(a, b)| a != b);
        assert_eq!(first, None, "seed {seed}, {prefer:?}: operator {first:?} departs");
    }
    let all = ["fully connected", "convolution"]
        .iter()
        .flat_map(|kind| ["Bytes", "Nibbles", "Blocks"].iter().map(move |form| format!("{kind} {form}")));
    let missing: Vec<_> = all.filter(|f| !met.contains(f)).collect();
    assert!(missing.is_empty(), "no network had {missing:?}");
}

/// One layer of 256 inputs and 64 outputs; or a 3×3 convolution.
fn layer(zeros: Zeros, conv: bool) -> Graph {
    let shape: &[usize] = if conv { &[1, 8, 8, 16] } else { &[1, 256] };
    let (mut b, x) = Builder::new(7, shape);
    let y = if conv {
        let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [1; 4] };
        let op = Op::Conv2d { window, groups: 1, activation: Activation::Relu };
        b.layer(x, op, &[32, 3, 3, 16], &[1, 8, 8, 32], zeros)
    } else {
        b.layer(x, Op::FullyConnected { activation: Activation::Relu }, &[64, 256], &[1, 64], zeros)
    };
    b.graph.outputs = vec![y];
    b.graph
}

/// A convolution with one output pixel, whose bytes count more than its instructions.
fn one_pixel(zeros: Zeros) -> Graph {
    let (mut b, x) = Builder::new(7, &[1, 3, 3, 16]);
    let window = Window { kernel: [3; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    let op = Op::Conv2d { window, groups: 1, activation: Activation::Relu };
    let y = b.layer(x, op, &[32, 3, 3, 16], &[1, 1, 1, 32], zeros);
    b.graph.outputs = vec![y];
    b.graph
}

#[test]
fn estimates_are_near_the_emulators_counts() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let mut device = board("qemu:cortex-m4");
    let mut count = |compiled: &Compiled, sample: &[u8]| {
        device.load(AlignedBytes::copy_of(&compiled.bytes).bytes()).unwrap();
        device.profile(&[sample]).unwrap().operators[0].instructions.unwrap()
    };
    let mut off = false;
    println!(
        "layer | form | weights left | bytes, dense | instructions estimated, counted | dense estimated, counted"
    );
    for conv in [false, true] {
        let cases = [(1, 4), (1, 8), (1, 15), (4, 8), (4, 25)].map(|(unit, left)| Zeros { unit, left });
        for (zeros, prefer) in cases.iter().flat_map(|z| [(*z, Prefer::Balanced), (*z, Prefer::Speed)]) {
            let graph = layer(zeros, conv);
            let sparse = compiled(&graph, prefer, true);
            let report = sparse.report.operators[0].sparse.unwrap();
            let dense = graph_of_many(&graph);
            if !report.chosen {
                assert!(conv && zeros.left >= 8, "{zeros:?} {conv}: {}", report.sentence());
                continue;
            }
            let input = sample(&graph, 1);
            let counted = count(&sparse, &input);
            let of_dense = count(&compiled(&dense, prefer, true), &input);
            println!(
                "{} | {} | {:.1} % | {}, {} | {}, {counted} | {}, {of_dense}",
                if conv { "3x3 convolution" } else { "fully connected" },
                report.form,
                100.0 * report.density,
                report.weights_bytes,
                report.dense_weights_bytes,
                report.instructions_estimated,
                report.dense_instructions_estimated,
            );
            let near = |estimate: u64, count: u64| (estimate as f64 / count as f64 - 1.0).abs() < 0.12;
            off |= !near(report.instructions_estimated, counted);
            off |= !near(report.dense_instructions_estimated, of_dense);
            assert!(counted < of_dense);
        }
    }
    assert!(!off, "estimates are off by more than 12 %");
}

/// The same network with all weights other than zero.
fn graph_of_many(graph: &Graph) -> Graph {
    let mut dense = graph.clone();
    let w = dense.nodes[0].inputs[1];
    if let Some(Data::I8(data)) = dense.value_mut(w).data.as_mut().map(std::sync::Arc::make_mut) {
        data.iter_mut().enumerate().filter(|(_, w)| **w == 0).for_each(|(i, w)| *w = (i % 100) as i8 + 1);
    }
    dense
}

/// Two sparse layers and a last one, some of which learn.
fn learning(plan: &str) -> Compiled {
    let (mut b, x) = Builder::new(3, &[1, 64]);
    let relu = || Op::FullyConnected { activation: Activation::Relu };
    let x = b.layer(x, relu(), &[48, 64], &[1, 48], Zeros { unit: 1, left: 8 });
    let x = b.layer(x, relu(), &[40, 48], &[1, 40], Zeros { unit: 4, left: 20 });
    let last = Op::FullyConnected { activation: Activation::None };
    let y = b.layer(x, last, &[10, 40], &[1, 10], Zeros { unit: 1, left: 8 });
    b.graph.outputs = vec![y];
    let learning = Some(LearningPlan::parse(plan).unwrap());
    compile(&b.graph, &CompileOptions { learning, ..CompileOptions::default() }).unwrap()
}

/// Runs some steps; gives what was learned, and the outputs after.
fn train_steps(device: &mut dyn Device, file: &[u8]) -> (Vec<u8>, Vec<u32>) {
    device.load(file).unwrap();
    device.begin_learning().unwrap();
    let mut n = Numbers(5);
    for step in 0..12 {
        let sample: Vec<u8> = (0..64).map(|_| n.byte() as u8).collect();
        device.learn(&[&sample], step % 10).unwrap();
    }
    (device.learned().unwrap(), device.digests(&[&[7; 64]]).unwrap())
}

#[test]
fn sparse_layers_learn_the_same_on_cortex_m4_and_keep_their_zeros() {
    for weights in ["int8", "int16"] {
        let made = learning(&format!("weights = \"{weights}\"\nrate = 3.0\nhidden_rate = 1.0"));
        let kinds: Vec<_> = made.report.operators.iter().map(|o| o.kind).collect();
        assert_eq!(kinds, ["fully_connected_sparse"; 3]);
        let file = AlignedBytes::copy_of(&made.bytes);
        let here = train_steps(&mut HostDevice::new(), file.bytes());
        // The file with what was learned opens: every row still has the entries that it had.
        let after =
            AlignedBytes::copy_of(&offshoot_export::relearn::with_learned(&made.bytes, &here.0).unwrap());
        assert_eq!(forms(file.bytes()), forms(after.bytes()));
        let changed = file.bytes().iter().zip(after.bytes()).filter(|(a, b)| a != b).count();
        // Biases of four bytes and weights; of the rest only the checksum.
        let most = 4 * 98 + made.report.operators.iter().map(|o| o.weights as usize).sum::<usize>() + 4;
        assert!((50..most).contains(&changed), "{changed} bytes of at most {most}");
        if !offshoot_tests::skip_emulated() {
            assert_eq!(train_steps(board("qemu:cortex-m4").as_mut(), file.bytes()), here, "{weights}");
        }
    }
}

#[test]
fn other_layers_learn_beside_sparse_ones() {
    let made = learning("layers = [\"last\"]\npart = \"bias\"");
    let l = made.report.learning.as_ref().unwrap();
    assert_eq!(l.learning_layers.len(), 1);
    let (learned, _) = train_steps(&mut HostDevice::new(), AlignedBytes::copy_of(&made.bytes).bytes());
    assert!(!learned.is_empty());
    assert_eq!(made.report.operators[0].kind, "fully_connected_sparse");
}
