//! Learning that is interrupted: saved at any step, restored in another process or on another device, written as a file
//! or as arrays, it goes on with the bits of the unbroken run.
//!
//! `OFFSHOOT_SKIP_EMULATED=1` skips what needs QEMU.

use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::learn::{self, arrays, evaluate, flash::FlashFile};
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_export::relearn;
use offshoot_target::{Device, HostDevice, Target};
use offshoot_tests::root;

const UI: Ui = Ui { json: true };

fn read(model: &str, name: &str) -> Array {
    npy::read(&root().join("models").join(model).join(name)).unwrap()
}

fn made(model: &str, precision: Precision, plan: &str) -> OffFile {
    let (graph, _) = files::read_graph(&root().join("models").join(model).join("model.onnx")).unwrap();
    let samples =
        compile::calibration(&graph, &[read(model, "calibration_x.npy")], &["calibration".into()]).unwrap();
    let plan = offshoot_export::LearningPlan::parse(plan).unwrap();
    let args =
        compile::Args { precision: Some(precision), plan: Some(Box::new(plan)), ..compile::Args::default() };
    OffFile::from_bytes(&compile::make(&UI, graph, &samples, &args, None).unwrap().compiled.bytes)
}

fn data(model: &str, file: &OffFile) -> (Inputs, Vec<u16>) {
    let x = read(model, "shifted_train_x.npy");
    let inputs = Inputs::encode(&file.model().unwrap(), std::slice::from_ref(&x), &["x".into()]).unwrap();
    let y = read(model, "shifted_train_y.npy").to_i64().unwrap();
    // To an anomaly head, the last class is what is not normal.
    let two = file.model().unwrap().learning().is_some_and(|learning| learning.classes() == 2);
    (inputs, y.iter().map(|&l| if two { u16::from(l == 4) } else { l as u16 }).collect())
}

/// Plans with every head, every format of weights, schedules, momentum, noise, statistics, and blocks.
const PLANS: [(&str, Precision, &str); 14] = [
    ("vibration", Precision::F32, "recipe = \"adapt\"\nsteps = 24"),
    ("vibration", Precision::Int8, "recipe = \"adapt\"\nsteps = 24\nweights = \"int8\""),
    ("vibration", Precision::Int8, "weights = \"int16\"\nmomentum = 0.9\nnoise = 0.01\nrate = 0.1"),
    ("vibration", Precision::F32, "momentum = 0.9\nnoise = 0.01\nschedule = \"cosine\"\nsteps = 20"),
    ("vibration", Precision::Int8, "layers = [\"last\"]\nhead = \"softmax\"\nschedule = \"inverse\""),
    ("vibration", Precision::F32, "head = \"simplex\"\nprojection = \"head\""),
    ("vibration", Precision::Int8, "head = \"nearest-mean\"\nweights = \"int8\"\nnoise = 0.1"),
    ("vibration", Precision::F32, "layers = []\nhead = \"least-squares\"\nnormalizer = true"),
    ("vibration", Precision::Int8, "[head]\nkind = \"boosted\"\nfeatures = \"all\""),
    ("glyphs", Precision::Int8, "part = \"low-rank\"\nrank = 2\nrate = 1.0\nhead = \"lda\""),
    ("glyphs", Precision::F32, "part = \"scale\"\nmomentum = 0.5\nblocks = true"),
    ("glyphs", Precision::Int8, "part = \"scale\"\nmomentum = 0.5\nnormalizer = true"),
    (
        "vibration",
        Precision::Int8,
        "[head]\nkind = \"anomaly\"\nfold = 24\nwindow = 20.0\nfalse_alarms = 0.2\nscores = 5",
    ),
    (
        "vibration",
        Precision::F32,
        "[head]\nkind = \"anomaly\"\ncovariance = \"diagonal\"\nfalse_alarms = 0.1\nscores = 12",
    ),
];

const STEPS: usize = 30;

/// Learns samples `from..to`, with a run now and then.
fn steps(device: &mut dyn Device, samples: &(Inputs, Vec<u16>), range: std::ops::Range<usize>) {
    for i in range {
        let sample = samples.0.sample(i % samples.0.count());
        device.learn(&sample, samples.1[i % samples.1.len()]).unwrap();
        if i % 7 == 3 {
            device.run(&sample).unwrap();
        }
    }
}

