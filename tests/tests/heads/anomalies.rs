//! A head that learns what is normal on the device: against training on the host, on boards, through the command line.
//!
//! The windows are synthetic: no recordings of machines are at hand. `OFFSHOOT_SKIP_EMULATED=1` skips what needs QEMU.

use clap::Parser;
use ndarray::{ArrayD, Axis, IxDyn};
use offshoot::{AlignedBytes, Engine};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::learn::anomalies::{self, Anomalies};
use offshoot_cli::commands::{eval, learn};
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::metrics::{Metric, auc, mean_squared_error};
use offshoot_cli::ui::Ui;
use offshoot_data::features::FrontEnd;
use offshoot_data::npy::{self, Array};
use offshoot_data::synth::{Condition, Task, tones};
use offshoot_target::{Device, HostDevice, Target};
use offshoot_tests::{data, root};
use offshoot_train::network::Network;
use offshoot_train::{Dataset, FitOptions, Target as Wanted, fit, predict};

const UI: Ui = Ui { json: true };

/// Windows and whether each is an anomaly.
struct Windows {
    x: ArrayD<f32>,
    anomalous: Vec<bool>,
}

impl Windows {
    fn of(samples: Vec<(Vec<f32>, bool)>, shape: &[usize]) -> Self {
        let (rows, anomalous): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
        let shape: Vec<usize> = std::iter::once(rows.len()).chain(shape.iter().copied()).collect();
        Self { x: ArrayD::from_shape_vec(IxDyn(&shape), rows.concat()).unwrap(), anomalous }
    }

    fn labels(&self) -> Vec<u16> {
        self.anomalous.iter().map(|&a| a.into()).collect()
    }

    fn inputs(&self, file: &OffFile) -> Inputs {
        let x = Array::F32(self.x.clone());
        Inputs::encode(&file.model().unwrap(), &[x], &["windows".into()]).unwrap()
    }
}

/// Normal windows of a machine whose sensor is mounted elsewhere than the network knows; and test windows, half of them of a machine
/// with one of four faults.
fn machine(normal: usize, test: usize) -> (Windows, Windows) {
    let draw = |seed: u64, count: usize, wanted: &dyn Fn(i64) -> bool| -> Vec<(Vec<f32>, bool)> {
        let all = Task::Vibration.generate(Condition::Shifted, seed, 5 * count);
        let x = all.x.to_f32();
        let of = x.axis_iter(Axis(0)).zip(&all.y).filter(|(_, y)| wanted(**y));
        of.map(|(x, y)| (x.iter().copied().collect(), *y != 0)).take(count).collect()
    };
    let both = [draw(12, test / 2, &|y| y == 0), draw(13, test / 2, &|y| y != 0)].concat();
    (Windows::of(draw(11, normal, &|y| y == 0), &[1, 128, 3]), Windows::of(both, &[1, 128, 3]))
}

/// Log-mel windows of 5 frames and 128 bands as MLPerf Tiny's anomaly detection makes them, of synthetic sounds: surroundings
/// alone are normal, events are not.
fn sounds(normal: usize, test: usize) -> (Windows, Windows) {
    let front_end = FrontEnd {
        window: 1024,
        hop: 512,
        fft: 1024,
        bands: 128,
        range: (0.0, 4000.0),
        floor: 1e-8,
        coefficients: None,
        decibel: true,
        ..FrontEnd::keywords(8000)
    };
    let draw = |seed: u64, count: usize, wanted: &dyn Fn(i64) -> bool| -> Vec<(Vec<f32>, bool)> {
        // Every eighth sound has no event.
        let all = tones::sounds(Condition::Usual, seed, if wanted(0) { 8 * count } else { 2 * count });
        let of = all.into_iter().filter(|(_, label)| wanted(*label)).take(count);
        of.map(|(sound, label)| {
            let features = front_end.features(&sound).unwrap();
            (features.iter().take(640).copied().collect(), label != 0)
        })
        .collect()
    };
    let both = [draw(22, test / 2, &|y| y == 0), draw(23, test / 2, &|y| y != 0)].concat();
    (Windows::of(draw(21, normal, &|y| y == 0), &[640]), Windows::of(both, &[640]))
}

