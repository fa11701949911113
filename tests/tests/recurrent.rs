//! Recurrent layers end to end: what the device computes against the float reference and the simulation of int8, state that is
//! kept, the same bits on emulated boards, learning without unrolling, a GRU that learns spoken digits on the host.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips what needs QEMU.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use offshoot::Model;
use offshoot_cli::batch::Inputs;
use offshoot_cli::files::OffFile;
use offshoot_compress::quantize::{QuantizeOptions, quantize, simulate};
use offshoot_data::npy;
use offshoot_export::{CompileOptions, LearningPlan, compile};
use offshoot_ir::{Data, Graph, Op, RecurrentKind, Returns, ValueId};
use offshoot_reference::Executor;
use offshoot_target::{Device, HostDevice};
use offshoot_tests::{board, data, skip_emulated};
use offshoot_train::network::Network;
use offshoot_train::{Dataset, FitOptions, Target as Wanted, evaluate, fit};

const KINDS: [RecurrentKind; 5] = [
    RecurrentKind::Tanh,
    RecurrentKind::Relu,
    RecurrentKind::Gru,
    RecurrentKind::GruResetAfter,
    RecurrentKind::Lstm,
];

/// Numbers in -1 to 1 that look random.
fn wave(n: usize, phase: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * i) as f32 * 0.731 + i as f32 * 1.37 + phase).sin()).collect()
}

const STEPS: usize = 7;
const INPUTS: usize = 5;
const UNITS: usize = 10;
const CLASSES: usize = 3;

/// Two layers, the second from the end of the sequence, and a head.
fn network(kind: RecurrentKind) -> Graph {
    let net = Network::sequence("r", [STEPS, INPUTS], 3).recurrent("first", kind, UNITS, true);
    let mut graph = net.recurrent("second", kind, UNITS - 1, false).dense("head", CLASSES).finish();
    for node in &mut graph.nodes {
        if let Op::Recurrent { reverse, returns: Returns::Last, .. } = &mut node.op {
            *reverse = true;
        }
    }
    // Biases other than the usual zeros.
    for at in 0..graph.values.len() {
        let id = ValueId(at as u32);
        if graph.value(id).data.is_some() && graph.value(id).shape.len() == 1 {
            let n = graph.value(id).len();
            let bias = wave(n, at as f32).into_iter().map(|v| 0.3 * v).collect();
            graph.value_mut(id).data = Some(Data::F32(bias).into());
        }
    }
    graph.validate().unwrap();
    graph
}

fn samples(count: usize) -> Vec<Vec<ArrayD<f32>>> {
    let shape = IxDyn(&[1, STEPS, INPUTS]);
    let x = |i: usize| ArrayD::from_shape_vec(shape.clone(), wave(STEPS * INPUTS, i as f32)).unwrap();
    (0..count).map(|i| vec![x(i)]).collect()
}

/// Outputs of a file on the host, as real numbers.
fn on_host(off: &[u8], samples: &[Vec<ArrayD<f32>>]) -> Vec<Vec<f32>> {
    let file = OffFile::from_bytes(off);
    let model = file.model().unwrap();
    let mut device = HostDevice::new();
    device.load(file.bytes()).unwrap();
    let io = model.output(0).unwrap();
    let real = |bytes: &[u8]| -> Vec<f32> {
        match io.dtype {
            offshoot::format::record::DType::I8 => bytes
                .iter()
                .map(|b| f32::from(i16::from(*b as i8) - i16::from(io.zero_point)) * io.scale)
                .collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
        }
    };
    let run = |sample: &Vec<ArrayD<f32>>| {
        let arrays: Vec<npy::Array> = sample.iter().map(|a| a.clone().into()).collect();
        let names: Vec<String> = (0..arrays.len()).map(|i| format!("x{i}")).collect();
        let inputs = Inputs::encode(&model, &arrays, &names).unwrap();
        real(&device.run(&inputs.sample(0)).unwrap()[0])
    };
    samples.iter().map(run).collect()
}

