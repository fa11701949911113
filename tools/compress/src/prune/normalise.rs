//! Batch normalisation put back for training.
//!
//! Exporters and the lossless passes fold batch normalisation into the convolutions before it. A network trains worse
//! without it: every layer has to follow the scale of the layers before it. For training, each convolution is given
//! one whose gamma and beta undo what its statistics do, so that the function is that of the folded network at first;
//! afterwards it is folded into the same constants.

use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_ir::{DType, Data, Graph, Node, Op, UnaryKind, Value, ValueId};
use offshoot_reference::Executor;

use crate::{Error, Result};

/// Added to variances.
const EPSILON: f32 = 1e-5;

/// One convolution with its normalisation, by the values of the normalised graph.
#[derive(Clone, Debug)]
struct Layer {
    /// Weights `[O, …]`.
    weights: ValueId,
    /// Gamma, beta, mean and variance, `[O]` each.
    parameters: [ValueId; 4],
    /// Bias `[O]` of the folded network. It exists in the normalised graph, but nothing reads it there.
    bias: ValueId,
}

/// A network with normalisation after its convolutions.
#[derive(Clone, Debug)]
pub(super) struct Normalised {
    /// The network that is trained.
    pub(super) graph: Graph,
    /// The folded network, with a bias for every layer.
    folded: Graph,
    layers: Vec<Layer>,
}

impl Normalised {
    /// Puts normalisation behind every convolution of `graph` that has constant weights of its own, with statistics of
    /// `samples` (one array for each graph input). Without convolutions the graph stays as it is.
    ///
    /// # Errors
    /// The graph cannot be executed on the samples.
    pub(super) fn new(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Result<Self> {
        let mut folded = graph.clone();
        let chosen: Vec<usize> = (0..graph.nodes.len()).filter(|&at| is_fit(graph, at)).collect();
        for &at in &chosen {
            let (name, count) = (folded.nodes[at].name.clone(), channels(graph, at));
            let (shift, shared) = match graph.nodes[at].inputs.get(2) {
                Some(&bias) => (floats(graph, bias).to_vec(), graph.consumers(bias).len() > 1),
                None => (vec![0.0; count], true),
            };
            // Equal constants are one, such as biases of zeros: from here on each layer has its own.
            if shared {
                let bias = folded.add_constant(format!("{name}.own_bias"), vec![count], Data::F32(shift));
                folded.nodes[at].inputs.truncate(2);
                folded.nodes[at].inputs.push(bias);
            }
        }
        let statistics = statistics(&folded, &chosen, samples)?;
        let mut out = Self { graph: folded.clone(), folded, layers: Vec::new() };
        // From the last to the first, so that positions stay right.
        for (&at, (mean, variance)) in chosen.iter().zip(&statistics).rev() {
            out.insert(at, mean, variance);
        }
        out.graph
            .validate()
            .map_err(|e| Error::Execution { node: out.graph.name.clone(), source: Box::new(e) })?;
        Ok(out)
    }

    /// Whether there is nothing to normalise.
    pub(super) fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    fn insert(&mut self, at: usize, mean: &[f32], variance: &[f32]) {
        let g = &mut self.graph;
        let node = g.nodes[at].clone();
        let (name, output) = (node.name.clone(), node.output);
        let bias = node.inputs[2];
        let shift = floats(g, bias).to_vec();
        let gamma: Vec<f32> = variance.iter().map(|v| (v + EPSILON).sqrt()).collect();
        // Without the bias, which beta takes over.
        let raw: Vec<f32> = mean.iter().zip(&shift).map(|(m, b)| m - b).collect();
        let count = mean.len();
        let parameters =
            [("gamma", gamma), ("beta", mean.to_vec()), ("mean", raw), ("variance", variance.to_vec())].map(
                |(what, data)| g.add_constant(format!("{name}.norm.{what}"), vec![count], Data::F32(data)),
            );
        let between = |what: &str, g: &mut Graph| {
            let shape = g.value(output).shape.clone();
            let name = format!("{name}.norm.{what}");
            let (quant, data, channels_first_outside) = (None, None, false);
            g.add_value(Value { name, shape, dtype: DType::F32, quant, data, channels_first_outside })
        };
        let activation = node.op.activation().unwrap_or_default();
        let bounds = activation.bounds();
        let is_open = bounds == (f32::NEG_INFINITY, f32::INFINITY);
        let sum = between("in", g);
        let normal = if is_open { output } else { between("out", g) };
        g.nodes[at].output = sum;
        g.nodes[at].inputs.truncate(2);
        if let Some(activation) = g.nodes[at].op.activation_mut() {
            *activation = Default::default();
        }
        let inputs = [&[sum][..], &parameters].concat();
        let op = Op::BatchNorm { epsilon: EPSILON };
        let mut after = vec![Node { name: format!("{name}.norm"), op, inputs, output: normal }];
        if !is_open {
            let op = Op::Unary(UnaryKind::Clip { min: bounds.0, max: bounds.1 });
            after.push(Node { name: format!("{name}.norm.bounds"), op, inputs: vec![normal], output });
        }
        g.nodes.splice(at + 1..at + 1, after);
        self.layers.push(Layer { weights: node.inputs[1], parameters, bias });
    }

    /// Folds the normalisation of `trained`, which is [`Self::graph`] with other constants, into the constants of the
    /// original network. Everything else that was trained is taken over as it is.
    pub(super) fn fold(&self, trained: &Graph) -> Graph {
        let mut out = self.folded.clone();
        for (value, from) in out.values.iter_mut().zip(&trained.values) {
            if value.data.is_some() && from.data.is_some() {
                value.data.clone_from(&from.data);
            }
        }
        for layer in &self.layers {
            let [gamma, beta, mean, variance] = layer.parameters.map(|id| floats(trained, id));
            let scale: Vec<f64> = (gamma.iter().zip(variance))
                .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(EPSILON)).sqrt())
                .collect();
            let shift = beta.iter().zip(mean).zip(&scale);
            let bias = shift.map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32).collect();
            let mut weights = floats(trained, layer.weights).to_vec();
            let width = (weights.len() / scale.len().max(1)).max(1);
            for (row, s) in weights.chunks_mut(width).zip(&scale) {
                row.iter_mut().for_each(|w| *w = (f64::from(*w) * s) as f32);
            }
            out.value_mut(layer.weights).data = Some(Arc::new(Data::F32(weights)));
            out.value_mut(layer.bias).data = Some(Arc::new(Data::F32(bias)));
        }
        out
    }
}

