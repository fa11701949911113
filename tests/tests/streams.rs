//! Data as they come to a device: spikes, classes one after the other, little RAM, several devices.

use ndarray::{ArrayD, IxDyn};
use offshoot_cli::commands::compile::{self, Precision};
use offshoot_cli::commands::learn::{self, Spec, Start, Trained, arrays};
use offshoot_cli::commands::merge;
use offshoot_cli::files::{self, OffFile};
use offshoot_cli::ui::Ui;
use offshoot_data::npy::{self, Array};
use offshoot_export::relearn;
use offshoot_target::Target;
use offshoot_tests::root;

const UI: Ui = Ui { json: true };

fn read(model: &str, name: &str) -> Array {
    npy::read(&root().join("models").join(model).join(name)).unwrap()
}

fn made(
    model: &str,
    precision: Precision,
    plan: &str,
    max_ram: Option<u64>,
) -> offshoot_cli::failure::Result<(OffFile, offshoot_export::LearningReport)> {
    let (graph, _) = files::read_graph(&root().join("models").join(model).join("model.onnx")).unwrap();
    let samples =
        compile::calibration(&graph, &[read(model, "calibration_x.npy")], &["calibration".into()]).unwrap();
    let plan = offshoot_export::LearningPlan::parse(plan).unwrap();
    let args = compile::Args {
        precision: Some(precision),
        plan: Some(Box::new(plan)),
        max_ram,
        ..compile::Args::default()
    };
    let compiled = compile::make(&UI, graph, &samples, &args, None)?.compiled;
    Ok((OffFile::from_bytes(&compiled.bytes), compiled.report.learning.unwrap()))
}

type Data = (Array, Array);

fn data(model: &str, name: &str) -> Data {
    (read(model, &format!("{name}_x.npy")), read(model, &format!("{name}_y.npy")))
}

/// Samples in this order; `change` sees number and values of each.
fn picked(data: &Data, order: &[usize], mut change: impl FnMut(usize, &mut [f32])) -> Data {
    let len: usize = data.0.shape()[1..].iter().product();
    let (x, y) = (data.0.to_f32(), data.1.to_i64().unwrap());
    let (x, y): (Vec<f32>, Vec<i64>) = (x.iter().copied().collect(), y.iter().copied().collect());
    let mut all = Vec::new();
    for (number, &i) in order.iter().enumerate() {
        let mut sample = x[i * len..(i + 1) * len].to_vec();
        change(number, &mut sample);
        all.extend(sample);
    }
    let mut shape = data.0.shape().to_vec();
    shape[0] = order.len();
    let labels: Vec<i64> = order.iter().map(|&i| y[i]).collect();
    (
        Array::F32(ArrayD::from_shape_vec(IxDyn(&shape), all).unwrap()),
        Array::I64(ArrayD::from_shape_vec(IxDyn(&[order.len()]), labels).unwrap()),
    )
}

fn taught(file: &OffFile, train: &Data, test: &Data, epochs: u32) -> Trained {
    let spec = Spec { epochs, fit: true, ..Spec::default() };
    learn::train(&UI, file, Some(train), Some(test), &spec, &Target::Host, Start::default()).unwrap()
}

/// Outliers among the samples, so that no sample is lost: what is learned is as good as without them.
#[test]
fn spikes_do_no_harm() {
    for (model, precision) in
        [("vibration", Precision::F32), ("vibration", Precision::Int8), ("glyphs", Precision::F32)]
    {
        let (train, test) = (data(model, "shifted_train"), data(model, "shifted_test"));
        let order: Vec<usize> = (0..train.1.shape()[0]).collect();
        let with_spike: Vec<usize> =
            order.iter().flat_map(|&i| vec![i; if i == 40 { 2 } else { 1 }]).collect();
        // Three in twenty, from the first sample on.
        let of_many = |i: usize| if i.is_multiple_of(17) { vec![i, i + 1, i + 2, i] } else { vec![i] };
        let with_many: Vec<usize> = order.iter().flat_map(|&i| of_many(i)).map(|i| i % order.len()).collect();
        for plan in ["recipe = \"adapt\"", "recipe = \"auto\"", "layers = [\"last\"]\nrate = 1.0"] {
            let (file, _) = made(model, precision.clone(), plan, None).unwrap();
            let clean = taught(&file, &picked(&train, &order, |_, _| {}), &test, 2);
            let spike = picked(&train, &with_spike, |i, x| {
                if i == 40 {
                    x.fill(1e30);
                }
            });
            let spike = taught(&file, &spike, &test, 2);
            let wild = picked(&train, &with_many, |i, x| {
                if i % 20 < 3 {
                    x.iter_mut().for_each(|x| *x *= 1e4);
                }
            });
            let wild = taught(&file, &wild, &test, 2);
            let [clean, spike, wild] =
                [&clean, &spike, &wild].map(|t| (t.report.accuracy_after, t.report.left_out));
            println!("{model} {precision:?} {plan:?}: {clean:?}, one spike {spike:?}, many {wild:?}");
            assert!(spike.0 >= clean.0 - 0.02, "{model} {precision:?} {plan}: {clean:?} {spike:?}");
            assert!(wild.0 >= clean.0 - 0.02, "{model} {precision:?} {plan}: {clean:?} {wild:?}");
        }
    }
}

