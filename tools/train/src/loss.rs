//! Losses of a batch and their gradients.

use ndarray::{Array2, Axis};
use offshoot_ir::{Graph, ValueId};

use crate::augment::Mixture;
use crate::dataset::Target;
use crate::error::{Error, Result};
use crate::options::{Teacher, View};
use crate::tape::Tape;

/// A loss and its gradients by value, as rows of samples.
#[derive(Default)]
pub(crate) struct Loss {
    pub(crate) value: f32,
    pub(crate) gradients: Vec<(ValueId, Array2<f32>)>,
}

impl Loss {
    fn add(&mut self, factor: f32, id: ValueId, (value, gradient): (f32, Array2<f32>)) {
        self.value += factor * value;
        self.gradients.push((id, gradient * factor));
    }
}

/// The targets of a batch.
pub(crate) struct Wanted<'a> {
    pub(crate) target: &'a Target,
    /// Indices of its samples.
    pub(crate) chosen: &'a [usize],
    /// Share of the labels that is distributed evenly over all classes.
    pub(crate) smoothing: f32,
    pub(crate) mixture: Option<&'a Mixture>,
}

impl<'a> Wanted<'a> {
    /// The targets without smoothing.
    pub(crate) fn of(target: &'a Target, chosen: &'a [usize]) -> Self {
        Self { target, chosen, smoothing: 0.0, mixture: None }
    }

    fn mixed(&self, mut rows: Array2<f32>) -> Array2<f32> {
        if let (Some(mixture), Some(rows)) = (self.mixture, rows.as_slice_mut()) {
            mixture.apply(rows);
        }
        rows
    }
}

/// What a teacher says of a batch.
pub(crate) struct Taught<'a> {
    teacher: &'a Teacher,
    /// Its logits, as rows of samples; empty if they have no weight.
    logits: Array2<f32>,
    /// Its inner tensors; only features need them.
    tape: Option<&'a Tape<'a>>,
}

impl<'a> Taught<'a> {
    /// Everything that the teacher computed.
    pub(crate) fn of(teacher: &'a Teacher, tape: &'a Tape<'a>) -> Result<Self> {
        let logits = match teacher.weight > 0.0 {
            true => tape.rows(Tape::logits(&teacher.graph)?),
            false => Array2::zeros((0, 0)),
        };
        Ok(Self { teacher, logits, tape: Some(tape) })
    }

    /// The logits alone, for a teacher without features.
    pub(crate) fn known(teacher: &'a Teacher, logits: Array2<f32>) -> Self {
        Self { teacher, logits, tape: None }
    }
}

/// The loss of a batch: targets, teacher's logits, features.
pub(crate) fn loss(
    graph: &Graph,
    tape: &Tape<'_>,
    wanted: &Wanted<'_>,
    taught: Option<&Taught<'_>>,
) -> Result<Loss> {
    let mut loss = Loss::default();
    let share = taught.map_or(0.0, |t| t.teacher.weight);
    let logits = Tape::logits(graph)?;
    match wanted.target {
        Target::Labels(labels) => {
            let z = tape.rows(logits);
            let wanted = wanted.mixed(smoothed(labels, wanted.chosen, z.ncols(), wanted.smoothing));
            loss.add(1.0 - share, logits, cross_entropy(&z, &wanted));
        }
        Target::Values(values) => {
            let output = graph.outputs[0];
            let y = tape.rows(output);
            let chosen = values.select(Axis(0), wanted.chosen);
            let chosen = Array2::from_shape_vec(y.raw_dim(), chosen.iter().copied().collect());
            let chosen = chosen.map_err(|_| Error::Data("targets do not fit the output".into()))?;
            loss.add(1.0 - share, output, squared(&y, &wanted.mixed(chosen)));
        }
        Target::Unlabelled => {}
    }
    let Some(Taught { teacher, logits: wanted, tape: other }) = taught else { return Ok(loss) };
    if share > 0.0 {
        let z = tape.rows(logits);
        if z.dim() != wanted.dim() {
            return Err(Error::Data(format!(
                "the teacher has {} outputs, the network {}",
                wanted.ncols(),
                z.ncols()
            )));
        }
        loss.add(share, logits, divergence(&z, wanted, teacher.temperature));
    }
    for (feature, other) in teacher.features.iter().filter_map(|f| Some((f, (*other)?))) {
        let (id, from) = (find(graph, &feature.student)?, find(&teacher.graph, &feature.teacher)?);
        let (y, wanted) = (tape.rows(id), other.rows(from));
        if y.dim() != wanted.dim() {
            return Err(Error::Data(format!(
                "feature `{}` has {} elements, the teacher's `{}` has {}",
                feature.student,
                y.ncols(),
                feature.teacher,
                wanted.ncols()
            )));
        }
        let mut off = &y - &wanted;
        if let View::Detail { suppressed } = feature.view {
            detail(&mut off, &graph.value(id).shape, suppressed);
        }
        // Removing frequencies is a projection, so the remaining difference is its own gradient.
        loss.add(feature.weight, id, squared(&off, &Array2::zeros(off.raw_dim())));
    }
    Ok(loss)
}

