//! Indices, rare functions, grids, kept steps and branches: host and emulated boards give the same bits, in float32 and int8.
//!
//! Their kernels are the portable ones on every target, so that the host's answer is the specification. Each network below has
//! one family of records.

use ndarray::{ArrayD, IxDyn};
use offshoot::format::codec::Record;
use offshoot::format::record::{
    BinaryMathKind, ElementaryKind, GridKind, GridOutside, ReduceKind, ScatterKind, SpectrumPart, Tag,
};
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::files::OffFile;
use offshoot_cli::ui::Ui;
use offshoot_export::CompileOptions;
use offshoot_ir::micro_frontend::MicroFrontend;
use offshoot_ir::{
    Activation, BinaryKind, DType, Data, Graph, Indexing, Node, Op, UnaryKind, Value, ValueId,
};
use offshoot_target::{Device, HostDevice};
use offshoot_tests::{Numbers, board, skip_emulated, tflite};

const UI: Ui = Ui { json: true };
const BOARDS: [&str; 2] = ["qemu:cortex-m4", "qemu:riscv32"];

/// A graph of one input, as it grows.
struct Growing {
    graph: Graph,
    x: ValueId,
}

impl Growing {
    fn new(shape: &[usize]) -> Self {
        let mut graph = Graph::default();
        let x = graph.add_value(value("x", shape, DType::F32));
        graph.inputs.push(x);
        Self { graph, x }
    }

    fn add(&mut self, op: Op, inputs: &[ValueId], shape: &[usize], dtype: DType) -> ValueId {
        let name = format!("v{}", self.graph.nodes.len());
        let output = self.graph.add_value(value(&name, shape, dtype));
        self.graph.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        output
    }

    fn real(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        self.add(op, inputs, shape, DType::F32)
    }

    fn constant(&mut self, shape: &[usize], data: Data) -> ValueId {
        let name = format!("c{}", self.graph.values.len());
        self.graph.add_constant(name, shape.to_vec(), data)
    }

    fn returns(&mut self, output: ValueId) {
        self.graph.outputs.push(output);
    }
}

fn value(name: &str, shape: &[usize], dtype: DType) -> Value {
    let (name, shape) = (name.to_owned(), shape.to_vec());
    Value { name, shape, dtype, quant: None, data: None, channels_first_outside: false }
}

/// Numbers from -1 to 1 in the shape of the input.
fn samples(graph: &Graph, count: usize) -> Vec<Vec<ArrayD<f32>>> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let shape = &graph.value(graph.inputs[0]).shape;
    let sample = |_| {
        let draw = |_| (numbers.draw() >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
        let values: Vec<f32> = (0..shape.iter().product()).map(draw).collect();
        vec![ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()]
    };
    (0..count).map(sample).collect()
}

/// Compiles the graph in both formats and runs each on the host and the boards, twice: a state goes from run to run.
fn same_bits(what: &str, graph: &Graph, has: &[fn(&Record) -> bool]) {
    let samples = samples(graph, 12);
    for precision in [Precision::F32, Precision::Int8] {
        let given = if precision == Precision::F32 { &[][..] } else { &samples[..] };
        let args = compile::Args {
            precision: Some(precision.clone()),
            strict_int8: true,
            ..compile::Args::default()
        };
        let made = compile::make(&UI, graph.clone(), given, &args, None).unwrap();
        let file = OffFile::from_bytes(&made.compiled.bytes);
        let model = file.model().unwrap();
        // int8 functions of one element are tables; the others have records of their own there too.
        let present = has.iter().all(|is| model.ops().any(|(_, _, record)| is(&record)));
        assert!(present || precision == Precision::Int8, "{what}: no such record in float32");
        let port = offshoot_cli::batch::input_port(&model, 0).unwrap();
        for name in BOARDS {
            // A host of its own for each board: a state goes from run to run.
            let mut host = HostDevice::new();
            host.load(file.bytes()).unwrap();
            let mut device = board(name);
            device.load(file.bytes()).unwrap_or_else(|e| panic!("{what} on {name}: {e}"));
            for sample in &samples[..2] {
                let input = port.encode_real(sample[0].iter().copied());
                let (here, there) = (host.digests(&[&input]).unwrap(), device.digests(&[&input]).unwrap());
                let first = here.iter().zip(&there).position(|(a, b)| a != b);
                assert_eq!(first, None, "{what} {precision:?} on {name}: operator {first:?} departs");
                let (here, there) = (host.run(&[&input]).unwrap(), device.run(&[&input]).unwrap());
                assert_eq!(here, there, "{what} {precision:?} on {name}: outputs");
            }
        }
    }
}

