//! `offshoot learn`: trains on a device, or simulates the same training bit for bit on the host.

pub mod arrays;
pub mod evaluate;
pub mod flash;
pub mod page;
mod report;

use std::path::{Path, PathBuf};

use offshoot::format::learn::{ErrorSource, HeadKind, LearnHead, LearnLayer, TargetProjectionRepr};
use offshoot::graph::learn::Learning;
use offshoot::learn::{LocalRule, Schedule};
use offshoot_data::npy::Array;
use offshoot_export::relearn;
use offshoot_target::{Device, Target};

use super::{parse_target, read_array};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::ui::Ui;
use evaluate::{accuracy, classify};
use flash::FlashFile;
pub use report::{Block, Point, Report};
use report::{blocks_table, facts};

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
    /// Training samples and their class numbers (.npy), learned in this order. Without them nothing is learned: what the
    /// file or the flash holds is written (--output, --inference, --export).
    #[arg(
        long, num_args = 2, value_names = ["X.npy", "Y.npy"],
        required_unless_present_any = ["output", "inference", "export"]
    )]
    pub train: Vec<PathBuf>,
    /// Test samples and their class numbers (.npy); accuracy is measured on them before and after.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"], required_unless_present_any = ["output", "inference", "export"])]
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
    /// Begin with this training sample, counted from 0: to go on where an earlier command stopped.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip: usize,
    /// Scale the plan's schedule to the steps taken: rate, warm-up, end of the input normaliser, start of the head.
    /// Without it, a schedule is only shortened: if fewer steps are taken than it has, and nothing is saved to go on.
    #[arg(long)]
    pub fit: bool,
    /// Scale the plan's schedule to this many steps, of which this command may take a part.
    #[arg(long, value_name = "STEPS", conflicts_with = "fit")]
    pub course: Option<u32>,
    /// Number of classes to add that the network does not know; the plan's classifier head learns them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub new_classes: u16,
    /// Continue from what was saved for this model, with the same bits as without a break.
    #[arg(long)]
    pub restore: bool,
    /// Save what was learned in the target's flash, and check that it can be read back.
    #[arg(long)]
    pub save: bool,
    /// File that stands in for the flash of the host and of emulated boards. Default: the model's path with the ending
    /// `.flash`. A board on a serial port has its own flash; with this option, the file is used instead.
    #[arg(long, value_name = "FILE")]
    pub flash: Option<PathBuf>,
    /// Number of active blocks of a boosted head afterwards; the rest is switched off.
    #[arg(long, alias = "keep", value_name = "BLOCKS")]
    pub active_blocks: Option<u8>,
    /// File to write the trained model to (.off). It runs, and learns on from where this command stopped.
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// File to write the trained model to for inference alone (.off): head and input normaliser become operators.
    #[arg(long, value_name = "FILE.off")]
    pub inference: Option<PathBuf>,
    /// File to write what was learned to, as named arrays (.npz).
    #[arg(long, value_name = "FILE.npz")]
    pub export: Option<PathBuf>,
    /// File with named arrays, as `--export` wrote them for this model, to continue from.
    #[arg(long, value_name = "FILE.npz", conflicts_with = "restore")]
    pub import: Option<PathBuf>,
    /// Page to write with the learning curve (.html).
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Where to learn: host, qemu:BOARD or serial:PORT; see `offshoot target list`.
    #[arg(long, default_value = "host")]
    pub target: String,
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
        skip: args.skip,
        fit: args.fit,
        course: args.course,
        new_classes: args.new_classes,
        restore: args.restore,
        save: args.save,
        active_blocks: args.active_blocks,
    };
    let pair = |paths: &[PathBuf]| -> Result<Option<(Array, Array)>> {
        match paths {
            [] => Ok(None),
            [x, y] => Ok(Some((read_array(x)?, read_array(y)?))),
            _ => Err(Failure::new(
                Kind::Usage,
                "two files are needed: X.npy Y.npy",
                "`offshoot learn --help` explains --train and --test",
            )),
        }
    };
    let (training, test) = (pair(&args.train)?, pair(&args.test)?);
    let beside = || args.model.with_extension("flash");
    let flash = match (&args.flash, &target) {
        (Some(path), _) => Some(FlashFile::new(path)),
        (None, Target::Host | Target::Qemu(_)) => Some(FlashFile::new(&beside())),
        (None, _) => None,
    };
    let start = Start { flash: flash.as_ref(), arrays: args.import.as_deref() };
    let Trained { mut report, roomy, file, learned } =
        train(ui, &file, training.as_ref(), test.as_ref(), &spec, &target, start)?;
    if let Some(path) = &args.output {
        let whole = OffFile::from_bytes(&relearn::going_on(file.bytes(), &learned).map_err(not_written)?);
        if let Some(test) = &test {
            let inputs =
                Inputs::encode(&whole.model()?, std::slice::from_ref(&test.0), &["test samples".into()])?;
            let labels = labels(&test.1, inputs.count(), "test")?;
            report.accuracy_written = accuracy(&classify(&whole, None, None, &inputs)?, &labels, |_| true);
        }
        report.output = Some(write(path, whole.bytes())?);
    }
    if let Some(path) = &args.inference {
        let alone = relearn::inference_only(file.bytes(), &learned).map_err(not_written)?;
        report.inference = Some(write(path, &alone)?);
    }
    if let Some(path) = &args.export {
        let pieces = relearn::pieces(file.bytes()).map_err(not_written)?;
        let mut arrays = arrays::of_pieces(&pieces, &learned)?;
        arrays.extend(arrays::of_model(&roomy)?);
        let bytes = offshoot_data::npz::to_bytes(&arrays).or_fail(Kind::Io, "give another file")?;
        report.export = Some(write(path, &bytes)?);
    }
    if let Some(path) = &args.report {
        report.page = Some(path.display().to_string());
        let name = args.model.file_name().map_or("a model".into(), |n| n.to_string_lossy());
        let html = page::page(&name, &report)?;
        write(path, html.as_bytes())?;
    }
    Ok(report)
}

