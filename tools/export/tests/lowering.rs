//! Every lowering, compiled and run by the engine, against results worked out by hand.

use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, Compiled, Core, Error, Prefer, compile};
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Lookup, Node, Op, PadMode, PoolKind, Quant, ReduceKind,
    ResizeRule, UnaryKind, Value, ValueId, Window,
};

/// Builds graphs value by value.
#[derive(Default)]
struct Builder(Graph);

impl Builder {
    fn value(&mut self, shape: &[usize], quant: Option<(f32, i32)>) -> ValueId {
        let name = format!("v{}", self.0.values.len());
        self.0.add_value(Value {
            name,
            shape: shape.to_vec(),
            dtype: if quant.is_some() { DType::I8 } else { DType::F32 },
            quant: quant.map(|(s, z)| Quant::per_tensor(s, z)),
            data: None,
            channels_first_outside: false,
        })
    }

    fn input(&mut self, shape: &[usize], quant: Option<(f32, i32)>) -> ValueId {
        let v = self.value(shape, quant);
        self.0.inputs.push(v);
        v
    }

    fn floats(&mut self, shape: &[usize], data: &[f32]) -> ValueId {
        let name = format!("c{}", self.0.values.len());
        self.0.add_constant(name, shape.to_vec(), Data::F32(data.to_vec()))
    }

    fn bytes(&mut self, shape: &[usize], data: &[i8], scale: &[f32]) -> ValueId {
        let name = format!("c{}", self.0.values.len());
        let v = self.0.add_constant(name, shape.to_vec(), Data::I8(data.to_vec()));
        let axis = (scale.len() > 1).then_some(0);
        self.0.value_mut(v).quant =
            Some(Quant { scale: scale.to_vec(), zero_point: vec![0; scale.len()], axis });
        v
    }

    fn words(&mut self, data: &[i32]) -> ValueId {
        let name = format!("c{}", self.0.values.len());
        self.0.add_constant(name, vec![data.len()], Data::I32(data.to_vec()))
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize], quant: Option<(f32, i32)>) -> ValueId {
        let output = self.value(shape, quant);
        let name = format!("n{}", self.0.nodes.len());
        self.0.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    fn done(mut self, outputs: &[ValueId]) -> Graph {
        self.0.outputs = outputs.to_vec();
        self.0
    }
}

fn build(graph: &Graph) -> Compiled {
    compile(graph, &CompileOptions::default()).unwrap()
}

/// Runs on the raw bytes of the inputs; gives the raw bytes of the outputs.
fn run(graph: &Graph, inputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let file = AlignedBytes::copy_of(&build(graph).bytes);
    let model = Model::open(file.bytes()).unwrap();
    let outputs = model.output_count();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    for (i, x) in inputs.iter().enumerate() {
        engine.input_mut(i).unwrap().copy_from_slice(x);
    }
    engine.run().unwrap();
    (0..outputs).map(|i| engine.output(i).unwrap().to_vec()).collect()
}