#[test]
fn a_break_at_any_step_changes_no_bit() {
    let emulated = !offshoot_tests::skip_emulated();
    let mut board =
        emulated.then(|| offshoot_target::open(&Target::parse("qemu:cortex-m4").unwrap()).unwrap());
    let mut random = 7u32;
    for (n, (model, precision, plan)) in PLANS.into_iter().enumerate() {
        let file = made(model, precision, plan);
        let samples = data(model, &file);
        let mut host = HostDevice::new();
        host.load(file.bytes()).unwrap();
        host.begin_learning().unwrap();
        steps(&mut host, &samples, 0..STEPS);
        let unbroken = host.learned().unwrap();
        for turn in 0..20 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (random >> 16) as usize % (STEPS + 1);
            let mut first = HostDevice::new();
            first.load(file.bytes()).unwrap();
            first.begin_learning().unwrap();
            steps(&mut first, &samples, 0..at);
            let state = first.learned().unwrap();
            // A device that has learned something else before; a new one; one that reads the state from a file.
            let mut second = HostDevice::new();
            match turn % 3 {
                0 => {
                    second.load(file.bytes()).unwrap();
                    second.begin_learning().unwrap();
                    steps(&mut second, &samples, 5..9);
                    second.write_learned(&state).unwrap();
                }
                1 => {
                    second.load(file.bytes()).unwrap();
                    second.begin_learning().unwrap();
                    second.write_learned(&state).unwrap();
                }
                _ => {
                    let written = relearn::going_on(file.bytes(), &state).unwrap();
                    second.load(&written).unwrap();
                    assert!(second.learned().unwrap() == state, "{plan}: {at}");
                }
            }
            steps(&mut second, &samples, at..STEPS);
            assert!(second.learned().unwrap() == unbroken, "{plan}: other bits after a break at {at}");
        }
        if let Some(board) = &mut board {
            let at = 3 + 2 * n;
            let mut first = HostDevice::new();
            first.load(file.bytes()).unwrap();
            first.begin_learning().unwrap();
            steps(&mut first, &samples, 0..at);
            // From the host to the board, through its flash, and on.
            board.load(file.bytes()).unwrap();
            board.begin_learning().unwrap();
            board.write_learned(&first.learned().unwrap()).unwrap();
            board.save().unwrap();
            board.reopen().unwrap();
            steps(board.as_mut(), &samples, at..STEPS);
            assert!(board.learned().unwrap() == unbroken, "{plan}: other bits on the board");
        }
    }
}

/// As arrays and back, and as files of files.
#[test]
fn what_was_learned_goes_out_and_in() {
    for (model, precision, plan) in PLANS {
        let file = made(model, precision, plan);
        let samples = data(model, &file);
        let mut host = HostDevice::new();
        host.load(file.bytes()).unwrap();
        host.begin_learning().unwrap();
        steps(&mut host, &samples, 0..STEPS);
        let learned = host.learned().unwrap();
        let pieces = relearn::pieces(file.bytes()).unwrap();
        let named = arrays::of_pieces(&pieces, &learned).unwrap();
        let bytes = offshoot_data::npz::to_bytes(&named).unwrap();
        let read = offshoot_data::npz::parse(&bytes).unwrap();
        assert!(arrays::to_learned(&pieces, &read, learned.len()).unwrap() == learned, "{plan}");
        assert!(arrays::to_learned(&pieces, &read[1..], learned.len()).is_err());
        // A file that has learned, learned on, and written again.
        let once = relearn::going_on(file.bytes(), &learned).unwrap();
        host.load(&once).unwrap();
        steps(&mut host, &samples, STEPS..STEPS + 4);
        let more = host.learned().unwrap();
        let twice = relearn::going_on(&once, &more).unwrap();
        assert_eq!(once.len(), twice.len());
        assert!(twice == relearn::going_on(file.bytes(), &more).unwrap(), "{plan}");
        if plan.contains("anomaly") {
            // Distances are no operators.
            assert!(relearn::inference_only(&twice, &more).is_err());
            continue;
        }
        // For inference alone: the same answers but for roundings.
        let whole = OffFile::from_bytes(&twice);
        let alone = OffFile::from_bytes(&relearn::inference_only(&twice, &more).unwrap());
        assert!(alone.model().unwrap().learning().is_none());
        assert!(alone.bytes().len() < whole.bytes().len() + 4_000);
        let ours = evaluate::classify(&whole, None, None, &samples.0).unwrap();
        let theirs = evaluate::classify(&alone, None, None, &samples.0).unwrap();
        let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
        assert!(same * 100 >= ours.len() * 96, "{plan}: {same} of {}", ours.len());
    }
}

