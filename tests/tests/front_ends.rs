//! Front ends: features of a sound within 1e-3 of float64, and networks that take samples, with the same bits on host and boards.

use std::path::{Path, PathBuf};

use clap::Parser;
use ndarray::{ArrayD, IxDyn};
use offshoot::format::codec::Record;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::frontend;
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy;
use offshoot_data::synth::{Condition, Task, tones};
use offshoot_target::{Device, HostDevice};
use offshoot_tests::{board, root, skip_emulated};

const UI: Ui = Ui { json: true };

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: frontend::Args,
}

/// Runs `offshoot frontend` with these arguments; returns the file.
fn front_end(folder: &Path, arguments: &str, join: Option<&Path>) -> PathBuf {
    let output = folder.join("front.onnx");
    let mut words: Vec<String> =
        ["frontend"].into_iter().chain(arguments.split(' ')).map(str::to_owned).collect();
    words.extend(["-o".to_owned(), output.display().to_string()]);
    words.extend(join.into_iter().flat_map(|path| ["--join".to_owned(), path.display().to_string()]));
    let line = Line::parse_from(words);
    frontend::run(&UI, &line.args).unwrap_or_else(|e| panic!("{arguments}: {e}"));
    output
}

fn compiled(path: &Path, precision: Precision, samples: &[Vec<ArrayD<f32>>]) -> OffFile {
    let (graph, _) = files::read_graph(path).unwrap();
    let args = compile::Args { precision: Some(precision), ..compile::Args::default() };
    let made = compile::make(&UI, graph, samples, &args, None).unwrap();
    OffFile::from_bytes(&made.compiled.bytes)
}

/// Runs a sound through a file; the outputs as real numbers.
fn run(device: &mut dyn Device, file: &OffFile, sound: &[f32]) -> Vec<f32> {
    let model = file.model().unwrap();
    let input = offshoot_cli::batch::input_port(&model, 0).unwrap().encode_real(sound.iter().copied());
    let outputs = device.run(&[&input]).unwrap();
    offshoot_cli::batch::output_port(&model, 0).unwrap().decode(&outputs[0])
}

/// The formula of `fixtures/front_ends/make.py`.
fn sound(samples: usize, swells: bool) -> Vec<f32> {
    let mut state = 1u32;
    let mut sound = Vec::new();
    for i in 0..samples {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = f64::from(state >> 8) / f64::from(1u32 << 23) - 1.0;
        let t = i as f64 / 16000.0;
        let tone = |turns: f64| (std::f64::consts::TAU * turns).sin();
        let rising = 0.2 * tone(1310.0 * t + 200.0 * t * t);
        let level = if swells { 0.02 + 0.98 * tone(1.7 * t).abs() } else { 1.0 };
        sound.push(((0.3 * tone(220.0 * t) + 0.1 * tone(3100.0 * t) + rising + 0.05 * noise) * level) as f32);
    }
    sound
}

#[test]
fn features_are_within_a_thousandth_of_float64() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments, samples) in [("mfcc", "mfcc", 16000), ("log_mel", "log-mel", 3072)] {
        let golden =
            npy::read(&root().join(format!("tests/fixtures/front_ends/{name}.npy"))).unwrap().to_f32();
        let file = compiled(&front_end(folder.path(), arguments, None), Precision::F32, &[]);
        let mut host = HostDevice::new();
        host.load(file.bytes()).unwrap();
        let found = run(&mut host, &file, &sound(samples, false));
        assert_eq!(found.len(), golden.len());
        let most = found.iter().zip(&golden).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(most < 1e-3, "{name}: {most}");
        println!("{name}: at most {most:.1e} from float64");
    }
}

/// Features in integers equal those of TensorFlow Lite Micro.
#[test]
fn the_microfrontend_is_that_of_tensorflow_lite_micro() {
    let folder = tempfile::tempdir().unwrap();
    let golden = npy::read(&root().join("tests/fixtures/front_ends/microfrontend.npy")).unwrap().to_f32();
    let file = compiled(&front_end(folder.path(), "microfrontend --hop 10ms", None), Precision::F32, &[]);
    let mut host = HostDevice::new();
    host.load(file.bytes()).unwrap();
    let codes: Vec<f32> =
        sound(16000, true).iter().map(|x| (x * 32768.0).round_ties_even() / 32768.0).collect();
    let found = run(&mut host, &file, &codes);
    assert_eq!(found.len(), golden.len());
    let differ: Vec<_> = found.iter().zip(&golden).enumerate().filter(|(_, (a, b))| a != b).collect();
    assert!(differ.is_empty(), "{} of {} features differ: {differ:?}", differ.len(), found.len());
}

