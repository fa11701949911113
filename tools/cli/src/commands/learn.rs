//! `offshoot learn`: trains on a device, or simulates the same training bit for bit on the host.

pub mod evaluate;
pub mod page;

use std::path::PathBuf;

use offshoot::format::learn::{ErrorSource, HeadKind, LearnHead, LearnLayer, TargetProjectionRepr};
use offshoot::graph::learn::Learning;
use offshoot::learn::{LocalRule, Schedule};
use offshoot_data::npy::Array;
use offshoot_export::relearn;
use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{Device, Target};
use serde::Serialize;

use super::{parse_target, read_array};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::ui::{Outcome, Ui};
use evaluate::{accuracy, classify};

/// Rule of the hidden layers, instead of the plan's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RuleArg {
    /// A rule of the runtime.
    Local(LocalRule),
    /// Hidden layers do not learn.
    HeadOnly,
}

impl clap::ValueEnum for RuleArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [RuleArg; LocalRule::ALL.len() + 1] = {
            let mut all = [RuleArg::HeadOnly; LocalRule::ALL.len() + 1];
            let mut i = 0;
            while i < LocalRule::ALL.len() {
                all[i] = RuleArg::Local(LocalRule::ALL[i]);
                i += 1;
            }
            all
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        let (name, help) = match self {
            Self::Local(rule) => (rule.name(), rule.about()),
            Self::HeadOnly => ("head-only", "Hidden layers do not learn"),
        };
        Some(clap::builder::PossibleValue::new(name).help(help))
    }
}

/// Arguments of `learn`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model with a learning plan (`compile --learn plan.toml`).
    pub model: PathBuf,
    /// Training samples and their class numbers (.npy), learned in this order.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"], required = true)]
    pub train: Vec<PathBuf>,
    /// Test samples and their class numbers (.npy); accuracy is measured on them before and after.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"], required = true)]
    pub test: Vec<PathBuf>,
    /// Rule of the hidden layers, instead of the plan's.
    #[arg(long, value_enum)]
    pub rule: Option<RuleArg>,
    /// Learning rate, instead of the plan's.
    #[arg(long)]
    pub rate: Option<f32>,
    /// Epochs: passes over the training samples.
    #[arg(long, default_value_t = 1)]
    pub epochs: u32,
    /// Stop after this many train steps.
    #[arg(long)]
    pub steps: Option<usize>,
    /// Scale the plan's schedule to the steps taken: rate, warm-up, end of the input normaliser, start of the head.
    #[arg(long)]
    pub fit: bool,
    /// Number of classes to add that the network does not know; the plan's classifier head learns them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub new_classes: u16,
    /// Continue from what the target has saved for this model.
    #[arg(long)]
    pub restore: bool,
    /// Save what was learned in the target's flash, and check that it can be read back.
    #[arg(long)]
    pub save: bool,
    /// Number of active blocks of a boosted head afterwards; the rest is switched off.
    #[arg(long, alias = "keep", value_name = "BLOCKS")]
    pub active_blocks: Option<u8>,
    /// File to write the trained model to (.off). With a head or an input normaliser, it can only run inference.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Page to write with the learning curve (.html).
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Where to learn: host, qemu:BOARD or serial:PORT; see `offshoot target list`.
    #[arg(long, default_value = "host")]
    pub target: String,
}

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Steps so far.
    pub steps: usize,
    /// Accuracy on the samples since the previous point, each predicted before it was learned; from 0 to 1.
    pub accuracy: f64,
}