fn run_f32(graph: &Graph, inputs: &[&[f32]]) -> Vec<f32> {
    let inputs: Vec<Vec<u8>> =
        inputs.iter().map(|x| x.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let bytes = run(graph, &inputs).remove(0);
    bytes.chunks(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn run_i8(graph: &Graph, inputs: &[&[i8]]) -> Vec<i8> {
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|x| x.iter().map(|&v| v as u8).collect()).collect();
    run(graph, &inputs).remove(0).into_iter().map(|b| b as i8).collect()
}

/// A graph of one operator on float32 inputs.
fn one_f32(op: Op, shapes: &[&[usize]], out: &[usize]) -> Graph {
    let mut b = Builder::default();
    let inputs: Vec<ValueId> = shapes.iter().map(|s| b.input(s, None)).collect();
    let y = b.node(op, &inputs, out, None);
    b.done(&[y])
}

fn window(kernel: [u16; 2], stride: [u16; 2], pad: [u16; 4]) -> Window {
    Window { kernel, stride, dilation: [1, 1], pad }
}

#[test]
fn convolution_depthwise_and_pointwise() {
    let mut b = Builder::default();
    let x = b.input(&[1, 2, 2, 2], None);
    // Depthwise 2×2, multiplier 1: sums channel 0, takes the first pixel of channel 1.
    let w = b.floats(&[2, 2, 2, 1], &[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    let depthwise =
        Op::Conv2d { window: window([2, 2], [1, 1], [0; 4]), groups: 2, activation: Activation::None };
    let d = b.node(depthwise, &[x, w], &[1, 1, 1, 2], None);
    // Pointwise to three channels with a bias and ReLU.
    let w = b.floats(&[3, 1, 1, 2], &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0]);
    let bias = b.floats(&[3], &[0.5, 0.0, 0.0]);
    let pointwise =
        Op::Conv2d { window: window([1, 1], [1, 1], [0; 4]), groups: 1, activation: Activation::Relu };
    let y = b.node(pointwise, &[d, w, bias], &[1, 1, 1, 3], None);
    let g = b.done(&[y]);
    let kinds: Vec<&str> = build(&g).report.operators.iter().map(|o| o.kind).collect();
    assert_eq!(kinds, ["depthwise", "fully_connected"]);
    assert_eq!(build(&g).report.macs, 8 + 6);
    assert_eq!(run_f32(&g, &[&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]]), [10.5, 10.0, 0.0]);
}

#[test]
fn int8_convolution_per_channel() {
    let mut b = Builder::default();
    let x = b.input(&[1, 1, 3, 1], Some((0.5, 1)));
    let w = b.bytes(&[2, 1, 2, 1], &[2, 4, 1, -1], &[0.5, 0.25]);
    let bias = b.words(&[4, 0]);
    let op = Op::Conv2d { window: window([1, 2], [1, 1], [0; 4]), groups: 1, activation: Activation::None };
    let y = b.node(op, &[x, w, bias], &[1, 1, 2, 2], Some((0.5, -1)));
    let g = b.done(&[y]);
    // (x - 1) = 2, 4, 6. Channel 0: (2·2+4·4+4)·0.25/0.5 = 12, channel 1: (2-4)·0.125/0.5 = -0.5, rounds to -1 or 0.
    let out = run_i8(&g, &[&[3, 5, 7]]);
    assert_eq!((out[0], out[2]), (11, 17));
    assert!((-2..=-1).contains(&out[1]));
}

#[test]
fn transposed_convolution() {
    let mut b = Builder::default();
    let x = b.input(&[1, 1, 2, 1], None);
    let w = b.floats(&[1, 1, 2, 1], &[1.0, 10.0]);
    let op = Op::ConvTranspose2d {
        window: window([1, 2], [1, 2], [0; 4]),
        groups: 1,
        activation: Activation::None,
    };
    let y = b.node(op, &[x, w], &[1, 1, 4, 1], None);
    assert_eq!(run_f32(&b.done(&[y]), &[&[1.0, 2.0]]), [1.0, 10.0, 2.0, 20.0]);
}

#[test]
fn products_of_activations() {
    let g = one_f32(Op::MatMul { transpose_b: false }, &[&[2, 2], &[2, 2]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 1.0, 1.0]]), [3.0, 2.0, 7.0, 4.0]);
    let g = one_f32(Op::MatMul { transpose_b: true }, &[&[2, 2], &[2, 2]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0, 3.0, 4.0], &[1.0, 0.0, 1.0, 1.0]]), [1.0, 3.0, 3.0, 7.0]);
}