#[test]
fn the_device_computes_what_the_reference_does() {
    for kind in KINDS {
        let graph = network(kind);
        let samples = samples(12);
        let float = compile(&graph, &CompileOptions::default()).unwrap();
        let executor = Executor::new(&graph).unwrap();
        for (ours, sample) in on_host(&float.bytes, &samples).iter().zip(&samples) {
            for (a, b) in ours.iter().zip(&executor.run(sample).unwrap()[0]) {
                assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{kind:?}: {a} {b}");
            }
        }
        let (quantised, _) = quantize(&graph, &samples, &QuantizeOptions::default()).unwrap();
        let whole = compile(&quantised, &CompileOptions::default()).unwrap();
        assert!(whole.report.fallbacks.is_empty(), "{kind:?}: {:?}", whole.report.fallbacks);
        let scale = quantised.value(quantised.outputs[0]).quant.as_ref().map_or(0.0, |q| q.scale[0]);
        let expected = simulate(&quantised, &samples).unwrap();
        for (i, (ours, expected)) in on_host(&whole.bytes, &samples).iter().zip(&expected).enumerate() {
            for (a, b) in ours.iter().zip(&expected[0]) {
                // A state's rounding may fall the other way once or twice.
                assert!((a - b).abs() <= 2.5 * scale, "{kind:?} sample {i}: {a} {b}, scale {scale}");
            }
        }
    }
}

/// A layer that begins with a state of the network's, and one with a state that is a constant.
#[test]
fn states_may_be_given() {
    for kind in KINDS {
        for constant in [false, true] {
            let net = Network::sequence("r", [STEPS, INPUTS], 3);
            let mut graph = net.recurrent("layer", kind, UNITS, true).finish();
            let states = kind.states() * UNITS;
            let shape = vec![1, states];
            let state = if constant {
                graph.add_constant("h", shape, Data::F32(wave(states, 4.0)))
            } else {
                let mut value = graph.value(graph.inputs[0]).clone();
                (value.name, value.shape) = ("h".into(), shape);
                let id = graph.add_value(value);
                graph.inputs.push(id);
                id
            };
            graph.nodes[0].inputs.push(state);
            graph.validate().unwrap();
            let mut samples = samples(8);
            if !constant {
                for (i, sample) in samples.iter_mut().enumerate() {
                    let h = wave(states, 7.0 + i as f32);
                    sample.push(ArrayD::from_shape_vec(IxDyn(&[1, states]), h).unwrap());
                }
            }
            let executor = Executor::new(&graph).unwrap();
            let float = compile(&graph, &CompileOptions::default()).unwrap();
            let (quantised, report) = quantize(&graph, &samples, &QuantizeOptions::default()).unwrap();
            let stays = report.warnings.iter().any(|w| w.contains("stays float"));
            assert_eq!(stays, kind == RecurrentKind::Lstm, "{:?}", report.warnings);
            let whole = compile(&quantised, &CompileOptions::default()).unwrap();
            for (bytes, allowed) in [(&float.bytes, 1e-5), (&whole.bytes, 0.08)] {
                for (ours, sample) in on_host(bytes, &samples).iter().zip(&samples) {
                    let expected = executor.run(sample).unwrap().remove(0);
                    let largest = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
                    for (a, b) in ours.iter().zip(&expected) {
                        assert!((a - b).abs() < allowed * largest, "{kind:?} {constant}: {a} {b}");
                    }
                }
            }
        }
    }
}

/// Runs of a stateful file are pieces of one sequence, until it is loaded again.
#[test]
fn a_state_is_kept_from_run_to_run() {
    for kind in KINDS {
        let build = |steps: usize| {
            Network::sequence("r", [steps, INPUTS], 3).recurrent("layer", kind, UNITS, true).finish()
        };
        let whole = wave(6 * INPUTS, 0.5);
        let sample = |steps: usize, from: usize| {
            let part = whole[from * INPUTS..][..steps * INPUTS].to_vec();
            vec![ArrayD::from_shape_vec(IxDyn(&[1, steps, INPUTS]), part).unwrap()]
        };
        let calibration: Vec<_> = (0..4).map(|_| sample(2, 0)).collect();
        for int8 in [false, true] {
            let made = |steps: usize, stateful: bool| {
                let graph = build(steps);
                let options = CompileOptions { stateful, ..CompileOptions::default() };
                if !int8 {
                    return compile(&graph, &options).unwrap().bytes;
                }
                // One calibration for both: the numbers of a layer must be the same.
                let (quantised, _) = quantize(&build(2), &calibration, &QuantizeOptions::default()).unwrap();
                let mut quantised = quantised;
                for node in &quantised.nodes.clone() {
                    for id in node.inputs.iter().chain([&node.output]) {
                        let value = quantised.value_mut(*id);
                        if value.data.is_none() && value.shape.len() == 3 {
                            value.shape[1] = steps;
                        }
                    }
                }
                compile(&quantised, &options).unwrap().bytes
            };
            let at_once = on_host(&made(6, false), &[sample(6, 0)]);
            let pieces = on_host(&made(2, true), &[sample(2, 0), sample(2, 2), sample(2, 4)]);
            assert_eq!(at_once[0], pieces.concat(), "{kind:?} int8 {int8}");
            let anew = on_host(&made(2, false), &[sample(2, 0), sample(2, 2)]);
            assert_ne!(anew[1], pieces[1], "{kind:?}");
        }
    }
}

