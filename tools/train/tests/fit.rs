//! Training from outside: what it learns, keeps, rounds, saves and refuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_ir::passes::lossless;
use offshoot_ir::{Data, Graph, Op, UnaryKind};
use offshoot_train::network::{Edge, Network};
use offshoot_train::{
    Checkpoint, Control, Dataset, Ended, Feature, FitOptions, Observer, Step, Target, Teacher, View,
    WeightQuant, WeightTransform, accuracy, evaluate, fit, fold_input, predict,
};

/// Deterministic numbers between -1 and 1.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
    (0..len).map(|i| (hash(i) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn samples(shape: &[usize], seed: u32) -> ArrayD<f32> {
    ArrayD::from_shape_vec(shape, numbers(shape.iter().product(), seed)).unwrap()
}

/// A network with every layer the builder makes, statistics and biases moved off their initial values.
fn mixed() -> Graph {
    let net = Network::new("mixed", [7, 6, 2], 5)
        .conv("a", 4, [3, 2], [2, 1], Edge::Same)
        .normalise_relu("a")
        .depthwise("b", [3, 3], [1, 1], Edge::Same)
        .normalise("b");
    let shortcut = net.last();
    let net = net.conv("c", 4, [1, 1], [1, 1], Edge::Valid).add("d", shortcut).relu("d");
    let mut graph = net.global_average("e").dense("f", 3).softmax("g");
    for (i, value) in graph.values.iter_mut().enumerate() {
        if let Some(Data::F32(data)) = value.data.as_mut().map(Arc::make_mut)
            && value.shape.len() == 1
        {
            data.iter_mut().zip(numbers(64, i as u32)).for_each(|(d, n)| *d = 0.7 + 0.3 * n);
        }
    }
    graph
}

/// Whether the first half of eight numbers is larger than the second, and a network to tell.
fn halves() -> (Graph, Dataset) {
    let x = samples(&[96, 1, 8, 1], 3);
    let first = |s: ndarray::ArrayViewD<'_, f32>| -> f32 {
        s.iter().take(4).sum::<f32>() - s.iter().skip(4).sum::<f32>()
    };
    let labels = x.outer_iter().map(|s| i64::from(first(s) > 0.0)).collect();
    let net = Network::new("small", [1, 8, 1], 1).conv("a", 8, [1, 8], [1, 1], Edge::Valid);
    let graph = net.normalise_relu("a").global_average("b").dense("c", 2).softmax("d");
    (graph, Dataset::new(x, Target::Labels(labels)))
}

fn short(epochs: usize) -> FitOptions {
    FitOptions { epochs, batch: 16, ..FitOptions::default() }
}

fn constant<'a>(graph: &'a Graph, name: &str) -> &'a [f32] {
    let value = graph.values.iter().find(|v| v.name == name).unwrap();
    match value.data.as_deref() {
        Some(Data::F32(data)) => data,
        _ => panic!("{name} is no float constant"),
    }
}

#[test]
fn forward_equals_the_float_reference() {
    let graph = mixed();
    let x = samples(&[19, 7, 6, 2], 1);
    let got = predict(&graph, &x).unwrap();
    let executor = offshoot_reference::Executor::new(&graph).unwrap();
    for (sample, row) in x.outer_iter().zip(got.rows()) {
        let wanted = executor.run(&[sample.to_owned().insert_axis(ndarray::Axis(0))]).unwrap();
        for (a, b) in row.iter().zip(&wanted[0]) {
            assert!((a - b).abs() < 1e-5, "{row} instead of {}", wanted[0]);
        }
    }
}

/// The whole tape, batch statistics included: the first step of plain descent moves each weight along its slope.
#[test]
fn a_step_follows_the_slope_of_the_loss() {
    let graph = mixed();
    let x = samples(&[16, 7, 6, 2], 1);
    let data = Dataset::new(x, Target::Labels((0..16).map(|i| i % 3).collect()));
    let rate = 1e-3;
    let options = |rate| FitOptions {
        epochs: 1,
        rate,
        decay: 0.0,
        schedule: offshoot_train::Schedule::Constant,
        rule: offshoot_train::UpdateRule::Sgd { momentum: 0.0 },
        ..short(1)
    };
    let loss = |graph: &Graph| fit(graph, &data, &options(0.0), &mut ()).unwrap().1.epochs[0].loss;
    let (after, _) = fit(&graph, &data, &options(rate), &mut ()).unwrap();
    for name in ["a.weight", "a.norm.gamma", "b.weight", "b.beta", "c.weight", "c.bias", "f.weight"] {
        let id = graph.values.iter().position(|v| v.name == name).unwrap();
        for index in [0, 3] {
            if index >= constant(&graph, name).len() {
                continue;
            }
            let moved = |by: f32| {
                let mut graph = graph.clone();
                if let Some(Data::F32(data)) = graph.values[id].data.as_mut().map(Arc::make_mut) {
                    data[index] += by;
                }
                f64::from(loss(&graph))
            };
            let slope = ((moved(1e-2) - moved(-1e-2)) / 2e-2) as f32;
            let found = (constant(&graph, name)[index] - constant(&after, name)[index]) / rate;
            assert!(
                (slope - found).abs() < 3e-3 + 0.03 * slope.abs(),
                "{name}[{index}]: {found} for {slope}"
            );
        }
    }
}

