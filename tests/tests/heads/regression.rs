//! A head that learns real targets on the device: against least squares on the host, on boards, through the command line.

use clap::Parser;
use ndarray::{ArrayD, IxDyn};
use offshoot::{AlignedBytes, Engine};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::{eval, learn};
use offshoot_cli::files::OffFile;
use offshoot_cli::metrics::{Metric, mean_squared_error};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_ir::Graph;
use offshoot_target::{Device, HostDevice, Target};
use offshoot_train::network::Network;
use offshoot_train::{Dataset, FitOptions, Target as Wanted, fit};

const UI: Ui = Ui { json: true };

/// Readings of a sensor with six elements, and the two quantities that it measures. `drift` changes how they depend on the readings.
fn samples(count: usize, seed: u64, drift: f32) -> (ArrayD<f32>, ArrayD<f32>) {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let r: Vec<f32> = (0..6).map(|_| uniform()).collect();
        let a = r[0] * r[0] + 0.7 * r[1] - 0.4 * r[2];
        let b = (r[3] - r[4]).max(0.0) + 0.3 * r[5];
        y.extend([a * (1.0 + drift) + 0.8 * drift, b - 0.6 * drift * r[0] + 0.02 * uniform()]);
        x.extend(r);
    }
    let shaped = |v: Vec<f32>, shape: &[usize]| ArrayD::from_shape_vec(IxDyn(shape), v).unwrap();
    (shaped(x, &[count, 1, 1, 6]), shaped(y, &[count, 2]))
}

/// A network that knows the sensor as it was.
fn network() -> Graph {
    let (x, y) = samples(1024, 1, 0.0);
    let graph = Network::new("x", [1, 1, 6], 3)
        .flatten("flat")
        .dense("hidden", 24)
        .relu("relu")
        .dense("out", 2)
        .finish();
    let data = Dataset { inputs: vec![x], target: Wanted::Values(y) };
    let options = FitOptions { epochs: 30, rate: 1e-2, ..FitOptions::default() };
    fit(&graph, &data, &options, &mut ()).unwrap().0
}

fn made(graph: &Graph, precision: Precision, plan: &str) -> OffFile {
    let x = Array::F32(samples(128, 2, 0.0).0);
    let samples = compile::calibration(graph, &[x], &["calibration".into()]).unwrap();
    let plan = Some(Box::new(offshoot_export::LearningPlan::parse(plan).unwrap()));
    let args = compile::Args { precision: Some(precision), plan, ..compile::Args::default() };
    OffFile::from_bytes(&compile::make(&UI, graph.clone(), &samples, &args, None).unwrap().compiled.bytes)
}

fn inputs(file: &OffFile, x: &ArrayD<f32>) -> Inputs {
    Inputs::encode(&file.model().unwrap(), &[Array::F32(x.clone())], &["x".into()]).unwrap()
}

fn rows(y: &ArrayD<f32>) -> Vec<Vec<f32>> {
    y.outer_iter().map(|row| row.iter().copied().collect()).collect()
}

/// Learns on a device; returns what it learned, and the mean squared error of the last samples, each predicted before it was learned.
fn learned(device: &mut dyn Device, file: &OffFile, x: &ArrayD<f32>, y: &ArrayD<f32>) -> (Vec<u8>, f64) {
    let (inputs, targets) = (inputs(file, x), rows(y));
    device.load(file.bytes()).unwrap();
    device.begin_learning().unwrap();
    let mut errors = Vec::new();
    for (i, targets) in targets.iter().enumerate() {
        device.fit(&inputs.sample(i), targets).unwrap();
        errors.push(mean_squared_error(&device.scores().unwrap(), targets));
    }
    let last = &errors[errors.len() * 3 / 4..];
    (device.learned().unwrap(), last.iter().sum::<f64>() / last.len() as f64)
}

