//! `offshoot merge`: combines what several devices learned on the same model.
//!
//! Statistics add exactly: the result is that of one device that has seen all samples (LDA: counts, means and scatter;
//! least squares: the normal equations; input statistics). Weights that learned by steps, for which there is no such sum,
//! become means weighted by their steps or, in a head, by the samples of the class. Sums run in float64 over the states in the
//! order of their bytes, so the order on the command line changes no bit.

use std::path::PathBuf;

use ndarray::{ArrayD, Dimension};
use offshoot_data::npy::Array;
use offshoot_data::npz;
use serde::Serialize;

use crate::failure::{Context, Failure, Kind, Result};
use crate::files::refuse_same_file;
use crate::ui::{Outcome, Ui};

/// Arguments of `merge`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What devices learned with the same model, as `learn --export` wrote it.
    #[arg(required = true, num_args = 2..)]
    pub states: Vec<PathBuf>,
    /// File to write (.npz), for `learn --import`.
    #[arg(short, long)]
    pub output: PathBuf,
}

/// Result of `merge`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Number of states.
    pub states: usize,
    /// Steps of all of them.
    pub steps: u64,
    /// Samples of each class that the head has seen, if there is a head.
    pub samples: Vec<f64>,
    /// The file written.
    pub output: String,
}

impl Outcome for Report {
    fn render(&self) -> String {
        let samples: Vec<String> = self.samples.iter().map(|n| format!("{n}")).collect();
        let head = if samples.is_empty() {
            String::new()
        } else {
            format!("; samples by class: {}", samples.join(", "))
        };
        format!("{}: {} states, {} steps{head}", self.output, self.states, self.steps)
    }
}

const HELP: &str = "give files that `learn --export` wrote for the same model";

/// Merges the states and writes the result.
///
/// # Errors
/// A file cannot be read, or the states belong to different models.
pub fn run(_ui: &Ui, args: &Args) -> Result<Report> {
    refuse_same_file(&args.states, std::slice::from_ref(&args.output))?;
    let mut states = Vec::new();
    for path in &args.states {
        let arrays = npz::read(path).or_fail_in(Kind::Format, path.display(), HELP)?;
        states.push(State { name: path.display().to_string(), arrays });
    }
    let merged = merge(states)?;
    let bytes = npz::to_bytes(&merged).or_fail(Kind::Io, "give another file")?;
    offshoot_report::write_atomically(&args.output, &bytes)
        .map_err(|e| Failure::writing(&args.output, &e))?;
    let numbers = |name: &str| merged.iter().find(|(n, _)| n == name).map(|(_, a)| numbers(a));
    Ok(Report {
        states: args.states.len(),
        steps: numbers("steps").and_then(|n| n.first().map(|n| *n as u64)).unwrap_or(0),
        samples: numbers("head.counts").unwrap_or_default(),
        output: args.output.display().to_string(),
    })
}

/// The arrays of one file.
pub struct State {
    /// Its name, for messages.
    pub name: String,
    /// Its arrays.
    pub arrays: Vec<(String, Array)>,
}

impl State {
    fn get(&self, name: &str) -> Result<&Array> {
        let found = self.arrays.iter().find(|(n, _)| n == name);
        found.map(|(_, array)| array).ok_or_else(|| {
            Failure::new(Kind::Mismatch, format!("{}: there is no array `{name}`", self.name), HELP)
        })
    }

    fn numbers(&self, name: &str) -> Result<Vec<f64>> {
        Ok(numbers(self.get(name)?))
    }

    /// Bytes of all arrays, by which states are ordered.
    fn key(&self) -> Vec<u8> {
        self.arrays.iter().flat_map(|(_, a)| offshoot_data::npy::to_bytes(a)).collect()
    }
}