#[test]
fn movements() {
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let g = one_f32(Op::Transpose { perm: vec![1, 0] }, &[&[2, 3]], &[3, 2]);
    assert_eq!(run_f32(&g, &[&x]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let g = one_f32(Op::Slice { start: vec![1, 2], step: vec![1, -1] }, &[&[2, 3]], &[1, 3]);
    assert_eq!(run_f32(&g, &[&x]), [6.0, 5.0, 4.0]);
    let g = one_f32(Op::Concat { axis: 1 }, &[&[2, 1], &[2, 2]], &[2, 3]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0], &[3.0, 4.0, 5.0, 6.0]]), [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
    let g = one_f32(Op::Expand, &[&[2, 1]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0]]), [1.0, 1.0, 2.0, 2.0]);
    let pad = |mode| Op::Pad { before: vec![0, 2], after: vec![0, 1], mode, value: 9.0 };
    let g = one_f32(pad(None), &[&[1, 3]], &[1, 6]);
    assert_eq!(run_f32(&g, &[&x[..3]]), [9.0, 9.0, 1.0, 2.0, 3.0, 9.0]);
    let g = one_f32(pad(Some(PadMode::Reflect)), &[&[1, 3]], &[1, 6]);
    assert_eq!(run_f32(&g, &[&x[..3]]), [3.0, 2.0, 1.0, 2.0, 3.0, 2.0]);
}

#[test]
fn a_reshape_costs_nothing_but_an_identity_copies() {
    let mut b = Builder::default();
    let x = b.input(&[2, 3], None);
    let r = b.node(Op::Reshape, &[x], &[6], None);
    let y = b.node(Op::Unary(UnaryKind::Neg), &[r], &[6], None);
    let g = b.done(&[y]);
    assert_eq!(build(&g).report.operators.len(), 1);
    assert_eq!(build(&g).report.arena_bytes, 24);
    let g = one_f32(Op::Reshape, &[&[2, 1]], &[2]);
    assert_eq!(build(&g).report.operators.len(), 1);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0]]), [1.0, 2.0]);
}

#[test]
fn binary_operands_in_every_place() {
    let sub = || Op::Binary { kind: BinaryKind::Sub, activation: Activation::None };
    let g = one_f32(sub(), &[&[2, 2], &[2]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0, 3.0, 4.0], &[1.0, 1.0]]), [0.0, 1.0, 2.0, 3.0]);
    let g = one_f32(sub(), &[&[2], &[2, 2]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 1.0], &[1.0, 2.0, 3.0, 4.0]]), [0.0, -1.0, -2.0, -3.0]);
    let g = one_f32(sub(), &[&[2, 1], &[1, 2]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0], &[10.0, 20.0]]), [-9.0, -19.0, -8.0, -18.0]);
    let mut b = Builder::default();
    let x = b.input(&[2], None);
    let c = b.floats(&[1], &[10.0]);
    let y = b.node(sub(), &[c, x], &[2], None);
    let g = b.done(&[y]);
    assert_eq!(build(&g).report.operators.len(), 1);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0]]), [9.0, 8.0]);
}

#[test]
fn int8_addition_product_and_minimum() {
    let mut b = Builder::default();
    let (x, y) = (b.input(&[3], Some((0.5, 0))), b.input(&[3], Some((0.25, 4))));
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::Relu };
    let s = b.node(add, &[x, y], &[3], Some((0.5, -10)));
    assert_eq!(run_i8(&b.done(&[s]), &[&[2, 4, -20], &[8, 4, 4]]), [-6, -6, -10]);
    let mut b = Builder::default();
    let (x, y) = (b.input(&[2], Some((0.5, 0))), b.input(&[2], Some((0.5, 0))));
    let m = b.node(
        Op::Binary { kind: BinaryKind::Mul, activation: Activation::None },
        &[x, y],
        &[2],
        Some((0.25, 1)),
    );
    assert_eq!(run_i8(&b.done(&[m]), &[&[2, -3], &[4, 5]]), [9, -14]);
    let mut b = Builder::default();
    let (x, y) = (b.input(&[2], Some((0.5, 0))), b.input(&[2], Some((0.25, 0))));
    let m = b.node(
        Op::Binary { kind: BinaryKind::Min, activation: Activation::None },
        &[x, y],
        &[2],
        Some((0.5, 0)),
    );
    assert_eq!(run_i8(&b.done(&[m]), &[&[2, 9], &[8, 8]]), [2, 4]);
}