#[test]
fn rare_functions_of_one_element() {
    if skip_emulated() {
        return;
    }
    use ElementaryKind::*;
    let mut g = Growing::new(&[1, 24]);
    let two = g.constant(&[1], Data::F32(vec![2.0]));
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    let beyond = g.real(add, &[g.x, two], &[1, 24]);
    for kind in [Sin, Cos, Tan, Asin, Acos, Atan, Sinh, Cosh, Asinh, Acosh, Atanh, Floor, Ceil, Round] {
        // From 1 on.
        let x = if kind == Acosh { beyond } else { g.x };
        let y = g.real(Op::Unary(UnaryKind::Elementary(kind)), &[x], &[1, 24]);
        g.returns(y);
    }
    same_bits("elementary", &g.graph, &[|r| matches!(r, Record::Elementary(_))]);
}

#[test]
fn rare_functions_of_two_elements() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 4, 6]);
    let mut numbers = Numbers(5);
    let row = (0..6).map(|_| 0.4 + numbers.below(100) as f32 / 64.0).collect();
    let row = g.constant(&[6], Data::F32(row));
    let size = g.real(Op::Unary(UnaryKind::Abs), &[g.x], &[1, 4, 6]);
    use BinaryMathKind::*;
    for kind in [Pow, Mod, Fmod, Keep, Equal] {
        let op = Op::Binary { kind: BinaryKind::Math(kind), activation: Activation::None };
        let x = if kind == Pow { size } else { g.x };
        let y = g.real(op, &[x, row], &[1, 4, 6]);
        g.returns(y);
    }
    same_bits("binary math", &g.graph, &[|r| matches!(r, Record::BinaryMath(_))]);
}

#[test]
fn the_best_and_what_their_indices_choose() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 5, 7]);
    let x = g.x;
    let best = g.add(Op::TopK { axis: 2, k: 3, largest: true }, &[x], &[1, 5, 3], DType::I32);
    let least = g.add(Op::TopK { axis: 1, k: 2, largest: false }, &[x], &[1, 2, 7], DType::I32);
    let elements = g.real(Op::Gather(Indexing::Elements { axis: 2 }), &[x, best], &[1, 5, 3]);
    let real = g.real(Op::Cast, &[least], &[1, 2, 7]);
    let whole = g.add(Op::Cast, &[x], &[1, 5, 7], DType::I32);
    let places = g.constant(&[3], Data::I32(vec![4, -1, 0]));
    let slices = g.real(Op::Gather(Indexing::Slices { axis: 1 }), &[x, places], &[1, 3, 7]);
    let tuples = g.constant(&[2, 2], Data::I32(vec![0, 3, 0, 1]));
    let tuples = g.real(Op::Gather(Indexing::Tuples { batch: 0 }), &[x, tuples], &[2, 7]);
    [elements, real, whole, slices, tuples].into_iter().for_each(|y| g.returns(y));
    let has: [fn(&Record) -> bool; 3] = [
        |r| matches!(r, Record::Gather(_)),
        |r| matches!(r, Record::TopK(_)),
        |r| matches!(r, Record::Cast(_)),
    ];
    same_bits("the best", &g.graph, &has);
}

#[test]
fn updates_at_indices() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 5, 7]);
    let x = g.x;
    let at = g.add(Op::TopK { axis: 2, k: 3, largest: true }, &[x], &[1, 5, 3], DType::I32);
    let updates = g.real(Op::Gather(Indexing::Elements { axis: 2 }), &[x, at], &[1, 5, 3]);
    let updates = g.real(Op::Unary(UnaryKind::Tanh), &[updates], &[1, 5, 3]);
    for kind in [ScatterKind::Set, ScatterKind::Add, ScatterKind::Mul, ScatterKind::Max, ScatterKind::Min] {
        let op = Op::Scatter { indexing: Indexing::Elements { axis: 2 }, kind };
        let y = g.real(op, &[x, at, updates], &[1, 5, 7]);
        g.returns(y);
    }
    same_bits("scatter", &g.graph, &[|r| matches!(r, Record::Scatter(_))]);
}