/// Features and the network's own outputs.
fn seen(file: &OffFile, x: &ArrayD<f32>) -> Vec<(Vec<f64>, Vec<f64>)> {
    let model = file.model().unwrap();
    let inputs = inputs(file, x);
    let (classifier, width) = model.learning().unwrap().classifier().unwrap();
    let mut arena = AlignedBytes::zeroed(model.train_arena_bytes().unwrap() as usize);
    let of = |i: usize| {
        let mut engine = Engine::learning(model, &mut arena).unwrap();
        engine.input_mut(0).unwrap().copy_from_slice(inputs.sample(i)[0]);
        engine.run().unwrap();
        let own = engine.scores().unwrap().iter().map(|&s| f64::from(s)).collect();
        let bytes = &arena.bytes()[classifier.features as usize..][..4 * width];
        let features = bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        (features.collect(), own)
    };
    (0..inputs.count()).map(of).collect()
}

/// Mean squared error on test samples of the ridge regression of all training samples at once, in float64.
fn of_least_squares(
    train: &[(Vec<f64>, Vec<f64>)],
    y: &[Vec<f32>],
    test: &[(Vec<f64>, Vec<f64>)],
    ty: &[Vec<f32>],
) -> f64 {
    let n = train[0].0.len() + 1;
    let with_one = |x: &[f64]| x.iter().copied().chain([1.0]).collect::<Vec<f64>>();
    let mut sum = 0.0;
    for output in 0..y[0].len() {
        let mut a = vec![vec![0.0; n + 1]; n];
        for i in 0..n {
            a[i][i] = 1.0;
        }
        for ((x, own), y) in train.iter().zip(y) {
            let (x, e) = (with_one(x), f64::from(y[output]) - own[output]);
            for i in 0..n {
                for j in 0..n {
                    a[i][j] += x[i] * x[j];
                }
                a[i][n] += x[i] * e;
            }
        }
        // Elimination; the matrix is positive definite.
        for k in 0..n {
            let pivot = a[k].clone();
            for (i, row) in a.iter_mut().enumerate().filter(|(i, _)| *i != k) {
                let factor = row[k] / pivot[k];
                row.iter_mut().zip(&pivot).for_each(|(r, p)| *r -= factor * p);
                let _ = i;
            }
        }
        let weights: Vec<f64> = (0..n).map(|i| a[i][n] / a[i][i]).collect();
        for ((x, own), y) in test.iter().zip(ty) {
            let said: f64 = with_one(x).iter().zip(&weights).map(|(x, w)| x * w).sum::<f64>() + own[output];
            sum += (said - f64::from(y[output])).powi(2);
        }
    }
    sum / (test.len() * y[0].len()) as f64
}

/// The sensor has drifted. The head learns it from 300 samples as well as least squares in float64 would.
#[test]
fn learning_on_the_device_is_least_squares() {
    let graph = network();
    let ((x, y), (tx, ty)) = (samples(300, 7, 0.5), samples(300, 8, 0.5));
    for precision in [Precision::F32, Precision::Int8] {
        let file = made(&graph, precision.clone(), "head = \"regression\"");
        let mut host = HostDevice::new();
        let (_, _) = learned(&mut host, &file, &x, &y);
        let error = |device: &mut HostDevice| {
            let inputs = inputs(&file, &tx);
            let of = |(i, y): (usize, &Vec<f32>)| {
                device.run(&inputs.sample(i)).unwrap();
                mean_squared_error(&device.scores().unwrap(), y)
            };
            rows(&ty).iter().enumerate().map(of).sum::<f64>() / 300.0
        };
        let after = error(&mut host);
        let mut fresh = HostDevice::new();
        fresh.load(file.bytes()).unwrap();
        fresh.begin_learning().unwrap();
        let before = error(&mut fresh);
        let expected = of_least_squares(&seen(&file, &x), &rows(&y), &seen(&file, &tx), &rows(&ty));
        println!(
            "{precision}: mean squared error {before:.5} before, {after:.5} after, {expected:.5} in float64"
        );
        assert!((after - expected).abs() < 0.01 * expected, "{precision}: {after} {expected}");
        assert!(after < 0.25 * before, "{precision}: {before} {after}");
        // A head of real targets knows no classes, and takes as many targets as there are outputs.
        assert!(host.learn(&inputs(&file, &x).sample(0), 0).is_err());
        assert!(host.fit(&inputs(&file, &x).sample(0), &[1.0]).is_err());
    }
}