/// Writes a file; returns its path as text.
fn write(path: &Path, bytes: &[u8]) -> Result<String> {
    offshoot_report::write_atomically(path, bytes).map_err(|e| Failure::writing(path, &e))?;
    Ok(path.display().to_string())
}

/// Why what was learned cannot become a file.
fn not_written(error: offshoot_export::Error) -> Failure {
    Failure::new(
        Kind::Mismatch,
        format!("what was learned cannot be written: {error}"),
        "--save and --export keep it without a new model",
    )
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
    /// Number of the first training sample.
    pub skip: usize,
    /// Scale the plan's schedule to the steps taken.
    pub fit: bool,
    /// Scale the plan's schedule to this many steps.
    pub course: Option<u32>,
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

/// Where to continue from, and where to save.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'s> {
    /// File that stands in for the target's flash.
    pub flash: Option<&'s FlashFile>,
    /// Arrays of an earlier `--export`.
    pub arrays: Option<&'s Path>,
}

/// What [`train`] leaves behind.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The report.
    pub report: Report,
    /// The model as it was given, with room for new classes.
    pub roomy: OffFile,
    /// The model that learned: perhaps with another rule or rate.
    pub file: OffFile,
    /// Everything that it learned.
    pub learned: Vec<u8>,
}

/// Learns from (samples, labels); returns the report and the model with what it learned: for inference alone if it has a
/// head or an input normaliser.
///
/// # Errors
/// As [`run`].
pub fn learn(
    ui: &Ui,
    file: &OffFile,
    training: &(Array, Array),
    test: &(Array, Array),
    spec: &Spec,
    target: &Target,
) -> Result<(Report, OffFile)> {
    let trained = train(ui, file, Some(training), Some(test), spec, target, Start::default())?;
    let export = relearn::with_learned(trained.file.bytes(), &trained.learned).map_err(not_written)?;
    Ok((trained.report, OffFile::from_bytes(&export)))
}