#[test]
fn images_read_at_the_points_of_a_grid() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 5, 4, 2]);
    let x = g.x;
    let mut numbers = Numbers(11);
    let points = (0..24).map(|_| numbers.below(300) as f32 / 100.0 - 1.5).collect();
    let points = g.constant(&[1, 3, 4, 2], Data::F32(points));
    for kind in [GridKind::Nearest, GridKind::Bilinear, GridKind::Bicubic] {
        for outside in [GridOutside::Zeros, GridOutside::Border, GridOutside::Reflection] {
            let op = Op::GridSample { kind, outside, align_corners: kind == GridKind::Bicubic };
            let y = g.real(op, &[x, points], &[1, 3, 4, 2]);
            g.returns(y);
        }
    }
    same_bits("grid", &g.graph, &[|r| matches!(r, Record::GridSample(_))]);
}

#[test]
fn int16_activations() {
    if skip_emulated() {
        return;
    }
    let files = tflite::int16();
    let mut kinds = std::collections::BTreeSet::new();
    for name in BOARDS {
        let mut device = board(name);
        for (file, bytes) in &files {
            let Some(network) = file.strip_suffix(".tflite") else { continue };
            let graph = offshoot_import::import_bytes(bytes, network).unwrap();
            let (graph, _) = offshoot_ir::passes::lossless(graph).unwrap();
            let off = offshoot_export::compile(&graph, &CompileOptions::default()).unwrap().bytes;
            let mut host = HostDevice::new();
            host.load(&off).unwrap();
            device.load(&off).unwrap_or_else(|e| panic!("{network} on {name}: {e}"));
            let model = OffFile::from_bytes(&off);
            kinds.extend(model.model().unwrap().ops().map(|(_, _, record)| record.tag().name()));
            let xs = tflite::columns(&files, network, "x");
            let inputs: Vec<&[u8]> = xs.iter().map(|x| x[0].as_slice()).collect();
            let (here, there) = (host.digests(&inputs).unwrap(), device.digests(&inputs).unwrap());
            let first = here.iter().zip(&there).position(|(a, b)| a != b);
            assert_eq!(first, None, "{network} on {name}: operator {first:?} departs");
            let (here, there) = (host.run(&inputs).unwrap(), device.run(&inputs).unwrap());
            assert_eq!(here, there, "{network} on {name}: outputs");
        }
    }
    let missing: Vec<&str> =
        Tag::ALL.iter().map(|t| t.name()).filter(|t| t.ends_with("int16") && !kinds.contains(t)).collect();
    // The test below has it.
    assert_eq!(missing, ["lut_int16"]);
}

#[test]
fn spectra_of_frames_and_bands_of_them() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[2, 300]);
    let x = g.x;
    for (size, part) in
        [(32, SpectrumPart::Complex), (128, SpectrumPart::Power), (256, SpectrumPart::Magnitude)]
    {
        let (frame, hop, bins) = (size - 7, 20, size / 2 + 1);
        let frames = (300 - frame) / hop + 1;
        let window = (0..frame).map(|i| (i as f32 * 0.05).sin()).collect();
        let window = g.constant(&[frame], Data::F32(window));
        let mut shape = vec![2, frames, bins];
        if part == SpectrumPart::Complex {
            shape.push(2);
        }
        let y = g.real(Op::Spectrum { frame, hop, size, part }, &[x, window], &shape);
        if part != SpectrumPart::Complex {
            // Triangles over a quarter of the bins.
            let weight = |i: usize| {
                (1.0 - ((i % bins) as f32 - (i / bins * bins / 4) as f32).abs() * 8.0 / bins as f32).max(0.0)
            };
            let filters = g.constant(&[5, bins], Data::F32((0..5 * bins).map(weight).collect()));
            let floor = g.constant(&[5], Data::F32(vec![1e-6; 5]));
            let mel = Op::FullyConnected { activation: Activation::None };
            let y = g.real(mel, &[y, filters, floor], &[2, frames, 5]);
            let y = g.real(Op::Unary(UnaryKind::Log), &[y], &[2, frames, 5]);
            g.returns(y);
        } else {
            g.returns(y);
        }
    }
    let has: [fn(&Record) -> bool; 2] =
        [|r| matches!(r, Record::Spectrum(_)), |r| matches!(r, Record::FullyConnectedBanded(_))];
    same_bits("spectra", &g.graph, &has);
}