#[test]
fn int8_functions_are_tables_and_clips() {
    let mut b = Builder::default();
    let x = b.input(&[3], Some((0.1, 0)));
    let s = b.node(Op::Unary(UnaryKind::Sigmoid), &[x], &[3], Some((1.0 / 256.0, -128)));
    let g = b.done(&[s]);
    assert_eq!(build(&g).report.operators[0].kind, "lut");
    assert_eq!(run_i8(&g, &[&[0, 127, -128]]), [0, 127, -128]);
    let mut b = Builder::default();
    let x = b.input(&[3], Some((0.5, 0)));
    let clip = UnaryKind::Clip { min: 0.0, max: 6.0 };
    let s = b.node(Op::Unary(clip), &[x], &[3], Some((0.5, 0)));
    let g = b.done(&[s]);
    assert_eq!(build(&g).report.operators[0].kind, "requantize");
    assert_eq!(run_i8(&g, &[&[-5, 5, 50]]), [0, 5, 12]);
}

#[test]
fn lookups_are_tables_of_their_codes() {
    let (from, to) = (Quant::per_tensor(0.5, 3), Quant::per_tensor(0.25, -1));
    let lookup = Lookup::of(from, to, |v| v / 3.0);
    let table = lookup.table.clone();
    let mut b = Builder::default();
    let x = b.input(&[1, 256], Some((0.5, 3)));
    let y = b.node(Op::Lookup(lookup), &[x], &[1, 256], Some((0.25, -1)));
    let graph = b.done(&[y]);
    assert!(build(&graph).report.fallbacks.is_empty());
    let codes: Vec<i8> = (-128..=127).collect();
    assert_eq!(run_i8(&graph, &[&codes]), table);
    // 3.0 / 3 is four steps of 0.25.
    assert_eq!(table[128 + 3 + 6], -1 + 4);
    let mut other = graph;
    other.value_mut(y).quant = Some(Quant::per_tensor(0.5, 0));
    assert!(other.validate().is_err());
}

#[test]
fn what_has_no_int8_kernel_runs_in_float() {
    let mut b = Builder::default();
    let x = b.input(&[1, 4], Some((0.5, 0)));
    let gamma = b.floats(&[4], &[1.0; 4]);
    let beta = b.floats(&[4], &[0.0; 4]);
    let y = b.node(Op::LayerNorm { epsilon: 0.0 }, &[x, gamma, beta], &[1, 4], Some((0.5, 0)));
    let g = b.done(&[y]);
    let report = build(&g).report;
    let kinds: Vec<&str> = report.operators.iter().map(|o| o.kind).collect();
    assert_eq!(kinds, ["dequantize", "layer_norm", "quantize"]);
    assert_eq!(report.fallbacks.len(), 1);
    assert_eq!(run_i8(&g, &[&[2, 2, -2, -2]]), [2, 2, -2, -2]);
}

