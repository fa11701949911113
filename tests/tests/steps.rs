//! A run in steps gives the bits of a run at once, whatever the limit of a step: shipped models, MLPerf Tiny's networks, models
//! that learn.

use std::path::PathBuf;

use offshoot::operators::parts::Parts;
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision, Prefer};
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_export::{CompileOptions, Core};
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Quant, Value, Window};
use offshoot_tests::{Numbers, root};

const UI: Ui = Ui { json: true };

/// Limits: a row a step, odd sizes, useful ones, an operator a step.
const LIMITS: [u32; 6] = [1, 997, 5_000, 20_000, 200_000, u32::MAX];

fn made(path: PathBuf, samples: &[Array], args: &compile::Args) -> OffFile {
    let (graph, _) = files::read_graph(&path).unwrap();
    let names = vec!["calibration".to_owned(); samples.len()];
    let samples = compile::calibration(&graph, samples, &names).unwrap();
    OffFile::from_bytes(&compile::make(&UI, graph, &samples, args, None).unwrap().compiled.bytes)
}

fn shipped(model: &str, args: &compile::Args) -> OffFile {
    let folder = root().join("models").join(model);
    let samples = npy::read(&folder.join("calibration_x.npy")).unwrap();
    made(folder.join("model.onnx"), &[samples], args)
}

fn outputs(engine: &Engine<'_, '_>) -> Vec<Vec<u8>> {
    (0..engine.model().output_count()).map(|i| engine.output(i).unwrap().to_vec()).collect()
}

/// Runs samples of random bytes at once and in steps; returns the number of steps for each limit.
fn compare(name: &str, file: &OffFile, samples: usize) -> Vec<usize> {
    let model: Model<'_> = file.model().unwrap();
    let mut arenas = [(); 2].map(|()| AlignedBytes::zeroed(model.arena_bytes() as usize));
    let [whole, stepped] = &mut arenas;
    let mut whole = Engine::new(model, whole).unwrap();
    let mut stepped = Engine::new(model, stepped).unwrap();
    let mut numbers = Numbers(7);
    let mut counts = Vec::new();
    for limit in LIMITS {
        for _ in 0..samples {
            for i in 0..model.input_count() {
                let float = model.input(i).unwrap().dtype == offshoot::DType::F32;
                let bytes: Vec<u8> = match float {
                    false => whole.input_mut(i).unwrap().iter().map(|_| numbers.draw() as u8).collect(),
                    true => {
                        let values = whole.input_mut(i).unwrap().len() / 4;
                        (0..values)
                            .flat_map(|_| (numbers.below(2001) as f32 / 1000.0 - 1.0).to_le_bytes())
                            .collect()
                    }
                };
                whole.input_mut(i).unwrap().copy_from_slice(&bytes);
                stepped.input_mut(i).unwrap().copy_from_slice(&bytes);
            }
            whole.run().unwrap();
            let mut steps = stepped.steps(limit).unwrap();
            let mut count = 0;
            while steps.step().unwrap() {
                count += 1;
            }
            assert!(!steps.step().unwrap(), "{name}: a run that ended has no more steps");
            assert!(outputs(&whole) == outputs(&stepped), "{name}: steps of at most {limit} give other bits");
            counts.push(count);
        }
    }
    for (&count, limit) in counts.iter().step_by(samples).zip(LIMITS) {
        let parts = |record| Parts::of(&record, model.blobs(), limit).count() as usize;
        assert_eq!(count, model.ops().map(|(_, _, record)| parts(record)).sum::<usize>(), "{name}");
    }
    counts
}

#[test]
fn shipped_models_in_steps_give_their_bits() {
    for model in ["vibration", "glyphs", "tones"] {
        for precision in [Precision::F32, Precision::Int8] {
            for prefer in [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash] {
                let args =
                    compile::Args { precision: Some(precision.clone()), prefer, ..compile::Args::default() };
                let file = shipped(model, &args);
                let counts = compare(&format!("{model} {precision:?} {prefer:?}"), &file, 2);
                let operators = file.model().unwrap().ops().count();
                assert!(counts[0] > 4 * operators, "{model}: {} steps of {operators} operators", counts[0]);
            }
        }
    }
}

#[test]
fn networks_of_mlperf_tiny_in_steps_give_their_bits() {
    for name in ["kws", "ic", "vww", "ad", "sww"] {
        let Some(path) = offshoot_tests::data(&format!("mlperf_tiny/{name}_int8.onnx")) else { return };
        for prefer in [Prefer::Balanced, Prefer::Ram] {
            let file = made(path.clone(), &[], &compile::Args { prefer, ..compile::Args::default() });
            compare(&format!("{name} {prefer:?}"), &file, 1);
        }
    }
}

