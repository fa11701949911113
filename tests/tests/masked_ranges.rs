//! Numbers that only say "never" do not stretch the range of an int8 tensor: masks before a softmax, what pads a maximum
//! pool, 0 / 0 in a calibration sample. Each network is quantised, compiled and run on the host; the signal-to-noise
//! ratio is that of the outputs against the float network.

use ndarray::{ArrayD, IxDyn};
use offshoot_cli::batch::{self, Inputs, Sequences};
use offshoot_cli::files::OffFile;
use offshoot_cli::ui::Ui;
use offshoot_compress::quantize::{QuantizeOptions, quantize, quantize_int16};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, Value, ValueId,
    Window,
};
use offshoot_reference::Executor;
use offshoot_target::Target;

/// Numbers in -1 to 1 that look random.
fn wave(n: usize, phase: usize) -> Vec<f32> {
    (0..n).map(|i| (((i + phase * 977) * (i + 31)) as f32 * 0.731 + i as f32 * 1.37).sin()).collect()
}

#[derive(Default)]
struct Build(Graph);

impl Build {
    fn value(&mut self, shape: &[usize]) -> ValueId {
        let name = format!("v{}", self.0.values.len());
        let shape = shape.to_vec();
        let value =
            Value { name, shape, dtype: DType::F32, quant: None, data: None, channels_first_outside: false };
        self.0.add_value(value)
    }

    fn input(&mut self, shape: &[usize]) -> ValueId {
        let id = self.value(shape);
        self.0.inputs.push(id);
        id
    }

    fn constant(&mut self, shape: &[usize], data: Vec<f32>) -> ValueId {
        let name = format!("c{}", self.0.values.len());
        self.0.add_constant(name, shape.to_vec(), Data::F32(data))
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let output = self.value(shape);
        let name = format!("n{}", self.0.nodes.len());
        self.0.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    fn finish(mut self, output: ValueId) -> Graph {
        self.0.outputs = vec![output];
        self.0.validate().unwrap();
        self.0
    }
}

fn binary(kind: BinaryKind) -> Op {
    Op::Binary { kind, activation: Activation::None }
}

/// Lossless passes, quantisation on half of the samples, and the outputs of all of them on the host, dB. With int16 activations
/// the outputs are no worse.
fn snr(graph: Graph, samples: &[Vec<ArrayD<f32>>]) -> f64 {
    let (graph, _) = offshoot_ir::passes::lossless(graph).unwrap();
    let calibration: Vec<_> = samples.iter().step_by(2).cloned().collect();
    let (quantized, _) = quantize(&graph, &calibration, &QuantizeOptions::default()).unwrap();
    let int8 = outputs_snr(&graph, &quantized, samples);
    let wide = quantize_int16(&graph, &calibration, &QuantizeOptions::default()).unwrap();
    let int16 = outputs_snr(&graph, &wide, samples);
    assert!(int16 > int8 - 1.0, "int16x8: {int16:.1} dB, int8: {int8:.1} dB");
    int8
}

fn outputs_snr(graph: &Graph, quantized: &Graph, samples: &[Vec<ArrayD<f32>>]) -> f64 {
    let compiled = compile(quantized, &CompileOptions::default()).unwrap();
    let file = OffFile::from_bytes(&compiled.bytes);
    let model = file.model().unwrap();
    let (mut signal, mut noise) = (0.0, 0.0);
    let executor = Executor::new(graph).unwrap();
    for sample in samples {
        let arrays: Vec<_> = sample.iter().map(|x| x.clone().into()).collect();
        let names = vec!["x".to_owned(); arrays.len()];
        let inputs = Inputs::encode(&model, &arrays, &names).unwrap();
        let out =
            batch::run(&Ui { json: true }, &file, &inputs, &Target::Host, Sequences::default()).unwrap();
        let got = batch::output_port(&model, 0).unwrap().decode(&out[0][0]);
        let want = executor.run(sample).unwrap();
        for (a, b) in got.iter().zip(&want[0]) {
            signal += f64::from(*b).powi(2);
            noise += f64::from(a - b).powi(2);
        }
    }
    10.0 * (signal / noise).log10()
}

fn samples(shape: &[usize], gain: f32) -> Vec<Vec<ArrayD<f32>>> {
    let n = shape.iter().product();
    let one = |i| wave(n, i).into_iter().map(|v| gain * v).collect();
    (0..24).map(|i| vec![ArrayD::from_shape_vec(IxDyn(shape), one(i)).unwrap()]).collect()
}

const NEVER: [f32; 6] = [-30.0, -100.0, -1e4, -1e9, f32::MIN, f32::NEG_INFINITY];

#[test]
fn constant_masks_before_a_softmax() {
    for never in NEVER {
        for subtracted in [false, true] {
            let mut b = Build::default();
            let x = b.input(&[1, 6, 6]);
            let sign = if subtracted { -1.0 } else { 1.0 };
            let mask = (0..36).map(|i| if i % 6 > i / 6 { sign * never } else { 0.0 }).collect();
            let mask = b.constant(&[6, 6], mask);
            let kind = if subtracted { BinaryKind::Sub } else { BinaryKind::Add };
            let a = b.node(binary(kind), &[x, mask], &[1, 6, 6]);
            let y = b.node(Op::Softmax { axis: 2 }, &[a], &[1, 6, 6]);
            let snr = snr(b.finish(y), &samples(&[1, 6, 6], 3.0));
            assert!(snr >= 30.0, "{never} {subtracted}: {snr}");
        }
    }
}

#[test]
fn a_mask_that_is_computed_before_a_softmax() {
    for never in [-1e4, -1e9] {
        let mut b = Build::default();
        let (x, m) = (b.input(&[1, 4, 6]), b.input(&[1, 1, 6]));
        let one = b.constant(&[], vec![1.0]);
        let far = b.constant(&[], vec![never]);
        let left = b.node(binary(BinaryKind::Sub), &[one, m], &[1, 1, 6]);
        let mask = b.node(binary(BinaryKind::Mul), &[left, far], &[1, 1, 6]);
        let a = b.node(binary(BinaryKind::Add), &[x, mask], &[1, 4, 6]);
        let y = b.node(Op::Softmax { axis: 2 }, &[a], &[1, 4, 6]);
        let mut samples = samples(&[1, 4, 6], 3.0);
        for (i, sample) in samples.iter_mut().enumerate() {
            // The first is never masked.
            let seen = (0..6).map(|k| f32::from(u8::from(k <= i % 6))).collect();
            sample.push(ArrayD::from_shape_vec(IxDyn(&[1, 1, 6]), seen).unwrap());
        }
        let snr = snr(b.finish(y), &samples);
        assert!(snr >= 28.0, "{never}: {snr}");
    }
}

#[test]
fn what_pads_a_maximum_pool() {
    for never in NEVER {
        let mut b = Build::default();
        let x = b.input(&[1, 6, 6, 3]);
        let (before, after) = (vec![0, 1, 1, 0], vec![0, 1, 1, 0]);
        let pad = Op::Pad { before, after, mode: None, value: never };
        let p = b.node(pad, &[x], &[1, 8, 8, 3]);
        let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
        let pool = Op::Pool { kind: PoolKind::Max, window, activation: Activation::None };
        let m = b.node(pool, &[p], &[1, 6, 6, 3]);
        let flat = b.node(Op::Reshape, &[m], &[1, 108]);
        let w = b.constant(&[5, 108], wave(540, 7));
        let y = b.node(Op::FullyConnected { activation: Activation::None }, &[flat, w], &[1, 5]);
        let snr = snr(b.finish(y), &samples(&[1, 6, 6, 3], 1.0));
        assert!(snr >= 30.0, "{never}: {snr}");
    }
}

#[test]
fn a_softmax_that_is_written_out() {
    for gain in [3.0, 20.0] {
        let mut b = Build::default();
        let x = b.input(&[1, 8]);
        let e = b.node(Op::Unary(UnaryKind::Exp), &[x], &[1, 8]);
        let s = b.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![1] }, &[e], &[1, 1]);
        let y = b.node(binary(BinaryKind::Div), &[e, s], &[1, 8]);
        let snr = snr(b.finish(y), &samples(&[1, 8], gain));
        assert!(snr >= 30.0, "{gain}: {snr}");
    }
}

