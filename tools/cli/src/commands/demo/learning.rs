//! Learning in the demo: adapts to shifted data on the target, and plots accuracy against labelled samples.

use ndarray::{ArrayD, Slice};
use offshoot_data::npy::Array;
use offshoot_data::synth::{Condition, Task};
use offshoot_export::LearningPlan;
use offshoot_report::Table;
use offshoot_target::Target;
use rayon::prelude::*;
use serde::Serialize;

use super::Shifted;
use crate::batch::Inputs;
use crate::commands::compile;
use crate::commands::learn::{self, evaluate};
use crate::failure::{Context, Kind, Result};
use crate::files::OffFile;
use crate::ui::Ui;

/// Passes over the samples.
const EPOCHS: u32 = 2;

/// Numbers of labelled samples on the curve.
const COUNTS: [usize; 6] = [25, 50, 100, 200, 400, 800];

/// Seeds of the training and test samples. The shifted samples in `models/` are the first ones of these.
const SEEDS: (u64, u64) = (3, 4);

/// Number of test samples for each point of the curve.
const JUDGED: usize = 400;

/// Accuracy after learning from a number of labelled samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// Number of labelled samples, each seen twice.
    pub samples: usize,
    /// Accuracy with the recipe `adapt`.
    pub adapt: f64,
    /// Accuracy if only the last layer learns.
    pub last_layer: f64,
}

/// What was learned.
#[derive(Clone, Debug, Serialize)]
pub struct Learned {
    /// How the data differ from the training data.
    pub what: String,
    /// Number of shipped labelled samples, each seen twice.
    pub samples: usize,
    /// Report of learning from them on the target.
    pub report: learn::Report,
    /// Predicted class of every shipped test sample before learning.
    #[serde(skip)]
    pub before: Vec<usize>,
    /// Predicted class of every shipped test sample after learning.
    #[serde(skip)]
    pub after: Vec<usize>,
    /// Accuracy without learning, on the test samples of the curve.
    pub curve_without: f64,
    /// Accuracy by number of labelled samples, simulated on the host.
    pub curve: Vec<Point>,
}

impl Learned {
    /// The curve as a table with bars.
    pub fn bars(&self) -> Table {
        let mut table = Table::new(["labelled samples", "accuracy", "", "last layer only"]);
        let mut row = |samples: usize, adapt: f64, last: f64| {
            let filled = (adapt * 40.0).round() as usize;
            let bar = format!("{}{}", "█".repeat(filled), "·".repeat(40 - filled.min(40)));
            let percent = |a: f64| format!("{:.1} %", 100.0 * a);
            table.row([samples.to_string(), percent(adapt), bar, percent(last)]);
        };
        row(0, self.curve_without, self.curve_without);
        self.curve.iter().for_each(|p| row(p.samples, p.adapt, p.last_layer));
        table
    }
}

/// Learns from shifted data: the shipped samples on the target, the curve on the host.
///
/// # Errors
/// The target fails.
pub(super) fn adapt(
    ui: &Ui,
    task: Task,
    shifted: &Shifted,
    graph: &offshoot_ir::Graph,
    samples: &[Vec<ArrayD<f32>>],
    target: &Target,
) -> Result<Learned> {
    ui.note(&format!("learning on the device: {}", shifted.what));
    let compiled = |plan: LearningPlan| {
        let args = compile::Args { plan: Some(Box::new(plan)), ..compile::Args::default() };
        let made = compile::make(&Ui { json: true }, graph.clone(), samples, &args, None)?;
        Ok(OffFile::from_bytes(&made.compiled.bytes))
    };
    let plan = LearningPlan::parse("recipe = \"adapt\"")
        .or_fail(Kind::Internal, "this is a bug in Offshoot: report it with this message")?;
    let file = compiled(plan)?;
    let pair = |[x, y]: [&[u8]; 2]| Ok((super::parse(x)?, super::parse(y)?));
    let (train, test) = (pair(shifted.train)?, pair(shifted.test)?);
    let spec = learn::Spec { epochs: EPOCHS, fit: true, ..learn::Spec::default() };
    let (report, learned) = learn::learn(ui, &file, &train, &test, &spec, target)?;
    let classes = |file: &OffFile| {
        let inputs = Inputs::encode(&file.model()?, std::slice::from_ref(&test.0), &["test samples".into()])?;
        evaluate::classify(file, None, None, &inputs)
    };
    let (before, after) = (classes(&file)?, classes(&learned)?);

    ui.note("measuring accuracy against the number of labelled samples");
    let last = compiled(LearningPlan {
        layers: Some(vec![offshoot_export::learning::LAST.into()]),
        rate: 1.0,
        ..LearningPlan::default()
    })?;
    let (curve_without, curve) = curve(task, &file, &last)?;
    let samples = report.steps / EPOCHS as usize;
    Ok(Learned { what: shifted.what.into(), samples, report, before, after, curve_without, curve })
}

/// Accuracy without learning, and after each number in [`COUNTS`]. Both files learn on the host.
fn curve(task: Task, adapt: &OffFile, last: &OffFile) -> Result<(f64, Vec<Point>)> {
    let most = COUNTS.iter().copied().max().unwrap_or(0);
    let train = task.generate(Condition::Shifted, SEEDS.0, most);
    let test = task.generate(Condition::Shifted, SEEDS.1, JUDGED);
    let labels = |y: &[i64]| Array::I64(ArrayD::from_shape_fn(vec![y.len()], |i| y[i[0]]));
    let test = (test.x, labels(&test.y));
    let accuracy = |file: &OffFile, count: usize| {
        let first = (first(&train.x, count), labels(&train.y[..count]));
        let spec = learn::Spec { epochs: EPOCHS, fit: true, ..learn::Spec::default() };
        let (report, _) = learn::learn(&Ui { json: true }, file, &first, &test, &spec, &Target::Host)?;
        Ok((report.accuracy_before, report.accuracy_after))
    };
    // The longest first, to keep all cores busy to the end.
    let mut points: Vec<(f64, Point)> = COUNTS
        .into_par_iter()
        .rev()
        .map(|samples| {
            let ((before, adapt), (_, last_layer)) = (accuracy(adapt, samples)?, accuracy(last, samples)?);
            Ok((before, Point { samples, adapt, last_layer }))
        })
        .collect::<Result<_>>()?;
    points.reverse();
    let without = points.first().map_or(0.0, |p| p.0);
    Ok((without, points.into_iter().map(|p| p.1).collect()))
}

/// The first `count` samples of a generated array.
fn first(x: &Array, count: usize) -> Array {
    match x {
        Array::U8(a) => Array::U8(a.slice_axis(ndarray::Axis(0), Slice::from(..count)).to_owned()),
        // Generators return uint8 only.
        other => Array::F32(other.to_f32().slice_axis(ndarray::Axis(0), Slice::from(..count)).to_owned()),
    }
}
