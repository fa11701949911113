//! The whole method: train, choose, rewind, repeat.

use std::collections::BTreeSet;
use std::sync::Arc;

use offshoot_ir::{Data, Graph};
use offshoot_train::{Control, Dataset, FitOptions, FitReport, Judgement, Observer, Step, fit};
use serde::{Deserialize, Serialize};

use super::masks::{Masks, Scope, magnitudes, weights};
use super::matrices::{Matrix, matrices};
use super::pattern::Pattern;
use crate::prune::{Progress, Size, samples, size};
use crate::quantize::WeightBits;
use crate::{Error, Result};

/// When weights are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// All at once from the given graph, which should be trained; then training.
    OneShot,
    /// In this many steps by the cubic schedule of Zhu and Gupta (2017), with training after each.
    Gradual {
        /// How many.
        steps: usize,
    },
    /// Iterative magnitude pruning (Frankle and Carbin 2019): in each of this many rounds, train, remove the same
    /// share of the remaining weights, and rewind the rest; then train.
    Iterative {
        /// How many.
        rounds: usize,
        /// Where weights are rewound to.
        rewind: Rewind,
    },
}

/// Where the remaining weights are rewound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rewind {
    /// Nowhere: they keep their values.
    None,
    /// To the given graph, which for a lottery ticket is untrained.
    Start,
    /// To their values after this many steps of the first round, which deep networks need (Frankle et al. 2020).
    Step(usize),
}

/// Settings of [`sparsify`].
#[derive(Clone, Debug)]
pub struct SparsifyOptions {
    /// Share of the weights of all matrices that remains at the end. [`Pattern::NOfM`] has its own.
    pub density: f64,
    /// The pattern of zeros.
    pub pattern: Pattern,
    /// The set in which the smallest weights are sought.
    pub scope: Scope,
    /// When weights are removed.
    pub method: Method,
    /// Rate at which the last matrix loses weights, relative to the others; Frankle and Carbin take one half.
    pub output_rate: f64,
    /// Names of constants that stay as they are.
    pub keep: BTreeSet<String>,
    /// Matrices with fewer weights are not pruned.
    pub least: usize,
    /// Training of each round; for [`Method::Gradual`] the epochs are those of all steps together. Masks are set by
    /// [`sparsify`]. There is one checkpoint per round, with the round's number at the end of its name.
    pub train: FitOptions,
    /// Passes over the data in the last training, if different from `train.epochs`; unused by [`Method::Gradual`].
    pub last_epochs: Option<usize>,
}

impl Default for SparsifyOptions {
    fn default() -> Self {
        Self {
            density: 0.1,
            pattern: Pattern::Unstructured,
            scope: Scope::Layer,
            method: Method::Gradual { steps: 4 },
            output_rate: 0.5,
            keep: BTreeSet::new(),
            least: 256,
            train: FitOptions { rate: 1.2e-3, batch: 60, decay: 0.0, ..FitOptions::default() },
            last_epochs: None,
        }
    }
}

/// Report on one matrix.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MatrixReport {
    /// Name of the constant.
    pub name: String,
    /// Output channels.
    pub rows: usize,
    /// Inputs of one output channel.
    pub columns: usize,
    /// Remaining weights.
    pub left: usize,
}

/// Report on one training between two removals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RoundReport {
    /// Share of weights during this training.
    pub density: f64,
    /// Mean loss over its last epoch; absent if nothing was trained.
    pub loss: Option<f32>,
    /// Result on the validation samples of the options, if there are any.
    pub validation: Option<Judgement>,
}

/// Report of [`sparsify`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SparsifyReport {
    /// Before, in int8.
    pub before: Size,
    /// After.
    pub after: Size,
    /// Weights of the matrices that are pruned.
    pub weights: usize,
    /// Remaining weights of those.
    pub left: usize,
    /// Report on each matrix.
    pub matrices: Vec<MatrixReport>,
    /// Trainings in order.
    pub rounds: Vec<RoundReport>,
}

/// Sets the smallest weights of `graph` (float) to zero until the share `options.density` remains, training on `data`
/// in between and afterwards. [`super::masks_of`] reads the masks from the zeros of the result.
///
/// # Errors
/// An option is out of range, or nothing can be pruned; see [`fit`] and [`size`].
pub fn sparsify(
    graph: &Graph,
    data: &Dataset,
    options: &SparsifyOptions,
    progress: &mut dyn Progress,
) -> Result<(Graph, SparsifyReport)> {
    check(options)?;
    data.check(graph).map_err(Error::Training)?;
    let all: Vec<Matrix> = matrices(graph)
        .into_iter()
        .filter(|m| m.len() >= options.least && !options.keep.contains(&m.name))
        .collect();
    if let Some(name) = options.keep.iter().find(|n| !matrices(graph).iter().any(|m| m.name == **n)) {
        return Err(Error::Option { option: "keep", reason: format!("no weight matrix is named `{name}`") });
    }
    if all.is_empty() {
        let reason = "the network has no weight matrix to prune".into();
        return Err(Error::Option { option: "least", reason });
    }
    let few = samples(graph, data, 2);
    let mut run = Run { data, options, progress, all, masks: Masks::new(), rounds: Vec::new() };
    let before = size(graph, &few, &WeightBits::default(), None)?;
    let sparse = run.run(graph, &few)?;
    let after = size(&sparse, &few, &WeightBits::default(), None)?;
    let matrices: Vec<MatrixReport> = run.all.iter().map(|m| report(&sparse, m)).collect();
    let (weights, left) = (run.all.iter().map(Matrix::len).sum(), matrices.iter().map(|m| m.left).sum());
    Ok((sparse, SparsifyReport { before, after, weights, left, matrices, rounds: run.rounds }))
}