/// Unpacking weights of few levels takes thousands of instructions, which a few bytes of flash are not worth.
#[test]
fn only_layers_that_are_large_enough_are_packed() {
    let layer = |inputs: usize, outputs: usize| {
        let mut b = Builder::default();
        let x = b.input(&[1, inputs], Some((0.5, 0)));
        let weights: Vec<i8> = (0..inputs * outputs).map(|i| (i * 7 % 13) as i8 * 8 - 48).collect();
        let w = b.bytes(&[outputs, inputs], &weights, &[0.01]);
        let bias = b.words(&vec![0; outputs]);
        let op = Op::FullyConnected { activation: Activation::None };
        let y = b.node(op, &[x, w, bias], &[1, outputs], Some((0.5, 0)));
        b.done(&[y])
    };
    for core in [Core::Dsp, Core::ArmV7M, Core::ArmV6M, Core::RiscV32] {
        let made = |graph: &Graph, prefer| {
            compile(graph, &CompileOptions { prefer, core, ..CompileOptions::default() }).unwrap().report
        };
        for prefer in [Prefer::Balanced, Prefer::Ram, Prefer::Flash] {
            // 13 levels: 4 bits. The smaller layer would take 556 bytes of arena instead of 12, and a larger file.
            let (tiny, large) = (made(&layer(8, 4), prefer), made(&layer(64, 32), prefer));
            assert_ne!(tiny.operators[0].kind, "conv_packed", "{core:?} {prefer:?}");
            assert!(tiny.arena_bytes < 64, "{core:?} {prefer:?}");
            if prefer != Prefer::Flash {
                assert_eq!(large.operators[0].kind, "conv_packed", "{core:?} {prefer:?}");
            }
            assert!(large.weights_bytes <= 64 * 32 / 2 + 16, "{core:?} {prefer:?}");
        }
    }
}

/// Between pairs of 16 bits: the two bytes of the code that pads differ.
#[test]
fn int16_is_padded_with_any_number() {
    let mut b = Builder::default();
    let x = b.input(&[1, 3], Some((0.5, 0)));
    let pad = Op::Pad { before: vec![0, 1], after: vec![0, 2], mode: None, value: 150.5 };
    let y = b.node(pad, &[x], &[1, 6], Some((0.5, 0)));
    let mut graph = b.done(&[y]);
    [x, y].iter().for_each(|id| graph.value_mut(*id).dtype = DType::I16);
    let codes = |v: &[i16]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let got = run(&graph, &[codes(&[5, -7, 1000])]).remove(0);
    assert_eq!(got, codes(&[301, 5, -7, 1000, 301, 301]));
}

/// Padding that does not count, and an output scale finer than the input's: the mean is rounded once.
#[test]
fn a_padded_average_pool_between_two_scales_rounds_once() {
    let mut b = Builder::default();
    let x = b.input(&[1, 2, 3, 1], Some((0.5, 0)));
    let real = b.node(Op::Dequantize, &[x], &[1, 2, 3, 1], None);
    let window = window([3, 3], [1, 1], [1; 4]);
    let pool = Op::Pool { kind: PoolKind::Average, window, activation: Activation::None };
    let mean = b.node(pool, &[real], &[1, 2, 3, 1], None);
    let y = b.node(Op::Quantize, &[mean], &[1, 2, 3, 1], Some((0.02, -3)));
    let g = b.done(&[y]);
    // Sums of 1, 2 and 3 steps of 0.5 over four, six and four elements: 6.25, 8.33 and 18.75 steps of 0.02.
    assert_eq!(run_i8(&g, &[&[0, 1, 2, -1, 1, -1]]), [3, 5, 16, 3, 5, 16]);
    let fallbacks = build(&g).report.fallbacks;
    assert!(fallbacks.len() == 1 && fallbacks[0].reason.contains("no int8 form"), "{fallbacks:?}");
}

#[test]
fn reductions_over_any_axes() {
    let mean = |axes: &[usize]| Op::Reduce { kind: ReduceKind::Mean, axes: axes.to_vec() };
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    assert_eq!(run_f32(&one_f32(mean(&[1]), &[&[2, 2, 2]], &[2, 2]), &[&x]), [2.0, 3.0, 6.0, 7.0]);
    assert_eq!(run_f32(&one_f32(mean(&[0, 2]), &[&[2, 2, 2]], &[2]), &[&x]), [3.5, 5.5]);
    let mut b = Builder::default();
    let x = b.input(&[1, 4], Some((0.5, 3)));
    let y = b.node(mean(&[1]), &[x], &[1], Some((0.5, 3)));
    assert_eq!(run_i8(&b.done(&[y]), &[&[3, 5, 7, 9]]), [6]);
}