fn vibration(plan: &str) -> OffFile {
    let folder = root().join("models/vibration");
    let (graph, _) = files::read_graph(&folder.join("model.onnx")).unwrap();
    let calibration = npy::read(&folder.join("calibration_x.npy")).unwrap();
    let samples = compile::calibration(&graph, &[calibration], &["calibration".into()]).unwrap();
    let plan = Some(Box::new(offshoot_export::LearningPlan::parse(plan).unwrap()));
    let args = compile::Args { precision: Some(Precision::Int8), plan, ..compile::Args::default() };
    OffFile::from_bytes(&compile::make(&UI, graph, &samples, &args, None).unwrap().compiled.bytes)
}

fn public(plan: &str) -> Option<OffFile> {
    let (graph, _) = files::read_graph(&data("mlperf_tiny/ad_int8.onnx")?).unwrap();
    let plan = Some(Box::new(offshoot_export::LearningPlan::parse(plan).unwrap()));
    let args = compile::Args { plan, ..compile::Args::default() };
    Some(OffFile::from_bytes(&compile::make(&UI, graph, &[], &args, None).unwrap().compiled.bytes))
}

/// Learns normal windows on a device; returns what it learned.
fn learned(device: &mut dyn Device, file: &OffFile, windows: &Windows) -> Vec<u8> {
    let inputs = windows.inputs(file);
    device.load(file.bytes()).unwrap();
    device.begin_learning().unwrap();
    for i in 0..inputs.count() {
        device.learn(&inputs.sample(i), 0).unwrap();
    }
    device.learned().unwrap()
}

/// The head's features of every window.
fn features(file: &OffFile, windows: &Windows) -> Vec<Vec<f64>> {
    let model = file.model().unwrap();
    let inputs = windows.inputs(file);
    let (classifier, width) = model.learning().unwrap().classifier().unwrap();
    let mut arena = AlignedBytes::zeroed(model.train_arena_bytes().unwrap() as usize);
    let of = |i: usize| {
        let mut engine = Engine::learning(model, &mut arena).unwrap();
        engine.input_mut(0).unwrap().copy_from_slice(inputs.sample(i)[0]);
        engine.run().unwrap();
        let bytes = &arena.bytes()[classifier.features as usize..][..4 * width];
        bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
    };
    (0..inputs.count()).map(of).collect()
}

/// AUC of Mahalanobis distances, mean and covariance in float64 of all normal windows at once, with the head's prior.
fn of_statistics(normal: &[Vec<f64>], test: &[Vec<f64>], anomalous: &[bool]) -> f64 {
    let (n, count) = (normal[0].len(), normal.len() as f64);
    let mean: Vec<f64> = (0..n).map(|i| normal.iter().map(|x| x[i]).sum::<f64>() / count).collect();
    let early = &normal[..16];
    let middle: Vec<f64> = (0..n).map(|i| early.iter().map(|x| x[i]).sum::<f64>() / 16.0).collect();
    let energy = |x: &Vec<f64>| x.iter().zip(&middle).map(|(x, m)| (x - m).powi(2)).sum::<f64>();
    let spread = early.iter().map(energy).sum::<f64>() / (16.0 * n as f64);
    let mut lower = vec![vec![0.0; n]; n];
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = normal.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum();
            lower[i][j] =
                (sum + if i == j { spread * n as f64 / 2.0 } else { 0.0 }) / (count + n as f64 / 2.0);
        }
    }
    for i in 0..n {
        for j in 0..=i {
            let sum = lower[i][j] - (0..j).map(|k| lower[i][k] * lower[j][k]).sum::<f64>();
            lower[i][j] = if i == j { sum.sqrt() } else { sum / lower[j][j] };
        }
    }
    let distance = |x: &Vec<f64>| {
        let mut z = vec![0.0; n];
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| lower[i][k] * z[k]).sum();
            z[i] = (x[i] - mean[i] - sum) / lower[i][i];
        }
        z.iter().map(|z| z * z).sum::<f64>()
    };
    auc(&test.iter().map(distance).collect::<Vec<_>>(), anomalous).unwrap()
}