/// Result of `learn`. Accuracies are fractions from 0 to 1.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rule of the hidden layers.
    pub rule: String,
    /// Kind of the classifier head, if there is one.
    pub head: Option<String>,
    /// Classes that can be learned.
    pub classes: u16,
    /// Steps taken.
    pub steps: usize,
    /// Accuracy on the test samples before learning.
    pub accuracy_before: f64,
    /// Accuracy after learning. The host measures it with the weights that the target learned.
    pub accuracy_after: f64,
    /// Accuracy after learning on classes that the network knew before, if there are new ones.
    pub accuracy_known: Option<f64>,
    /// Accuracy after learning on the new classes.
    pub accuracy_new: Option<f64>,
    /// Accuracy of the written model.
    pub accuracy_written: Option<f64>,
    /// Accuracy and cost of a boosted head with one active block, two, and so on.
    pub blocks: Vec<Block>,
    /// Active blocks afterwards, if `active_blocks` was given.
    pub kept: Option<u8>,
    /// Bytes of arena that learning needs.
    pub train_arena_bytes: u64,
    /// High-water mark of the arena over all steps, including what is learned.
    pub train_arena_used_bytes: u64,
    /// CRC-32 of everything that was learned.
    pub digest: u32,
    /// Where it learned.
    pub target: String,
    /// Cost of a step, if the target counts.
    pub step_count: Option<u64>,
    /// Deepest stack of a step in bytes, if the target can tell.
    pub stack_bytes: Option<u64>,
    /// Learning curve.
    pub curve: Vec<Point>,
    /// Number of the save in the target's flash that learning started from.
    pub restored: Option<u32>,
    /// Number of the save that was written; it was read back with the same bits.
    pub saved: Option<u32>,
    /// Path of the written model.
    pub output: Option<String>,
    /// Path of the written page.
    pub page: Option<String>,
}

/// A boosted head with some active blocks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Block {
    /// Number of active blocks.
    pub blocks: u8,
    /// Accuracy on the test samples.
    pub accuracy: f64,
    /// Cost of a run, if the target counts.
    pub run_count: Option<u64>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let mut table = Table::new(["", ""]);
        for [name, value] in facts(self) {
            table.row([name, value]);
        }
        let blocks =
            if self.blocks.is_empty() { String::new() } else { format!("\n{}", blocks_table(&self.blocks)) };
        format!("{}{table}{blocks}\n", curve(&self.curve))
    }
}

/// The report as names and values.
fn facts(r: &Report) -> Vec<[String; 2]> {
    let percent = |a: f64| format!("{:.2} %", 100.0 * a);
    let mut all: Vec<(&str, String)> = vec![("rule", r.rule.clone())];
    all.extend(r.head.iter().map(|h| ("head", h.clone())));
    all.push(("classes", r.classes.to_string()));
    all.push(("steps", thousands(r.steps as u64)));
    all.push(("accuracy before", percent(r.accuracy_before)));
    all.push(("accuracy after", percent(r.accuracy_after)));
    all.extend(r.accuracy_known.map(|a| ("  on classes known before", percent(a))));
    all.extend(r.accuracy_new.map(|a| ("  on new classes", percent(a))));
    all.extend(r.accuracy_written.map(|a| ("accuracy of the written model", percent(a))));
    all.push(("training arena (RAM), bytes", thousands(r.train_arena_bytes)));
    all.push(("  used, bytes", thousands(r.train_arena_used_bytes)));
    all.push(("digest of learned weights", format!("{:08x}", r.digest)));
    all.extend(r.step_count.map(|c| ("cost of a step", thousands(c))));
    all.extend(r.stack_bytes.map(|b| ("stack, bytes", thousands(b))));
    all.extend(r.restored.map(|n| ("continued from save", n.to_string())));
    all.extend(r.saved.map(|n| ("saved in flash as", n.to_string())));
    all.extend(r.kept.map(|n| ("active blocks", n.to_string())));
    all.extend(r.output.iter().map(|p| ("written model", p.clone())));
    all.extend(r.page.iter().map(|p| ("report", p.clone())));
    all.into_iter().map(|(name, value)| [name.to_owned(), value]).collect()
}

