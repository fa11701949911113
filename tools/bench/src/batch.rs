//! Minibatches: the networks and rules of [`crate::dense`], with matrix products over a whole batch. Errors of hidden
//! layers are computed sample by sample with the runtime's functions; a step uses the batch's mean gradient.

use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};
use offshoot::learn::rules::cross_entropy;
use offshoot::learn::{LocalError, LocalRule, Random, Schedule, TargetProjection};

use crate::data::{Samples, shuffled};
use crate::dense::{Layer, Network, Step, Teacher, activate, argmax};

/// Samples that are tested at once.
const TESTED: usize = 500;

/// Activations of every layer, `[samples, outputs]` each; `x: [samples, inputs]`.
///
/// # Panics
/// Weights are not float32.
pub fn forward(network: &Network, x: ArrayView2<'_, f32>) -> Vec<Array2<f32>> {
    let mut all: Vec<Array2<f32>> = Vec::with_capacity(network.layers.len());
    for layer in &network.layers {
        let input = all.last().map_or(x, |h| h.view());
        let mut h = Array2::zeros((x.nrows(), layer.bias.len()));
        for mut row in h.rows_mut() {
            row.iter_mut().zip(&layer.bias).for_each(|(h, b)| *h = *b);
        }
        general_mat_mul(1.0, &input, &weights(layer).t(), 1.0, &mut h);
        h.as_slice_mut().into_iter().for_each(|h| activate(layer.slope, h));
        all.push(h);
    }
    all
}

/// One step on a batch. `probes`: heads of hidden layers also learn with this rate, even if nothing learns from them.
///
/// # Panics
/// Weights are not float32; the step is normalised, which is only defined for single samples.
pub fn learn(network: &mut Network, x: ArrayView2<'_, f32>, labels: &[usize], step: Step, probes: f32) {
    assert!(!step.normalised, "normalised steps are for single samples");
    let h = forward(network, x);
    let count = network.layers.len();
    let share = 1.0 / labels.len() as f32;
    let mut delta = h[count - 1].clone();
    for (mut row, label) in delta.rows_mut().into_iter().zip(labels) {
        cross_entropy::residual(row.as_slice_mut().unwrap_or_default(), *label);
    }
    let classes = delta.ncols();
    for l in (0..count).rev() {
        let input = if l == 0 { x } else { h[l - 1].view() };
        let layer = &mut network.layers[l];
        let back = (step.backprop && l > 0).then(|| delta.dot(&weights(layer)));
        if l + 1 == count {
            descend(layer, input, &delta, share * step.last_rate);
        } else if step.backprop {
            descend(layer, input, &delta, share * step.rate);
            if probes > 0.0 {
                let (_, residual) = local(layer, &h[l], labels, classes);
                descend_head(layer, &h[l], residual.as_ref(), share * probes);
            }
        } else if let (Some(errors), residual) = local(layer, &h[l], labels, classes) {
            descend(layer, input, &errors, share * step.rate);
            let rate = if let Teacher::Head { rate, .. } = &layer.teacher { *rate } else { 0.0 };
            descend_head(layer, &h[l], residual.as_ref(), share * step.head_rate * rate);
        }
        if let Some(mut back) = back {
            let slope = network.layers[l - 1].slope;
            back.zip_mut_with(&h[l - 1], |b, h| *b *= slope.at(*h));
            delta = back;
        }
    }
}

/// Errors of a hidden layer before the activation, and the residuals of its head.
fn local(
    layer: &Layer,
    h: &Array2<f32>,
    labels: &[usize],
    classes: usize,
) -> (Option<Array2<f32>>, Option<Array2<f32>>) {
    let features = h.ncols();
    let (rule, drawn) = match &layer.teacher {
        Teacher::Frozen => return (None, None),
        Teacher::Local(rule, codes) => (*rule, table(*codes, classes, features)),
        Teacher::Head { table, .. } => (LocalRule::CrossEntropy { scale: 1.0 }, table.clone()),
    };
    let mut errors = Array2::zeros(h.raw_dim());
    let mut residuals = Array2::zeros((labels.len(), classes));
    for (b, label) in labels.iter().enumerate() {
        let (own, mut residual) = (h.row(b), residuals.row_mut(b));
        let Some(residual) = residual.as_slice_mut() else { continue };
        let error = LocalError::new(
            rule,
            TargetProjection::Table(&drawn),
            features,
            own.iter().copied(),
            *label,
            residual,
        );
        for (j, (e, own)) in errors.row_mut(b).iter_mut().zip(own).enumerate() {
            *e = error.at(j, *own) * layer.slope.at(*own);
        }
    }
    (Some(errors), Some(residuals))
}

/// A target projection as a table `[classes, features]`: generated once per batch instead of once per sample.
pub fn table(codes: TargetProjection<'_>, classes: usize, features: usize) -> Vec<f32> {
    let mut all = vec![0.0; classes * features];
    for j in 0..features {
        codes.column(classes, features, j, |k, p| all[k * features + j] = p);
    }
    all
}