#[test]
fn features_in_integers() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 900]);
    let x = g.x;
    let pcan = MicroFrontend { frame: 400, hop: 160, channels: 20, keeps: true, ..MicroFrontend::default() };
    let plain = MicroFrontend { frame: 60, hop: 60, channels: 4, gain: None, log: None, ..pcan.clone() };
    for settings in [pcan, MicroFrontend { keeps: false, ..plain }] {
        let frames = (900 - settings.frame) / settings.hop + 1;
        let shape = [1, frames, settings.channels];
        let y = g.real(Op::MicroFrontend(settings), &[x], &shape);
        g.returns(y);
    }
    same_bits("microfrontend", &g.graph, &[|r| matches!(r, Record::MicroFrontend(_))]);
}

#[test]
fn float_networks_with_int16_activations() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 24]);
    let mut y = g.x;
    for kind in [UnaryKind::Gelu, UnaryKind::HardSwish, UnaryKind::Tanh, UnaryKind::LeakyRelu { alpha: 0.1 }]
    {
        let inner = layer(&mut g, y, 24, 24, Activation::None);
        let active = g.real(Op::Unary(kind), &[inner], &[1, 24]);
        let op = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
        y = g.real(op, &[active, y], &[1, 24]);
    }
    let scores = layer(&mut g, y, 24, 5, Activation::None);
    let y = g.real(Op::Softmax { axis: 1 }, &[scores], &[1, 5]);
    g.returns(y);
    let samples = samples(&g.graph, 40);
    let args = compile::Args { precision: Some(Precision::Int16x8), ..compile::Args::default() };
    let made = compile::make(&UI, g.graph.clone(), &samples, &args, None).unwrap();
    assert_eq!(made.compiled.report.fallbacks, []);
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let model = file.model().unwrap();
    assert!(model.ops().any(|(_, _, record)| matches!(record, Record::LutInt16(_))));
    let ports = (
        offshoot_cli::batch::input_port(&model, 0).unwrap(),
        offshoot_cli::batch::output_port(&model, 0).unwrap(),
    );
    let mut host = HostDevice::new();
    host.load(file.bytes()).unwrap();
    // The quantised graph in real numbers: its weights are rounded, its activations are not.
    let executor = offshoot_reference::Executor::new(&made.graph).unwrap();
    let (mut signal, mut noise) = (0.0f64, 0.0);
    for sample in &samples {
        let input = ports.0.encode_real(sample[0].iter().copied());
        let got = ports.1.decode(&host.run(&[&input]).unwrap()[0]);
        for (got, want) in got.iter().zip(&executor.run(sample).unwrap()[0]) {
            signal += f64::from(*want).powi(2);
            noise += f64::from(got - want).powi(2);
        }
    }
    let decibels = 10.0 * (signal / noise).log10();
    println!("int16x8: {decibels:.1} dB");
    assert!(decibels > 60.0, "{decibels} dB");
    for name in BOARDS {
        let mut device = board(name);
        device.load(file.bytes()).unwrap();
        for sample in &samples[..2] {
            let input = ports.0.encode_real(sample[0].iter().copied());
            assert_eq!(host.digests(&[&input]).unwrap(), device.digests(&[&input]).unwrap(), "{name}");
        }
    }
}

#[test]
fn steps_of_the_runs_before() {
    if skip_emulated() {
        return;
    }
    let mut g = Growing::new(&[1, 2, 6]);
    let y = g.real(Op::History { axis: 1, state: 3, fill: 0.0 }, &[g.x], &[1, 5, 6]);
    g.returns(y);
    same_bits("history", &g.graph, &[|r| matches!(r, Record::History(_))]);
}

/// A layer with weights of its own; `w` has the outputs first.
fn layer(g: &mut Growing, x: ValueId, inputs: usize, outputs: usize, activation: Activation) -> ValueId {
    let mut numbers = Numbers(g.graph.values.len() as u64 + 1);
    let weights = (0..inputs * outputs).map(|_| (numbers.below(2001) as f32 - 1000.0) / 1500.0).collect();
    let w = g.constant(&[outputs, inputs], Data::F32(weights));
    g.real(Op::FullyConnected { activation }, &[x, w], &[1, outputs])
}