/// Elements as float64.
fn numbers(array: &Array) -> Vec<f64> {
    match array {
        Array::F64(a) => a.iter().copied().collect(),
        Array::F32(a) => a.iter().map(|x| f64::from(*x)).collect(),
        Array::U32(a) => a.iter().map(|x| f64::from(*x)).collect(),
        Array::I32(a) => a.iter().map(|x| f64::from(*x)).collect(),
        Array::I16(a) => a.iter().map(|x| f64::from(*x)).collect(),
        Array::U16(a) => a.iter().map(|x| f64::from(*x)).collect(),
        Array::I8(a) => a.iter().map(|x| f64::from(*x)).collect(),
        Array::U8(a) => a.iter().map(|x| f64::from(*x)).collect(),
        other => other.to_f32().iter().map(|x| f64::from(*x)).collect(),
    }
}

/// Merges states of one model.
///
/// # Errors
/// There are fewer than two states, or they belong to different models.
pub fn merge(mut states: Vec<State>) -> Result<Vec<(String, Array)>> {
    let Some(first) = states.first().filter(|_| states.len() > 1) else {
        return Err(Failure::new(Kind::Usage, "one state has nothing to be merged with", HELP));
    };
    for other in &states {
        let same = other.arrays.len() == first.arrays.len()
            && first
                .arrays
                .iter()
                .zip(&other.arrays)
                .all(|((n, a), (m, b))| n == m && a.shape() == b.shape() && a.dtype() == b.dtype());
        let constant = |name: &String| name.starts_with("model.");
        let model = |s: &State| s.arrays.iter().filter(|(n, _)| constant(n)).cloned().collect::<Vec<_>>();
        if !same || model(other) != model(first) {
            return Err(Failure::new(
                Kind::Mismatch,
                format!("{} and {} were learned by different models", first.name, other.name),
                HELP,
            ));
        }
    }
    states.sort_by_cached_key(State::key);
    let steps: Vec<f64> = states
        .iter()
        .map(|s| Ok(s.numbers("steps")?.first().copied().unwrap_or(0.0)))
        .collect::<Result<_>>()?;
    // States without a step weigh nothing, unless none has one.
    let weights = if steps.iter().sum::<f64>() > 0.0 { steps.clone() } else { vec![1.0; steps.len()] };
    let mut merged = Vec::new();
    for (name, array) in &states[0].arrays {
        let values: Vec<Vec<f64>> = states.iter().map(|s| s.numbers(name)).collect::<Result<_>>()?;
        let largest = || zip(&values, |column| column.iter().copied().fold(0.0, f64::max));
        let result = match name.as_str() {
            "steps" => vec![steps.iter().sum::<f64>().min(f64::from(u32::MAX))],
            "course" => largest(),
            name if name.starts_with("model.") || PROGRESS.contains(&name) => values[0].clone(),
            name if name.ends_with("_velocity") || name.ends_with(".velocity") => vec![0.0; values[0].len()],
            name if name.starts_with("head.") || name.starts_with("normalizer.") => continue,
            // int16 weights are joined with their upper bytes.
            name if name.ends_with(".weights_lower") => continue,
            name => {
                let lower = format!("{name}_lower");
                if let Some((_, below)) = states[0].arrays.iter().find(|(n, _)| *n == lower) {
                    let (upper, low) = joined(&states, name, &lower, &weights)?;
                    merged.push((name.to_owned(), like(array, &upper)));
                    merged.push((lower, like(below, &low)));
                    continue;
                }
                mean(&values, &weights)
            }
        };
        merged.push((name.clone(), like(array, &result)));
    }
    merged.extend(normalizer(&states)?);
    merged.extend(head(&states)?);
    // In the order of the states.
    let order = |name: &str| states[0].arrays.iter().position(|(n, _)| n == name);
    merged.sort_by_key(|(name, _)| order(name));
    Ok(merged)
}

/// Progress that is taken from the first state.
const PROGRESS: [&str; 6] =
    ["random", "active_blocks", "outliers_in_row", "usual_distance", "last_classes", "repeats"];

