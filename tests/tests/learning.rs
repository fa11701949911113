//! Learning end to end: the same bits on host and emulated boards, memory as planned, files that lie.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips what needs QEMU.

use offshoot::{Engine, Model};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::files::{self, AlignedBytes, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_export::relearn;
use offshoot_target::{Device, HostDevice, Target};
use offshoot_tests::{data, root};

const UI: Ui = Ui { json: true };

/// Steps of the comparison between host and board.
const STEPS: usize = 1000;

fn read(name: &str) -> Array {
    npy::read(&root().join("models/vibration").join(name)).unwrap()
}

/// The shipped vibration model with a learning plan.
fn vibration(precision: Precision, plan: &str) -> OffFile {
    let (graph, _) = files::read_graph(&root().join("models/vibration/model.onnx")).unwrap();
    let calibration = read("calibration_x.npy");
    let samples = match precision {
        Precision::F32 => Vec::new(),
        _ => compile::calibration(&graph, &[calibration], &["calibration".into()]).unwrap(),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    std::fs::write(&path, plan).unwrap();
    let args =
        compile::Args { precision: Some(precision), learn: Some(path.clone()), ..compile::Args::default() };
    let made = compile::make(&UI, graph, &samples, &args, None).unwrap();
    OffFile::from_bytes(&made.compiled.bytes)
}

fn labels() -> Vec<u16> {
    read("shifted_train_y.npy").to_i64().unwrap().iter().map(|&l| l as u16).collect()
}

/// Guesses along the way, and what was learned.
fn learn(device: &mut dyn Device, file: &OffFile, steps: usize) -> (Vec<u16>, Vec<u8>) {
    let inputs =
        Inputs::encode(&file.model().unwrap(), &[read("shifted_train_x.npy")], &["x".into()]).unwrap();
    let labels = labels();
    device.load(file.bytes()).unwrap();
    device.begin_learning().unwrap();
    let guess = |step: usize| {
        let i = step % labels.len();
        device.learn(&inputs.sample(i), labels[i]).unwrap().guess
    };
    let guesses = (0..steps).map(guess).collect();
    (guesses, device.learned().unwrap())
}

fn same_bits(precision: Precision, plan: &str, board: &str, steps: usize) {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let file = vibration(precision.clone(), plan);
    let mut device = offshoot_target::open(&Target::parse(board).unwrap()).unwrap();
    let here = learn(&mut HostDevice::new(), &file, steps);
    let there = learn(device.as_mut(), &file, steps);
    assert_eq!(here, there, "{precision:?} {plan} on {board}");
    let factory = learn(&mut HostDevice::new(), &file, 0).1;
    let changed = here.1.iter().zip(&factory).filter(|(a, b)| a != b).count();
    assert!(changed > 1000, "only {changed} bytes learned anything");
}

#[test]
fn a_thousand_steps_in_float32_are_the_same_bits() {
    same_bits(Precision::F32, "rate = 0.1", "qemu:cortex-m4", STEPS);
}

#[test]
fn a_thousand_steps_in_int16_are_the_same_bits() {
    same_bits(Precision::Int8, "rate = 0.1\nweights = \"int16\"", "qemu:cortex-m4", STEPS);
}

#[test]
fn a_thousand_steps_in_int8_are_the_same_bits() {
    same_bits(Precision::Int8, "rate = 0.1\nweights = \"int8\"", "qemu:cortex-m4", STEPS);
}

#[test]
fn a_core_without_fpu_learns_the_same_bits() {
    same_bits(Precision::Int8, "rate = 0.1\nschedule = \"cosine\"\nsteps = 50", "qemu:cortex-m3", 20);
    same_bits(Precision::F32, "rate = 0.1\ncodes = \"head\"", "qemu:cortex-m3", 3);
}

#[test]
fn learned_weights_go_back_into_a_file() {
    for precision in [Precision::F32, Precision::Int8] {
        let file = vibration(precision, "rate = 0.1");
        let mut device = HostDevice::new();
        let (_, learned) = learn(&mut device, &file, 30);
        let export = relearn::with_learned(file.bytes(), &learned).unwrap();
        let inputs = Inputs::encode(&file.model().unwrap(), &[read("test_x.npy")], &["x".into()]).unwrap();
        let own = device.run(&inputs.sample(3)).unwrap();
        let mut other = HostDevice::new();
        other.load(&export).unwrap();
        assert_eq!(own, other.run(&inputs.sample(3)).unwrap());
        assert_ne!(export, file.bytes());
    }
}

#[test]
fn a_head_adapts_to_the_shift() {
    use offshoot_cli::commands::learn;
    for precision in [Precision::F32, Precision::Int8] {
        let file = vibration(precision, "rate = 0.3");
        let wish = learn::Wish { rule: Some(learn::RuleArg::HeadOnly), epochs: 5, ..learn::Wish::default() };
        let train = (read("shifted_train_x.npy"), read("shifted_train_y.npy"));
        let test = (read("shifted_test_x.npy"), read("shifted_test_y.npy"));
        let (report, _) = learn::learn(&UI, &file, &train, &test, &wish, &Target::Host).unwrap();
        assert!(report.accuracy_before < 0.65 && report.accuracy_after > 0.75, "{report:?}");
    }
}

/// What a step takes beside weights, on the networks of the public benchmark, all layers learning.
#[test]
fn activation_memory_stays_near_that_of_inference() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, "").unwrap();
    for (name, bound) in [("kws", 1.25), ("ic", 1.25), ("vww", 1.2)] {
        let Some(onnx) = data(&format!("mlperf_tiny/{name}_int8.onnx")) else { return };
        let (graph, _) = files::read_graph(&onnx).unwrap();
        let args = compile::Args { learn: Some(plan.clone()), ..compile::Args::default() };
        let report = compile::make(&UI, graph, &[], &args, None).unwrap().compiled.report;
        let learning = report.learning.unwrap();
        let activations = learning.train_arena_bytes - learning.train_weights_bytes;
        let ratio = activations as f64 / report.arena_bytes as f64;
        println!("{name}: {activations} of {} bytes: {ratio:.3}", report.arena_bytes);
        assert!(ratio <= bound, "{name}: {ratio}");
    }
}

