//! Sparse recurrent layers: the bits of the dense ones on host and board, the exporter's estimates against the emulator's counts,
//! smaller and faster where many weights are zero, learning with them.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips what needs QEMU.

use std::collections::BTreeSet;

use offshoot::format::codec::Record;
use offshoot::{AlignedBytes, Model};
use offshoot_export::{CompileOptions, Compiled, LearningPlan, Prefer, compile, sparse_forms};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, RecurrentKind, Returns, Value, ValueId};
use offshoot_target::{Device, HostDevice};
use offshoot_tests::{Numbers, board, skip_emulated};
use proptest::prelude::*;

const KINDS: [RecurrentKind; 5] = [
    RecurrentKind::Tanh,
    RecurrentKind::Relu,
    RecurrentKind::Gru,
    RecurrentKind::GruResetAfter,
    RecurrentKind::Lstm,
];

const PREFERENCES: [Prefer; 4] = [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash];

/// What is left of a matrix of weights: neighbouring inputs that go together, and a share in percent.
#[derive(Clone, Copy, Debug)]
struct Zeros(usize, usize);

/// A layer over `steps` of so many inputs.
#[derive(Clone, Copy, Debug)]
struct Layer {
    kind: RecurrentKind,
    returns: Returns,
    reverse: bool,
    steps: usize,
    inputs: usize,
    units: usize,
    /// Zero points of input and state.
    zeros: [i32; 2],
    /// Of input and state.
    left: [Zeros; 2],
}

fn tensor(graph: &mut Graph, shape: &[usize], scale: f32, zero: i32) -> ValueId {
    let (name, quant) = (format!("v{}", graph.values.len()), Some(Quant::per_tensor(scale, zero)));
    let (shape, dtype) = (shape.to_vec(), DType::I8);
    graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
}

/// int8 weights, a scale a row.
fn weights(graph: &mut Graph, n: &mut Numbers, [rows, columns]: [usize; 2], zeros: Zeros) -> ValueId {
    let mut data = vec![0i8; rows * columns];
    for unit in data.chunks_mut(columns).flat_map(|row| row.chunks_mut(zeros.0)) {
        if n.below(100) < zeros.1 {
            unit.iter_mut().for_each(|w| *w = n.byte());
        }
    }
    let left = (columns * zeros.1).div_ceil(100).max(1) as f32;
    let scale = (0..rows).map(|o| (0.6 + 0.1 * (o % 5) as f32) / 60.0 / left.sqrt()).collect();
    let w = graph.add_constant(format!("w{}", graph.values.len()), vec![rows, columns], Data::I8(data));
    graph.value_mut(w).quant = Some(Quant { scale, zero_point: vec![0; rows], axis: Some(0) });
    w
}

impl Layer {
    fn graph(&self, seed: u64) -> Graph {
        let mut n = Numbers(seed | 1);
        let mut graph = Graph::default();
        let (rows, units) = (self.kind.gates() * self.units, self.units);
        let x = tensor(&mut graph, &[1, self.steps, self.inputs], 0.02, self.zeros[0]);
        graph.inputs.push(x);
        let w = weights(&mut graph, &mut n, [rows, self.inputs], self.left[0]);
        let r = weights(&mut graph, &mut n, [rows, units], self.left[1]);
        let bias = (0..self.kind.biases() * units).map(|_| f32::from(n.byte()) / 200.0).collect();
        let b = graph.add_constant("bias", vec![self.kind.biases() * units], Data::F32(bias));
        let output: &[usize] =
            if self.returns == Returns::Sequence { &[1, self.steps, units] } else { &[1, units] };
        let y = tensor(&mut graph, output, 1.0 / 120.0, self.zeros[1]);
        let op = Op::Recurrent { kind: self.kind, returns: self.returns, reverse: self.reverse };
        graph.nodes.push(Node { name: "layer".into(), op, inputs: vec![x, w, r, b], output: y });
        graph.outputs = vec![y];
        graph.validate().unwrap();
        graph
    }
}