/// Learned parameters, statistics of inputs, and the classifier head take part.
#[test]
fn models_that_learn_run_in_steps() {
    for (precision, plan) in [
        (Precision::Int8, "recipe = \"adapt\"\nsteps = 24"),
        (Precision::F32, "recipe = \"adapt\"\nsteps = 24"),
        (Precision::F32, "part = \"scale\"\nmomentum = 0.5\nhead = \"lda\""),
        (Precision::Int8, "layers = [\"last\"]\nhead = \"softmax\""),
    ] {
        let plan = Some(Box::new(offshoot_export::LearningPlan::parse(plan).unwrap()));
        let args = compile::Args { precision: Some(precision.clone()), plan, ..compile::Args::default() };
        let file = shipped("vibration", &args);
        let model = file.model().unwrap();
        let x = npy::read(&root().join("models/vibration/shifted_train_x.npy")).unwrap();
        let inputs = Inputs::encode(&model, std::slice::from_ref(&x), &["x".into()]).unwrap();
        let bytes = model.train_arena_bytes().unwrap() as usize;
        let mut arenas = [(); 2].map(|()| AlignedBytes::zeroed(bytes));
        let [whole, stepped] = &mut arenas;
        let mut whole = Engine::learning(model, whole).unwrap();
        let mut stepped = Engine::learning(model, stepped).unwrap();
        for engine in [&mut whole, &mut stepped] {
            for i in 0..12 {
                engine.input_mut(0).unwrap().copy_from_slice(inputs.sample(i)[0]);
                engine.learn((i % 5) as u16).unwrap();
            }
        }
        for (i, limit) in LIMITS.into_iter().enumerate() {
            let sample = &inputs.sample(20 + i)[0];
            whole.input_mut(0).unwrap().copy_from_slice(sample);
            stepped.input_mut(0).unwrap().copy_from_slice(sample);
            whole.run().unwrap();
            let mut steps = stepped.steps(limit).unwrap();
            let mut budget = 3;
            // Three steps, then something else, and on.
            loop {
                let goes_on = || {
                    budget -= 1;
                    budget >= 0
                };
                if !steps.run_while(goes_on).unwrap() {
                    break;
                }
                budget = 3;
            }
            assert!(outputs(&whole) == outputs(&stepped), "{precision:?}, limit {limit}");
            assert_eq!(whole.learned(), stepped.learned(), "{precision:?}, limit {limit}");
        }
    }
}

/// Convolutions, plain and depthwise, whose first or last rows lie in the padding alone, on the records of every core.
#[test]
fn rows_of_padding_alone_run_in_steps() {
    let window = |kernel, pad| Window { kernel, stride: [1; 2], dilation: [1; 2], pad };
    let cases = [
        (1, window([1; 2], [1; 4])),
        (1, window([3; 2], [5, 1, 0, 1])),
        (1, window([3; 2], [0, 1, 6, 1])),
        (6, window([3; 2], [6, 0, 6, 0])),
        (6, Window { stride: [2; 2], ..window([3; 2], [4, 1, 1, 1]) }),
    ];
    for (groups, window) in cases {
        for int8 in [true, false] {
            let graph = padded(groups, window, int8);
            for core in [Core::Dsp, Core::Mve, Core::ArmV7M, Core::ArmV6M, Core::RiscV32] {
                let options = CompileOptions { core, ..CompileOptions::default() };
                let file = OffFile::from_bytes(&offshoot_export::compile(&graph, &options).unwrap().bytes);
                compare(&format!("{groups} groups, {window:?}, {core:?}, int8: {int8}"), &file, 1);
            }
        }
    }
}

/// A convolution of six channels over 9 × 7 pixels.
fn padded(groups: usize, window: Window, int8: bool) -> Graph {
    let (mut graph, mut numbers) = (Graph::default(), Numbers(5));
    let [h, w] = [9, 7];
    let extent = |x: usize, axis: usize| {
        let padded = x + usize::from(window.pad[axis] + window.pad[axis + 2]);
        (padded - usize::from(window.kernel[axis])) / usize::from(window.stride[axis]) + 1
    };
    let [kh, kw] = window.kernel.map(usize::from);
    let shapes = [vec![1, h, w, 6], vec![6, kh, kw, 6 / groups]];
    let taps: usize = shapes[1].iter().product();
    let weights: Vec<i8> = (0..taps).map(|_| numbers.draw() as i8).map(|w| w.max(-127)).collect();
    let quant = |scale, zero| int8.then(|| Quant::per_tensor(scale, zero));
    let dtype = if int8 { DType::I8 } else { DType::F32 };
    let mut tensor = |name: &str, shape: &[usize], zero| {
        let (name, shape, quant) = (name.to_owned(), shape.to_vec(), quant(0.05, zero));
        graph.add_value(Value { name, shape, dtype, quant, data: None, channels_first_outside: false })
    };
    let x = tensor("x", &shapes[0], 3);
    let y = tensor("y", &[1, extent(h, 0), extent(w, 1), 6], -7);
    let (data, bias) = match int8 {
        true => (Data::I8(weights), Data::I32(vec![40; 6])),
        false => {
            (Data::F32(weights.iter().map(|&w| f32::from(w) / 100.0).collect()), Data::F32(vec![0.1; 6]))
        }
    };
    let weights = graph.add_constant("w", shapes[1].clone(), data);
    graph.value_mut(weights).quant =
        int8.then(|| Quant { scale: vec![0.002; 6], zero_point: vec![0; 6], axis: Some(0) });
    let bias = graph.add_constant("b", vec![6], bias);
    let op = Op::Conv2d { window, groups, activation: Activation::None };
    graph.nodes.push(Node { name: "padded".into(), op, inputs: vec![x, weights, bias], output: y });
    (graph.inputs, graph.outputs) = (vec![x], vec![y]);
    graph
}