fn check(options: &SparsifyOptions) -> Result<()> {
    let fail = |option, reason: String| Err(Error::Option { option, reason });
    if !(options.density > 0.0 && options.density <= 1.0) {
        return fail("density", format!("{} is not above 0 and at most 1", options.density));
    }
    if !(0.0..=1.0).contains(&options.output_rate) {
        return fail("output_rate", format!("{} is not in 0 to 1", options.output_rate));
    }
    match (options.method, options.pattern) {
        (Method::Gradual { steps: 0 } | Method::Iterative { rounds: 0, .. }, _) => {
            fail("method", "needs at least one step".into())
        }
        (_, Pattern::Block(0)) => fail("pattern", "a block needs at least one weight".into()),
        (_, Pattern::NOfM { n, m }) if n == 0 || n > m => {
            fail("pattern", format!("{n}:{m} is not a valid pattern"))
        }
        _ => Ok(()),
    }
}

fn report(graph: &Graph, m: &Matrix) -> MatrixReport {
    let left = weights(graph, m).iter().filter(|w| **w != 0.0).count();
    MatrixReport { name: m.name.clone(), rows: m.rows, columns: m.columns, left }
}

struct Run<'r> {
    data: &'r Dataset,
    options: &'r SparsifyOptions,
    progress: &'r mut dyn Progress,
    all: Vec<Matrix>,
    masks: Masks,
    rounds: Vec<RoundReport>,
}

impl Run<'_> {
    fn run(&mut self, graph: &Graph, few: &[Vec<ndarray::ArrayD<f32>>]) -> Result<Graph> {
        let epochs = self.options.train.epochs;
        let shares = shares(&self.all, self.options);
        let mut current = graph.clone();
        let mut start = None;
        for (index, &share) in shares.iter().enumerate() {
            if let Method::Iterative { rewind, .. } = self.options.method {
                if let (0, Rewind::Step(steps)) = (index, rewind) {
                    start = Some(self.early(graph, steps)?);
                }
                current = self.train(&current, epochs)?;
            }
            self.masks =
                magnitudes(&current, &self.all, self.options.pattern, self.options.scope, share, &self.masks);
            if let Method::Iterative { rewind: Rewind::Start | Rewind::Step(_), .. } = self.options.method {
                current = start.as_ref().unwrap_or(graph).clone();
            }
            apply(&mut current, &self.all, &self.masks);
            self.progress.period(&current, size(&current, few, &WeightBits::default(), None)?)?;
            if let Method::Gradual { steps } = self.options.method {
                // The last step takes the remaining epochs.
                let own =
                    if index + 1 == steps { epochs - epochs / steps * (steps - 1) } else { epochs / steps };
                current = self.train(&current, own)?;
            }
        }
        if !matches!(self.options.method, Method::Gradual { .. }) {
            current = self.train(&current, self.options.last_epochs.unwrap_or(epochs))?;
        }
        Ok(current)
    }

    fn train(&mut self, graph: &Graph, epochs: usize) -> Result<Graph> {
        let (left, of) = self.all.iter().fold((0, 0), |(left, of), m| {
            let kept = self.masks.get(&m.name).map_or(m.len(), |mask| mask.iter().filter(|k| **k).count());
            (left + kept, of + m.len())
        });
        let density = left as f64 / of as f64;
        let what = format!("training {:.1} % of the weights", 100.0 * density);
        let (trained, report) = if epochs == 0 {
            (graph.clone(), None)
        } else {
            let settings = settings(self.options, &self.masks, self.rounds.len(), epochs);
            let mut watch = Watch { progress: self.progress, what: &what, until: usize::MAX };
            let (trained, report) = fit(graph, self.data, &settings, &mut watch).map_err(Error::Training)?;
            (trained, Some(report))
        };
        self.rounds.push(round(density, report.as_ref()));
        Ok(trained)
    }

    /// The weights after this many steps of the first round.
    fn early(&mut self, graph: &Graph, steps: usize) -> Result<Graph> {
        if steps == 0 || self.options.train.epochs == 0 {
            return Ok(graph.clone());
        }
        let mut settings = settings(self.options, &self.masks, 0, self.options.train.epochs);
        (settings.validation, settings.checkpoint) = (None, None);
        let mut watch = Watch { progress: self.progress, what: "training to rewind to", until: steps };
        Ok(fit(graph, self.data, &settings, &mut watch).map_err(Error::Training)?.0)
    }
}