#[test]
fn boards_learn_the_same_bits() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let graph = network();
    let (x, y) = samples(40, 7, 0.5);
    for (precision, plan, board) in [
        (Precision::Int8, "head = \"regression\"", "qemu:cortex-m4"),
        (Precision::F32, "[head]\nkind = \"regression\"\nforgetting = 0.98", "qemu:cortex-m4"),
        (Precision::Int8, "[head]\nkind = \"regression\"\nforgetting = 0.98", "qemu:riscv32"),
    ] {
        let file = made(&graph, precision, plan);
        let here = learned(&mut HostDevice::new(), &file, &x, &y);
        let mut device = offshoot_target::open(&Target::parse(board).unwrap()).unwrap();
        let there = learned(device.as_mut(), &file, &x, &y);
        assert!(here == there, "{plan} on {board}");
        let sample = inputs(&file, &x);
        device.run(&sample.sample(0)).unwrap();
        let run = device.run_count().unwrap();
        let step = device.fit(&sample.sample(0), &rows(&y)[0]).unwrap();
        println!(
            "{plan:?} on {board}: {} bytes learned, a step {} instructions, a run {run}",
            here.0.len(),
            step.count
        );
    }
}

#[derive(clap::Parser)]
struct Learn {
    #[command(flatten)]
    args: learn::Args,
}

#[derive(clap::Parser)]
struct Eval {
    #[command(flatten)]
    args: eval::Args,
}

#[test]
fn the_command_line_learns_real_targets() {
    let file = made(&network(), Precision::Int8, "[head]\nkind = \"regression\"\nforgetting = 0.999");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("sensor.off"), file.bytes()).unwrap();
    let ((x, y), (tx, ty)) = (samples(120, 7, 0.5), samples(100, 8, 0.5));
    for (name, array) in [("x.npy", x), ("y.npy", y), ("tx.npy", tx), ("ty.npy", ty)] {
        std::fs::write(path(name), npy::to_bytes(&Array::F32(array))).unwrap();
    }
    let learn = |more: &[&str]| {
        let paths = ["sensor.off", "x.npy", "y.npy", "tx.npy", "ty.npy"].map(path);
        let [off, x, y, tx, ty] = paths.each_ref().map(String::as_str);
        let line = ["learn", off, "--train", x, y, "--test", tx, ty];
        learn::run(&UI, &Learn::parse_from(line.iter().chain(more)).args)
    };
    let (out, html) = (path("learned.off"), path("learned.html"));
    let report = learn(&["-o", &out, "--report", &html]).unwrap();
    let errors = report.regression.clone().unwrap();
    assert!(errors.after.unwrap() < 0.4 * errors.before.unwrap() && errors.along.len() == 20, "{errors:?}");
    let (tx, ty) = (path("tx.npy"), path("ty.npy"));
    let judged =
        eval::run(&UI, &Eval::parse_from(["eval", out.as_str(), "--input", &tx, "--labels", &ty]).args)
            .unwrap();
    assert_eq!(judged.metric, Metric::Mse);
    assert!((judged.value - errors.after.unwrap()).abs() < 1e-9, "{judged:?} {errors:?}");
    let flash = path("flash");
    learn(&["--steps", "50", "--save", "--flash", &flash]).unwrap();
    let second = learn(&["--steps", "70", "--skip", "50", "--restore", "--flash", &flash]).unwrap();
    assert_eq!((second.digest, second.steps_so_far), (report.digest, 120));
    let (npz, again) = (path("state.npz"), path("again.npz"));
    learn(&["--export", &npz]).unwrap();
    learn(&["--steps", "0", "--import", &npz, "--export", &again]).unwrap();
    assert_eq!(std::fs::read(&npz).unwrap(), std::fs::read(&again).unwrap());
}