/// Accuracy and cost of a boosted head by number of active blocks.
fn blocks_table(blocks: &[Block]) -> Table {
    let mut table = Table::new(["active blocks", "accuracy", "cost of a run"]);
    for b in blocks {
        let cost = b.run_count.map_or("-".into(), thousands);
        table.row([b.blocks.to_string(), format!("{:.2} %", 100.0 * b.accuracy), cost]);
    }
    table
}

/// The learning curve as bars.
fn curve(points: &[Point]) -> String {
    let bar = |p: &Point| {
        let filled = (p.accuracy * 40.0).round() as usize;
        format!(
            "{:>7} {}{} {:5.1} %\n",
            p.steps,
            "█".repeat(filled),
            "·".repeat(40 - filled),
            100.0 * p.accuracy
        )
    };
    points.iter().map(bar).collect()
}

/// Learns, and measures accuracy before and after.
///
/// # Errors
/// A file cannot be read, the model has no learning plan, shapes or labels do not fit, or the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let file = OffFile::read(&args.model)?;
    let spec = Spec {
        rule: args.rule,
        rate: args.rate,
        epochs: args.epochs,
        steps: args.steps,
        fit: args.fit,
        new_classes: args.new_classes,
        restore: args.restore,
        save: args.save,
        active_blocks: args.active_blocks,
    };
    let pair = |paths: &[PathBuf]| -> Result<(Array, Array)> {
        match paths {
            [x, y] => Ok((read_array(x)?, read_array(y)?)),
            _ => Err(Failure::new(
                Kind::Usage,
                "two files are needed: X.npy Y.npy",
                "`offshoot learn --help` explains --train and --test",
            )),
        }
    };
    let (train, test) = (pair(&args.train)?, pair(&args.test)?);
    let (mut report, learned) = learn(ui, &file, &train, &test, &spec, &target)?;
    if let Some(path) = &args.output {
        let inputs =
            Inputs::encode(&learned.model()?, std::slice::from_ref(&test.0), &["test samples".into()])?;
        let labels = labels(&test.1, inputs.count(), "test")?;
        report.accuracy_written = accuracy(&classify(&learned, None, None, &inputs)?, &labels, |_| true);
        offshoot_report::write_atomically(path, learned.bytes()).map_err(|e| Failure::writing(path, &e))?;
        report.output = Some(path.display().to_string());
    }
    if let Some(path) = &args.report {
        report.page = Some(path.display().to_string());
        let name = args.model.file_name().map_or("a model".into(), |n| n.to_string_lossy());
        let html = page::page(&name, &report)?;
        offshoot_report::write_atomically(path, html.as_bytes()).map_err(|e| Failure::writing(path, &e))?;
    }
    Ok(report)
}

/// Settings that override the file's learning plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spec {
    /// Rule of the hidden layers.
    pub rule: Option<RuleArg>,
    /// Learning rate.
    pub rate: Option<f32>,
    /// Epochs.
    pub epochs: u32,
    /// Most steps.
    pub steps: Option<usize>,
    /// Scale the plan's schedule to the steps taken.
    pub fit: bool,
    /// Number of classes to add that the network does not know.
    pub new_classes: u16,
    /// Continue from what the target has saved.
    pub restore: bool,
    /// Save on the target afterwards.
    pub save: bool,
    /// Number of active blocks of a boosted head afterwards.
    pub active_blocks: Option<u8>,
}

const NO_PLAN: &str = "compile the model with a learning plan: offshoot compile M.onnx --calib X.npy --learn \
    plan.toml -o M.off";