/// Options for the training of a round.
fn settings(options: &SparsifyOptions, masks: &Masks, round: usize, epochs: usize) -> FitOptions {
    let mut settings = options.train.clone();
    settings.epochs = epochs;
    settings.masks.extend(masks.clone());
    settings.seed = settings.seed.wrapping_add(round as u64);
    if let Some(checkpoint) = &mut settings.checkpoint {
        let mut name = checkpoint.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{round}"));
        checkpoint.path.set_file_name(name);
    }
    settings
}

fn round(density: f64, report: Option<&FitReport>) -> RoundReport {
    let epochs = report.map(|r| &r.epochs[..]).unwrap_or_default();
    let best = report.and_then(|r| r.best).and_then(|number| epochs.iter().find(|e| e.number == number));
    let validation = best.or(epochs.last()).and_then(|e| e.validation);
    RoundReport { density, loss: epochs.last().map(|e| e.loss), validation }
}

/// Sets weights to zero where masks say so.
fn apply(graph: &mut Graph, all: &[Matrix], masks: &Masks) {
    for m in all {
        let Some(mask) = masks.get(&m.name) else { continue };
        if let Some(Data::F32(data)) = graph.value_mut(m.id).data.as_mut().map(Arc::make_mut) {
            data.iter_mut().zip(mask).filter(|(_, keep)| !**keep).for_each(|(w, _)| *w = 0.0);
        }
    }
}

/// Shares of the remaining weights after each removal: of all matrices, and of the last.
fn shares(all: &[Matrix], options: &SparsifyOptions) -> Vec<[f64; 2]> {
    let total = |last: bool| all.iter().filter(|m| m.last == last).map(Matrix::len).sum::<usize>() as f64;
    let (others, last) = (total(false), total(true));
    // A network with a single matrix has nothing to compare it with.
    let rate = if others > 0.0 { options.output_rate } else { 1.0 };
    let course = |keep: f64| -> Vec<[f64; 2]> {
        let steps = match options.method {
            Method::OneShot => 1,
            Method::Gradual { steps } => steps,
            Method::Iterative { rounds, .. } => rounds,
        };
        let step = |i: usize| {
            let part = i as f64 / steps as f64;
            match options.method {
                Method::Iterative { .. } => {
                    let lost = 1.0 - keep.powf(1.0 / steps as f64);
                    [keep.powf(part), (1.0 - rate * lost).powf(i as f64)]
                }
                _ => {
                    let lost = (1.0 - keep) * (1.0 - (1.0 - part).powi(3));
                    [1.0 - lost, 1.0 - rate * lost]
                }
            }
        };
        (1..=steps).map(step).collect()
    };
    if let Pattern::NOfM { n, m } = options.pattern {
        return course(n as f64 / m as f64);
    }
    // The last matrix keeps more, and the others correspondingly less, so that the overall share is met.
    let left = |keep: f64| course(keep).last().map_or(0.0, |s| s[0] * others + s[1] * last);
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if left(middle) < options.density * (others + last) { low = middle } else { high = middle }
    }
    course(high)
}

struct Watch<'p> {
    progress: &'p mut dyn Progress,
    what: &'p str,
    until: usize,
}

impl Observer for Watch<'_> {
    fn step(&mut self, step: &Step) -> Control {
        self.progress.tick(self.what, step.number, step.of);
        if step.number >= self.until { Control::Stop } else { Control::Continue }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_ir::ValueId;

    fn matrix(rows: usize, columns: usize, last: bool) -> Matrix {
        Matrix { id: ValueId(0), name: format!("{rows}"), rows, columns, last }
    }

    #[test]
    fn the_whole_density_is_met_and_the_last_matrix_loses_less() {
        let lenet = [matrix(300, 784, false), matrix(100, 300, false), matrix(10, 100, true)];
        for method in [
            Method::OneShot,
            Method::Gradual { steps: 5 },
            Method::Iterative { rounds: 10, rewind: Rewind::Start },
        ] {
            let options = SparsifyOptions { density: 0.1, method, ..SparsifyOptions::default() };
            let course = shares(&lenet, &options);
            let [keep, keep_last] = *course.last().unwrap();
            let left = keep * 265_200.0 + keep_last * 1000.0;
            assert!((left / 266_200.0 - 0.1).abs() < 1e-6, "{method:?} {left}");
            assert!(keep_last > 2.0 * keep, "{method:?} {keep_last}");
            assert!(course.windows(2).all(|w| w[1][0] < w[0][0] && w[1][1] < w[0][1]));
        }
        let alone = shares(&[matrix(10, 100, true)], &SparsifyOptions::default());
        assert!((alone.last().unwrap()[1] - 0.1).abs() < 1e-6);
    }
}