fn find(graph: &Graph, name: &str) -> Result<ValueId> {
    let found = graph.values.iter().position(|v| v.name == name && v.data.is_none());
    let id = found.ok_or_else(|| Error::Data(format!("the network has no tensor `{name}`")))?;
    Ok(ValueId(id as u32))
}

/// Removes the lowest `suppressed × suppressed` frequencies from rows of images `[_, h, w, c]` (for other shapes,
/// from the axes between the first and the last, treated as one).
fn detail(rows: &mut Array2<f32>, shape: &[usize], suppressed: usize) {
    let (c, [h, w]) = match *shape {
        [_, h, w, c] => (c, [h, w]),
        [_, ref middle @ .., c] if !middle.is_empty() => (c, [middle.iter().product(), 1]),
        _ => return,
    };
    // Orthonormal basis of the DCT-II along an axis.
    let basis = |extent: usize| -> Vec<Vec<f32>> {
        let wave = |u: usize, x: usize| {
            let scale = if u == 0 { 1.0 } else { 2.0 } / extent as f64;
            let angle = std::f64::consts::PI * (2 * x + 1) as f64 * u as f64 / (2 * extent) as f64;
            (scale.sqrt() * angle.cos()) as f32
        };
        (0..suppressed.min(extent)).map(|u| (0..extent).map(|x| wave(u, x)).collect()).collect()
    };
    let (vertical, horizontal) = (basis(h), basis(w));
    for mut row in rows.outer_iter_mut() {
        let Some(row) = row.as_slice_mut() else { continue };
        let old = row.to_vec();
        for p in &vertical {
            for q in &horizontal {
                let wave = |i: usize| p[i / w] * q[i % w];
                let mut sums = vec![0.0f32; c];
                for (i, pixel) in old.chunks_exact(c).enumerate() {
                    sums.iter_mut().zip(pixel).for_each(|(s, v)| *s += v * wave(i));
                }
                for (i, pixel) in row.chunks_exact_mut(c).enumerate() {
                    pixel.iter_mut().zip(&sums).for_each(|(v, s)| *v -= s * wave(i));
                }
            }
        }
    }
}

fn smoothed(labels: &[i64], chosen: &[usize], classes: usize, smoothing: f32) -> Array2<f32> {
    let mut wanted = Array2::from_elem((chosen.len(), classes), smoothing / classes as f32);
    for (mut row, &i) in wanted.outer_iter_mut().zip(chosen) {
        // Labels were checked against the number of outputs.
        row[labels[i] as usize] += 1.0 - smoothing;
    }
    wanted
}

