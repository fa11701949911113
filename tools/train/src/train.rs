//! The training loop.

use burn_tensor::{Device, Tensor, TensorData, activation};
use ndarray::ArrayD;
use offshoot_ir::{Data, Graph, Op, ValueId};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::forward::{Forward, Mode, to_vec, trainable};
use crate::optimiser::{Rule, State, cosine};

/// What the output should be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Class of each sample; the loss is cross-entropy, a final softmax is part of it.
    Labels(&'a [i64]),
    /// Output of each sample, one after another; the loss is the mean squared error.
    Values(&'a [f32]),
}

/// Settings of training.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Passes over the samples.
    pub epochs: usize,
    /// Samples a step.
    pub batch: usize,
    /// Highest learning rate; it rises at the beginning and falls to zero along a cosine.
    pub rate: f32,
    /// Decoupled weight decay of weights (not of biases, gamma and beta).
    pub decay: f32,
    /// Update rule.
    pub rule: Rule,
    /// Share of the target that goes to all classes evenly (Szegedy et al. 2016).
    pub smoothing: f32,
    /// Seed of the order of the samples.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { epochs: 20, batch: 64, rate: 3e-3, decay: 1e-2, rule: Rule::Adam, smoothing: 0.0, seed: 0 }
    }
}

/// What an epoch gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// Number from 1.
    pub number: usize,
    /// Mean loss over the epoch's steps.
    pub loss: f32,
}

/// Trains the float constants of `graph` in place: `x` holds samples along its first axis, in the shape of the graph's
/// input. `report` is called after each epoch. Equal calls give equal weights on equal machines.
///
/// # Errors
/// [`Error::Unsupported`] for operators without gradient, [`Error::Data`] if samples, targets and graph do
/// not fit, [`Error::Diverged`].
pub fn train(
    graph: &mut Graph,
    x: &ArrayD<f32>,
    target: Target<'_>,
    options: &Options,
    report: &mut dyn FnMut(Epoch),
) -> Result<()> {
    let (count, width) = check_samples(graph, x)?;
    let classes = graph.outputs.first().map_or(0, |&o| graph.value(o).len());
    check_target(target, count, classes)?;
    let device = Device::flex().autodiff();
    let ids = trainable(graph);
    let mut states = vec![State::default(); ids.len()];
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let batch = options.batch.clamp(1, count);
    let per_epoch = count / batch;
    let x = x.as_standard_layout();
    let x = x.as_slice().ok_or_else(|| Error::Data("samples are not contiguous".into()))?;
    let mut order: Vec<usize> = (0..count).collect();
    for epoch in 0..options.epochs {
        shuffle(&mut order, &mut rng);
        let mut total = 0.0;
        for (index, chosen) in order.chunks_exact(batch).enumerate() {
            let step = epoch * per_epoch + index;
            let samples: Vec<f32> =
                chosen.iter().flat_map(|&i| &x[i * width..(i + 1) * width]).copied().collect();
            let rate = cosine(options.rate, step, options.epochs * per_epoch);
            let network = Forward::new(graph, &device, Mode::Train, matches!(target, Target::Labels(_)));
            let (output, statistics) = network.run(&samples, batch)?;
            let loss = loss(output, target, chosen, classes, options.smoothing, &device);
            let gradients = loss.backward();
            total += to_vec(loss.inner().reshape([1]))[0];
            let gradients: Vec<Option<Vec<f32>>> = ids
                .iter()
                .map(|&id| network.parameter(id).and_then(|p| p.grad(&gradients)).map(to_vec))
                .collect();
            for ((&id, gradient), state) in ids.iter().zip(gradients).zip(&mut states) {
                let Some(gradient) = gradient else { continue };
                let decay = if graph.value(id).shape.len() > 1 { options.decay } else { 0.0 };
                let weights = constant_mut(graph, id);
                options.rule.update(state, weights, &gradient, rate, decay, step as i32 + 1);
            }
            for (id, running) in statistics {
                constant_mut(graph, id).copy_from_slice(&running);
            }
        }
        let loss = total / per_epoch as f32;
        if !loss.is_finite() {
            return Err(Error::Diverged { epoch: epoch + 1, loss });
        }
        report(Epoch { number: epoch + 1, loss });
    }
    Ok(())
}

