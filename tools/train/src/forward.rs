//! Forward execution of an IR graph on burn's tensors, which record what backpropagation needs.
//!
//! burn's rank is a type parameter and its convolutions are channels-first, the IR's ranks are dynamic and its tensors
//! channels-last. So every activation is held as `[N, C, H, W]`: IR shape `[N, H, W, C]` moves its channels, `[N, C]`
//! gets H = W = 1 and `[N, W, C]` H = 1. The IR's batch of 1 stands for any batch.

use std::collections::HashMap;

use burn_tensor::ops::ConvOptions;
use burn_tensor::{Device, Tensor, TensorData, activation, module};
use offshoot_ir::{
    Activation, BinaryKind, Data, Graph, Node, Op, PoolKind, ReduceKind, UnaryKind, ValueId, Window,
};

use crate::error::{Error, Result};

/// Share of a batch's statistics in the running ones.
const MOMENTUM: f32 = 0.1;

/// Whether batch normalisation uses the batch's statistics or the stored ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Train,
    Infer,
}

/// Batch statistics of the batch normalisations, as (mean or variance value, new running value).
pub(crate) type Statistics = Vec<(ValueId, Vec<f32>)>;

/// Values that training changes: float weights and biases of convolutions and fully connected layers, gamma and beta of
/// batch normalisations.
pub(crate) fn trainable(graph: &Graph) -> Vec<ValueId> {
    let mut ids: Vec<ValueId> = graph
        .nodes
        .iter()
        .flat_map(|node| match node.op {
            Op::Conv2d { .. } | Op::FullyConnected { .. } => node.inputs.get(1..).unwrap_or(&[]),
            Op::BatchNorm { .. } => node.inputs.get(1..3).unwrap_or(&[]),
            _ => &[],
        })
        .copied()
        .filter(|&id| matches!(graph.value(id).data.as_deref(), Some(Data::F32(_))))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// A graph on a device with its parameters as tensors.
pub(crate) struct Forward<'g> {
    graph: &'g Graph,
    device: Device,
    /// Parameters in the IR's order of elements.
    parameters: HashMap<ValueId, Tensor<1>>,
    mode: Mode,
    /// Do not compute a softmax that makes the graph's output: cross-entropy takes its input.
    skip_softmax: bool,
}

impl<'g> Forward<'g> {
    pub(crate) fn new(graph: &'g Graph, device: &Device, mode: Mode, skip_softmax: bool) -> Self {
        let parameters = trainable(graph)
            .into_iter()
            .filter_map(|id| constant(graph, id).map(|data| (id, data)))
            .map(|(id, data)| {
                let tensor = Tensor::<1>::from_data(TensorData::new(data.to_vec(), [data.len()]), device);
                (id, if mode == Mode::Train { tensor.require_grad() } else { tensor })
            })
            .collect();
        Self { graph, device: device.clone(), parameters, mode, skip_softmax }
    }

    pub(crate) fn parameter(&self, id: ValueId) -> Option<&Tensor<1>> {
        self.parameters.get(&id)
    }

    /// Output `[N, elements]` in the IR's order for `x` in the order of the graph's only input.
    pub(crate) fn run(&self, x: &[f32], batch: usize) -> Result<(Tensor<2>, Statistics)> {
        let (&[input], &[output]) = (&self.graph.inputs[..], &self.graph.outputs[..]) else {
            return Err(Error::Data("networks with one input and one output can be trained".into()));
        };
        let mut statistics = Statistics::new();
        let mut values: HashMap<ValueId, Tensor<4>> = HashMap::new();
        let shape = &self.graph.value(input).shape;
        values.insert(input, self.channels_first(self.tensor(x), shape, batch)?);
        for node in &self.graph.nodes {
            let result = self.operator(node, batch, &values, &mut statistics)?;
            values.insert(node.output, result);
        }
        let result = values
            .remove(&output)
            .ok_or_else(|| Error::Data("no operator makes the graph's output".into()))?;
        Ok((self.channels_last(result).reshape([batch as i64, -1]), statistics))
    }

