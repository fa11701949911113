//! What a plan can name beside rules: momentum and noise, blocks of two, parts, input statistics, heads. Host and board end in the
//! same bits, take the memory that was planned, save, and export.

use ndarray::{ArrayD, IxDyn};
use offshoot_cli::batch::Inputs;
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::learn::{self, evaluate};
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

/// A shipped model with a learning plan.
fn made(model: &str, precision: Precision, plan: &str) -> offshoot_cli::failure::Result<OffFile> {
    let (graph, _) = files::read_graph(&root().join("models").join(model).join("model.onnx")).unwrap();
    let samples =
        compile::calibration(&graph, &[read(model, "calibration_x.npy")], &["calibration".into()]).unwrap();
    let plan = offshoot_export::LearningPlan::parse(plan).unwrap();
    let args =
        compile::Args { precision: Some(precision), plan: Some(Box::new(plan)), ..compile::Args::default() };
    let made = compile::make(&UI, graph, &samples, &args, None)?;
    Ok(OffFile::from_bytes(&made.compiled.bytes))
}

fn labels(model: &str, name: &str) -> Vec<u16> {
    read(model, name).to_i64().unwrap().iter().map(|&l| l as u16).collect()
}

fn inputs(file: &OffFile, x: &Array) -> Inputs {
    Inputs::encode(&file.model().unwrap(), std::slice::from_ref(x), &["x".into()]).unwrap()
}

/// What a few steps and a run leave behind, and the most memory that they used.
#[derive(Debug, PartialEq)]
struct Outcome {
    learned: Vec<u8>,
    guesses: Vec<u16>,
    outputs: Vec<Vec<u8>>,
    scores: Option<Vec<u32>>,
    used: u32,
    factory: Vec<u8>,
}

fn outcome(
    device: &mut dyn Device,
    file: &OffFile,
    inputs: &Inputs,
    labels: &[u16],
    steps: usize,
) -> Outcome {
    device.load(file.bytes()).unwrap();
    device.begin_learning().unwrap();
    let factory = device.learned().unwrap();
    let step = |i: usize| device.learn(&inputs.sample(i), labels[i]).unwrap();
    let reports: Vec<_> = (0..steps).map(step).collect();
    let outputs = device.run(&inputs.sample(0)).unwrap();
    let used = reports.iter().map(|l| l.arena).max().unwrap().max(device.arena_used());
    let scores = device.scores().ok().map(|s| s.iter().map(|s| s.to_bits()).collect());
    let learned = device.learned().unwrap();
    // In flash, and back at boot; then forgotten.
    let number = device.save().unwrap();
    device.forget(false).unwrap();
    assert_eq!(device.learned().unwrap(), factory);
    assert_eq!(device.reopen().unwrap(), number);
    assert!(device.learned().unwrap() == learned);
    let again = device.run(&inputs.sample(0)).unwrap();
    assert_eq!(again, outputs);
    device.forget(true).unwrap();
    assert_eq!(device.reopen().unwrap(), 0);
    let guesses = reports.iter().map(|l| l.guess).collect();
    Outcome { learned, guesses, outputs, scores, used, factory }
}

/// Plans that between them have all that can be named.
const PLANS: [(&str, &str); 12] = [
    ("vibration", "rate = 0.1\nmomentum = 0.9\nnoise = 0.01"),
    ("vibration", "part = \"scale\"\nmomentum = 0.5\nnoise = 0.01\nrate = 0.5"),
    ("vibration", "recipe = \"adapt\"\nsteps = 8"),
    ("vibration", "layers = []\n[head]\nkind = \"boosted\"\nfeatures = \"all\""),
    ("glyphs", "blocks = true\nmomentum = 0.5\nrate = 1.0"),
    ("glyphs", "blocks = true\nweights = \"int8\"\npart = \"bias\"\nrate = 1.0"),
    ("glyphs", "part = \"low-rank\"\nrank = 3\nrate = 1.0\nhidden_rate = 0.3"),
    ("glyphs", "projection = \"probe-head\"\nwarm = 4\n[normalizer]\nsteps = 3"),
    ("glyphs", "layers = [\"last\"]\nhead = \"simplex\""),
    (
        "glyphs",
        "layers = [\"last\"]\npart = \"low-rank\"\nhead = \"nearest-mean\"\nmomentum = 0.9\nnoise = 0.1",
    ),
    ("glyphs", "layers = []\nhead = \"least-squares\""),
    ("glyphs", "layers = []\nhead = \"softmax\""),
];