#[test]
fn pools_softmax_argmax_and_resize() {
    let pool = Op::Pool {
        kind: PoolKind::Max,
        window: window([1, 2], [1, 2], [0; 4]),
        activation: Activation::None,
    };
    assert_eq!(
        run_f32(&one_f32(pool, &[&[1, 1, 4, 1]], &[1, 1, 2, 1]), &[&[1.0, 3.0, 2.0, 0.0]]),
        [3.0, 2.0]
    );
    let g = one_f32(Op::Softmax { axis: 0 }, &[&[2, 2]], &[2, 2]);
    assert_eq!(run_f32(&g, &[&[1.0, 2.0, 1.0, 2.0]]), [0.5; 4]);
    let mut g = one_f32(Op::ArgMax { axis: 1, select_last: false }, &[&[2, 2]], &[2]);
    let y = g.outputs[0];
    g.value_mut(y).dtype = DType::I32;
    let x: Vec<u8> = [1.0f32, 2.0, 4.0, 3.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    assert_eq!(run(&g, &[x]), [[1, 0, 0, 0, 0, 0, 0, 0]]);
    let rule = ResizeRule {
        bilinear: false,
        coordinate: "asymmetric".into(),
        nearest: "floor".into(),
        scale: [1.0, 2.0],
        rounded_steps: false,
    };
    assert_eq!(
        run_f32(&one_f32(Op::Resize(rule), &[&[1, 1, 2, 1]], &[1, 1, 4, 1]), &[&[1.0, 2.0]]),
        [1.0, 1.0, 2.0, 2.0]
    );
    let rule = ResizeRule {
        bilinear: true,
        coordinate: "half_pixel".into(),
        nearest: String::new(),
        scale: [1.0, 2.0],
        rounded_steps: false,
    };
    assert_eq!(
        run_f32(&one_f32(Op::Resize(rule), &[&[1, 1, 2, 1]], &[1, 1, 4, 1]), &[&[0.0, 4.0]]),
        [0.0, 1.0, 3.0, 4.0]
    );
}

#[test]
fn everything_unsupported_is_named_at_once() {
    let mut b = Builder::default();
    let x = b.input(&[1, 2], None);
    let c = b.floats(&[2], &[1.0; 2]);
    let norm = || Op::BatchNorm { epsilon: 0.0 };
    let y = b.node(norm(), &[x, c, c, c, c], &[1, 2], None);
    let z = b.node(norm(), &[y, c, c, c, c], &[1, 2], None);
    let Err(Error::Unsupported(all)) = compile(&b.done(&[z]), &CompileOptions::default()) else { panic!() };
    assert_eq!(all.iter().map(|u| u.node.as_str()).collect::<Vec<_>>(), ["n0", "n1"]);
}

#[test]
fn limits_are_errors_that_say_by_how_much() {
    let g = one_f32(Op::Unary(UnaryKind::Neg), &[&[100]], &[100]);
    let small_arena = CompileOptions { max_arena: Some(300), ..CompileOptions::default() };
    let error = compile(&g, &small_arena).unwrap_err();
    assert_eq!(error, Error::Arena { needed: 400, limit: 300, lower_bound: 400 });
    let small_flash = CompileOptions { max_flash: Some(10), ..CompileOptions::default() };
    assert!(matches!(compile(&g, &small_flash).unwrap_err(), Error::Flash { limit: 10, .. }));
}

#[test]
fn equal_constants_are_stored_once() {
    let mut b = Builder::default();
    let x = b.input(&[1, 64], None);
    let mut v = x;
    for _ in 0..2 {
        // Not multiples of a scale, which would be stored as integers.
        let weights: Vec<f32> = (0..4096).map(|i| (i as f32 * 0.37).sin()).collect();
        let w = b.floats(&[64, 64], &weights);
        v = b.node(Op::FullyConnected { activation: Activation::None }, &[v, w], &[1, 64], None);
    }
    let report = build(&b.done(&[v])).report;
    assert_eq!((report.weights_bytes, report.macs), (16_384, 8_192));
    assert!(report.model_bytes < 17_000);
}