#[test]
fn boards_give_the_same_bits() {
    if skip_emulated() {
        return;
    }
    let mut devices = [board("qemu:cortex-m4"), board("qemu:cortex-m3")];
    for kind in KINDS {
        let graph = network(kind);
        let samples = samples(6);
        let (quantised, _) = quantize(&graph, &samples, &QuantizeOptions::default()).unwrap();
        for graph in [&graph, &quantised] {
            let options = CompileOptions { stateful: true, ..CompileOptions::default() };
            let file = OffFile::from_bytes(&compile(graph, &options).unwrap().bytes);
            let model = file.model().unwrap();
            let mut host = HostDevice::new();
            host.load(file.bytes()).unwrap();
            for device in &mut devices {
                device.load(file.bytes()).unwrap();
            }
            for sample in &samples[..2] {
                let inputs = Inputs::encode(&model, &[sample[0].clone().into()], &["x".into()]).unwrap();
                let here = host.digests(&inputs.sample(0)).unwrap();
                for device in &mut devices {
                    assert_eq!(here, device.digests(&inputs.sample(0)).unwrap(), "{kind:?}");
                }
            }
        }
    }
}

/// Sequences that rise, fall or stay, and their class.
fn directions(count: usize) -> (Vec<Vec<ArrayD<f32>>>, Vec<u16>) {
    let sample = |i: usize| {
        let (class, phase) = (i % CLASSES, (i / CLASSES) as f32 * 0.37);
        let place = |t: usize| phase + [t as f32, (STEPS - t) as f32, 2.0][class];
        let value = |k: usize| (place(k / INPUTS) - (k % INPUTS) as f32 * 1.3).sin();
        let x = (0..STEPS * INPUTS).map(value).collect();
        (vec![ArrayD::from_shape_vec(IxDyn(&[1, STEPS, INPUTS]), x).unwrap()], class as u16)
    };
    (0..count).map(sample).unzip()
}

/// A classifier that learns on the device: file and learned bytes after some passes, and the share of right guesses in the
/// first and the last.
fn train_steps(device: &mut dyn Device, file: &OffFile, passes: usize) -> (Vec<u8>, f64, f64) {
    let (samples, labels) = directions(60);
    let model: Model<'_> = file.model().unwrap();
    device.load(file.bytes()).unwrap();
    device.begin_learning().unwrap();
    let mut shares = Vec::new();
    for _ in 0..passes {
        let mut right = 0;
        for (sample, &label) in samples.iter().zip(&labels) {
            let inputs = Inputs::encode(&model, &[sample[0].clone().into()], &["x".into()]).unwrap();
            right += usize::from(device.learn(&inputs.sample(0), label).unwrap().guess == label);
        }
        shares.push(right as f64 / labels.len() as f64);
    }
    (device.learned().unwrap(), shares[0], shares[passes - 1])
}

fn classifier(kind: RecurrentKind, sequence: bool) -> Graph {
    let net = Network::sequence("r", [STEPS, INPUTS], 3).recurrent("layer", kind, UNITS, sequence);
    if !sequence {
        return net.dense("head", CLASSES).finish();
    }
    // The mean of the states.
    let mut graph = net.finish();
    let states = graph.outputs[0];
    let mut mean = graph.value(states).clone();
    (mean.name, mean.shape) = ("mean".into(), vec![1, UNITS]);
    let mean = graph.add_value(mean);
    let op = Op::Reduce { kind: offshoot_ir::ReduceKind::Mean, axes: vec![1] };
    graph.nodes.push(offshoot_ir::Node { name: "mean".into(), op, inputs: vec![states], output: mean });
    let w = graph.add_constant("head.weight", vec![CLASSES, UNITS], Data::F32(wave(CLASSES * UNITS, 1.0)));
    let mut scores = graph.value(mean).clone();
    (scores.name, scores.shape) = ("scores".into(), vec![1, CLASSES]);
    let scores = graph.add_value(scores);
    let op = Op::FullyConnected { activation: offshoot_ir::Activation::None };
    graph.nodes.push(offshoot_ir::Node { name: "head".into(), op, inputs: vec![mean, w], output: scores });
    graph.outputs = vec![scores];
    graph.validate().unwrap();
    graph
}