#[test]
fn the_mean_of_a_sparse_map() {
    let mut b = Build::default();
    let x = b.input(&[1, 8, 8, 4]);
    let window = Window { kernel: [8, 8], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
    let pool = Op::Pool { kind: PoolKind::Average, window, activation: Activation::None };
    let y = b.node(pool, &[x], &[1, 1, 1, 4]);
    let mut samples = samples(&[1, 8, 8, 4], 6.0);
    for x in samples.iter_mut().flatten() {
        // One element of twenty is not zero.
        x.iter_mut().enumerate().for_each(|(i, v)| *v = if i % 20 == 3 { v.abs() } else { 0.0 });
    }
    let snr = snr(b.finish(y), &samples);
    assert!(snr >= 30.0, "{snr}");
}

#[test]
fn zero_by_zero_in_a_sample_leaves_the_biases() {
    let mut b = Build::default();
    let x = b.input(&[1, 10]);
    let s = b.node(Op::Reduce { kind: ReduceKind::Sum, axes: vec![1] }, &[x], &[1, 1]);
    let little = b.constant(&[], vec![1e-3]);
    let d = b.node(binary(BinaryKind::Add), &[s, little], &[1, 1]);
    let n = b.node(binary(BinaryKind::Div), &[x, d], &[1, 10]);
    let w = b.constant(&[4, 10], wave(40, 3));
    let bias = b.constant(&[4], vec![-4.0, 3.0, 1.0, 2.0]);
    let y = b.node(Op::FullyConnected { activation: Activation::None }, &[n, w, bias], &[1, 4]);
    let mut samples = samples(&[1, 10], 1.0);
    for (i, x) in samples.iter_mut().flatten().enumerate() {
        x.mapv_inplace(|v| if i % 6 == 0 { 0.0 } else { v.abs() });
    }
    let snr = snr(b.finish(y), &samples);
    assert!(snr >= 35.0, "{snr}");
}

#[test]
fn infinite_numbers_that_matter_are_named() {
    let mut b = Build::default();
    let x = b.input(&[1, 4]);
    let far = b.constant(&[4], vec![0.0, f32::NEG_INFINITY, 0.0, 0.0]);
    let y = b.node(binary(BinaryKind::Add), &[x, far], &[1, 4]);
    let (graph, name) = (b.finish(y), "v2");
    let error =
        quantize(&graph, &samples(&[1, 4], 1.0), &QuantizeOptions::default()).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
}