fn zip(values: &[Vec<f64>], of: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let len = values.first().map_or(0, Vec::len);
    (0..len).map(|i| of(&values.iter().map(|v| v[i]).collect::<Vec<_>>())).collect()
}

/// Weighted mean of each element.
fn mean(values: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    let all: f64 = weights.iter().sum();
    zip(values, |column| column.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>() / all)
}

/// Means of int16 weights that are stored as upper and lower bytes, both signed: `256 · upper + lower`.
fn joined(states: &[State], upper: &str, lower: &str, weights: &[f64]) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut whole = Vec::new();
    let mut stored = 0;
    for state in states {
        let (u, l) = (state.numbers(upper)?, state.numbers(lower)?);
        stored = u.len();
        // Blobs may hold more upper bytes than weights: padding.
        whole.push(
            u.iter().zip(l.iter().chain(std::iter::repeat(&0.0))).map(|(u, l)| 256.0 * u + l).collect(),
        );
    }
    let means = mean(&whole, weights);
    let len = states[0].numbers(lower)?.len();
    let split = |x: &f64| {
        let x = x.round().clamp(-32768.0, 32767.0);
        let upper = ((x + 128.0) / 256.0).floor().clamp(-127.0, 127.0);
        (upper, (x - 256.0 * upper).clamp(-128.0, 127.0))
    };
    let (upper, mut low): (Vec<f64>, Vec<f64>) = means.iter().take(stored).map(split).unzip();
    low.truncate(len);
    Ok((upper, low))
}

/// An array of the type and shape of `array`, rounded to its type.
fn like(array: &Array, values: &[f64]) -> Array {
    fn shaped<T: Clone>(array: &Array, values: impl Iterator<Item = T>) -> ArrayD<T> {
        let values: Vec<T> = values.collect();
        ArrayD::from_shape_fn(array.shape(), |index| {
            let at = index.slice().iter().zip(array.shape()).fold(0, |at, (i, d)| at * d + i);
            values[at].clone()
        })
    }
    let whole = || values.iter().map(|x| x.round());
    match array {
        Array::F64(_) => Array::F64(shaped(array, values.iter().copied())),
        Array::F32(_) => Array::F32(shaped(array, values.iter().map(|x| *x as f32))),
        Array::I32(_) => Array::I32(shaped(array, whole().map(|x| x as i32))),
        Array::U32(_) => Array::U32(shaped(array, whole().map(|x| x as u32))),
        Array::I16(_) => Array::I16(shaped(array, whole().map(|x| x as i16))),
        Array::U16(_) => Array::U16(shaped(array, whole().map(|x| x as u16))),
        Array::I8(_) => Array::I8(shaped(array, whole().map(|x| x as i8))),
        _ => Array::U8(shaped(array, whole().map(|x| x as u8))),
    }
}

/// Input statistics of all samples. Each device's count the host's, which the sum counts once.
fn normalizer(states: &[State]) -> Result<Vec<(String, Array)>> {
    const NAMES: [&str; 3] = ["normalizer.mean", "normalizer.energy", "normalizer.weight"];
    if states[0].get(NAMES[0]).is_err() {
        return Ok(Vec::new());
    }
    let all = |name: &str| states.iter().map(|s| s.numbers(name)).collect::<Result<Vec<_>>>();
    let (means, energies, own) = (all(NAMES[0])?, all(NAMES[1])?, all(NAMES[2])?);
    let host = states[0].numbers("model.normalizer_mean")?;
    let constants = states[0].numbers("model.normalizer")?;
    let [host_energy, trust] = constants[..] else {
        return Err(Failure::new(Kind::Mismatch, "the input statistics are not complete", HELP));
    };
    let first = |v: &[Vec<f64>]| v.iter().map(|v| v.first().copied().unwrap_or(0.0)).collect::<Vec<_>>();
    let (mut energies, mut weights) = (first(&energies), first(&own));
    let mut means = means;
    // The host's samples, as often as they were counted too much, are taken away.
    means.push(host);
    energies.push(host_energy);
    weights.push(-trust * (states.len() as f64 - 1.0));
    let all: f64 = weights.iter().sum();
    let (mean, energy) = if all > 0.0 {
        let mean = mean(&means, &weights);
        let spread = |m: &[f64]| m.iter().zip(&mean).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let sum: f64 = means.iter().zip(&energies).zip(&weights).map(|((m, e), w)| w * (e + spread(m))).sum();
        (mean, (sum / all).max(f64::MIN_POSITIVE))
    } else {
        (means[0].clone(), energies[0])
    };
    let arrays = [(NAMES[0], mean), (NAMES[1], vec![energy]), (NAMES[2], vec![all.max(0.0)])];
    arrays
        .into_iter()
        .map(|(name, values)| Ok((name.to_owned(), like(states[0].get(name)?, &values))))
        .collect()
}