/// A front end that takes hop after hop gives the features of the whole sound.
#[test]
fn streams_give_the_features_of_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let sound = sound(16000, true);
    for kind in ["mfcc", "microfrontend"] {
        let whole = compiled(&front_end(folder.path(), kind, None), Precision::F32, &[]);
        let stream =
            compiled(&front_end(folder.path(), &format!("{kind} --streaming"), None), Precision::F32, &[]);
        // The first frame begins with what the device keeps before it has heard anything: zeros.
        let mut delayed = vec![0.0; 160];
        delayed.extend(&sound[..15840]);
        let mut host = HostDevice::new();
        host.load(whole.bytes()).unwrap();
        let features = run(&mut host, &whole, &delayed);
        let mut host = HostDevice::new();
        host.load(stream.bytes()).unwrap();
        for (frame, hop) in features.chunks_exact(features.len() / 49).zip(sound.chunks_exact(320)) {
            assert_eq!(run(&mut host, &stream, hop), frame, "{kind}");
        }
    }
}

/// A network behind a stream gives the scores of the window that has passed.
#[test]
fn a_network_behind_a_stream_sees_the_last_window() {
    let folder = tempfile::tempdir().unwrap();
    let network = root().join("models/tones/model.onnx");
    let whole = compiled(&front_end(folder.path(), TONES, Some(&network)), Precision::F32, &[]);
    let stream = TONES.replace("--frames 32", "--streaming");
    let stream = compiled(&front_end(folder.path(), &stream, Some(&network)), Precision::F32, &[]);
    let [small, large] = [&stream, &whole].map(|file| file.model().unwrap().arena_bytes());
    println!("arena: {small} bytes for a stream, {large} for a window");
    assert!(small < large);
    for (sound, _) in &tones::sounds(Condition::Usual, 3, 3) {
        let mut host = HostDevice::new();
        host.load(whole.bytes()).unwrap();
        let scores = run(&mut host, &whole, sound);
        let mut host = HostDevice::new();
        host.load(stream.bytes()).unwrap();
        let last = sound.chunks_exact(128).map(|hop| run(&mut host, &stream, hop)).last();
        assert_eq!(last, Some(scores));
    }
}

/// Calibrated on a stream, not on windows that are silent but for one frame.
#[test]
fn a_quantised_network_behind_a_stream_gives_the_scores_of_the_float_one() {
    let folder = tempfile::tempdir().unwrap();
    let network = root().join("models/tones/model.onnx");
    let stream = TONES.replace("--frames 32", "--streaming");
    let graph = front_end(folder.path(), &stream, Some(&network));
    let sounds = tones::sounds(Condition::Usual, 6, 3);
    let hops: Vec<f32> = sounds.iter().flat_map(|(sound, _)| sound.iter().copied()).collect();
    let samples: Vec<Vec<ArrayD<f32>>> = hops
        .chunks_exact(128)
        .map(|hop| vec![ArrayD::from_shape_vec(vec![1, 128], hop.to_vec()).unwrap()])
        .collect();
    let exact = compiled(&graph, Precision::F32, &[]);
    for precision in [Precision::Int8, Precision::Int16x8] {
        let file = compiled(&graph, precision.clone(), &samples);
        let mut hosts = [&exact, &file].map(|f| {
            let mut host = HostDevice::new();
            host.load(f.bytes()).unwrap();
            host
        });
        let mut worst = 0.0f32;
        for hop in hops.chunks_exact(128) {
            let [a, b] = [(0, &exact), (1, &file)].map(|(i, f)| run(&mut hosts[i], f, hop));
            worst = a.iter().zip(&b).fold(worst, |m, (a, b)| m.max((a - b).abs()));
        }
        assert!(worst < 0.1, "{precision:?}: {worst}");
    }
}