#[test]
fn boards_adapt_to_the_same_bits_in_planned_memory() {
    let emulated = !offshoot_tests::skip_emulated();
    let open = |name: &str| offshoot_target::open(&Target::parse(name).unwrap()).unwrap();
    let mut boards = if emulated { vec![open("qemu:cortex-m4"), open("qemu:cortex-m3")] } else { Vec::new() };
    for (n, (model, plan)) in PLANS.iter().enumerate() {
        for (p, precision) in [Precision::Int8, Precision::F32].into_iter().enumerate() {
            let file = made(model, precision.clone(), plan).unwrap();
            let (x, y) = (read(model, "shifted_train_x.npy"), labels(model, "shifted_train_y.npy"));
            let inputs = inputs(&file, &x);
            let here = outcome(&mut HostDevice::new(), &file, &inputs, &y, 6);
            let planned = file.model().unwrap().train_arena_bytes().unwrap();
            assert_eq!(here.used as usize + here.learned.len(), planned as usize, "{plan} {precision:?}");
            assert!(here.learned != here.factory, "{plan} {precision:?} learned nothing");
            // Every plan on the M4 in one format, a third of them on the M3, whose float32 is software.
            let chosen = [(n + p) % 2 == 0, (n + p) % 6 == 0];
            for (board, chosen) in boards.iter_mut().zip(chosen) {
                if chosen {
                    let there = outcome(board.as_mut(), &file, &inputs, &y, 6);
                    assert!(here == there, "{plan} {precision:?}: other bits on a board");
                }
            }
        }
    }
}

#[test]
fn what_was_learned_becomes_a_file() {
    for (n, (model, plan)) in PLANS.into_iter().enumerate() {
        // Adaptors in both formats, everything else in one.
        for precision in [Precision::Int8, Precision::F32] {
            if !plan.contains("low-rank") && (n % 2 == 0) != (precision == Precision::F32) {
                continue;
            }
            let file = made(model, precision.clone(), plan).unwrap();
            let (x, y) = (read(model, "shifted_train_x.npy"), labels(model, "shifted_train_y.npy"));
            let samples = inputs(&file, &x);
            let mut device = HostDevice::new();
            device.load(file.bytes()).unwrap();
            device.begin_learning().unwrap();
            for i in 0..30 {
                device.learn(&samples.sample(i), y[i]).unwrap();
            }
            let learned = device.learned().unwrap();
            let export = relearn::with_learned(file.bytes(), &learned).unwrap();
            assert_eq!(export, relearn::with_learned(file.bytes(), &learned).unwrap());
            let export = OffFile::from_bytes(&export);
            let test = inputs(&file, &read(model, "shifted_test_x.npy"));
            let ours = evaluate::classify(&file, Some(&learned), None, &test).unwrap();
            let theirs = evaluate::classify(&export, None, None, &test).unwrap();
            let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
            // Adaptors are rounded into int8 weights, sums of features taken in another order.
            assert!(same * 100 >= ours.len() * 96, "{plan} {precision:?}: {same} of {}", ours.len());
        }
    }
}

/// Inverted symbols as a class that the network never saw.
#[test]
fn a_class_is_added_without_losing_the_others() {
    let invert = |array: &Array| -> Vec<f32> { array.to_f32().iter().map(|x| 1.0 - x).collect() };
    for (head, known, new) in [("lda", 0.55, 0.9), ("simplex", 0.4, 0.9), ("nearest-mean", 0.55, 0.9)] {
        let file = made("glyphs", Precision::Int8, &format!("layers = []\nhead = \"{head}\"")).unwrap();
        let data = |name: &str| {
            let (x, mut y) =
                (read("glyphs", &format!("{name}_x.npy")), labels("glyphs", &format!("{name}_y.npy")));
            let (mut all, added) = (x.to_f32().iter().copied().collect::<Vec<f32>>(), invert(&x));
            let few = 20 * all.len() / y.len();
            all.extend(&added[..few]);
            y.extend([10; 20]);
            let mut shape = x.shape().to_vec();
            shape[0] = y.len();
            let y: Vec<i64> = y.iter().map(|&l| i64::from(l)).collect();
            (
                Array::F32(ArrayD::from_shape_vec(IxDyn(&shape), all).unwrap()),
                Array::I64(ArrayD::from_shape_vec(IxDyn(&[y.len()]), y).unwrap()),
            )
        };
        let (train, test) = (data("shifted_train"), data("shifted_test"));
        let spec = learn::Spec { epochs: 1, ..learn::Spec::default() };
        let failure = learn::learn(&UI, &file, &train, &test, &spec, &Target::Host).unwrap_err();
        assert!(failure.help.contains("--new-classes 1"), "{failure:?}");
        let spec = learn::Spec { new_classes: 1, ..spec };
        let (report, written) = learn::learn(&UI, &file, &train, &test, &spec, &Target::Host).unwrap();
        assert_eq!(report.classes, 11);
        assert!(report.accuracy_known.unwrap() >= known, "{head}: {report:?}");
        assert!(report.accuracy_new.unwrap() >= new, "{head}: {report:?}");
        assert_eq!(written.model().unwrap().output(0).unwrap().shape[1], 11);
    }
    // Without a head there is no room for it.
    let file = made("glyphs", Precision::Int8, "layers = [\"last\"]").unwrap();
    assert!(relearn::with_new_classes(file.bytes(), 1).is_err());
}

