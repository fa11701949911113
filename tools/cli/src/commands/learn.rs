//! `offshoot learn`: training on the device, or simulated bit for bit.

use std::path::PathBuf;

use offshoot::format::learn::{CodesRepr, LearnHead, LearnLayer, Teacher};
use offshoot::learn::{Rule, Schedule};
use offshoot_data::npy::Array;
use offshoot_export::learning::rule_name;
use offshoot_export::relearn;
use offshoot_report::Table;
use offshoot_report::table::thousands;
use offshoot_target::{Device, Target};
use serde::Serialize;

use super::{eval, parse_target, read_array};
use crate::batch::{self, DEVICE_HELP, Inputs};
use crate::failure::{Context, Failure, Kind, Result};
use crate::files::OffFile;
use crate::ui::{Outcome, Ui};

/// Rule of hidden layers, instead of the plan's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RuleArg {
    /// tpSGD, cross-entropy through fixed codes.
    TpsgdCrossEntropy,
    /// tpSGD, squared distance to the label's code (float32).
    TpsgdSquared,
    /// tpSGD, absolute distance to the label's code (float32).
    TpsgdAbsolute,
    /// Direct random target projection.
    Drtp,
    /// Hidden layers do not learn.
    HeadOnly,
}

/// Arguments of `learn`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Compiled model with a learning plan (`compile --learn plan.toml`).
    pub model: PathBuf,
    /// Samples and class numbers to learn from (.npy), in this order.
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"], required = true)]
    pub train: Vec<PathBuf>,
    /// Samples and class numbers to measure accuracy on, before and after (.npy).
    #[arg(long, num_args = 2, value_names = ["X.npy", "Y.npy"], required = true)]
    pub test: Vec<PathBuf>,
    /// Rule of hidden layers, instead of the plan's.
    #[arg(long, value_enum)]
    pub rule: Option<RuleArg>,
    /// Learning rate, instead of the plan's.
    #[arg(long)]
    pub rate: Option<f32>,
    /// Passes over the samples.
    #[arg(long, default_value_t = 1)]
    pub epochs: u32,
    /// Only so many steps.
    #[arg(long)]
    pub steps: Option<usize>,
    /// Writes the model with what it learned (.off).
    #[arg(short, long)]
    pub output: Option<PathBuf>,
    /// Where it learns.
    #[arg(long, default_value = "host")]
    pub target: String,
}

/// A stretch of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Steps so far.
    pub steps: usize,
    /// Fraction of the samples since the point before that the network knew before it learned them.
    pub accuracy: f64,
}