/// Learns from (samples, labels), if there are any, and measures accuracy on test samples, if there are any (else NaN).
///
/// # Errors
/// As [`run`].
pub fn train(
    ui: &Ui,
    file: &OffFile,
    train: Option<&(Array, Array)>,
    test: Option<&(Array, Array)>,
    spec: &Spec,
    target: &Target,
    start: Start<'_>,
) -> Result<Trained> {
    let roomy = with_room(file, spec)?;
    let changed = relearn::changed(roomy.bytes(), |head, layers| apply(spec, head, layers));
    let file = OffFile::from_bytes(&changed.or_fail(Kind::Usage, NO_PLAN)?);
    let model = file.model()?;
    let learning = model
        .learning()
        .ok_or_else(|| Failure::new(Kind::Usage, "the model has no learning plan", NO_PLAN))?;
    let labelled = |data: &(Array, Array), name: &str| -> Result<(Inputs, Vec<u16>)> {
        let samples = Inputs::encode(&model, std::slice::from_ref(&data.0), &[format!("{name} samples")])?;
        let labels = labels(&data.1, samples.count(), name)?;
        Ok((samples, labels))
    };
    let train = train.map(|data| labelled(data, "training")).transpose()?;
    let test = test.map(|data| labelled(data, "test")).transpose()?;
    let steps = train.as_ref().map_or(0, |(_, labels)| requested_steps(labels.len(), spec));
    if let Some((_, labels)) = &train {
        check_labels(labels, learning.classes(), &learning)?;
        note_missing(ui, labels, learning.classes());
    }
    let judge = |learned: Option<&[u8]>, blocks, of: &dyn Fn(u16) -> bool| -> Result<Option<f64>> {
        let Some((samples, labels)) = &test else { return Ok(None) };
        Ok(accuracy(&classify(&file, learned, blocks, samples)?, labels, of))
    };
    let accuracy_before = judge(None, None, &|_| true)?.unwrap_or(f64::NAN);

    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), &file)?;
    // What is saved belongs to the file as it was given: another rate reads it too.
    let digest = arrays::digest(&roomy);
    let restored = begin(device.as_mut(), &roomy, spec, start, digest)?;
    let before = progress(&device.learned().or_fail(Kind::Device, DEVICE_HELP)?);
    set_course(ui, device.as_mut(), &learning, spec, before, steps)?;
    let mut trace = Trace::default();
    if let Some((samples, labels)) = &train {
        trace = take_steps(ui, device.as_mut(), samples, labels, steps, spec.skip)?;
    }
    let learned = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let digest_learned = offshoot::wire::crc32(&learned);
    let mut blocks = Vec::new();
    if let Some((samples, labels)) = &test {
        // The first run after learning prepares the head, which may raise the arena's high-water mark.
        device.run(&samples.sample(0)).or_fail(Kind::Device, DEVICE_HELP)?;
        trace.arena = trace.arena.max(device.arena_used().into());
        blocks = boosted_blocks(device.as_mut(), &file, &learned, samples, labels)?;
    }
    if let Some(blocks) = spec.active_blocks {
        device.set_active_blocks(blocks).or_fail(
            Kind::Usage,
            "--active-blocks needs a boosted head, and at least 1 and at most all of its blocks",
        )?;
    }
    // With the active blocks.
    let learned = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let saved = match (spec.save, start.flash) {
        (false, _) => None,
        (true, Some(flash)) => Some(flash.save(digest, &learned)?),
        (true, None) => Some(save(device.as_mut(), &learned)?),
    };
    let hidden = learning.layers().find_map(|layer| match layer.repr.error_source {
        ErrorSource::Local { rule, .. } if layer.repr.rate > 0.0 => Some(rule.name()),
        _ => None,
    });
    let known = learning.head.classes;
    let others = learning.classes() > known;
    let after = progress(&learned);
    let report = Report {
        rule: hidden.unwrap_or("head-only").into(),
        head: learning.head.classifier.map(|a| head_name(a.kind).to_owned()),
        classes: learning.classes(),
        steps,
        accuracy_before,
        accuracy_after: judge(Some(&learned), spec.active_blocks, &|_| true)?.unwrap_or(f64::NAN),
        accuracy_known: judge(Some(&learned), spec.active_blocks, &|l| l < known)?.filter(|_| others),
        accuracy_new: judge(Some(&learned), spec.active_blocks, &|l| l >= known)?.filter(|_| others),
        accuracy_written: None,
        blocks,
        kept: spec.active_blocks,
        course: planned(&learning).map(|planned| if after.course > 0 { after.course } else { planned }),
        steps_so_far: after.steps,
        left_out: trace.left_out,
        train_arena_bytes: model.train_arena_bytes().unwrap_or(0).into(),
        train_arena_used_bytes: trace.arena + learned.len() as u64,
        digest: digest_learned,
        target: target.to_string(),
        step_count: trace.count,
        stack_bytes: trace.stack,
        curve: trace.curve,
        restored,
        saved,
        output: None,
        inference: None,
        export: None,
        page: None,
    };
    Ok(Trained { report, learned, roomy, file: file.clone() })
}