/// Softmax and its logarithm, row by row.
fn softmax(z: &Array2<f32>) -> (Array2<f32>, Array2<f32>) {
    let mut log = z.clone();
    for mut row in log.outer_iter_mut() {
        let max = row.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        let sum: f32 = row.iter().map(|v| (v - max).exp()).sum();
        let offset = max + sum.ln();
        row.mapv_inplace(|v| v - offset);
    }
    (log.mapv(f32::exp), log)
}

/// Mean over samples of `-Σ wanted · log softmax(z)`.
fn cross_entropy(z: &Array2<f32>, wanted: &Array2<f32>) -> (f32, Array2<f32>) {
    let (p, log) = softmax(z);
    let n = z.nrows().max(1) as f32;
    (-(&log * wanted).sum() / n, (p - wanted) / n)
}

/// Mean over samples of the Kullback-Leibler divergence from the softened teacher, times the squared temperature.
fn divergence(z: &Array2<f32>, teacher: &Array2<f32>, temperature: f32) -> (f32, Array2<f32>) {
    let ((p, log_p), (q, log_q)) = (softmax(&(z / temperature)), softmax(&(teacher / temperature)));
    let n = z.nrows().max(1) as f32;
    let value = (&q * &(log_q - log_p)).sum() / n * temperature * temperature;
    (value, (p - q) * (temperature / n))
}

/// Mean squared difference.
fn squared(y: &Array2<f32>, wanted: &Array2<f32>) -> (f32, Array2<f32>) {
    let off = y - wanted;
    let n = off.len().max(1) as f32;
    (off.mapv(|v| v * v).sum() / n, off * (2.0 / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detail_is_what_low_frequencies_leave() {
        let shape = [1, 3, 4, 2];
        let mut rows = Array2::from_shape_fn((2, 24), |(n, i)| ((n * 24 + i) * 7919 % 101) as f32 / 50.0);
        let whole = rows.clone();
        detail(&mut rows, &shape, 1);
        // Only the mean of every channel is removed.
        for (row, old) in rows.outer_iter().zip(whole.outer_iter()) {
            for c in 0..2 {
                let of = |r: &ndarray::ArrayView1<'_, f32>| -> Vec<f32> {
                    r.iter().skip(c).step_by(2).copied().collect()
                };
                let (now, old) = (of(&row), of(&old));
                let mean = old.iter().sum::<f32>() / 12.0;
                assert!(now.iter().zip(&old).all(|(a, b)| (a - (b - mean)).abs() < 1e-5), "{now:?}");
            }
        }
        let mut none = whole.clone();
        detail(&mut none, &shape, 4);
        assert!(none.iter().all(|v| v.abs() < 1e-5), "{none}");
        let (mut once, mut twice) = (whole.clone(), whole);
        detail(&mut once, &shape, 2);
        detail(&mut twice, &shape, 2);
        detail(&mut twice, &shape, 2);
        assert!(once.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    /// Each loss against finite differences.
    #[test]
    fn gradients_are_those_of_the_values() {
        let z = Array2::from_shape_fn((2, 3), |(i, j)| (i * 3 + j) as f32 * 0.7 % 1.3 - 0.4);
        let other = Array2::from_shape_fn((2, 3), |(i, j)| (i + 2 * j) as f32 * 0.5 - 0.8);
        let wanted = smoothed(&[2, 0], &[0, 1], 3, 0.1);
        assert!((wanted[[0, 2]] - 0.933_33).abs() < 1e-4);
        let losses: [&dyn Fn(&Array2<f32>) -> (f32, Array2<f32>); 3] =
            [&|z| cross_entropy(z, &wanted), &|z| divergence(z, &other, 3.0), &|z| squared(z, &other)];
        for (which, loss) in losses.iter().enumerate() {
            let (_, gradient) = loss(&z);
            for at in [(0, 0), (0, 2), (1, 1)] {
                let moved = |by: f32| {
                    let mut z = z.clone();
                    z[at] += by;
                    loss(&z).0
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((slope - gradient[at]).abs() < 1e-3, "{which}: {slope} against {}", gradient[at]);
            }
        }
    }
}