/// Learns from (samples, labels); returns the report and the model with what it learned.
///
/// # Errors
/// As [`run`].
pub fn learn(
    ui: &Ui,
    file: &OffFile,
    train: &(Array, Array),
    test: &(Array, Array),
    spec: &Spec,
    target: &Target,
) -> Result<(Report, OffFile)> {
    let file = with_room(file, spec)?;
    let steps = requested_steps(&file, train, spec)?;
    let fitted = relearn::changed(file.bytes(), |head, layers| apply(spec, steps, head, layers));
    let file = OffFile::from_bytes(&fitted.or_fail(Kind::Usage, NO_PLAN)?);
    let model = file.model()?;
    let learning = model
        .learning()
        .ok_or_else(|| Failure::new(Kind::Usage, "the model has no learning plan", NO_PLAN))?;
    if let Schedule::Linear { steps: planned } | Schedule::Cosine { steps: planned } = learning.head.schedule
        && planned as usize != steps
    {
        ui.note(&format!(
            "the plan's schedule has {planned} steps, but {steps} are taken: --fit scales the schedule"
        ));
    }
    let inputs = |x: &Array, name: &str| Inputs::encode(&model, std::slice::from_ref(x), &[name.into()]);
    let samples = inputs(&train.0, "training samples")?;
    let train_labels = labels(&train.1, samples.count(), "training")?;
    check_labels(&train_labels, learning.classes(), &learning)?;
    let test_samples = inputs(&test.0, "test samples")?;
    let test_labels = labels(&test.1, test_samples.count(), "test")?;
    let hits = |classes: &[usize]| accuracy(classes, &test_labels, |_| true).unwrap_or(0.0);
    let accuracy_before = hits(&classify(&file, None, None, &test_samples)?);

    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), &file)?;
    let restored = if spec.restore {
        Some(device.restore().or_fail(Kind::Device, "learn with --save first, or leave out --restore")?)
    } else {
        device.begin_learning().map_err(|e| batch::device_failure(&e, NO_PLAN))?;
        None
    };
    let mut trace = take_steps(ui, device.as_mut(), &samples, &train_labels, steps)?;
    let learned = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let export = relearn::with_learned(file.bytes(), &learned)
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with the model")?;
    let classes = classify(&file, Some(&learned), spec.active_blocks, &test_samples)?;
    // The first run after learning prepares the head, which may raise the arena's high-water mark.
    let ready = device.run(&test_samples.sample(0)).or_fail(Kind::Device, DEVICE_HELP);
    ready?;
    trace.arena = trace.arena.max(device.arena_used().into());
    let blocks = boosted_blocks(device.as_mut(), &file, &learned, &test_samples, &test_labels)?;
    if let Some(blocks) = spec.active_blocks {
        device.set_active_blocks(blocks).or_fail(
            Kind::Usage,
            "--active-blocks needs a boosted head, and at least 1 and at most all of its blocks",
        )?;
    }
    let saved = if spec.save { Some(save(device.as_mut(), &learned)?) } else { None };
    let hidden = learning.layers().find_map(|layer| match layer.repr.error_source {
        ErrorSource::Local { rule, .. } if layer.repr.rate > 0.0 => Some(rule.name()),
        _ => None,
    });
    let known = learning.head.classes;
    let others = learning.classes() > known;
    let report = Report {
        rule: hidden.unwrap_or("head-only").into(),
        head: learning.head.classifier.map(|a| head_name(a.kind).to_owned()),
        classes: learning.classes(),
        steps,
        accuracy_before,
        accuracy_after: hits(&classes),
        accuracy_known: accuracy(&classes, &test_labels, |l| l < known).filter(|_| others),
        accuracy_new: accuracy(&classes, &test_labels, |l| l >= known).filter(|_| others),
        accuracy_written: None,
        blocks,
        kept: spec.active_blocks,
        train_arena_bytes: model.train_arena_bytes().unwrap_or(0).into(),
        train_arena_used_bytes: trace.arena + learned.len() as u64,
        digest: offshoot::wire::crc32(&learned),
        target: target.to_string(),
        step_count: trace.count,
        stack_bytes: trace.stack,
        curve: trace.curve,
        restored,
        saved,
        output: None,
        page: None,
    };
    Ok((report, OffFile::from_bytes(&export)))
}