fn learning_file(graph: &Graph, int8: bool, plan: &str) -> Result<OffFile, String> {
    let quantised = int8.then(|| quantize(graph, &directions(30).0, &QuantizeOptions::default()).unwrap().0);
    let learning = Some(LearningPlan::parse(plan).unwrap());
    let options = CompileOptions { learning, ..CompileOptions::default() };
    let made = compile(quantised.as_ref().unwrap_or(graph), &options).map_err(|e| e.to_string())?;
    Ok(OffFile::from_bytes(&made.bytes))
}

#[test]
fn layers_learn_on_the_device() {
    for (kind, sequence) in
        [(RecurrentKind::Tanh, true), (RecurrentKind::GruResetAfter, true), (RecurrentKind::Lstm, false)]
    {
        let graph = classifier(kind, sequence);
        for int8 in [false, true] {
            let plan = "rate = 0.5\nhidden_rate = 0.5";
            let file = learning_file(&graph, int8, plan).unwrap();
            let model = file.model().unwrap();
            assert_eq!(model.learning().unwrap().layers().count(), 2);
            let (_, first, last) = train_steps(&mut HostDevice::new(), &file, 20);
            assert!(last > 0.7 && last > first + 0.2, "{kind:?} int8 {int8}: {first} {last}");
        }
    }
}

#[test]
fn what_cannot_learn_says_why() {
    let gru = classifier(RecurrentKind::Gru, false);
    let reason = |graph: &Graph, int8, plan: &str| learning_file(graph, int8, plan).unwrap_err();
    let whole = "[[layer]]\nname = \"layer\"\nweights = \"int16\"";
    assert!(reason(&gru, true, whole).contains("weights = \"int8\""));
    assert!(reason(&gru, false, "part = \"bias\"").contains("learns as a whole"));
    let alone = Network::sequence("r", [STEPS, INPUTS], 3).recurrent("layer", RecurrentKind::Gru, 3, false);
    assert!(reason(&alone.finish(), false, "").contains("no scores of classes"));
}

#[test]
fn boards_learn_the_same_bits() {
    if skip_emulated() {
        return;
    }
    let mut device = board("qemu:cortex-m4");
    for kind in KINDS {
        for int8 in [false, true] {
            let file =
                learning_file(&classifier(kind, kind != RecurrentKind::Gru), int8, "rate = 0.2").unwrap();
            let (here, ..) = train_steps(&mut HostDevice::new(), &file, 1);
            let (there, ..) = train_steps(device.as_mut(), &file, 1);
            assert!(here == there, "{kind:?} int8 {int8}");
        }
    }
}

/// Spoken digits if they are there, else sequences that rise, fall or stay.
#[test]
fn a_gru_learns_on_the_host() {
    let (x, labels, steps, inputs, classes) = match data("spoken_digits/x.npy") {
        Some(path) => {
            let x = npy::read(&path).unwrap().to_f32();
            let y = npy::read(&path.with_file_name("y.npy")).unwrap().to_i64().unwrap();
            // Every seventh utterance of every other frame, coefficients near one.
            let cut = |a: &ArrayD<f32>, axis, step: isize| {
                a.slice_axis(Axis(axis), Slice::new(0, None, step)).to_owned()
            };
            let x = cut(&cut(&x, 0, 7), 1, 2);
            let mean = x.mean().unwrap_or(0.0);
            let deviation = x.std(0.0).max(1e-6);
            let labels = y.iter().step_by(7).copied().collect::<Vec<i64>>();
            let shape = [x.shape()[1], x.shape()[2]];
            (x.mapv(|v| (v - mean) / deviation), labels, shape[0], shape[1], 10)
        }
        None => {
            let (samples, labels) = directions(240);
            let rows: Vec<f32> = samples.iter().flat_map(|s| s[0].iter().copied()).collect();
            let x = ArrayD::from_shape_vec(IxDyn(&[240, STEPS, INPUTS]), rows).unwrap();
            (x, labels.into_iter().map(i64::from).collect(), STEPS, INPUTS, CLASSES)
        }
    };
    let graph = Network::gru("digits", [steps, inputs], 24, classes, 1);
    let set = Dataset::new(x, Wanted::Labels(labels));
    let before = evaluate(&graph, &set).unwrap().loss;
    let options = FitOptions { epochs: 12, batch: 16, rate: 1e-2, clip: Some(1.0), ..FitOptions::default() };
    let (trained, _) = fit(&graph, &set, &options, &mut ()).unwrap();
    let after = evaluate(&trained, &set).unwrap().loss;
    assert!(after < 0.5 * before, "loss {before} became {after}");
}