/// A tail that is switched off is not computed, and what is left answers.
#[test]
fn a_tail_can_be_switched_off() {
    let plan = "layers = []\n[head]\nkind = \"boosted\"\nfeatures = \"all\"";
    let file = made("vibration", Precision::Int8, plan).unwrap();
    let train = (read("vibration", "shifted_train_x.npy"), read("vibration", "shifted_train_y.npy"));
    let test = (read("vibration", "shifted_test_x.npy"), read("vibration", "shifted_test_y.npy"));
    let name = if offshoot_tests::skip_emulated() { "host" } else { "qemu:cortex-m4" };
    let spec = learn::Spec { steps: Some(30), epochs: 1, active_blocks: Some(2), ..learn::Spec::default() };
    let (report, _) = learn::learn(&UI, &file, &train, &test, &spec, &Target::parse(name).unwrap()).unwrap();
    assert_eq!(report.kept, Some(2));
    let counts: Vec<_> = report.blocks.iter().filter_map(|b| b.run_count).collect();
    assert!(report.blocks.len() > 3 && (name == "host" || counts.len() == report.blocks.len()));
    assert!(counts.windows(2).all(|w| w[0] < w[1]), "{counts:?}");
    println!("instructions of a run with 1, 2, ... blocks: {counts:?}");
    let spec = learn::Spec { active_blocks: Some(40), ..spec };
    assert!(learn::learn(&UI, &file, &train, &test, &spec, &Target::Host).is_err());
}

#[test]
fn the_recipe_adapts() {
    for (model, precision, bound) in [("vibration", Precision::Int8, 0.7), ("glyphs", Precision::F32, 0.7)] {
        let file = made(model, precision, "recipe = \"adapt\"").unwrap();
        let pair =
            |name: &str| (read(model, &format!("{name}_x.npy")), read(model, &format!("{name}_y.npy")));
        let spec = learn::Spec { epochs: 2, fit: true, ..learn::Spec::default() };
        let found =
            learn::learn(&UI, &file, &pair("shifted_train"), &pair("shifted_test"), &spec, &Target::Host);
        let (report, _) = found.unwrap();
        println!("{model}: {:.3} to {:.3}", report.accuracy_before, report.accuracy_after);
        assert!(report.accuracy_after > bound && report.accuracy_before < 0.65, "{report:?}");
        assert_eq!(report.train_arena_bytes, report.train_arena_used_bytes);
    }
}

#[test]
fn plans_that_cannot_be_say_why() {
    for (plan, words) in [
        ("blocks = [[\"stem\", \"head\"]]", "cannot be a block"),
        ("blocks = [[\"stem\", \"nowhere\"]]", "nowhere"),
        ("[head]\nkind = \"lda\"\nfeatures = [\"nowhere\"]", "nowhere"),
        ("[head]\nkind = \"lda\"\nnew_classes = 2000", "new classes"),
        ("[head]\nkind = \"lda\"\nshrinkage = 2.0", "shrinkage"),
        ("momentum = 1.5", "momentum"),
        ("layers = []", "no head"),
        ("projection = \"head\"", "int8"),
    ] {
        let failure = made("glyphs", Precision::Int8, plan).unwrap_err();
        assert!(failure.to_string().contains(words), "{plan}: {failure}");
    }
    let (graph, _) = files::read_graph(&root().join("models/vibration/model.onnx")).unwrap();
    let plan = offshoot_export::LearningPlan::parse("part = \"low-rank\"").unwrap();
    let args = compile::Args {
        precision: Some(Precision::F32),
        plan: Some(Box::new(plan)),
        ..compile::Args::default()
    };
    let failure = compile::make(&UI, graph.clone(), &[], &args, None).unwrap_err();
    assert!(failure.to_string().contains("adaptor"), "{failure}");
    let plan = offshoot_export::LearningPlan::parse("normalizer = true").unwrap();
    let args = compile::Args { plan: Some(Box::new(plan)), ..args };
    let failure = compile::make(&UI, graph.clone(), &[], &args, None).unwrap_err();
    assert!(failure.to_string().contains("--calib"), "{failure}");
    // A head that does not fit the target.
    let plan =
        offshoot_export::LearningPlan::parse("layers = []\n[head]\nkind = \"lda\"\nfeatures = \"all\"")
            .unwrap();
    let args = compile::Args { plan: Some(Box::new(plan)), max_ram: Some(100_000), ..args };
    let failure = compile::make(&UI, graph, &[], &args, None).unwrap_err();
    assert!(failure.to_string().contains("more than"), "{failure}");
}