    fn operator(
        &self,
        node: &Node,
        batch: usize,
        values: &HashMap<ValueId, Tensor<4>>,
        statistics: &mut Statistics,
    ) -> Result<Tensor<4>> {
        let unsupported = |reason: &str| unsupported(node, reason);
        let x = || {
            let value = node.inputs.first().and_then(|id| values.get(id));
            value.cloned().ok_or_else(|| unsupported("its first input is no activation"))
        };
        let shape_of = |index: usize| &self.graph.value(node.inputs[index]).shape;
        let out_shape = &self.graph.value(node.output).shape;
        let y = match &node.op {
            Op::Conv2d { window, groups, .. } => {
                let &[o, h, w, i] = &shape_of(1)[..] else {
                    return Err(unsupported("its weights are not OHWI"));
                };
                let weights = self.weights(node, 1)?.reshape([o, h, w, i]).permute([0, 3, 1, 2]);
                module::conv2d(x()?, weights, self.bias(node)?, conv_options(window, *groups))
            }
            Op::FullyConnected { .. } => {
                let &[o, i] = &shape_of(1)[..] else {
                    return Err(unsupported("its weights are not a matrix"));
                };
                let weights = self.weights(node, 1)?.reshape([o, i, 1, 1]);
                module::conv2d(x()?, weights, self.bias(node)?, ConvOptions::new([1, 1], [0, 0], [1, 1], 1))
            }
            Op::Pool { kind, window, .. } => {
                pool(x()?, *kind, window).ok_or_else(|| unsupported("dilation"))?
            }
            Op::Binary { kind, .. } => {
                let (a, b) = (self.operand(node, 0, values)?, self.operand(node, 1, values)?);
                binary(*kind, a, b)
            }
            Op::Unary(kind) => {
                unary(*kind, x()?).ok_or_else(|| unsupported("this function has no gradient here"))?
            }
            Op::BatchNorm { epsilon } => self.batch_norm(node, x()?, *epsilon, statistics)?,
            Op::Reshape => self.channels_first(self.channels_last(x()?), out_shape, batch)?,
            Op::Reduce { kind: ReduceKind::Mean, axes } if axes[..] == [1, 2] => x()?.mean_dim(2).mean_dim(3),
            Op::Softmax { .. } if self.skip_softmax && self.graph.outputs[..] == [node.output] => x()?,
            Op::Softmax { axis } if *axis + 1 == out_shape.len() => activation::softmax(x()?, 1),
            _ => return Err(unsupported("it has no gradient here")),
        };
        Ok(activate(y, node.op.activation().unwrap_or_default()))
    }

    /// Ioffe and Szegedy 2015; the running variance is the unbiased one.
    fn batch_norm(
        &self,
        node: &Node,
        x: Tensor<4>,
        epsilon: f32,
        statistics: &mut Statistics,
    ) -> Result<Tensor<4>> {
        let per_channel = |t: Tensor<1>| t.reshape([1i64, -1, 1, 1]);
        let (gamma, beta) = (per_channel(self.weights(node, 1)?), per_channel(self.weights(node, 2)?));
        let running = |index: usize| {
            constant(self.graph, node.inputs[index])
                .ok_or_else(|| unsupported(node, "its statistics are no constants"))
        };
        let (mean, variance) = match self.mode {
            Mode::Infer => (per_channel(self.tensor(running(3)?)), per_channel(self.tensor(running(4)?))),
            Mode::Train => {
                let [n, _, h, w] = x.dims();
                let mean = x.clone().mean_dim(0).mean_dim(2).mean_dim(3);
                let off = x.clone() - mean.clone();
                let variance = (off.clone() * off).mean_dim(0).mean_dim(2).mean_dim(3);
                let count = (n * h * w) as f32;
                let unbiased = count / (count - 1.0).max(1.0);
                for (index, now, scale) in [(3, &mean, 1.0), (4, &variance, unbiased)] {
                    let now = to_vec(now.clone().detach().reshape([-1i64]));
                    let mix = |(&old, now): (&f32, f32)| (1.0 - MOMENTUM) * old + MOMENTUM * scale * now;
                    statistics.push((node.inputs[index], running(index)?.iter().zip(now).map(mix).collect()));
                }
                (mean, variance)
            }
        };
        Ok((x - mean) / (variance + epsilon).sqrt() * gamma + beta)
    }

    /// An operand of a broadcasting operator: an activation or a constant.
    fn operand(&self, node: &Node, index: usize, values: &HashMap<ValueId, Tensor<4>>) -> Result<Tensor<4>> {
        let id = *node.inputs.get(index).ok_or_else(|| unsupported(node, "an operand is missing"))?;
        if let Some(tensor) = values.get(&id) {
            return Ok(tensor.clone());
        }
        let data = constant(self.graph, id).ok_or_else(|| unsupported(node, "an operand is not float32"))?;
        // numpy aligns shapes at the last axis.
        let rank = self.graph.value(node.output).shape.len();
        let mut shape = self.graph.value(id).shape.clone();
        while shape.len() < rank {
            shape.insert(0, 1);
        }
        let batch = shape.first().copied().unwrap_or(1);
        self.channels_first(self.tensor(data), &shape, batch)
    }

    fn weights(&self, node: &Node, index: usize) -> Result<Tensor<1>> {
        let parameter = node.inputs.get(index).and_then(|id| self.parameters.get(id));
        parameter.cloned().ok_or_else(|| unsupported(node, "its weights are not float32 constants"))
    }

    fn bias(&self, node: &Node) -> Result<Option<Tensor<1>>> {
        if node.inputs.len() > 2 { self.weights(node, 2).map(Some) } else { Ok(None) }
    }

    fn tensor(&self, data: &[f32]) -> Tensor<1> {
        Tensor::from_data(TensorData::new(data.to_vec(), [data.len()]), &self.device)
    }