/// Output `[samples, elements]` of the graph for each sample, with the stored statistics.
///
/// # Errors
/// As [`train`].
pub fn predict(graph: &Graph, x: &ArrayD<f32>) -> Result<ndarray::Array2<f32>> {
    let (count, width) = check_samples(graph, x)?;
    let network = Forward::new(graph, &Device::flex(), Mode::Infer, false);
    let x = x.as_standard_layout();
    let x = x.as_slice().ok_or_else(|| Error::Data("samples are not contiguous".into()))?;
    let mut outputs = Vec::new();
    for samples in x.chunks(64 * width) {
        outputs.extend(to_vec(network.run(samples, samples.len() / width)?.0));
    }
    let elements = outputs.len() / count;
    ndarray::Array2::from_shape_vec((count, elements), outputs).map_err(|e| Error::Data(e.to_string()))
}

/// Share of samples whose largest output is that of their label.
///
/// # Errors
/// As [`train`].
pub fn accuracy(graph: &Graph, x: &ArrayD<f32>, labels: &[i64]) -> Result<f64> {
    let outputs = predict(graph, x)?;
    check_target(Target::Labels(labels), outputs.nrows(), outputs.ncols())?;
    let right =
        outputs.rows().into_iter().zip(labels).filter(|(row, label)| argmax(row.iter()) as i64 == **label);
    Ok(right.count() as f64 / labels.len() as f64)
}

/// Index of the largest number, the first of equal ones.
pub fn argmax<'a>(values: impl Iterator<Item = &'a f32>) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, &v) in values.enumerate() {
        if v > best.1 {
            best = (i, v);
        }
    }
    best.0
}

fn loss(
    output: Tensor<2>,
    target: Target<'_>,
    chosen: &[usize],
    classes: usize,
    smoothing: f32,
    device: &Device,
) -> Tensor<1> {
    match target {
        Target::Labels(labels) => {
            let even = smoothing / classes as f32;
            let mut wanted = vec![even; chosen.len() * classes];
            for (row, &i) in wanted.chunks_exact_mut(classes).zip(chosen) {
                // Checked by `check_target`.
                row[labels[i] as usize] += 1.0 - smoothing;
            }
            let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [chosen.len(), classes]), device);
            (activation::log_softmax(output, 1) * wanted).sum_dim(1).mean().neg()
        }
        Target::Values(values) => {
            let width = output.dims()[1];
            let wanted: Vec<f32> =
                chosen.iter().flat_map(|&i| &values[i * width..(i + 1) * width]).copied().collect();
            let off = output - Tensor::<2>::from_data(TensorData::new(wanted, [chosen.len(), width]), device);
            (off.clone() * off).mean()
        }
    }
}

/// Number of samples and elements of each.
fn check_samples(graph: &Graph, x: &ArrayD<f32>) -> Result<(usize, usize)> {
    let wanted = graph.inputs.first().map(|&i| &graph.value(i).shape[..]).unwrap_or(&[]);
    let count = x.shape().first().copied().unwrap_or(0);
    if count == 0 || wanted.is_empty() || x.shape()[1..] != wanted[1..] {
        let message = format!(
            "samples of shape {:?}, the network takes {wanted:?} for any first extent above 0",
            x.shape()
        );
        return Err(Error::Data(message));
    }
    if x.iter().any(|v| !v.is_finite()) {
        return Err(Error::Data("samples hold NaN or infinity".into()));
    }
    Ok((count, x.len() / count))
}

fn check_target(target: Target<'_>, count: usize, elements: usize) -> Result<()> {
    match target {
        Target::Labels(labels) if labels.len() != count => {
            Err(Error::Data(format!("{} labels for {count} samples", labels.len())))
        }
        Target::Labels(labels) => match labels.iter().find(|&&l| l < 0 || l >= elements as i64) {
            Some(label) => Err(Error::Data(format!("label {label}, but the network has {elements} outputs"))),
            None => Ok(()),
        },
        Target::Values(values) if values.len() != count * elements => Err(Error::Data(format!(
            "{} target values for {count} samples of {elements} outputs",
            values.len()
        ))),
        Target::Values(_) => Ok(()),
    }
}