/// Begins to learn: anew, or from what was saved or exported. Returns the number of the save.
fn begin(
    device: &mut dyn Device,
    roomy: &OffFile,
    spec: &Spec,
    start: Start<'_>,
    digest: u32,
) -> Result<Option<u32>> {
    const HELP: &str = "learn with --save first, or leave out --restore";
    if spec.restore && start.flash.is_none() {
        return Ok(Some(device.restore().or_fail(Kind::Device, HELP)?));
    }
    device.begin_learning().map_err(|e| batch::device_failure(&e, NO_PLAN))?;
    let len = || -> Result<usize> { Ok(roomy.model()?.learning().map_or(0, |l| l.learned_bytes())) };
    if let Some(path) = start.arrays {
        let pieces = relearn::pieces(roomy.bytes()).map_err(not_written)?;
        let given = offshoot_data::npz::read(path).or_fail_in(
            Kind::Format,
            path.display(),
            "give a file that `learn --export` wrote",
        )?;
        arrays::check_model(roomy, &given)?;
        let learned = arrays::to_learned(&pieces, &given, len()?)?;
        device.write_learned(&learned).or_fail_in(
            Kind::Mismatch,
            path.display(),
            "give arrays that this model learned",
        )?;
    }
    let Some(flash) = start.flash.filter(|_| spec.restore) else { return Ok(None) };
    let (number, learned) = flash.load(digest, len()?)?;
    device.write_learned(&learned).or_fail(Kind::Device, HELP)?;
    Ok(Some(number))
}

/// How far learning has come.
#[derive(Clone, Copy)]
struct Progress {
    steps: u32,
    course: u32,
}