/// Few samples, without a word about the schedule: the file has the accuracy that the report has, and so has the one for
/// inference alone; and a course that is saved in the middle goes on.
#[test]
fn the_written_file_is_as_good_as_reported() {
    let folder = tempfile::tempdir().unwrap();
    for (model, precision) in [("vibration", Precision::Int8), ("glyphs", Precision::F32)] {
        let file = made(model, precision, "recipe = \"adapt\"");
        let off = folder.path().join(format!("{model}.off"));
        std::fs::write(&off, file.bytes()).unwrap();
        let path = |name: &str| root().join("models").join(model).join(name);
        let (output, inference) = (folder.path().join("learned.off"), folder.path().join("alone.off"));
        let args = |more: &[&str]| {
            use clap::Parser;
            #[derive(clap::Parser)]
            struct Line {
                #[command(flatten)]
                args: learn::Args,
            }
            let off = if more.contains(&"learned") { &output } else { &off };
            let mut line = vec!["learn".to_owned(), off.display().to_string()];
            for (flag, name) in [("--train", "shifted_train"), ("--test", "shifted_test")] {
                line.push(flag.into());
                line.extend(
                    [format!("{name}_x.npy"), format!("{name}_y.npy")]
                        .map(|n| path(&n).display().to_string()),
                );
            }
            line.extend(more.iter().filter(|m| **m != "learned").map(|m| (*m).to_owned()));
            Line::parse_from(line).args
        };
        let (written, alone) = (output.display().to_string(), inference.display().to_string());
        let report =
            learn::run(&UI, &args(&["--steps", "100", "-o", &written, "--inference", &alone])).unwrap();
        println!("{model}: {} before, {} after", report.accuracy_before, report.accuracy_after);
        assert_eq!(Some(report.accuracy_after), report.accuracy_written);
        assert!(report.accuracy_after > report.accuracy_before, "{report:?}");
        assert_eq!((report.course, report.steps_so_far), (Some(100), 100));
        let test = (read(model, "shifted_test_x.npy"), read(model, "shifted_test_y.npy"));
        let alone = OffFile::read(&inference).unwrap();
        let inputs =
            Inputs::encode(&alone.model().unwrap(), std::slice::from_ref(&test.0), &["x".into()]).unwrap();
        let labels = learn::labels(&test.1, inputs.count(), "test").unwrap();
        let classes = evaluate::classify(&alone, None, None, &inputs).unwrap();
        let accuracy = evaluate::accuracy(&classes, &labels, |_| true).unwrap();
        assert!((accuracy - report.accuracy_after).abs() < 0.02, "{accuracy} {report:?}");
        // The file learns on.
        let more = learn::run(&UI, &args(&["learned", "--steps", "20", "--skip", "100", "--course", "200"]))
            .unwrap();
        assert_eq!((more.accuracy_before, more.steps_so_far), (report.accuracy_after, 120));
        // In one command, and in two with a file as flash.
        let flash = folder.path().join(format!("{model}.flash"));
        let flash = flash.display().to_string();
        let whole = learn::run(&UI, &args(&["--steps", "90", "--course", "120"])).unwrap();
        let first =
            learn::run(&UI, &args(&["--steps", "40", "--course", "120", "--save", "--flash", &flash]))
                .unwrap();
        let second = ["--steps", "50", "--skip", "40", "--restore", "--flash", &flash];
        let second = learn::run(&UI, &args(&second)).unwrap();
        assert_eq!((second.digest, second.accuracy_after), (whole.digest, whole.accuracy_after));
        assert_eq!((second.restored, second.steps_so_far), (first.saved, 90));
        assert!(FlashFile::new(std::path::Path::new(&flash)).load(1, 10).is_err());
    }
}