#[test]
fn a_small_problem_is_learnt_and_runs_repeat() {
    let (untrained, data) = halves();
    let (graph, report) = fit(&untrained, &data, &short(30), &mut ()).unwrap();
    assert!(report.epochs[29].loss < 0.5 * report.epochs[0].loss, "{report:?}");
    assert_eq!((report.ended, report.steps), (Ended::Completed, 180));
    let Target::Labels(labels) = &data.target else { panic!() };
    assert!(accuracy(&graph, &data.inputs[0], labels).unwrap() > 0.9);
    assert_eq!(fit(&untrained, &data, &short(30), &mut ()).unwrap().0, graph);
}

#[test]
fn a_masked_weight_stays_zero_and_a_frozen_one_stays() {
    let (untrained, data) = halves();
    let mask: Vec<bool> = (0..64).map(|i| i % 3 != 0).collect();
    let mut options = short(5);
    options.masks = BTreeMap::from([("a.weight".into(), mask.clone())]);
    options.frozen.insert("c.weight".into());
    let (graph, _) = fit(&untrained, &data, &options, &mut ()).unwrap();
    assert!(constant(&graph, "a.weight").iter().zip(&mask).all(|(w, keep)| (*w != 0.0) == *keep));
    assert_eq!(constant(&graph, "c.weight"), constant(&untrained, "c.weight"));
}

#[test]
fn a_teacher_alone_is_enough() {
    let (untrained, data) = halves();
    let (teacher, _) = fit(&untrained, &data, &short(30), &mut ()).unwrap();
    let net = Network::new("student", [1, 8, 1], 9).conv("a", 8, [1, 8], [1, 1], Edge::Valid);
    let student = net.normalise_relu("a").global_average("b").dense("c", 2).softmax("d");
    let blind = Dataset { target: Target::Unlabelled, ..data.clone() };
    let feature = Feature {
        student: "b.flatten.out".into(),
        teacher: "b.flatten.out".into(),
        weight: 0.1,
        view: View::Plain,
    };
    let taught = Teacher { graph: teacher, temperature: 2.0, weight: 1.0, features: vec![feature] };
    let options = FitOptions { teacher: Some(taught), ..short(40) };
    let (student, report) = fit(&student, &blind, &options, &mut ()).unwrap();
    assert!(report.epochs[39].loss < 0.5 * report.epochs[0].loss, "{:?}", report.epochs);
    assert!(evaluate(&student, &data).unwrap().accuracy.unwrap() > 0.85);
}

#[test]
fn what_fades_is_gone_at_the_end_and_the_rest_makes_up_for_it() {
    let (untrained, data) = halves();
    let (trained, _) = fit(&untrained, &data, &short(30), &mut ()).unwrap();
    // Of eight filters, three; of the layer behind, nothing.
    let fade: Vec<bool> = (0..64).map(|i| i < 24).collect();
    let options = FitOptions {
        fade: BTreeMap::from([("a.weight".into(), fade.clone())]),
        noise: Some(1e-4),
        ..short(20)
    };
    let (graph, _) = fit(&trained, &data, &options, &mut ()).unwrap();
    assert!(constant(&graph, "a.weight").iter().zip(&fade).all(|(w, fade)| (*w == 0.0) == *fade));
    let before = evaluate(&trained, &data).unwrap().accuracy.unwrap();
    let after = evaluate(&graph, &data).unwrap().accuracy.unwrap();
    assert!(after > before - 0.05, "{before} became {after}");
    // In the middle it is on the way.
    let mut half = FitOptions { epochs: 20, ..options };
    let path = tempfile::tempdir().unwrap();
    half.checkpoint = Some(Checkpoint { path: path.path().join("c"), every: 1000 });
    struct Middle;
    impl Observer for Middle {
        fn step(&mut self, step: &Step) -> Control {
            if step.number == step.of / 2 { Control::Stop } else { Control::Continue }
        }
    }
    let (middle, _) = fit(&trained, &data, &half, &mut Middle).unwrap();
    assert!(constant(&middle, "a.weight").iter().all(|w| *w != 0.0));
    let (resumed, _) = fit(&trained, &data, &half, &mut ()).unwrap();
    assert_eq!(resumed, graph);
}