#[test]
fn axes_of_an_accelerometer_have_spectra_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "spectrogram --rate 1600 --window 128 --hop 64 --length 256";
    let one = compiled(&front_end(folder.path(), arguments, None), Precision::F32, &[]);
    let three =
        compiled(&front_end(folder.path(), &format!("{arguments} --signals 3"), None), Precision::F32, &[]);
    let sound = sound(768, true);
    let mut host = HostDevice::new();
    host.load(three.bytes()).unwrap();
    let all = run(&mut host, &three, &sound);
    host.load(one.bytes()).unwrap();
    let each: Vec<f32> = sound.chunks_exact(256).flat_map(|axis| run(&mut host, &one, axis)).collect();
    assert_eq!(all, each);
}

#[test]
fn mel_filters_are_bands_and_a_spectrum_holds_no_parts() {
    let folder = tempfile::tempdir().unwrap();
    let file = compiled(&front_end(folder.path(), "mfcc", None), Precision::F32, &[]);
    let model = file.model().unwrap();
    let names: Vec<&str> = model.ops().map(|(_, _, record)| record.tag().name()).collect();
    assert_eq!(names, ["spectrum", "fully_connected_banded", "unary", "fully_connected"]);
    for (_, _, record) in model.ops() {
        if let Record::FullyConnectedBanded(r) = record {
            // Of 40 · 257 weights.
            assert!(r.entries < 300, "{}", r.entries);
        }
    }
}

const TONES: &str = "log-mel --rate 8000 --window 256 --hop 128 --frames 32 --mels 16 --low 100 --high 4000 --filters htk \
    --log natural --floor 1e-4 --normalise=-9,0.0703125";

/// The shipped network of sounds, from samples: as many right answers as from the features it was trained on, but for one
/// in two hundred, and on a board the bits of the host.
#[test]
fn the_network_of_sounds_takes_samples() {
    let folder = tempfile::tempdir().unwrap();
    let network = root().join("models/tones/model.onnx");
    let joined = front_end(folder.path(), TONES, Some(&network));
    let shape = |sound: &Vec<f32>| ArrayD::from_shape_vec(IxDyn(&[1, sound.len()]), sound.clone()).unwrap();
    let calibration: Vec<Vec<ArrayD<f32>>> =
        tones::sounds(Condition::Usual, 1, 96).iter().map(|(sound, _)| vec![shape(sound)]).collect();
    let file = compiled(&joined, Precision::Int8, &calibration);
    let tags: Vec<&str> = file.model().unwrap().ops().map(|(_, _, r)| r.tag().name()).collect();
    assert_eq!(tags[..3], ["spectrum", "fully_connected_banded", "unary"], "the front end stays float32");
    assert!(tags.contains(&"quantize") && !tags.contains(&"dequantize"), "{tags:?}");

    let mut host = HostDevice::new();
    host.load(file.bytes()).unwrap();
    let best = |scores: Vec<f32>| (0..scores.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
    let sounds = tones::sounds(Condition::Usual, 2, 400);
    let right = sounds.iter().filter(|(x, label)| best(run(&mut host, &file, x)) as i64 == *label).count();

    let (graph, _) = files::read_graph(&network).unwrap();
    let reference = offshoot_reference::Executor::new(&graph).unwrap();
    let pictures = Task::Tones.generate(Condition::Usual, 2, 400);
    let x = pictures.x.to_f32();
    let shape = graph.value(graph.inputs[0]).shape.clone();
    let float = (0..400)
        .filter(|&i| {
            let one =
                x.index_axis(ndarray::Axis(0), i).to_owned().into_shape_with_order(IxDyn(&shape)).unwrap();
            let scores = reference.run(&[one]).unwrap().remove(0);
            best(scores.iter().copied().collect()) as i64 == pictures.y[i]
        })
        .count();
    println!("right of 400: {right} from samples in int8, {float} from features in float32");
    assert!(right + 2 >= float, "{right} of 400 from samples, {float} from features");

    if skip_emulated() {
        return;
    }
    for name in ["qemu:cortex-m4", "qemu:riscv32"] {
        let mut device = board(name);
        device.load(file.bytes()).unwrap();
        for (sound, _) in &sounds[..2] {
            let model = file.model().unwrap();
            let port = offshoot_cli::batch::input_port(&model, 0).unwrap();
            let input = port.encode_real(sound.iter().copied());
            let (here, there) = (host.digests(&[&input]).unwrap(), device.digests(&[&input]).unwrap());
            assert_eq!(here, there, "{name}: an operator departs");
        }
    }
}