/// The file with memory for the new classes of `spec`.
fn with_room(file: &OffFile, spec: &Spec) -> Result<OffFile> {
    if spec.new_classes == 0 {
        return Ok(OffFile::from_bytes(file.bytes()));
    }
    let wider = relearn::with_new_classes(file.bytes(), spec.new_classes);
    Ok(OffFile::from_bytes(
        &wider.or_fail(Kind::Usage, "compile the model with a learning plan that has a [head]")?,
    ))
}

/// Number of steps to take.
fn requested_steps(file: &OffFile, train: &(Array, Array), spec: &Spec) -> Result<usize> {
    let model = file.model()?;
    let samples = Inputs::encode(&model, std::slice::from_ref(&train.0), &["training samples".into()])?;
    let steps = samples.count().saturating_mul(spec.epochs as usize);
    Ok(spec.steps.unwrap_or(steps).min(steps))
}

/// Checks that every label is one of the classes.
fn check_labels(labels: &[u16], classes: u16, learning: &Learning<'_>) -> Result<()> {
    let Some(&beyond) = labels.iter().find(|&&l| l >= classes) else { return Ok(()) };
    let message =
        format!("a training sample has class {beyond}, but the model learns classes 0 to {}", classes - 1);
    let help = match learning.head.classifier {
        Some(_) => format!("add classes to the head: --new-classes {}", beyond - classes + 1),
        None => {
            "only a classifier head learns new classes: add one to the plan (head = \"lda\") and compile \
             again"
                .into()
        }
    };
    Err(Failure::new(Kind::Mismatch, message, help))
}

fn head_name(kind: HeadKind) -> &'static str {
    match kind {
        HeadKind::Softmax { .. } => "softmax",
        HeadKind::NearestMean { .. } => "nearest-mean",
        HeadKind::Lda { .. } => "lda",
        HeadKind::LeastSquares { .. } => "least-squares",
        HeadKind::Simplex { .. } => "simplex",
        HeadKind::Boosted { .. } => "boosted",
    }
}

/// Accuracy and cost of a boosted head with one active block, two, and so on; all are active afterwards.
fn boosted_blocks(
    device: &mut dyn Device,
    file: &OffFile,
    learned: &[u8],
    inputs: &Inputs,
    labels: &[u16],
) -> Result<Vec<Block>> {
    let model = file.model()?;
    let answer = model.learning().and_then(|l| l.head.classifier);
    let Some(answer) = answer.filter(|a| matches!(a.kind, HeadKind::Boosted { .. })) else {
        return Ok(Vec::new());
    };
    let block = |blocks: u8| {
        let classes = classify(file, Some(learned), Some(blocks), inputs)?;
        device.set_active_blocks(blocks).or_fail(Kind::Device, DEVICE_HELP)?;
        device.run(&inputs.sample(0)).or_fail(Kind::Device, DEVICE_HELP)?;
        let accuracy = accuracy(&classes, labels, |_| true).unwrap_or(0.0);
        Ok(Block { blocks, accuracy, run_count: device.run_count() })
    };
    (1..=answer.taps).map(block).collect()
}

/// Saves, opens the model again, and checks that it has the same bits.
fn save(device: &mut dyn Device, learned: &[u8]) -> Result<u32> {
    let number = device.save().or_fail(Kind::Device, DEVICE_HELP)?;
    let opened = device.reopen().or_fail(Kind::Device, DEVICE_HELP)?;
    let same = opened == number && device.learned().or_fail(Kind::Device, DEVICE_HELP)? == learned;
    if same {
        return Ok(number);
    }
    Err(Failure::new(
        Kind::Device,
        "the saved weights differ when read back",
        "save again; if it fails again, the target's flash may be worn out",
    ))
}

/// Measurements during learning.
struct Trace {
    curve: Vec<Point>,
    count: Option<u64>,
    stack: Option<u64>,
    arena: u64,
}