/// Mixed samples have mixed targets: a linear function is learnt from mixtures to the last, which it could not be if targets
/// stayed those of one of the two.
#[test]
fn mixed_samples_have_mixed_targets() {
    let x = samples(&[64, 1, 8, 1], 5);
    let sums = |s: ndarray::ArrayViewD<'_, f32>| {
        let part = |from: usize| s.iter().skip(from).step_by(2).sum::<f32>();
        [part(0), part(1) - part(0)]
    };
    let y: Vec<f32> = x.outer_iter().flat_map(sums).collect();
    let data = Dataset::new(x, Target::Values(ArrayD::from_shape_vec(vec![64, 2], y).unwrap()));
    let net = Network::new("linear", [1, 8, 1], 2).flatten("flat").dense("sums", 2).finish();
    let options = FitOptions { mix: true, decay: 0.0, rate: 2e-2, ..short(150) };
    let (trained, report) = fit(&net, &data, &options, &mut ()).unwrap();
    let [first, last] = [0, 149].map(|e: usize| report.epochs[e].loss);
    assert!(last < 0.01 * first, "{first} {last}");
    assert!(evaluate(&trained, &data).unwrap().loss < 1e-3);
    assert_ne!(trained, fit(&net, &data, &FitOptions { mix: false, ..options }, &mut ()).unwrap().0);
}

#[test]
fn changed_samples_are_the_same_after_an_interruption() {
    let (untrained, data) = halves();
    let series = offshoot_train::augment::Series { shift: 0, noise: 0.1 };
    let plain = FitOptions { augment: Some(Arc::new(series)), ..short(6) };
    let (whole, _) = fit(&untrained, &data, &plain, &mut ()).unwrap();
    let (other, _) = fit(&untrained, &data, &FitOptions { augment: None, ..plain.clone() }, &mut ()).unwrap();
    assert_ne!(whole, other);
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint { path: folder.path().join("c"), every: 5 };
    let saved = FitOptions { checkpoint: Some(checkpoint), ..plain };
    struct Early;
    impl Observer for Early {
        fn step(&mut self, step: &Step) -> Control {
            if step.number == 14 { Control::Stop } else { Control::Continue }
        }
    }
    fit(&untrained, &data, &saved, &mut Early).unwrap();
    assert_eq!(fit(&untrained, &data, &saved, &mut ()).unwrap().0, whole);
}

#[test]
fn weights_learn_to_live_with_few_bits() {
    let (untrained, data) = halves();
    let (float, _) = fit(&untrained, &data, &short(30), &mut ()).unwrap();
    let (folded, _) = lossless(float).unwrap();
    for (bits, learned) in [(8, false), (4, false), (2, false), (4, true), (2, true)] {
        let options = FitOptions {
            weight_quant: Some(WeightQuant::uniform(bits, learned)),
            activation_quant: true,
            validation: Some(data.clone()),
            rate: 1e-2,
            ..short(30)
        };
        let (_, report) = fit(&folded, &data, &options, &mut ()).unwrap();
        let reached = report.epochs.iter().filter_map(|e| e.validation?.accuracy).fold(0.0, f64::max);
        assert!(reached > 0.85, "{bits} bits, learned steps {learned}: {reached}");
        assert_eq!(report.weight_steps.is_empty(), !learned);
        assert!(!report.activation_ranges.is_empty() && report.best.is_some());
    }
}

/// The network computes with half of each weight.
#[derive(Debug)]
struct Halved;

impl WeightTransform for Halved {
    fn forward(&self, _: &str, _: &[usize], weights: &[f32]) -> Option<Vec<f32>> {
        Some(weights.iter().map(|w| w / 2.0).collect())
    }

    fn backward(&self, _: &str, _: &[usize], _: &[f32], gradient: &mut [f32]) {
        gradient.iter_mut().for_each(|g| *g /= 2.0);
    }
}

#[test]
fn a_transform_is_trained_through() {
    let x = samples(&[64, 1, 1, 3], 3);
    let wanted: Vec<f32> = x.outer_iter().map(|s| s[[0, 0, 0]] - 2.0 * s[[0, 0, 2]] + 0.5).collect();
    let data = Dataset::new(x, Target::Values(ArrayD::from_shape_vec(vec![64], wanted).unwrap()));
    let graph = Network::new("line", [1, 1, 3], 1).global_average("a").dense("b", 1).finish();
    let mut options = FitOptions { rate: 0.05, decay: 0.0, ..short(200) };
    let (plain, report) = fit(&graph, &data, &options, &mut ()).unwrap();
    assert!(report.epochs[199].loss < 1e-4, "{:?}", report.epochs[199]);
    options.transform = Some(Arc::new(Halved));
    let (halved, report) = fit(&graph, &data, &options, &mut ()).unwrap();
    assert!(report.epochs[199].loss < 1e-4, "{:?}", report.epochs[199]);
    for (a, b) in constant(&plain, "b.weight").iter().zip(constant(&halved, "b.weight")) {
        assert!((2.0 * a - b).abs() < 0.05, "{a} and {b}");
    }
}