/// The head of all samples.
fn head(states: &[State]) -> Result<Vec<(String, Array)>> {
    if states[0].get("head.root").is_ok() {
        return Err(Failure::new(
            Kind::Usage,
            "what heads for anomalies or real targets learned cannot be merged",
            "let each device learn for itself",
        ));
    }
    if states[0].get("head.counts").is_err() {
        return Ok(Vec::new());
    }
    let all = |name: &str| states.iter().map(|s| s.numbers(name)).collect::<Result<Vec<_>>>();
    let counts = all("head.counts")?;
    let total = zip(&counts, |column| column.iter().sum());
    let has = |name: &str| states[0].get(name).is_ok();
    // Rows of classes, weighted by the samples of the class.
    let by_class = |name: &str| -> Result<Vec<f64>> {
        let values = all(name)?;
        let width = values[0].len() / total.len().max(1);
        Ok((0..values[0].len())
            .map(|i| {
                let class = i / width.max(1);
                let sum: f64 = values.iter().zip(&counts).map(|(v, n)| v[i] * n[class]).sum();
                if total[class] > 0.0 { sum / total[class] } else { 0.0 }
            })
            .collect())
    };
    let mut merged = vec![("head.counts", total.clone())];
    if has("head.inverse") {
        let (weights, inverse) = least_squares(states)?;
        merged.extend([("head.weights", weights), ("head.inverse", inverse)]);
    } else {
        for name in ["head.means", "head.bias", "head.weights"].into_iter().filter(|name| has(name)) {
            merged.push((name, by_class(name)?));
        }
        if has("head.scatter") {
            let mean = merged.iter().find(|(n, _)| *n == "head.means").map_or(&[][..], |(_, m)| m);
            merged.push(("head.scatter", scatter(&all("head.scatter")?, &all("head.means")?, &counts, mean)));
        }
        let samples: Vec<f64> = counts.iter().map(|c| c.iter().sum()).collect();
        let weights = if samples.iter().sum::<f64>() > 0.0 { samples } else { vec![1.0; states.len()] };
        for name in ["head.norm", "head.projection"].into_iter().filter(|name| has(name)) {
            merged.push((name, mean_of(&all(name)?, &weights)));
        }
    }
    merged
        .into_iter()
        .map(|(name, values)| Ok((name.to_owned(), like(states[0].get(name)?, &values))))
        .collect()
}

fn mean_of(values: &[Vec<f64>], weights: &[f64]) -> Vec<f64> {
    mean(values, weights)
}