    /// From the IR's order of elements; `shape` with its first extent replaced by `batch`.
    fn channels_first<const D: usize>(
        &self,
        x: Tensor<D>,
        shape: &[usize],
        batch: usize,
    ) -> Result<Tensor<4>> {
        let [h, w, c] = match *shape {
            [_, c] => [1, 1, c],
            [_, w, c] => [1, w, c],
            [_, h, w, c] => [h, w, c],
            _ => {
                return Err(Error::Data(format!(
                    "tensors of shape {shape:?} cannot be trained through; wanted is [1, …, C]"
                )));
            }
        };
        Ok(x.reshape([batch, h, w, c]).permute([0, 3, 1, 2]))
    }

    fn channels_last(&self, x: Tensor<4>) -> Tensor<4> {
        x.permute([0, 2, 3, 1])
    }
}

/// Elements on the host.
pub(crate) fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    // Device::flex computes in float32 on the host: nothing can fail to convert.
    tensor.try_into_vec_as().expect("float32 tensor on the host")
}

fn unsupported(node: &Node, reason: &str) -> Error {
    Error::Unsupported { node: node.name.clone(), op: node.op.name(), reason: reason.into() }
}

fn constant(graph: &Graph, id: ValueId) -> Option<&[f32]> {
    match graph.value(id).data.as_deref() {
        Some(Data::F32(data)) => Some(data),
        _ => None,
    }
}

fn conv_options(window: &Window, groups: usize) -> ConvOptions<2> {
    let pair = |v: [u16; 2]| v.map(usize::from);
    ConvOptions::new_with_padding(pair(window.stride), padding(window), pair(window.dilation), groups)
}

/// (before, after) of height and width.
fn padding(window: &Window) -> [(usize, usize); 2] {
    let [top, left, bottom, right] = window.pad.map(usize::from);
    [(top, bottom), (left, right)]
}

fn pool(x: Tensor<4>, kind: PoolKind, window: &Window) -> Option<Tensor<4>> {
    use burn_tensor::ops::{AvgPoolOptions, MaxPoolOptions};
    let pair = |v: [u16; 2]| v.map(usize::from);
    let (kernel_size, stride) = (pair(window.kernel), pair(window.stride));
    if kind == PoolKind::Max {
        let mut options = MaxPoolOptions::new(kernel_size);
        (options.stride, options.padding, options.dilation) =
            (stride, padding(window), pair(window.dilation));
        return Some(module::max_pool2d(x, options));
    }
    if window.dilation != [1, 1] {
        return None;
    }
    let [_, _, h, w] = x.dims();
    if kernel_size == [h, w] && window.pad == [0; 4] {
        return Some(x.mean_dim(2).mean_dim(3));
    }
    let mut options = AvgPoolOptions::new(kernel_size);
    (options.stride, options.padding) = (stride, padding(window));
    options.count_include_pad = kind == PoolKind::AverageIncludePad;
    Some(module::avg_pool2d(x, options))
}

fn binary(kind: BinaryKind, a: Tensor<4>, b: Tensor<4>) -> Tensor<4> {
    match kind {
        BinaryKind::Add => a + b,
        BinaryKind::Sub => a - b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => a / b,
        BinaryKind::Min => a.min_pair(b),
        BinaryKind::Max => a.max_pair(b),
    }
}

fn unary(kind: UnaryKind, x: Tensor<4>) -> Option<Tensor<4>> {
    Some(match kind {
        UnaryKind::Clip { min, max } => activate(x, Activation::Clip { min, max }),
        UnaryKind::LeakyRelu { alpha } => activation::leaky_relu(x, f64::from(alpha)),
        UnaryKind::HardSwish => activation::hard_swish(x),
        UnaryKind::HardSigmoid { alpha, beta } => {
            activation::hard_sigmoid(x, f64::from(alpha), f64::from(beta))
        }
        UnaryKind::Sigmoid => activation::sigmoid(x),
        UnaryKind::Tanh => activation::tanh(x),
        UnaryKind::Gelu => activation::gelu(x),
        UnaryKind::GeluTanh => activation::gelu_approximate(x),
        UnaryKind::Elu { alpha } => activation::elu(x, f64::from(alpha)),
        UnaryKind::Abs => x.abs(),
        UnaryKind::Neg => x.neg(),
        UnaryKind::Exp => x.exp(),
        UnaryKind::Softplus => activation::softplus(x, 1.0),
        _ => return None,
    })
}

fn activate(x: Tensor<4>, activation: Activation) -> Tensor<4> {
    match activation.bounds() {
        (min, max) if min == f32::NEG_INFINITY && max == f32::INFINITY => x,
        (0.0, f32::INFINITY) => activation::relu(x),
        (min, f32::INFINITY) => x.clamp_min(min),
        (f32::NEG_INFINITY, max) => x.clamp_max(max),
        (min, max) => x.clamp(min, max),
    }
}