/// Reads the progress at the start of what was learned.
fn progress(learned: &[u8]) -> Progress {
    let word = |i: usize| learned.get(i..i + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    Progress { steps: word(0), course: word(8) }
}

/// Steps of the plan's schedule, if it has an end.
fn planned(learning: &Learning<'_>) -> Option<u32> {
    match learning.head.schedule {
        Schedule::Linear { steps } | Schedule::Cosine { steps } => Some(steps),
        Schedule::Constant | Schedule::Inverse { .. } => None,
    }
}

/// Scales the schedule to the steps that will be taken, if it is to be; says what does not fit.
fn set_course(
    ui: &Ui,
    device: &mut dyn Device,
    learning: &Learning<'_>,
    spec: &Spec,
    before: Progress,
    steps: usize,
) -> Result<()> {
    let Some(planned) = planned(learning) else { return Ok(()) };
    let now = if before.course > 0 { before.course } else { planned };
    let end = u32::try_from(steps).unwrap_or(u32::MAX).saturating_add(before.steps);
    let wanted = match spec.course {
        Some(course) => course,
        None if steps == 0 => return Ok(()),
        None if spec.fit => end,
        // To be continued: the course stays.
        None if spec.save || before.steps > 0 => now,
        None if spec.steps.is_some() => end,
        None => end.min(now),
    };
    if wanted != now {
        device.set_course(wanted).or_fail(Kind::Device, DEVICE_HELP)?;
        if spec.course.is_none() && !spec.fit {
            ui.note(&format!("the plan's course of {now} steps is shortened to the {end} taken"));
        }
    }
    if before.steps >= wanted && before.steps > 0 {
        ui.note(&format!(
            "the course of {wanted} steps has ended: only the head learns on; --course STEPS makes it longer"
        ));
    } else if end < wanted {
        ui.note(&format!("{end} of the {wanted} steps of the course are taken: --fit scales it to them"));
    } else if end > wanted {
        ui.note(&format!("the course has {wanted} steps, but {end} are taken: --fit scales the schedule"));
    }
    Ok(())
}

/// The file with memory for the new classes of `spec`.
fn with_room(file: &OffFile, spec: &Spec) -> Result<OffFile> {
    if spec.new_classes == 0 {
        return Ok(OffFile::from_bytes(file.bytes()));
    }
    if file.model()?.learning().is_some_and(|l| l.head.begun.is_some()) {
        return Err(Failure::new(
            Kind::Usage,
            "a file that has learned has no room for more classes",
            "give --new-classes when it first learns, or `new_classes` in the plan",
        ));
    }
    let wider = relearn::with_new_classes(file.bytes(), spec.new_classes);
    Ok(OffFile::from_bytes(
        &wider.or_fail(Kind::Usage, "compile the model with a learning plan that has a [head]")?,
    ))
}

/// Number of steps to take.
fn requested_steps(samples: usize, spec: &Spec) -> usize {
    let steps = samples.saturating_mul(spec.epochs as usize);
    spec.steps.unwrap_or(steps).min(steps)
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

/// Says which classes never come.
fn note_missing(ui: &Ui, labels: &[u16], classes: u16) {
    let missing: Vec<String> =
        (0..classes).filter(|class| !labels.contains(class)).map(|class| class.to_string()).collect();
    if missing.len() + 1 == usize::from(classes) {
        ui.note("all training samples have one class: layers will forget the others, a head keeps them");
    } else if !missing.is_empty() {
        ui.note(&format!("no training sample has class {}", missing.join(", ")));
    }
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
#[derive(Default)]
struct Trace {
    curve: Vec<Point>,
    count: Option<u64>,
    stack: Option<u64>,
    arena: u64,
    left_out: usize,
}

/// Takes the steps, beginning with sample `skip`.
fn take_steps(
    ui: &Ui,
    device: &mut dyn Device,
    samples: &Inputs,
    labels: &[u16],
    steps: usize,
    skip: usize,
) -> Result<Trace> {
    let bar = ui.progress("learning", steps as u64);
    let stretch = steps.div_ceil(20).max(1);
    let (mut curve, mut hits, mut since) = (Vec::new(), 0, 0);
    let (mut count, mut stack, mut arena, mut left_out) = (0, 0, 0, 0);
    for step in 0..steps {
        let i = (skip % labels.len().max(1) + step) % labels.len().max(1);
        let report = device.learn(&samples.sample(i), labels[i]).or_fail(Kind::Device, DEVICE_HELP)?;
        hits += usize::from(report.guess == labels[i]);
        left_out += usize::from(report.left_out);
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
    Ok(Trace { curve, count: some(count), stack: some(stack), arena: arena.into(), left_out })
}

fn apply(spec: &Spec, head: &mut LearnHead, layers: &mut [LearnLayer]) {
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