/// What `learn` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Rule of hidden layers.
    pub rule: String,
    /// Steps taken.
    pub steps: usize,
    /// Accuracy on the test samples before.
    pub accuracy_before: f64,
    /// And after. The simulator measures it with the weights that the target learned.
    pub accuracy_after: f64,
    /// Bytes of arena that learning needs.
    pub train_arena_bytes: u64,
    /// High-water mark of the arena over all steps, what is learned included.
    pub train_arena_used_bytes: u64,
    /// CRC-32 of all that was learned.
    pub digest: u32,
    /// Where it learned.
    pub target: String,
    /// Cost of a step, if the target counts.
    pub step_count: Option<u64>,
    /// Most bytes of stack of a step, if the target can tell.
    pub stack_bytes: Option<u64>,
    /// Accuracy on the samples as they came.
    pub curve: Vec<Point>,
    /// Model written.
    pub output: Option<String>,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let percent = |a: f64| format!("{:.2} %", 100.0 * a);
        let mut facts = Table::new(["", ""]);
        facts
            .row(["rule", self.rule.as_str()])
            .row(["steps", &thousands(self.steps as u64)])
            .row(["accuracy before", &percent(self.accuracy_before)])
            .row(["accuracy after", &percent(self.accuracy_after)])
            .row(["training arena (RAM), bytes", &thousands(self.train_arena_bytes)])
            .row(["of it used, bytes", &thousands(self.train_arena_used_bytes)])
            .row(["digest of learned weights", &format!("{:08x}", self.digest)]);
        if let Some(count) = self.step_count {
            facts.row(["cost of a step", &thousands(count)]);
        }
        if let Some(stack) = self.stack_bytes {
            facts.row(["stack, bytes", &thousands(stack)]);
        }
        format!("{}{facts}\n", curve(&self.curve))
    }
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
/// A file cannot be read, the model has no learning plan, shapes or labels do not fit, the device fails.
pub fn run(ui: &Ui, args: &Args) -> Result<Report> {
    let target = parse_target(&args.target)?;
    let file = OffFile::read(&args.model)?;
    let wish = Wish { rule: args.rule, rate: args.rate, epochs: args.epochs, steps: args.steps };
    let pair = |paths: &[PathBuf]| -> Result<(Array, Array)> {
        match paths {
            [x, y] => Ok((read_array(x)?, read_array(y)?)),
            _ => Err(Failure::new(
                Kind::Usage,
                "two files are wanted: X.npy Y.npy",
                "see `offshoot learn --help`",
            )),
        }
    };
    let (train, test) = (pair(&args.train)?, pair(&args.test)?);
    let (mut report, learned) = learn(ui, &file, &train, &test, &wish, &target)?;
    if let Some(path) = &args.output {
        offshoot_report::write_atomically(path, learned.bytes()).map_err(|e| Failure::writing(path, &e))?;
        report.output = Some(path.display().to_string());
    }
    Ok(report)
}

/// What may differ from the plan in the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// Rule of hidden layers.
    pub rule: Option<RuleArg>,
    /// Learning rate.
    pub rate: Option<f32>,
    /// Passes.
    pub epochs: u32,
    /// Most steps.
    pub steps: Option<usize>,
}

const NO_PLAN: &str = "compile it with a learning plan: offshoot compile M.onnx --learn plan.toml -o M.off";

/// Learns from (samples, labels); gives the report and the model with what it learned.
///
/// # Errors
/// As [`run`].
pub fn learn(
    ui: &Ui,
    file: &OffFile,
    train: &(Array, Array),
    test: &(Array, Array),
    wish: &Wish,
    target: &Target,
) -> Result<(Report, OffFile)> {
    let changed = relearn::changed(file.bytes(), |head, layers| apply(wish, head, layers));
    let file = OffFile::from_bytes(&changed.or_fail(Kind::Usage, NO_PLAN)?);
    let model = file.model()?;
    let inputs = |x: &Array, name: &str| Inputs::encode(&model, std::slice::from_ref(x), &[name.into()]);
    let samples = inputs(&train.0, "training samples")?;
    let labels = labels(&train.1, samples.count())?;
    let test_samples = inputs(&test.0, "test samples")?;
    let accuracy_before = accuracy(ui, &file, &test_samples, &test.1)?;

    let mut device = batch::connect(target)?;
    batch::load(device.as_mut(), &file)?;
    device.begin_learning().map_err(|e| batch::device_failure(&e, NO_PLAN))?;
    let steps = samples.count() * wish.epochs.max(1) as usize;
    let steps = wish.steps.unwrap_or(steps).min(steps);
    let trace = course(ui, device.as_mut(), &samples, &labels, steps)?;
    let learned = device.learned().or_fail(Kind::Device, DEVICE_HELP)?;
    let export =
        relearn::with_learned(file.bytes(), &learned).or_fail(Kind::Internal, "report this model")?;
    let export = OffFile::from_bytes(&export);
    let accuracy_after = accuracy(ui, &export, &test_samples, &test.1)?;
    let hidden = model.learning().and_then(|l| {
        l.layers().find_map(|layer| match layer.repr.teacher {
            Teacher::Local { rule, .. } if layer.repr.rate > 0.0 => Some(rule_name(&rule)),
            _ => None,
        })
    });
    let report = Report {
        rule: hidden.unwrap_or("head-only").into(),
        steps,
        accuracy_before,
        accuracy_after,
        train_arena_bytes: model.train_arena_bytes().unwrap_or(0).into(),
        train_arena_used_bytes: trace.arena + learned.len() as u64,
        digest: offshoot::wire::crc32(&learned),
        target: target.to_string(),
        step_count: trace.count,
        stack_bytes: trace.stack,
        curve: trace.curve,
        output: None,
    };
    Ok((report, export))
}

