//! `offshoot learn`: trains on a device, or simulates the same training bit for bit on the host.

pub mod anomalies;
pub mod arrays;
mod changes;
mod course;
pub mod evaluate;
pub mod flash;
mod labels;
pub mod page;
pub mod regression;
mod report;
mod steps;

use std::path::{Path, PathBuf};

use offshoot::format::learn::ErrorSource;
use offshoot_data::npy::Array;
use offshoot_export::relearn;
use offshoot_target::Target;

use super::{parse_target, read_array};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::{OffFile, refuse_same_file};
use crate::ui::Ui;
pub use changes::RuleArg;
use changes::{apply, with_room};
pub use course::planned;
use course::{progress, requested_steps, set_course};
use evaluate::{accuracy, classify};
use flash::FlashFile;
pub use labels::labels;
use labels::{check_labels, note_missing};
pub use report::head_name;
pub use report::{Block, Point, Report};
use report::{blocks_table, facts};
use steps::{Trace, begin, boosted_blocks, save, take_steps};

/// Arguments of `learn`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model with a learning plan (`compile --learn plan.toml`).
    pub model: PathBuf,
    /// Training samples and their class numbers (.npy; real targets for a regression head), learned in this order. An anomaly head learns those of class 0, and takes
    /// normal samples without class numbers.
    /// Without samples, the command learns nothing and writes what the file or the flash already holds (--output,
    /// --inference, --export).
    #[arg(
        long, num_args = 1..=2, value_names = ["X.npy", "Y.npy"],
        required_unless_present_any = ["output", "inference", "export"]
    )]
    pub train: Vec<PathBuf>,
    /// Test samples and their class numbers (.npy); accuracy is measured on them before and after. For an anomaly head, 0 is
    /// normal and other numbers are not.
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

impl Args {
    /// What overrides the file's learning plan.
    pub fn spec(&self) -> Spec {
        Spec {
            rule: self.rule,
            rate: self.rate,
            epochs: self.epochs,
            steps: self.steps,
            skip: self.skip,
            fit: self.fit,
            course: self.course,
            new_classes: self.new_classes,
            restore: self.restore,
            save: self.save,
            active_blocks: self.active_blocks,
        }
    }
}

/// Learns, and measures accuracy before and after.
///
/// # Errors
/// A file cannot be read, the model has no learning plan, shapes or labels do not fit, or the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let read = [&args.model].into_iter().chain(&args.train).chain(&args.test).chain(&args.import);
    refuse_same_file(read, args.output.iter().chain(&args.inference).chain(&args.export))?;
    let file = OffFile::read(&args.model)?;
    let spec = args.spec();
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
    let training = match &args.train[..] {
        // To learn what is normal takes no labels.
        [x] if anomalies::allowed(&file.model()?).is_some() => {
            let x = read_array(x)?;
            let normal = vec![0; x.shape().first().copied().unwrap_or(0)];
            Some((x, ndarray::Array1::<i64>::from(normal).into_dyn().into()))
        }
        paths => pair(paths)?,
    };
    let test = pair(&args.test)?;
    let beside = || args.model.with_extension("flash");
    let flash = match (&args.flash, &target) {
        (Some(path), _) => Some(FlashFile::new(path)),
        (None, Target::Host | Target::Qemu(_)) => Some(FlashFile::new(&beside())),
        (None, _) => None,
    };
    let start = Start { flash: flash.as_ref(), arrays: args.import.as_deref() };
    let trained = train(ui, &file, training.as_ref(), test.as_ref(), &spec, &target, start)?;
    let mut report = trained.report.clone();
    if let Some(path) = &args.output {
        let whole = trained.going_on()?;
        if let Some(test) = test.as_ref().filter(|_| report.regression.is_none()) {
            let inputs =
                Inputs::encode(&whole.model()?, std::slice::from_ref(&test.0), &["test samples".into()])?;
            let mut labels = labels(&test.1, inputs.count(), "test")?;
            if report.anomalies.is_some() {
                anomalies::two_classes(&mut labels);
            }
            report.accuracy_written = accuracy(&classify(&whole, None, None, &inputs)?, &labels, |_| true);
        }
        report.output = Some(write(path, whole.bytes())?);
    }
    if let Some(path) = &args.inference {
        report.inference = Some(write(path, trained.inference_only()?.bytes())?);
    }
    if let Some(path) = &args.export {
        let bytes =
            offshoot_data::npz::to_bytes(&trained.arrays()?).or_fail(Kind::Io, "give another file")?;
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

impl Trained {
    /// The model with what it learned. It runs, and learns on from where training stopped.
    ///
    /// # Errors
    /// What was learned has no form in the file.
    pub fn going_on(&self) -> Result<OffFile> {
        let bytes = relearn::going_on(self.file.bytes(), &self.learned).map_err(not_written)?;
        Ok(OffFile::from_bytes(&bytes))
    }

    /// The model with what it learned, for inference alone: head and input normaliser are operators.
    ///
    /// # Errors
    /// As [`Self::going_on`].
    pub fn inference_only(&self) -> Result<OffFile> {
        let bytes = relearn::inference_only(self.file.bytes(), &self.learned).map_err(not_written)?;
        Ok(OffFile::from_bytes(&bytes))
    }

    /// What was learned as named arrays, and numbers of the model that they rest on.
    ///
    /// # Errors
    /// As [`Self::going_on`].
    pub fn arrays(&self) -> Result<Vec<(String, Array)>> {
        let pieces = relearn::pieces(self.file.bytes()).map_err(not_written)?;
        let mut arrays = arrays::of_pieces(&pieces, &self.learned)?;
        arrays.extend(arrays::of_model(&self.roomy)?);
        Ok(arrays)
    }
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
    let allowed = anomalies::allowed(&model);
    let labelled = |data: &(Array, Array), name: &str| -> Result<(Inputs, Vec<u16>)> {
        let samples = Inputs::encode(&model, std::slice::from_ref(&data.0), &[format!("{name} samples")])?;
        let mut labels = labels(&data.1, samples.count(), name)?;
        if allowed.is_some() {
            anomalies::two_classes(&mut labels);
        }
        Ok((samples, labels))
    };
    if let Some(outputs) = regression::outputs(&model) {
        return train_targets(ui, &roomy, &file, outputs, train, test, spec, target, start);
    }
    let train = train.map(|data| labelled(data, "training")).transpose()?;
    let test = test.map(|data| labelled(data, "test")).transpose()?;
    let steps = train.as_ref().map_or(0, |(_, labels)| requested_steps(labels.len(), spec));
    if let Some((_, labels)) = &train {
        check_labels(labels, learning.classes(), &learning)?;
        if allowed.is_none() {
            note_missing(ui, labels, learning.classes());
        }
    }
    let judge = |learned: Option<&[u8]>, blocks, of: &dyn Fn(u16) -> bool| -> Result<Option<f64>> {
        let Some((samples, labels)) = &test else { return Ok(None) };
        Ok(accuracy(&classify(&file, learned, blocks, samples)?, labels, of))
    };
    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), &file)?;
    // What is saved belongs to the file as it was given: another rate reads it too.
    let digest = arrays::digest(&roomy);
    let restored = begin(device.as_mut(), &roomy, spec, start, digest)?;
    let begun = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let before = progress(&begun);
    // What was restored is where this course begins.
    let goes_on = restored.is_some() || start.arrays.is_some();
    // The network's own output says nothing about what is normal.
    let judges = allowed.is_none() || goes_on || batch::has_begun(&model);
    let accuracy_before = match judges {
        true => judge(goes_on.then_some(&begun[..]), None, &|_| true)?.unwrap_or(f64::NAN),
        false => f64::NAN,
    };
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
        regression: None,
        anomalies: match &test {
            Some((samples, labels)) => anomalies::judge(&file, Some(&learned), samples, labels)?,
            None => None,
        },
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