/// A layer from a seed.
fn layer(seed: u64, kind: RecurrentKind) -> Layer {
    let mut n = Numbers(seed ^ 0x5bd1_e995 | 1);
    let mut left = || Zeros([1, 4][n.below(2)], [0, 4, 10, 20, 35, 90][n.below(6)]);
    let left = [left(), left()];
    let mut width = |most: usize| {
        let width = 1 + n.below(most);
        if n.below(3) > 0 { width.next_multiple_of(4) } else { width }
    };
    let (inputs, units) = (width(150), width(40));
    let returns = [Returns::Sequence, Returns::Last][n.below(2)];
    let zeros = [[0, -128, 5][n.below(3)], [0, 3][n.below(2)]];
    Layer { kind, returns, reverse: n.below(2) == 0, steps: 1 + n.below(4), inputs, units, zeros, left }
}

fn compiled(graph: &Graph, prefer: Prefer, arrange: bool, stateful: bool) -> Compiled {
    compile(graph, &CompileOptions { prefer, arrange, stateful, ..CompileOptions::default() }).unwrap()
}

fn sample(graph: &Graph, seed: u64) -> Vec<u8> {
    let mut n = Numbers(seed ^ 0x9e37_79b9 | 1);
    (0..graph.value(graph.inputs[0]).len()).map(|_| n.byte() as u8).collect()
}