/// Within-class scatter around the common means, lower half: the sum of the scatters and of the spread of the means.
fn scatter(scatters: &[Vec<f64>], means: &[Vec<f64>], counts: &[Vec<f64>], common: &[f64]) -> Vec<f64> {
    let mut sum = zip(scatters, |column| column.iter().sum());
    let classes = counts[0].len().max(1);
    let n = common.len() / classes;
    for (own, count) in means.iter().zip(counts) {
        for (class, &samples) in count.iter().enumerate().filter(|(_, samples)| **samples > 0.0) {
            let row = |m: &[f64]| m[class * n..(class + 1) * n].to_vec();
            let d: Vec<f64> = row(own).iter().zip(row(common)).map(|(a, b)| a - b).collect();
            for i in 0..n {
                for j in 0..=i {
                    sum[i * (i + 1) / 2 + j] += samples * d[i] * d[j];
                }
            }
        }
    }
    sum
}

/// Weights and inverse of all samples: normal equations add, and the ridge counts once.
fn least_squares(states: &[State]) -> Result<(Vec<f64>, Vec<f64>)> {
    let ridge = states[0].numbers("model.ridge")?.first().copied().unwrap_or(1.0);
    let classes = states[0].numbers("head.counts")?.len();
    let mut gram: Vec<f64> = Vec::new();
    let mut sides: Vec<f64> = Vec::new();
    let mut n = 0;
    for state in states {
        let (weights, half) = (state.numbers("head.weights")?, state.numbers("head.inverse")?);
        n = weights.len() / classes.max(1);
        let own = inverted(&full(&half, n), n).ok_or_else(|| {
            Failure::new(Kind::Mismatch, format!("{}: the head is damaged", state.name), HELP)
        })?;
        // Row k of the sides is the matrix times row k of the weights.
        let side = (0..classes * n).map(|at| {
            let (class, i) = (at / n, at % n);
            (0..n).map(|j| own[i * n + j] * weights[class * n + j]).sum::<f64>()
        });
        let side: Vec<f64> = side.collect();
        if gram.is_empty() {
            (gram, sides) = (own, side);
        } else {
            gram.iter_mut().zip(&own).for_each(|(a, b)| *a += b);
            sides.iter_mut().zip(&side).for_each(|(a, b)| *a += b);
        }
    }
    for i in 0..n {
        gram[i * n + i] -= ridge * (states.len() as f64 - 1.0);
    }
    let inverse = inverted(&gram, n).ok_or_else(|| {
        Failure::new(Kind::Mismatch, "the heads cannot be merged: their sum has no inverse", HELP)
    })?;
    let weights = (0..classes * n)
        .map(|at| (0..n).map(|j| inverse[at % n * n + j] * sides[at / n * n + j]).sum())
        .collect();
    let half = (0..n).flat_map(|i| (0..=i).map(move |j| (i, j))).map(|(i, j)| inverse[i * n + j]).collect();
    Ok((weights, half))
}

/// A symmetric matrix from its lower half.
fn full(half: &[f64], n: usize) -> Vec<f64> {
    let at = |i: usize, j: usize| if i >= j { i * (i + 1) / 2 + j } else { j * (j + 1) / 2 + i };
    (0..n * n).map(|k| half[at(k / n, k % n)]).collect()
}

/// Inverse by elimination with pivots; `None` if there is none.
fn inverted(matrix: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut a = matrix.to_vec();
    let mut inverse: Vec<f64> = (0..n * n).map(|k| if k / n == k % n { 1.0 } else { 0.0 }).collect();
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&i, &j| a[i * n + column].abs().total_cmp(&a[j * n + column].abs()))?;
        let value = a[pivot * n + column];
        if !value.is_finite() || value == 0.0 {
            return None;
        }
        for k in 0..n {
            a.swap(column * n + k, pivot * n + k);
            inverse.swap(column * n + k, pivot * n + k);
        }
        for k in 0..n {
            a[column * n + k] /= value;
            inverse[column * n + k] /= value;
        }
        for row in (0..n).filter(|&row| row != column) {
            let factor = a[row * n + column];
            for k in 0..n {
                a[row * n + k] -= factor * a[column * n + k];
                inverse[row * n + k] -= factor * inverse[column * n + k];
            }
        }
    }
    Some(inverse)
}