/// Whether the node is a convolution with a constant bias or none, whose weights are a constant that it alone reads.
fn is_fit(graph: &Graph, at: usize) -> bool {
    let node = &graph.nodes[at];
    let constant = |id: &ValueId| matches!(graph.value(*id).data.as_deref(), Some(Data::F32(_)));
    matches!(node.op, Op::Conv2d { .. })
        && node.inputs.get(1).is_some_and(|w| constant(w) && graph.consumers(*w).len() == 1)
        && node.inputs[2..].iter().all(constant)
        && channels(graph, at) > 0
}

fn channels(graph: &Graph, at: usize) -> usize {
    graph.value(graph.nodes[at].output).shape.last().copied().unwrap_or(0)
}

fn floats(graph: &Graph, id: ValueId) -> &[f32] {
    match graph.value(id).data.as_deref() {
        Some(Data::F32(data)) => data,
        _ => &[],
    }
}

/// Mean and variance of every channel of the convolutions `chosen`, before their activation.
fn statistics(
    graph: &Graph,
    chosen: &[usize],
    samples: &[Vec<ArrayD<f32>>],
) -> Result<Vec<(Vec<f32>, Vec<f32>)>> {
    let failed = |e: &dyn std::fmt::Display| Error::Execution {
        node: graph.name.clone(),
        source: e.to_string().into(),
    };
    // A copy of each convolution without its activation is an output of its own.
    let mut probe = graph.clone();
    probe.outputs = Vec::new();
    for &at in chosen {
        let mut node = graph.nodes[at].clone();
        let value = Value { name: format!("{}.norm.probe", node.name), ..graph.value(node.output).clone() };
        node.output = probe.add_value(value);
        node.name = format!("{}.norm.probe", node.name);
        if let Some(activation) = node.op.activation_mut() {
            *activation = Default::default();
        }
        probe.outputs.push(node.output);
        probe.nodes.push(node);
    }
    if chosen.is_empty() {
        return Ok(vec![]);
    }
    let executor = Executor::new(&probe).map_err(|e| failed(&e))?;
    let mut sums: Vec<(Vec<[f64; 2]>, f64)> =
        chosen.iter().map(|&at| (vec![[0.0; 2]; channels(graph, at)], 0.0)).collect();
    // A few at a time: their tensors are all held at once.
    for few in samples.chunks(8) {
        for outputs in executor.run_batch(few).map_err(|e| failed(&e))? {
            for (tensor, (sums, count)) in outputs.iter().zip(&mut sums) {
                let width = sums.len().max(1);
                for (i, &x) in tensor.iter().enumerate() {
                    let sum = &mut sums[i % width];
                    sum[0] += f64::from(x);
                    sum[1] += f64::from(x) * f64::from(x);
                }
                *count += (tensor.len() / width) as f64;
            }
        }
    }
    let finish = |(sums, count): (Vec<[f64; 2]>, f64)| {
        let count = count.max(1.0);
        let moments = sums.iter().map(|[sum, square]| {
            let mean = sum / count;
            (mean as f32, (square / count - mean * mean).max(0.0) as f32)
        });
        moments.unzip()
    };
    Ok(sums.into_iter().map(finish).collect())
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;
    use offshoot_train::network::{Edge, Network};

    use super::*;

    fn samples(graph: &Graph) -> Vec<Vec<ArrayD<f32>>> {
        let shape = IxDyn(&graph.value(graph.inputs[0]).shape);
        let one = |s: usize| {
            ArrayD::from_shape_fn(shape.clone(), |i| {
                ((i[1] * 7 + i[2] * 3 + i[3] + s * 13) % 17) as f32 / 8.0 - 1.0
            })
        };
        (0..12).map(|s| vec![one(s)]).collect()
    }

    fn outputs(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Vec<f32> {
        let results = Executor::new(graph).expect("well formed").run_batch(samples).expect("runs");
        results.iter().flat_map(|r| r[0].iter().copied()).collect()
    }

    #[test]
    fn the_function_stays_and_folding_gives_the_same_network() {
        let start = Network::new("n", [8, 8, 2], 5).conv("a", 6, [3, 3], [1, 1], Edge::Same).relu("a.relu");
        let stem = start.last();
        let graph = start
            .depthwise("b", [3, 3], [1, 1], Edge::Same)
            .conv("c", 6, [1, 1], [1, 1], Edge::Same)
            .add("sum", stem)
            .relu("sum.relu")
            .global_average("average")
            .dense("head", 3)
            .softmax("softmax");
        let (graph, _) = offshoot_ir::passes::lossless(graph).expect("passes");
        let samples = samples(&graph);
        let normal = Normalised::new(&graph, &samples).expect("normalises");
        assert_eq!(normal.layers.len(), 3);
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        let wanted = outputs(&graph, &samples);
        assert!(near(&outputs(&normal.graph, &samples), &wanted));
        let folded = normal.fold(&normal.graph);
        assert_eq!(folded.nodes.len(), graph.nodes.len());
        assert!(near(&outputs(&folded, &samples), &wanted));
        // What training changes is folded in.
        let mut other = normal.graph.clone();
        for layer in &normal.layers {
            for id in layer.parameters {
                let data = floats(&other, id).iter().map(|v| v * 1.3 + 0.1).collect();
                other.value_mut(id).data = Some(Arc::new(Data::F32(data)));
            }
        }
        assert!(near(&outputs(&normal.fold(&other), &samples), &outputs(&other, &samples)));
        assert!(!near(&outputs(&other, &samples), &wanted));
    }
}