fn descend(layer: &mut Layer, x: ArrayView2<'_, f32>, errors: &Array2<f32>, rate: f32) {
    for (bias, sum) in layer.bias.iter_mut().zip(errors.sum_axis(Axis(0))) {
        *bias -= rate * sum;
    }
    let shape = (layer.bias.len(), layer.inputs);
    let mut weights = ArrayViewMut2::from_shape(shape, layer.weights.floats_mut()).expect("rows of inputs");
    general_mat_mul(-rate, &errors.t(), &x, 1.0, &mut weights);
}

fn descend_head(layer: &mut Layer, h: &Array2<f32>, residual: Option<&Array2<f32>>, rate: f32) {
    if let (Teacher::Head { table, .. }, Some(residual)) = (&mut layer.teacher, residual)
        && rate > 0.0
    {
        let shape = (residual.ncols(), h.ncols());
        let mut table = ArrayViewMut2::from_shape(shape, table).expect("classes of features");
        general_mat_mul(-rate, &residual.t(), h, 1.0, &mut table);
    }
}

fn weights(layer: &Layer) -> ArrayView2<'_, f32> {
    let shape = (layer.bias.len(), layer.inputs);
    ArrayView2::from_shape(shape, layer.weights.floats()).expect("rows of inputs")
}

/// Settings of training in batches.
#[derive(Clone, Copy, Debug)]
pub struct BatchTraining {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples per step.
    pub batch: usize,
    /// Initial rates; they fall along half a cosine.
    pub step: Step,
    /// Rate of the heads of hidden layers under backpropagation.
    pub probes: f32,
}

/// Trains in shuffled batches.
pub fn train(
    network: &mut Network,
    training: &BatchTraining,
    samples: &Samples,
    seed: u32,
    tick: &dyn Fn(u64),
) {
    let mut random = Random::new(seed ^ 0xda7a);
    let steps = samples.len().div_ceil(training.batch);
    let schedule = Schedule::Cosine { steps: (training.epochs * steps) as u32 };
    let mut t = 0;
    let mut x = Vec::new();
    for _ in 0..training.epochs {
        for chosen in shuffled(samples.len(), &mut random).chunks(training.batch) {
            x.clear();
            chosen.iter().for_each(|&i| x.extend_from_slice(samples.at(i).0));
            let labels: Vec<usize> = chosen.iter().map(|&i| samples.y[i]).collect();
            let rate = |base| offshoot::learn::schedule::rate(schedule, base, t);
            let step = Step {
                rate: rate(training.step.rate),
                head_rate: rate(training.step.head_rate),
                last_rate: rate(training.step.last_rate),
                ..training.step
            };
            let view = ArrayView2::from_shape((labels.len(), samples.width), &x).expect("rows of samples");
            learn(network, view, &labels, step, rate(training.probes));
            t += 1;
        }
        tick(samples.len() as u64);
    }
}

/// Fraction of samples classified as their label.
pub fn accuracy(network: &Network, test: &Samples) -> f64 {
    let mut hits = 0;
    for (x, y) in test.x.chunks(TESTED * test.width).zip(test.y.chunks(TESTED)) {
        let view = ArrayView2::from_shape((y.len(), test.width), x).expect("rows of samples");
        let scores = forward(network, view).pop().unwrap_or_default();
        hits += scores
            .rows()
            .into_iter()
            .zip(y)
            .filter(|(s, y)| argmax(s.as_slice().unwrap_or_default()) == **y)
            .count();
    }
    hits as f64 / test.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dense::Format;
    use offshoot::learn::layers::Slope;

    /// A batch of one equals a single-sample step, for every kind of teacher.
    #[test]
    fn a_batch_of_one_is_a_sample() {
        let rule = LocalRule::CrossEntropy { scale: 0.3 };
        let teachers: [fn(usize, usize) -> Teacher; 4] = [
            |_, _| Teacher::Frozen,
            |_, n| Teacher::Head { table: (0..3 * n).map(|i| i as f32 * 0.01).collect(), rate: 0.5 },
            |_, _| {
                Teacher::Local(LocalRule::CrossEntropy { scale: 0.3 }, TargetProjection::Signs { seed: 1 })
            },
            |_, _| Teacher::Local(LocalRule::Squared { scale: 3.0 }, TargetProjection::Uniform { seed: 1 }),
        ];
        let _ = rule;
        for (number, teacher) in teachers.into_iter().enumerate() {
            for backprop in [false, true] {
                let mut a = Network::new(&[5, 7, 6, 3], Slope::Tanh, Format::F32, 3, teacher);
                let mut b = a.clone();
                let step = Step { rate: 0.1, head_rate: 0.3, last_rate: 0.2, normalised: false, backprop };
                let mut random = Random::new(4);
                for label in [0, 2, 1, 2] {
                    let x: Vec<f32> = (0..5).map(|_| random.normal()).collect();
                    a.learn(&x, label, step);
                    learn(&mut b, ArrayView2::from_shape((1, 5), &x).unwrap(), &[label], step, 0.0);
                }
                for (a, b) in a.layers.iter().zip(&b.layers) {
                    let pairs = a.weights.floats().iter().zip(b.weights.floats());
                    for (a, b) in pairs.chain(a.bias.iter().zip(&b.bias)) {
                        assert!((a - b).abs() < 1e-5, "teacher {number} backprop {backprop}: {a} {b}");
                    }
                }
            }
        }
    }
}