fn take_steps(
    ui: &Ui,
    device: &mut dyn Device,
    samples: &Inputs,
    labels: &[u16],
    steps: usize,
) -> Result<Trace> {
    let bar = ui.progress("learning", steps as u64);
    let stretch = steps.div_ceil(20).max(1);
    let (mut curve, mut hits, mut since) = (Vec::new(), 0, 0);
    let (mut count, mut stack, mut arena) = (0, 0, 0);
    for step in 0..steps {
        let i = step % labels.len().max(1);
        let report = device.learn(&samples.sample(i), labels[i]).or_fail(Kind::Device, DEVICE_HELP)?;
        hits += usize::from(report.guess == labels[i]);
        since += 1;
        count = count.max(report.count);
        stack = stack.max(report.stack);
        arena = arena.max(report.arena);
        if since == stretch || step + 1 == steps {
            curve.push(Point { steps: step + 1, accuracy: hits as f64 / since as f64 });
            (hits, since) = (0, 0);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let some = |n: u32| (n > 0).then_some(u64::from(n));
    Ok(Trace { curve, count: some(count), stack: some(stack), arena: arena.into() })
}

fn apply(spec: &Spec, steps: usize, head: &mut LearnHead, layers: &mut [LearnLayer]) {
    if let Some(rate) = spec.rate {
        head.rate = rate;
    }
    for layer in layers {
        if layer.error_source == ErrorSource::Next && spec.rule == Some(RuleArg::HeadOnly) {
            layer.rate = 0.0;
        }
        let ErrorSource::Local { rule, projection, .. } = &mut layer.error_source else { continue };
        *rule = match spec.rule {
            None => *rule,
            // Under its own rule, a layer keeps the scale of its plan.
            Some(RuleArg::Local(chosen)) if chosen.name() == rule.name() => *rule,
            Some(RuleArg::Local(chosen)) => chosen,
            Some(RuleArg::HeadOnly) => {
                layer.rate = 0.0;
                *rule
            }
        };
        // A local head supports cross-entropy only; other rules get a fixed projection.
        let has_head = matches!(projection, TargetProjectionRepr::Head { .. });
        if has_head && !matches!(rule, LocalRule::CrossEntropy { .. }) {
            *projection = TargetProjectionRepr::Signs { seed: head.seed };
        }
    }
    if steps > 0 && (spec.fit || spec.steps.is_some()) {
        stretch(head, steps);
    }
}

/// Scales a schedule that has an end to `wanted` steps.
fn stretch(head: &mut LearnHead, wanted: usize) {
    let (Schedule::Linear { steps } | Schedule::Cosine { steps }) = &mut head.schedule else { return };
    let before = u64::from((*steps).max(1));
    *steps = wanted as u32;
    let of = |step: &mut u32| *step = (u64::from(*step) * wanted as u64 / before) as u32;
    of(&mut head.warm);
    if let Some(normalizer) = head.normalizer.as_mut().filter(|s| s.steps > 0) {
        of(&mut normalizer.steps);
        // 0 would mean without end.
        normalizer.steps = normalizer.steps.max(1);
    }
    head.classifier.iter_mut().for_each(|answer| of(&mut answer.from));
}

/// Class numbers, one per sample.
///
/// # Errors
/// The array does not hold class numbers from 0 to 65535, or has too few or too many.
pub fn labels(array: &Array, samples: usize, what: &str) -> Result<Vec<u16>> {
    let help = "give one class number per sample, in the same order";
    let whole = array.to_i64().or_fail_in(Kind::Dtype, format!("{what} labels"), help)?;
    let labels: Option<Vec<u16>> = whole.iter().map(|&l| u16::try_from(l).ok()).collect();
    let labels = labels.ok_or_else(|| {
        Failure::new(Kind::Mismatch, format!("a {what} label is not a class number from 0 to 65535"), help)
    })?;
    if labels.len() != samples {
        let message = format!("{} {what} labels for {samples} samples", labels.len());
        return Err(Failure::new(Kind::Shape, message, help));
    }
    Ok(labels)
}