/// Ends training after a step.
struct Until(usize);

impl Observer for Until {
    fn step(&mut self, step: &Step) -> Control {
        if step.number == self.0 { Control::Stop } else { Control::Continue }
    }
}

#[test]
fn training_that_was_stopped_goes_on_as_if_it_was_not() {
    let (graph, data) = halves();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.checkpoint");
    let mut options = FitOptions {
        weight_quant: Some(WeightQuant::uniform(4, true)),
        activation_quant: true,
        validation: Some(data.clone()),
        ..short(6)
    };
    let whole = fit(&graph, &data, &options, &mut ()).unwrap();
    options.checkpoint = Some(Checkpoint { path: path.clone(), every: 7 });
    for stop in [1, 9, 12, 20] {
        let (_, report) = fit(&graph, &data, &options, &mut Until(stop)).unwrap();
        assert_eq!((report.ended, report.steps), (Ended::Stopped, stop));
    }
    let pieces = fit(&graph, &data, &options, &mut ()).unwrap();
    assert_eq!(pieces, whole);
    // A finished training is not repeated, another one is not taken for it, a damaged file is refused.
    assert_eq!(fit(&graph, &data, &options, &mut Until(1)).unwrap(), whole);
    let other = FitOptions { seed: 1, ..options.clone() };
    assert!(fit(&graph, &data, &other, &mut ()).unwrap_err().to_string().contains("another network"));
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(fit(&graph, &data, &options, &mut ()).unwrap_err().to_string().contains("damaged"));
}

#[test]
fn patience_ends_training_and_the_best_epoch_is_the_result() {
    let (graph, data) = halves();
    let options = FitOptions { validation: Some(data.clone()), patience: Some(2), rate: 0.0, ..short(30) };
    let (_, report) = fit(&graph, &data, &options, &mut ()).unwrap();
    assert_eq!(report.ended, Ended::Patience);
    let best = report.best.unwrap();
    assert_eq!(report.epochs.len(), best + 2);
}

#[test]
fn folding_the_input_map_keeps_the_outputs() {
    let net = Network::new("fold", [5, 5, 2], 1).conv("a", 3, [3, 3], [1, 1], Edge::Valid);
    let mut graph = net.normalise_relu("a").global_average("b").dense("c", 2).finish();
    let x = samples(&[4, 5, 5, 2], 2);
    let before = predict(&graph, &x.mapv(|v| (v - 0.25) * 3.0)).unwrap();
    fold_input(&mut graph, 0.25, 3.0).unwrap();
    let after = predict(&graph, &x).unwrap();
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-4));
    assert!(fold_input(&mut mixed(), 0.0, 1.0).unwrap_err().to_string().contains("without padding"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let graph = mixed();
    let x = samples(&[3, 7, 6, 2], 1);
    let labels = |l: &[i64]| Target::Labels(l.to_vec());
    let refused = |graph: &Graph, x: ArrayD<f32>, target: Target, options: &FitOptions| {
        fit(graph, &Dataset::new(x, target), options, &mut ()).unwrap_err().to_string()
    };
    let options = FitOptions::default();
    let good = labels(&[0, 1, 2]);
    let of = |x: &ArrayD<f32>, target| refused(&graph, x.clone(), target, &options);
    assert!(of(&samples(&[3, 6, 7, 2], 1), good.clone()).contains("[7, 6, 2]"));
    assert!(of(&x, labels(&[0, 1])).contains("2 labels for 3"));
    assert!(of(&x, labels(&[0, 3, 1])).contains("label 3"));
    assert!(of(&x, Target::Values(ArrayD::zeros(vec![1]))).contains("target values"));
    assert!(of(&x, Target::Unlabelled).contains("need a teacher"));
    assert!(of(&x.mapv(|_| f32::NAN), good.clone()).contains("NaN"));
    let unknown = FitOptions { frozen: ["nothing".to_owned()].into(), ..FitOptions::default() };
    assert!(refused(&graph, x.clone(), good.clone(), &unknown).contains("`nothing`"));
    // Logarithms of negative numbers.
    let mut broken = graph.clone();
    let last = broken.nodes.len() - 1;
    broken.nodes[last].op = Op::Unary(UnaryKind::Log);
    assert!(refused(&broken, x, good, &options).contains("diverged in epoch 1"));
}