/// AUC of the reconstruction error of an autoencoder that backpropagation trains on the host on the same normal windows.
fn of_autoencoder(normal: &Windows, test: &Windows) -> f64 {
    let width = normal.x.len() / normal.anomalous.len();
    let flat = |x: &ArrayD<f32>| {
        let mean = x.mean().unwrap();
        let deviation = x.std(0.0);
        let rows = x.len() / width;
        (
            x.mapv(|v| (v - mean) / deviation).into_shape_with_order(IxDyn(&[rows, 1, 1, width])).unwrap(),
            mean,
            deviation,
        )
    };
    let (x, mean, deviation) = flat(&normal.x);
    let graph = Network::new("x", [1, 1, width], 1)
        .flatten("flat")
        .dense("e1", 128)
        .relu("r1")
        .dense("e2", 8)
        .relu("r2")
        .dense("d1", 128)
        .relu("r3")
        .dense("d2", width)
        .finish();
    let rows = x.len() / width;
    let wanted = x.clone().into_shape_with_order(IxDyn(&[rows, width])).unwrap();
    let options = FitOptions { epochs: 40, batch: 32, ..FitOptions::default() };
    let data = Dataset { inputs: vec![x], target: Wanted::Values(wanted) };
    let (trained, _) = fit(&graph, &data, &options, &mut ()).unwrap();
    let rows = test.x.len() / width;
    let x =
        test.x.mapv(|v| (v - mean) / deviation).into_shape_with_order(IxDyn(&[rows, 1, 1, width])).unwrap();
    let out = predict(&trained, &x).unwrap();
    let errors = x.axis_iter(Axis(0)).zip(out.outer_iter()).map(|(x, y)| {
        let (x, y): (Vec<f32>, Vec<f32>) = (x.iter().copied().collect(), y.iter().copied().collect());
        mean_squared_error(&x, &y)
    });
    auc(&errors.collect::<Vec<_>>(), &test.anomalous).unwrap()
}

fn judged(file: &OffFile, normal: &Windows, test: &Windows) -> Anomalies {
    let learned = learned(&mut HostDevice::new(), file, normal);
    anomalies::judge(file, Some(&learned), &test.inputs(file), &test.labels()).unwrap().unwrap()
}

/// What is learned on the device is at most 0.02 of AUC behind training on the host: statistics of the same features in float64, and
/// an autoencoder. False alarms are about as rare as the plan says.
#[test]
fn learning_on_the_device_is_as_good_as_training_on_the_host() {
    let file = vibration(PLAN);
    let (normal, test) = machine(600, 400);
    let ours = judged(&file, &normal, &test);
    let (own, statistics) = against_statistics(&file, &normal, &test, &ours);
    let autoencoder = of_autoencoder(&normal, &test);
    println!(
        "vibration: AUC {own:.4}, {statistics:.4} in float64, {autoencoder:.4} by an autoencoder; {ours:?}"
    );
    assert!(own > 0.8 && own > autoencoder - 0.02, "{own} {autoencoder}");
    assert!(ours.false_alarms.unwrap() < 0.1, "{ours:?}");
}

/// The same on the public autoencoder, whose windows are here of synthetic sounds.
#[test]
fn a_public_network_learns_as_statistics_in_float64_do() {
    let Some(file) = public(PLAN) else { return };
    let (normal, test) = sounds(150, 120);
    let ours = judged(&file, &normal, &test);
    let (own, statistics) = against_statistics(&file, &normal, &test, &ours);
    println!("MLPerf Tiny AD: AUC {own:.4}, {statistics:.4} in float64; {ours:?}");
}

const PLAN: &str = "[head]\nkind = \"anomaly\"\nfalse_alarms = 0.05";