/// Forms of the weights of input and state.
fn forms(file: &[u8]) -> Option<&'static str> {
    Model::open(file).unwrap().ops().find_map(|(.., record)| match record {
        Record::RecurrentSparse(r) => Some(sparse_forms(r.input.map(|m| m.form), r.state.map(|m| m.form))),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn sparse_layers_give_the_bits_of_dense_ones(
        seed in any::<u64>(),
        kind in prop::sample::select(&KINDS[..]),
        stateful in any::<bool>(),
    ) {
        let layer = layer(seed, kind);
        let graph = layer.graph(seed);
        let samples = [sample(&graph, seed), sample(&graph, seed ^ 77)];
        let run = |made: &Compiled| {
            let mut host = HostDevice::new();
            host.load(AlignedBytes::copy_of(&made.bytes).bytes()).unwrap();
            samples.iter().map(|s| host.run(&[s]).unwrap()).collect::<Vec<_>>()
        };
        let dense = run(&compiled(&graph, Prefer::Balanced, false, stateful));
        for prefer in PREFERENCES {
            let made = compiled(&graph, prefer, true, stateful);
            prop_assert_eq!(run(&made), dense.clone(), "{:?} {:?}", prefer, layer);
        }
    }
}

#[test]
fn layers_give_the_same_bits_on_cortex_m4() {
    if skip_emulated() {
        return;
    }
    let (mut device, mut host, mut met) = (board("qemu:cortex-m4"), HostDevice::new(), BTreeSet::new());
    for index in 0..60 {
        let (seed, prefer) = (0x1234_5678_9abc + 977 * index, PREFERENCES[index as usize / 5 % 4]);
        let layer = layer(seed, KINDS[index as usize % 5]);
        let graph = layer.graph(seed);
        // One in six as it is without sparse weights.
        let file = AlignedBytes::copy_of(&compiled(&graph, prefer, index % 6 != 5, true).bytes);
        met.extend(forms(file.bytes()));
        host.load(file.bytes()).unwrap();
        device.load(file.bytes()).unwrap();
        // The second run goes on from the first.
        for seed in [seed, seed + 1] {
            let sample = sample(&graph, seed);
            let (here, there) = (host.digests(&[&sample]).unwrap(), device.digests(&[&sample]).unwrap());
            assert_eq!(here, there, "seed {seed}, {prefer:?}, {layer:?}");
        }
    }
    for form in ["bytes", "nibbles", "blocks", "dense"] {
        for place in [0, 1] {
            let has = met.iter().any(|m| m.split(", ").nth(place) == Some(form));
            assert!(has, "no layer had {form} at {place}: {met:?}");
        }
    }
}

#[test]
fn sparse_layers_are_smaller_and_faster_and_estimates_near() {
    if skip_emulated() {
        return;
    }
    let mut device = board("qemu:cortex-m4");
    let mut count = |made: &Compiled, sample: &[u8]| {
        device.load(AlignedBytes::copy_of(&made.bytes).bytes()).unwrap();
        device.profile(&[sample]).unwrap().operators[0].instructions.unwrap()
    };
    let mut off = Vec::new();
    println!(
        "layer | forms | weights left | file, dense | instructions estimated, counted | dense estimated, counted"
    );
    let sizes = [(6, 10, 64), (20, 40, 32), (4, 64, 64), (12, 13, 21), (1, 32, 96)];
    for ((steps, inputs, units), kind) in sizes.into_iter().flat_map(|s| KINDS.map(move |kind| (s, kind))) {
        for left in [Zeros(1, 20), Zeros(1, 8), Zeros(4, 12)] {
            let layer = Layer {
                kind,
                returns: Returns::Last,
                reverse: false,
                steps,
                inputs,
                units,
                zeros: [-5, 0],
                left: [left; 2],
            };
            let graph = layer.graph(7);
            // The same numbers: how long functions take depends on them.
            let [sparse, dense] =
                [true, false].map(|arrange| compiled(&graph, Prefer::Balanced, arrange, false));
            let report = sparse.report.operators[0].sparse.unwrap();
            let input = sample(&graph, 1);
            let (counted, of_dense) = (count(&sparse, &input), count(&dense, &input));
            println!(
                "{kind:?} {steps}, {inputs}, {units} | {} | {:.1} % | {}, {} | {}, {counted} | {}, {of_dense}",
                report.form,
                100.0 * report.density,
                sparse.bytes.len(),
                dense.bytes.len(),
                report.instructions_estimated,
                report.dense_instructions_estimated,
            );
            let pairs =
                [(report.instructions_estimated, counted), (report.dense_instructions_estimated, of_dense)];
            for (estimate, count) in pairs {
                let ratio = estimate as f64 / count as f64;
                if (ratio - 1.0).abs() > 0.12 {
                    off.push(format!("{kind:?} {inputs}, {units}: {estimate} for {count}, {ratio:.2}"));
                }
            }
            if !report.chosen || counted >= of_dense || sparse.bytes.len() >= dense.bytes.len() {
                off.push(format!("{layer:?}: {}", report.sentence()));
            }
        }
    }
    assert!(off.is_empty(), "{off:#?}");
}

const CLASSES: usize = 5;

/// A sparse layer and a head behind it, both of which learn.
fn learning(kind: RecurrentKind, left: Zeros) -> Compiled {
    let layer = Layer {
        kind,
        returns: Returns::Last,
        reverse: false,
        steps: 4,
        inputs: 24,
        units: 16,
        zeros: [-5, 3],
        left: [left; 2],
    };
    let mut graph = layer.graph(11);
    let (h, mut n) = (graph.outputs[0], Numbers(9));
    let w = weights(&mut graph, &mut n, [CLASSES, 16], Zeros(1, 100));
    let y = tensor(&mut graph, &[1, CLASSES], 0.05, 0);
    let op = Op::FullyConnected { activation: Activation::None };
    graph.nodes.push(Node { name: "head".into(), op, inputs: vec![h, w], output: y });
    graph.outputs = vec![y];
    let learning = Some(LearningPlan::parse("rate = 2.0\nhidden_rate = 1.0\nweights = \"int8\"").unwrap());
    compile(&graph, &CompileOptions { learning, ..CompileOptions::default() }).unwrap()
}

/// Runs some steps; gives what was learned, and the outputs after.
fn train_steps(device: &mut dyn Device, file: &[u8]) -> (Vec<u8>, Vec<u32>) {
    device.load(file).unwrap();
    device.begin_learning().unwrap();
    let mut n = Numbers(5);
    for step in 0..12 {
        let sample: Vec<u8> = (0..96).map(|_| n.byte() as u8).collect();
        device.learn(&[&sample], step % CLASSES as u16).unwrap();
    }
    (device.learned().unwrap(), device.digests(&[&[7; 96]]).unwrap())
}

#[test]
fn sparse_layers_learn_the_same_on_cortex_m4_and_keep_their_zeros() {
    let mut device = (!skip_emulated()).then(|| board("qemu:cortex-m4"));
    for (kind, left) in KINDS.into_iter().flat_map(|k| [Zeros(1, 15), Zeros(4, 20)].map(|l| (k, l))) {
        let made = learning(kind, left);
        assert_eq!(made.report.operators[0].kind, "recurrent_sparse");
        assert_eq!(made.report.learning.as_ref().unwrap().learning_layers.len(), 2);
        let file = AlignedBytes::copy_of(&made.bytes);
        let (learned, outputs) = train_steps(&mut HostDevice::new(), file.bytes());
        // The file with what was learned computes what the device that learned it does: its rows begin with the sums of the
        // weights that they have now.
        let after =
            AlignedBytes::copy_of(&offshoot_export::relearn::with_learned(&made.bytes, &learned).unwrap());
        assert_eq!(forms(file.bytes()), forms(after.bytes()));
        let mut host = HostDevice::new();
        host.load(after.bytes()).unwrap();
        assert_eq!(host.digests(&[&[7; 96]]).unwrap(), outputs);
        assert_eq!(summed_anew(after.bytes()), outputs, "{kind:?} {left:?}");
        let changed = file.bytes().iter().zip(after.bytes()).filter(|(a, b)| a != b).count();
        assert!(changed > 50, "{kind:?}: {changed} bytes");
        if let Some(device) = &mut device {
            assert_eq!(train_steps(device.as_mut(), file.bytes()), (learned, outputs), "{kind:?} {left:?}");
        }
    }
}

/// Digests of the outputs of a file, its sparse layer's rows beginning with what their weights make of the zero points.
fn summed_anew(file: &[u8]) -> Vec<u32> {
    use offshoot::format::record::RecurrentArith;
    let model = Model::open(file).unwrap();
    let blobs_at = file.len() - model.blobs().len();
    let mut twin = file.to_vec();
    let record = model.ops().find_map(|(.., record)| match record {
        Record::RecurrentSparse(r) => Some(r),
        _ => None,
    });
    let r = record.unwrap();
    let RecurrentArith::I8 { in_zp, out_zp, .. } = r.layer.arith else { panic!("an int8 layer") };
    let (rows, units) = (r.layer.kind.gates() * usize::from(r.layer.units), usize::from(r.layer.units));
    let mut at = blobs_at + r.layer.blob as usize + 4 * (r.layer.kind.biases() * units + 2 * rows);
    for (matrix, zero) in r.matrices().into_iter().zip([in_zp, out_zp]) {
        let matrix = matrix.unwrap();
        let (counts, first) = (at + 4 * rows, at + 4 * rows + (2 * rows).next_multiple_of(4));
        let mut weight = first;
        for row in 0..rows {
            let count = usize::from(u16::from_le_bytes([file[counts + 2 * row], file[counts + 2 * row + 1]]));
            let own = &file[weight..weight + count * matrix.width() as usize];
            let sum: i32 = own.iter().map(|&w| i32::from(w as i8)).sum();
            twin[at + 4 * row..][..4].copy_from_slice(&(-i32::from(zero) * sum).to_le_bytes());
            weight += own.len();
        }
        at = (weight + matrix.steps as usize).next_multiple_of(4);
    }
    offshoot::format::header::seal(&mut twin).unwrap();
    let mut host = HostDevice::new();
    host.load(AlignedBytes::copy_of(&twin).bytes()).unwrap();
    host.digests(&[&[7; 96]]).unwrap()
}