/// What was seen while it learned.
struct Trace {
    curve: Vec<Point>,
    count: Option<u64>,
    stack: Option<u64>,
    arena: u64,
}

fn course(ui: &Ui, device: &mut dyn Device, samples: &Inputs, labels: &[u16], steps: usize) -> Result<Trace> {
    let bar = ui.progress("learning", steps as u64);
    let stretch = steps.div_ceil(20).max(1);
    let (mut curve, mut hits, mut since) = (Vec::new(), 0, 0);
    let (mut count, mut stack, mut arena) = (0, 0, 0);
    for step in 0..steps {
        let i = step % labels.len().max(1);
        let lesson = device.learn(&samples.sample(i), labels[i]).or_fail(Kind::Device, DEVICE_HELP)?;
        hits += usize::from(lesson.guess == labels[i]);
        since += 1;
        count = count.max(lesson.count);
        stack = stack.max(lesson.stack);
        arena = arena.max(lesson.arena);
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

fn apply(wish: &Wish, head: &mut LearnHead, layers: &mut [LearnLayer]) {
    if let Some(rate) = wish.rate {
        head.rate = rate;
    }
    for layer in layers {
        let Teacher::Local { rule, codes, .. } = &mut layer.teacher else { continue };
        *rule = match wish.rule {
            None => *rule,
            Some(RuleArg::TpsgdCrossEntropy) => match *rule {
                Rule::CrossEntropy { scale } => Rule::CrossEntropy { scale },
                _ => Rule::CrossEntropy { scale: 0.1 },
            },
            Some(RuleArg::TpsgdSquared) => Rule::Squared { scale: 10.0 },
            Some(RuleArg::TpsgdAbsolute) => Rule::Absolute { scale: 3.0 },
            Some(RuleArg::Drtp) => Rule::Drtp,
            Some(RuleArg::HeadOnly) => {
                layer.rate = 0.0;
                *rule
            }
        };
        // A head learns cross-entropy and nothing else.
        if let (CodesRepr::Head { .. }, Rule::Squared { .. } | Rule::Absolute { .. } | Rule::Drtp) =
            (&codes, &rule)
        {
            *codes = CodesRepr::Signs { seed: head.seed };
        }
    }
    if let (Schedule::Linear { steps } | Schedule::Cosine { steps }, Some(wanted)) =
        (&mut head.schedule, wish.steps)
    {
        *steps = wanted as u32;
    }
}

fn accuracy(ui: &Ui, file: &OffFile, inputs: &Inputs, labels: &Array) -> Result<f64> {
    let results = batch::run(ui, file, inputs, &Target::Host)?;
    let port = batch::output_port(&file.model()?, 0)?;
    let outputs: Vec<Vec<f32>> = results.iter().filter_map(|r| r.first()).map(|b| port.decode(b)).collect();
    eval::top1(&outputs, labels)
}

fn labels(array: &Array, samples: usize) -> Result<Vec<u16>> {
    let help = "give one class number a sample, in the same order";
    let whole = array.to_i64().or_fail_in(Kind::Dtype, "training labels", help)?;
    let labels: Option<Vec<u16>> = whole.iter().map(|&l| u16::try_from(l).ok()).collect();
    let labels =
        labels.ok_or_else(|| Failure::new(Kind::Mismatch, "a training label is no class number", help))?;
    if labels.len() != samples {
        let message = format!("{} training labels for {samples} samples", labels.len());
        return Err(Failure::new(Kind::Shape, message, help));
    }
    Ok(labels)
}