/// AUC on the device, and of statistics of the same features in float64.
fn against_statistics(file: &OffFile, normal: &Windows, test: &Windows, ours: &Anomalies) -> (f64, f64) {
    let statistics = of_statistics(&features(file, normal), &features(file, test), &test.anomalous);
    let own = ours.auc.unwrap();
    assert!((own - statistics).abs() < 0.02, "{own} {statistics}");
    (own, statistics)
}

/// Boards learn the host's bits, in the memory and with the work that is said here.
#[test]
fn boards_learn_the_same_bits() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let (normal, _) = machine(40, 2);
    for (plan, board) in [
        ("head = \"anomaly\"", "qemu:cortex-m4"),
        ("head = \"anomaly\"", "qemu:riscv32"),
        ("[head]\nkind = \"anomaly\"\ncovariance = \"diagonal\"\nwindow = 30.0", "qemu:cortex-m4"),
    ] {
        let file = vibration(plan);
        let here = learned(&mut HostDevice::new(), &file, &normal);
        let mut device = offshoot_target::open(&Target::parse(board).unwrap()).unwrap();
        assert!(learned(device.as_mut(), &file, &normal) == here, "{plan} on {board}");
        let inputs = normal.inputs(&file);
        let mut host = HostDevice::new();
        host.load(file.bytes()).unwrap();
        host.begin_learning().unwrap();
        host.write_learned(&here).unwrap();
        for i in 0..3 {
            let sample = inputs.sample(i);
            host.run(&sample).unwrap();
            device.run(&sample).unwrap();
            assert_eq!(host.scores().unwrap(), device.scores().unwrap());
        }
        let run = device.run_count().unwrap();
        let step = device.learn(&inputs.sample(0), 0).unwrap();
        println!(
            "{plan:?} on {board}: {} bytes learned, a step {} instructions, a run with scores {run}",
            here.len(),
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

/// The public autoencoder learns from normal windows without labels, is saved in the middle, goes on, and is judged, all from the
/// command line.
#[test]
fn the_command_line_learns_without_labels() {
    let Some(file) = public("head = \"anomaly\"") else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("ad.off"), file.bytes()).unwrap();
    let (normal, test) = sounds(130, 40);
    let labels = ArrayD::from_shape_vec(IxDyn(&[40]), test.labels().iter().map(|&l| i64::from(l)).collect());
    for (name, array) in [
        ("x.npy", Array::F32(normal.x)),
        ("test_x.npy", Array::F32(test.x)),
        ("test_y.npy", Array::I64(labels.unwrap())),
    ] {
        std::fs::write(path(name), npy::to_bytes(&array)).unwrap();
    }
    let learn = |more: &[&str]| {
        let (off, x, tx, ty) = (path("ad.off"), path("x.npy"), path("test_x.npy"), path("test_y.npy"));
        let line: [&str; 7] = ["learn", &off, "--train", &x, "--test", &tx, &ty];
        learn::run(&UI, &Learn::parse_from(line.iter().chain(more)).args)
    };
    let out = path("learned.off");
    let report = learn(&["-o", &out]).unwrap();
    assert!(report.accuracy_before.is_nan() && report.steps == 130);
    let found = report.anomalies.unwrap();
    assert!(found.auc.is_some() && found.threshold.is_some(), "{report:?}");
    assert_eq!(Some(report.accuracy_after), report.accuracy_written);
    let (tx, ty) = (path("test_x.npy"), path("test_y.npy"));
    let judged =
        eval::run(&UI, &Eval::parse_from(["eval", out.as_str(), "--input", &tx, "--labels", &ty]).args)
            .unwrap();
    assert_eq!((judged.metric, Some(judged.value)), (Metric::Auc, found.auc));
    let flash = path("flash");
    learn(&["--steps", "70", "--save", "--flash", &flash]).unwrap();
    let second = learn(&["--steps", "60", "--skip", "70", "--restore", "--flash", &flash]).unwrap();
    assert_eq!((second.digest, second.steps_so_far), (report.digest, 130));
    for (more, words) in
        [(["--inference", "no.off"], "no operators"), (["--new-classes", "1"], "learns no classes")]
    {
        let error = learn(&more).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