/// As [`train`], for a head that learns real targets.
fn train_targets(
    ui: &Ui,
    roomy: &OffFile,
    file: &OffFile,
    outputs: usize,
    train: Option<&(Array, Array)>,
    test: Option<&(Array, Array)>,
    spec: &Spec,
    target: &Target,
    start: Start<'_>,
) -> Result<Trained> {
    let model = file.model()?;
    let with_targets = |data: &(Array, Array), name: &str| -> Result<(Inputs, Vec<Vec<f32>>)> {
        let samples = Inputs::encode(&model, std::slice::from_ref(&data.0), &[format!("{name} samples")])?;
        let targets = regression::targets(&data.1, outputs, samples.count(), name)?;
        Ok((samples, targets))
    };
    let train = train.map(|data| with_targets(data, "training")).transpose()?;
    let test = test.map(|data| with_targets(data, "test")).transpose()?;
    let steps = train.as_ref().map_or(0, |(_, targets)| requested_steps(targets.len(), spec));
    let judge = |learned: Option<&[u8]>| -> Result<Option<f64>> {
        test.as_ref().map(|(x, y)| regression::judge(file, learned, x, y)).transpose()
    };
    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), file)?;
    let digest = arrays::digest(roomy);
    let restored = begin(device.as_mut(), roomy, spec, start, digest)?;
    let begun = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let goes_on = restored.is_some() || start.arrays.is_some();
    let before = judge(goes_on.then_some(&begun[..]))?;
    let (trace, along) = match &train {
        Some((x, y)) => regression::take_steps(ui, device.as_mut(), x, y, steps, spec.skip)?,
        None => (Trace::default(), Vec::new()),
    };
    let learned = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let saved = match (spec.save, start.flash) {
        (false, _) => None,
        (true, Some(flash)) => Some(flash.save(digest, &learned)?),
        (true, None) => Some(save(device.as_mut(), &learned)?),
    };
    let after = judge(Some(&learned))?;
    let report = Report {
        rule: "head-only".into(),
        head: Some("regression".into()),
        classes: outputs as u16,
        steps,
        accuracy_before: f64::NAN,
        accuracy_after: f64::NAN,
        accuracy_known: None,
        accuracy_new: None,
        accuracy_written: None,
        anomalies: None,
        regression: Some(regression::Regression { before, after, along }),
        blocks: Vec::new(),
        kept: None,
        course: None,
        steps_so_far: progress(&learned).steps,
        left_out: trace.left_out,
        train_arena_bytes: model.train_arena_bytes().unwrap_or(0).into(),
        train_arena_used_bytes: trace.arena + learned.len() as u64,
        digest: offshoot::wire::crc32(&learned),
        target: target.to_string(),
        step_count: trace.count,
        stack_bytes: trace.stack,
        curve: Vec::new(),
        restored,
        saved,
        output: None,
        inference: None,
        export: None,
        page: None,
    };
    Ok(Trained {
        report,
        learned,
        roomy: OffFile::from_bytes(roomy.bytes()),
        file: OffFile::from_bytes(file.bytes()),
    })
}