#[test]
fn what_does_not_fit_is_an_error_at_compile_time() {
    let (graph, _) = files::read_graph(&root().join("models/vibration/model.onnx")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    let make = |plan: &str, max_ram: u64| {
        std::fs::write(&path, plan).unwrap();
        let precision = Some(Precision::F32);
        let args = compile::Args {
            precision,
            learn: Some(path.clone()),
            max_ram: Some(max_ram),
            ..compile::Args::default()
        };
        compile::make(&UI, graph.clone(), &[], &args, None).map(|m| m.compiled.report)
    };
    let needed = make("", 1 << 30).unwrap().learning.unwrap().train_arena_bytes;
    assert!(make("", needed).is_ok());
    let failure = make("", needed - 1).unwrap_err();
    assert!(failure.message.contains("1 more than"), "{failure}");
    for (plan, words) in [
        ("layers = [\"nowhere\"]", "nowhere"),
        ("layers = []", "no layer is to learn"),
        ("rule = \"guess\"", "guess"),
        ("speed = 3", "speed"),
        ("rate = -1.0", "rate"),
    ] {
        let failure = make(plan, 1 << 30).unwrap_err();
        assert!(failure.to_string().contains(words), "{plan}: {failure}");
    }
}

/// Every byte of the learning records, with several values, under a valid checksum: an error, or a model that learns.
#[test]
fn damaged_learning_records_are_survived() {
    for (precision, plan) in [(Precision::Int8, "weights = \"int16\""), (Precision::F32, "codes = \"head\"")]
    {
        let file = vibration(precision.clone(), plan);
        let header =
            offshoot::format::header::HeaderView::new_checked(file.bytes()).unwrap().parse().unwrap();
        let end = offshoot::format::header::HEADER_LEN + header.graph_len as usize;
        // The learning records and some of the operators before them.
        let records = 12 * 40;
        let mut opened = 0;
        for at in end - records..end {
            for value in [0, 1, 0x7f, 0x80, 0xff, file.bytes()[at] ^ 1, file.bytes()[at] ^ 0x10] {
                let mut bytes = file.bytes().to_vec();
                bytes[at] = value;
                offshoot::format::header::seal(&mut bytes).unwrap();
                let aligned = AlignedBytes::copy_of(&bytes);
                let Ok(model) = Model::open(aligned.as_slice()) else { continue };
                let Some(needed) = model.train_arena_bytes().filter(|&n| n < 1 << 20) else { continue };
                let mut arena = AlignedBytes::zeroed(needed as usize);
                let mut engine = Engine::learning(model, arena.as_mut_slice()).unwrap();
                for label in [0, 1, u16::MAX] {
                    let _ = engine.learn(label);
                }
                opened += 1;
            }
        }
        assert!(opened > 100, "{opened}");
    }
}