/// A file that keeps its state is one sequence on the host too, however many samples and threads there are.
#[test]
fn samples_of_a_stateful_file_are_pieces_of_one_sequence() {
    use offshoot_cli::Ui;
    use offshoot_cli::batch::{self, Sequences};
    use offshoot_target::Target;

    let net =
        Network::sequence("r", [STEPS, INPUTS], 3).recurrent("first", RecurrentKind::Lstm, UNITS, false);
    let graph = net.dense("head", CLASSES).finish();
    let options = CompileOptions { stateful: true, ..CompileOptions::default() };
    let file = OffFile::from_bytes(&compile(&graph, &options).unwrap().bytes);
    let pieces = samples(200);
    let x: Vec<f32> = pieces.iter().flat_map(|p| p[0].iter().copied()).collect();
    let x = ArrayD::from_shape_vec(IxDyn(&[200, STEPS, INPUTS]), x).unwrap();
    let inputs = Inputs::encode(&file.model().unwrap(), &[x.into()], &["x".into()]).unwrap();
    for every in [None, Some(3), Some(200)] {
        let sequences = Sequences { reset_every: every };
        let outputs = batch::run(&Ui { json: true }, &file, &inputs, &Target::Host, sequences).unwrap();
        let mut device = HostDevice::new();
        for (i, out) in outputs.iter().enumerate() {
            if i % every.unwrap_or(u32::MAX) as usize == 0 {
                device.load(file.bytes()).unwrap();
            }
            assert_eq!(*out, device.run(&inputs.sample(i)).unwrap(), "{every:?}, sample {i}");
        }
    }
}

/// A counter: its state grows over the samples, so that ranges must be those of the whole sequence.
#[test]
fn calibration_of_a_stateful_file_carries_the_state() {
    use offshoot_cli::Ui;
    use offshoot_cli::batch::{self, Sequences};
    use offshoot_compress::quantize::simulate_sequences;
    use offshoot_target::Target;

    let net = Network::sequence("counter", [1, 1], 3).recurrent("count", RecurrentKind::Relu, 1, false);
    let mut graph = net.dense("head", 2).finish();
    let node = graph.nodes.iter().find(|n| matches!(n.op, Op::Recurrent { .. })).unwrap().clone();
    for (&id, value) in node.inputs[1..4].iter().zip([1.0, 1.0, 0.0]) {
        let n = graph.value(id).len();
        graph.value_mut(id).data = Some(Data::F32(vec![value; n]).into());
    }
    let steps = (0..64).map(|i| vec![ArrayD::from_elem(IxDyn(&[1, 1, 1]), [0.5, 1.0, 0.8][i % 3])]);
    let steps: Vec<Vec<ArrayD<f32>>> = steps.collect();
    let all: Vec<&Vec<ArrayD<f32>>> = steps.iter().collect();
    let snr = |every: Option<u32>, calibrated: Option<usize>| {
        let carried = every.map_or(usize::MAX, |n| n as usize);
        let options = QuantizeOptions { sequence: calibrated, ..QuantizeOptions::default() };
        let (int8, _) = quantize(&graph, &steps, &options).unwrap();
        let compiled =
            compile(&int8, &CompileOptions { stateful: true, ..CompileOptions::default() }).unwrap();
        let file = OffFile::from_bytes(&compiled.bytes);
        let model = file.model().unwrap();
        let x: Vec<f32> = steps.iter().flat_map(|s| s[0].iter().copied()).collect();
        let x = ArrayD::from_shape_vec(IxDyn(&[steps.len(), 1, 1]), x).unwrap();
        let inputs = Inputs::encode(&model, &[x.into()], &["x".into()]).unwrap();
        let sequences = Sequences { reset_every: every };
        let outputs = batch::run(&Ui { json: true }, &file, &inputs, &Target::Host, sequences).unwrap();
        let port = batch::output_port(&model, 0).unwrap();
        let want = simulate_sequences(&graph, &all, Some(carried)).unwrap();
        let (mut signal, mut noise) = (0.0, 0.0);
        for (got, want) in outputs.iter().zip(&want) {
            for (a, b) in port.decode(&got[0]).iter().zip(&want[0]) {
                (signal, noise) = (signal + b * b, noise + (a - b) * (a - b));
            }
        }
        10.0 * (signal / noise).log10()
    };
    for every in [None, Some(16)] {
        let carried = every.map_or(usize::MAX, |n| n as usize);
        let (with, without) = (snr(every, Some(carried)), snr(every, None));
        assert!(with > 25.0 && without < 5.0, "{every:?}: {with} dB, without the state {without} dB");
    }
}