#[test]
fn classes_may_come_one_after_the_other() {
    for (model, precision) in
        [("glyphs", Precision::Int8), ("glyphs", Precision::F32), ("vibration", Precision::Int8)]
    {
        let (train, test) = (data(model, "shifted_train"), data(model, "shifted_test"));
        let labels: Vec<i64> = train.1.to_i64().unwrap().iter().copied().collect();
        let mixed: Vec<usize> = (0..labels.len()).collect();
        let mut sorted = mixed.clone();
        sorted.sort_by_key(|&i| labels[i]);
        // Two classes at a time, shuffled as they are in the data.
        let mut pairs = mixed.clone();
        pairs.sort_by_key(|&i| labels[i] / 2);
        for plan in ["recipe = \"adapt\"", "recipe = \"auto\""] {
            let (file, _) = made(model, precision.clone(), plan, None).unwrap();
            let of = |order: &[usize]| {
                taught(&file, &picked(&train, order, |_, _| {}), &test, 1).report.accuracy_after
            };
            let all = [of(&mixed), of(&pairs), of(&sorted)];
            println!("{model} {precision:?} {plan:?}: mixed, pairs, sorted: {all:?}");
            assert!(
                all[1] > all[0] - 0.08 && all[2] > all[0] - 0.08,
                "{model} {precision:?} {plan}: {all:?}"
            );
        }
    }
}

#[test]
fn a_recipe_fits_the_memory_it_is_given() {
    let (train, test) = (data("glyphs", "shifted_train"), data("glyphs", "shifted_test"));
    for recipe in ["adapt", "auto"] {
        let plan = format!("recipe = \"{recipe}\"");
        let mut before = (u64::MAX, 1.0);
        let whole = made("glyphs", Precision::Int8, &plan, None).unwrap().1.train_arena_bytes;
        for max_ram in [whole, 30_000, 20_000, 12_000, 8_000] {
            let (file, report) = made("glyphs", Precision::Int8, &plan, Some(max_ram)).unwrap();
            assert!(report.train_arena_bytes <= max_ram && report.train_arena_bytes <= before.0);
            let accuracy = taught(&file, &train, &test, 1).report.accuracy_after;
            println!(
                "{recipe} in {max_ram}: {} bytes, {accuracy:.3}: {:?}",
                report.train_arena_bytes, report.recipe
            );
            match report.better {
                Some((what, bytes)) => assert!(bytes > max_ram && !what.is_empty(), "{what} {bytes}"),
                None => assert_eq!(report.train_arena_bytes, whole),
            }
            before = (report.train_arena_bytes, accuracy);
        }
        assert!(before.1 > 0.5, "{before:?}");
        let failure = made("glyphs", Precision::Int8, &plan, Some(500)).unwrap_err();
        assert!(failure.message.contains("more than"), "{failure}");
    }
}

/// What two devices learned apart is what one has learned that saw both.
#[test]
fn devices_add_up() {
    for (precision, plan) in [
        (Precision::Int8, "layers = []\nhead = \"lda\""),
        (Precision::F32, "layers = []\nhead = \"least-squares\""),
        (Precision::F32, "layers = []\nhead = \"nearest-mean\"\nnormalizer = true"),
        (Precision::Int8, "weights = \"int16\"\nhead = \"lda\"\nnormalizer = true"),
        (Precision::F32, "recipe = \"adapt\""),
    ] {
        let (train, test) = (data("glyphs", "shifted_train"), data("glyphs", "shifted_test"));
        let (file, _) = made("glyphs", precision.clone(), plan, None).unwrap();
        let parts: Vec<Vec<usize>> = (0..3).map(|k| (0..150).filter(|i| i % 3 == k).collect()).collect();
        let state = |order: &[usize]| {
            let taught = taught(&file, &picked(&train, order, |_, _| {}), &test, 1);
            let pieces = relearn::pieces(file.bytes()).unwrap();
            let mut all = arrays::of_pieces(&pieces, &taught.learned).unwrap();
            all.extend(arrays::of_model(&file).unwrap());
            (taught.report.accuracy_after, all)
        };
        let states: Vec<_> = parts.iter().map(|p| state(p)).collect();
        let named = |order: [usize; 3]| {
            let state = |i: usize| merge::State { name: format!("{i}"), arrays: states[i].1.clone() };
            merge::merge(order.map(state).into()).unwrap()
        };
        let merged = named([0, 1, 2]);
        for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            assert!(named(order) == merged, "{plan}: the order changes bits");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.npz");
        std::fs::write(&path, offshoot_data::npz::to_bytes(&merged).unwrap()).unwrap();
        let start = Start { arrays: Some(&path), ..Start::default() };
        let spec = Spec { epochs: 1, ..Spec::default() };
        let both = learn::train(&UI, &file, None, Some(&test), &spec, &Target::Host, start).unwrap();
        let (one, whole) = (states[0].0, state(&(0..150).collect::<Vec<_>>()));
        println!(
            "{precision:?} {plan:?}: one {one:.3}, merged {:.3}, whole {:.3}",
            both.report.accuracy_after, whole.0
        );
        assert!(both.report.accuracy_after >= whole.0 - 0.03, "{plan}");
        // Heads on features that stay are the sums.
        if plan.starts_with("layers") && !plan.contains("normalizer") {
            for (name, array) in merged.iter().filter(|(n, _)| n.starts_with("head.")) {
                let other = whole.1.iter().find(|(n, _)| n == name).unwrap().1.to_f32();
                let most = other.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                let differ = |(a, b): (&f32, &f32)| (a - b).abs() > 2e-3 * most;
                let wrong = array.to_f32().iter().zip(other.iter()).filter(|p| differ(*p)).count();
                // Rare classes weigh more in least squares, by the counts at that time.
                assert!(wrong == 0 || plan.contains("squares"), "{plan} {name}: {wrong}");
            }
        }
        let mut foreign = states[1].1.clone();
        foreign.retain(|(name, _)| name != "steps");
        let pair = [
            merge::State { name: "a".into(), arrays: states[0].1.clone() },
            merge::State { name: "b".into(), arrays: foreign },
        ];
        assert!(merge::merge(pair.into()).is_err());
    }
}
