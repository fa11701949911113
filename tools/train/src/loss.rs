//! Losses of a batch and their gradients.

use ndarray::{Array2, Axis};
use offshoot_ir::{Graph, ValueId};

use crate::dataset::Target;
use crate::error::{Error, Result};
use crate::options::Teacher;
use crate::tape::Tape;

/// A loss and its gradient by value, as rows of samples.
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

/// The loss of a batch of the samples `chosen`: targets, teacher's logits, features.
pub(crate) fn loss(
    graph: &Graph,
    tape: &Tape<'_>,
    target: &Target,
    chosen: &[usize],
    smoothing: f32,
    teacher: Option<(&Teacher, &Tape<'_>)>,
) -> Result<Loss> {
    let mut loss = Loss::default();
    let share = teacher.map_or(0.0, |(t, _)| t.weight);
    let logits = Tape::logits(graph)?;
    match target {
        Target::Labels(labels) => {
            let z = tape.rows(logits);
            let wanted = smoothed(labels, chosen, z.ncols(), smoothing);
            loss.add(1.0 - share, logits, cross_entropy(&z, &wanted));
        }
        Target::Values(values) => {
            let output = graph.outputs[0];
            let y = tape.rows(output);
            let wanted = values.select(Axis(0), chosen);
            let wanted = Array2::from_shape_vec(y.raw_dim(), wanted.iter().copied().collect());
            let wanted = wanted.map_err(|_| Error::Data("targets do not fit the output".into()))?;
            loss.add(1.0 - share, output, squared(&y, &wanted));
        }
        Target::Unlabelled => {}
    }
    let Some((teacher, other)) = teacher else { return Ok(loss) };
    if share > 0.0 {
        let z = tape.rows(logits);
        let wanted = other.rows(Tape::logits(&teacher.graph)?);
        if z.dim() != wanted.dim() {
            return Err(Error::Data(format!(
                "the teacher has {} outputs, the network {}",
                wanted.ncols(),
                z.ncols()
            )));
        }
        loss.add(share, logits, divergence(&z, &wanted, teacher.temperature));
    }
    for feature in &teacher.features {
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
        loss.add(feature.weight, id, squared(&y, &wanted));
    }
    Ok(loss)
}

fn find(graph: &Graph, name: &str) -> Result<ValueId> {
    let found = graph.values.iter().position(|v| v.name == name && v.data.is_none());
    let id = found.ok_or_else(|| Error::Data(format!("the network has no tensor `{name}`")))?;
    Ok(ValueId(id as u32))
}

fn smoothed(labels: &[i64], chosen: &[usize], classes: usize, smoothing: f32) -> Array2<f32> {
    let mut wanted = Array2::from_elem((chosen.len(), classes), smoothing / classes as f32);
    for (mut row, &i) in wanted.outer_iter_mut().zip(chosen) {
        // Labels were checked against the outputs.
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

/// Mean over samples of the Kullback-Leibler divergence from the softened teacher, times the square of the temperature.
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

    /// Each loss against differences of its value.
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