/// Experts of two layers and their gate; behind them an early exit: a switch whose branch holds another one.
fn routed() -> Growing {
    let mut g = Growing::new(&[1, 24]);
    let x = g.x;
    let gate = layer(&mut g, x, 24, 4, Activation::None);
    let index = g.add(Op::ArgMax { axis: 1, select_last: false }, &[gate], &[1], DType::I32);
    let experts = |g: &mut Growing, x: ValueId, inputs: usize, index: ValueId| {
        let mut inputs_of: Vec<ValueId> = (0..4)
            .map(|_| {
                let hidden = layer(g, x, inputs, 32, Activation::Relu);
                layer(g, hidden, 32, 16, Activation::None)
            })
            .collect();
        inputs_of.push(index);
        g.real(Op::Switch, &inputs_of, &[1, 16])
    };
    let chosen = experts(&mut g, x, 24, index);
    let scores = layer(&mut g, chosen, 16, 5, Activation::None);
    let mean = g.real(Op::Reduce { kind: ReduceKind::Mean, axes: vec![1] }, &[scores], &[1, 1]);
    let step = UnaryKind::HardSigmoid { alpha: f32::MAX, beta: 0.0 };
    let sure = g.real(Op::Unary(step), &[mean], &[1, 1]);
    let more = g.constant(&[1], Data::F32(vec![1.5]));
    let multiply = Op::Binary { kind: BinaryKind::Mul, activation: Activation::None };
    let sure = g.real(multiply, &[sure, more], &[1, 1]);
    let sure = g.add(Op::Cast, &[sure], &[1, 1], DType::I32);
    let deeper = experts(&mut g, chosen, 16, index);
    let rest = layer(&mut g, deeper, 16, 5, Activation::None);
    let y = g.real(Op::Switch, &[rest, scores, sure], &[1, 5]);
    g.returns(y);
    g
}

#[test]
fn branches_of_switches() {
    if skip_emulated() {
        return;
    }
    let g = routed();
    same_bits("switch", &g.graph, &[|r| matches!(r, Record::Branch(_))]);
}

/// What runs costs instructions; what does not is passed over.
#[test]
fn one_branch_costs_instructions() {
    if skip_emulated() {
        return;
    }
    let g = routed();
    let samples = samples(&g.graph, 12);
    let args = compile::Args { precision: Some(Precision::Int8), ..compile::Args::default() };
    let made = compile::make(&UI, g.graph.clone(), &samples, &args, None).unwrap();
    let file = OffFile::from_bytes(&made.compiled.bytes);
    let model = file.model().unwrap();
    let weighted = |index: u16| {
        let record = model.ops().nth(index.into()).unwrap().2;
        offshoot::operators::weights(&record) > 0
    };
    let all = (0..model.op_count()).filter(|i| weighted(*i)).count();
    // The gate, two layers of four experts, the exit; behind it the same again.
    assert_eq!(all, 1 + 8 + 1 + 8 + 1);
    let port = offshoot_cli::batch::input_port(&model, 0).unwrap();
    for name in BOARDS {
        let mut device = board(name);
        device.load(file.bytes()).unwrap();
        let mut ways = std::collections::BTreeSet::new();
        for sample in &samples {
            let input = port.encode_real(sample[0].iter().copied());
            let profile = device.profile(&[&input]).unwrap();
            let ran = profile.operators.iter().filter(|op| weighted(op.index)).count();
            let cost: u64 = profile.operators.iter().filter_map(|op| op.instructions).sum();
            let passed: u64 = profile
                .operators
                .iter()
                .filter(|op| op.tag == Tag::Branch)
                .filter_map(|op| op.instructions)
                .sum();
            assert!(ran == 4 || ran == 7, "{name}: {ran}");
            assert!(passed < cost / 4, "{name}: {passed} of {cost} instructions choose");
            ways.insert((ran, profile.operators.iter().map(|op| op.index).collect::<Vec<_>>()));
        }
        assert!(
            ways.len() > 2 && ways.iter().any(|w| w.0 == 4) && ways.iter().any(|w| w.0 == 7),
            "{name}: {ways:?}"
        );
    }
}