/// A float constant's elements. Only called with ids from [`trainable`] and statistics that were read as constants.
fn constant_mut(graph: &mut Graph, id: ValueId) -> &mut [f32] {
    match graph.value_mut(id).data.as_mut().map(Arc::make_mut) {
        Some(Data::F32(data)) => data,
        _ => &mut [],
    }
}

/// Fisher and Yates.
fn shuffle(order: &mut [usize], rng: &mut ChaCha8Rng) {
    for i in (1..order.len()).rev() {
        let j = (rng.next_u64() % (i as u64 + 1)) as usize;
        order.swap(i, j);
    }
}

/// Folds `x ↦ (x - offset) · scale` before the graph's only input into the first convolution, so that the network takes the
/// sensor's raw numbers.
///
/// # Errors
/// [`Error::Unsupported`] if the first operator is no convolution with bias, or pads (padding is zero before the
/// map and not after).
pub fn fold_input(graph: &mut Graph, offset: f32, scale: f32) -> Result<()> {
    let node = graph.nodes.first().ok_or_else(|| Error::Data("the graph has no operator".into()))?;
    let refuse = |reason: &str| Error::Unsupported {
        node: node.name.clone(),
        op: node.op.name(),
        reason: reason.into(),
    };
    match &node.op {
        Op::Conv2d { window, .. } if window.pad == [0; 4] && node.inputs.len() == 3 => {}
        _ => {
            return Err(refuse("an input map folds only into a convolution with bias and without padding"));
        }
    }
    let (weights, bias) = (node.inputs[1], node.inputs[2]);
    let filters = graph.value(bias).len();
    let sums: Vec<f32> = {
        let weights = constant_mut(graph, weights);
        let taps = weights.len() / filters.max(1);
        weights.iter_mut().for_each(|w| *w *= scale);
        weights.chunks_exact(taps.max(1)).map(|filter| filter.iter().sum()).collect()
    };
    for (b, sum) in constant_mut(graph, bias).iter_mut().zip(sums) {
        *b -= offset * sum;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Edge, Network};
    use ndarray::ArrayD;
    use offshoot_ir::UnaryKind;

    /// Deterministic numbers between -1 and 1.
    fn numbers(len: usize, seed: u32) -> Vec<f32> {
        let hash =
            |i: usize| (i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
        (0..len).map(|i| (hash(i) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn samples(shape: &[usize], seed: u32) -> ArrayD<f32> {
        ArrayD::from_shape_vec(shape, numbers(shape.iter().product(), seed)).unwrap()
    }

    /// A network with every layer the builder makes, statistics and biases moved off their initial values.
    fn mixed() -> Graph {
        let net = Network::new("mixed", [7, 6, 2], 5)
            .conv("a", 4, [3, 2], [2, 1], Edge::Same)
            .normalise_relu("a")
            .depthwise("b", [3, 3], [1, 1], Edge::Same)
            .normalise("b");
        let shortcut = net.last();
        let net = net.conv("c", 4, [1, 1], [1, 1], Edge::Valid).add("d", shortcut).relu("d");
        let mut graph = net.global_average("e").dense("f", 3).softmax("g");
        for (i, value) in graph.values.iter_mut().enumerate() {
            if let Some(Data::F32(data)) = value.data.as_mut().map(Arc::make_mut)
                && value.shape.len() == 1
            {
                data.iter_mut().zip(numbers(64, i as u32)).for_each(|(d, n)| *d = 0.7 + 0.3 * n);
            }
        }
        graph
    }

    #[test]
    fn forward_equals_the_float_reference() {
        let graph = mixed();
        let x = samples(&[5, 7, 6, 2], 1);
        let got = predict(&graph, &x).unwrap();
        let executor = offshoot_reference::Executor::new(&graph).unwrap();
        for (sample, row) in x.outer_iter().zip(got.rows()) {
            let input = sample.to_owned().insert_axis(ndarray::Axis(0));
            let wanted = executor.run(&[input]).unwrap();
            for (a, b) in row.iter().zip(&wanted[0]) {
                assert!((a - b).abs() < 1e-5, "{row} instead of {}", wanted[0]);
            }
        }
    }

    #[test]
    fn a_small_problem_is_learnt_and_runs_repeat() {
        let x = samples(&[96, 1, 8, 1], 3);
        let labels: Vec<i64> = x
            .outer_iter()
            .map(|s| i64::from(s.iter().take(4).sum::<f32>() > s.iter().skip(4).sum()))
            .collect();
        let start =
            Network::new("small", [1, 8, 1], 1).conv("a", 8, [1, 8], [1, 1], Edge::Valid).normalise_relu("a");
        let untrained = start.global_average("b").dense("c", 2).softmax("d");
        let options = Options { epochs: 30, batch: 16, ..Options::default() };
        let run = || {
            let (mut graph, mut losses) = (untrained.clone(), Vec::new());
            train(&mut graph, &x, Target::Labels(&labels), &options, &mut |e| losses.push(e.loss)).unwrap();
            (graph, losses)
        };
        let (graph, losses) = run();
        assert!(losses[29] < 0.5 * losses[0], "{losses:?}");
        assert!(accuracy(&graph, &x, &labels).unwrap() > 0.9);
        assert_eq!(run().0, graph);
    }

    #[test]
    fn squared_error_is_learnt() {
        let x = samples(&[64, 1, 1, 3], 3);
        let wanted: Vec<f32> = x.outer_iter().map(|s| s[[0, 0, 0]] - 2.0 * s[[0, 0, 2]] + 0.5).collect();
        let mut graph = Network::new("line", [1, 1, 3], 1).global_average("a").dense("b", 1).finish();
        let options = Options { epochs: 200, batch: 16, rate: 0.05, decay: 0.0, ..Options::default() };
        let mut last = f32::INFINITY;
        train(&mut graph, &x, Target::Values(&wanted), &options, &mut |e| last = e.loss).unwrap();
        assert!(last < 1e-4, "{last}");
    }

    #[test]
    fn folding_the_input_map_keeps_the_outputs() {
        let start =
            Network::new("fold", [5, 5, 2], 1).conv("a", 3, [3, 3], [1, 1], Edge::Valid).normalise_relu("a");
        let mut graph = start.global_average("b").dense("c", 2).finish();
        let x = samples(&[4, 5, 5, 2], 2);
        let before = predict(&graph, &x.mapv(|v| (v - 0.25) * 3.0)).unwrap();
        fold_input(&mut graph, 0.25, 3.0).unwrap();
        let after = predict(&graph, &x).unwrap();
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-4));
        assert!(fold_input(&mut mixed(), 0.0, 1.0).unwrap_err().to_string().contains("without padding"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut graph = mixed();
        let labels = [0, 1, 2];
        let mut fit = |x: &ArrayD<f32>, target: Target<'_>| {
            train(&mut graph, x, target, &Options::default(), &mut |_| ()).unwrap_err().to_string()
        };
        let x = samples(&[3, 7, 6, 2], 1);
        assert!(fit(&samples(&[3, 6, 7, 2], 1), Target::Labels(&labels)).contains("[1, 7, 6, 2]"));
        assert!(fit(&x, Target::Labels(&[0, 1])).contains("2 labels for 3"));
        assert!(fit(&x, Target::Labels(&[0, 3, 1])).contains("label 3"));
        assert!(fit(&x, Target::Values(&[0.0])).contains("target values"));
        assert!(fit(&x.mapv(|_| f32::NAN), Target::Labels(&labels)).contains("NaN"));
        let node = graph.nodes.len() - 2;
        graph.nodes[node].op = Op::Unary(UnaryKind::Erf);
        let error =
            train(&mut graph, &x, Target::Labels(&labels), &Options::default(), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("`f`"), "{error}");
    }
}
