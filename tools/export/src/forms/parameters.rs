//! Reads weights, biases and multipliers of an operator from the graph, and encodes them for its blob.

use std::sync::Arc;

use offshoot::format::record::Arith;
use offshoot_ir::quant_math::linear_multiplier;
use offshoot_ir::{Activation, Data, Graph, ValueId, quant_math};

use super::requant::{self, Fixed, OVERFLOW};
use crate::blobs;
use crate::lowered::Tensor;

/// Why one node cannot be lowered.
pub(crate) type Reason = String;
pub(crate) type Lowering<T = ()> = Result<T, Reason>;

/// Parameters of an int8 operator.
#[derive(Clone, Debug)]
pub(crate) struct Quantised {
    /// Weights, OHWI.
    pub(crate) weights: Vec<i8>,
    /// One bias per channel. [`Quantised::read`] does not fold the input's zero point in.
    pub(crate) bias: Vec<i32>,
    /// Multiplier and shift, per channel or one for all.
    pub(crate) fixed: Vec<(i32, i8)>,
}

impl Quantised {
    /// Reads weights and bias (`parameters`) of an operator from `x` to `y` with `out_c` output channels.
    pub(crate) fn read(
        graph: &Graph,
        [x, y]: [&Tensor; 2],
        parameters: &[ValueId],
        out_c: usize,
    ) -> Lowering<Self> {
        let weights = graph.value(parameters[0]);
        let Some(Data::I8(w)) = weights.data.as_deref() else {
            return Err(format!("weights `{}` must be an int8 constant", weights.name));
        };
        let quant =
            weights.quant.as_ref().ok_or_else(|| format!("weights `{}` have no scale", weights.name))?;
        let bias = match parameters.get(1).map(|&b| graph.value(b)) {
            Some(b) => match b.data.as_deref() {
                Some(Data::I32(d)) => d.clone(),
                _ => return Err(format!("bias `{}` must be an int32 constant", b.name)),
            },
            None => vec![0; out_c],
        };
        check_len("bias", bias.len(), out_c)?;
        let real = |w: f32| linear_multiplier(x.scale, w, y.scale);
        let largest = largest_sums(w, &bias, requant::farthest(x.zp));
        let largest = |scale: usize| match quant.scale.len() {
            1 => largest.iter().copied().max().unwrap_or(0),
            _ => largest.get(scale).copied().unwrap_or(0),
        };
        let fixed = quant.scale.iter().enumerate().map(|(i, &s)| requant::fitting(real(s), largest(i)));
        let mut fixed = fixed.collect::<Option<Vec<Fixed>>>().ok_or(OVERFLOW)?;
        if fixed.iter().all(|f| *f == fixed[0]) {
            fixed.truncate(1);
        } else {
            check_len("weight scales", fixed.len(), out_c)?;
        }
        Ok(Self { weights: w.clone(), bias, fixed })
    }

    /// Multiplier and shift of a channel.
    pub(crate) fn fixed_of(&self, channel: usize) -> (i32, i8) {
        self.fixed[if self.fixed.len() == 1 { 0 } else { channel }]
    }

    /// Multiplier and shift of each of `channels`.
    pub(crate) fn fixed_each(&self, channels: usize) -> Vec<(i32, i8)> {
        (0..channels).map(|o| self.fixed_of(o)).collect()
    }

    /// Weights of a channel.
    pub(crate) fn row(&self, channel: usize) -> &[i8] {
        let taps = self.weights.len() / self.bias.len().max(1);
        &self.weights[channel * taps..][..taps]
    }
}

/// Largest magnitude of each channel's sum, bias included. `farthest`: largest magnitude of an input without its zero point.
fn largest_sums(weights: &[i8], bias: &[i32], farthest: u64) -> Vec<u64> {
    let taps = (weights.len() / bias.len().max(1)).max(1);
    let products = weights
        .chunks(taps)
        .map(|row| row.iter().map(|w| u64::from(w.unsigned_abs())).sum::<u64>().saturating_mul(farthest));
    products.zip(bias).map(|(sum, b)| sum.saturating_add(u64::from(b.unsigned_abs()))).collect()
}

/// Biases, multipliers and shifts as at the start of a blob.
pub(crate) fn requant_blob(bias: &[i32], fixed: &[(i32, i8)]) -> Vec<u8> {
    let mut blob = blobs::words(bias);
    blob.extend(blobs::words(&fixed.iter().map(|f| f.0).collect::<Vec<_>>()));
    blob.extend(fixed.iter().map(|f| f.1 as u8));
    blob.resize(blob.len().next_multiple_of(4), 0);
    blob
}

/// The order of a record's weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As in the graph, OHWI.
    Same,
    /// HWO, from OHWI with I = 1.
    Planar,
}

impl Order {
    /// Index in the graph of weight `i` of the record, for `channels` channels of `taps` weights.
    fn of(self, i: usize, channels: usize, taps: usize) -> usize {
        match self {
            Self::Same => i,
            Self::Planar => i % channels * taps + i / channels,
        }
    }
}

/// Number format, blob and sizes of a plain record.
#[derive(Clone, Debug)]
pub(crate) struct Plain {
    pub(crate) arith: Arith,
    content: Content,
    /// Number of weights.
    pub(crate) weights: usize,
    /// Bytes of weights and of biases.
    pub(crate) account: [usize; 2],
}

/// What the blob of a plain record is made from.
#[derive(Clone, Debug)]
enum Content {
    Blob(Vec<u8>),
    /// Of float32, whose weights stay those of the graph: all of a network's weights may fill most of the memory.
    Floats {
        bias: Vec<f32>,
        weights: Arc<Data>,
        order: Order,
    },
}

impl Plain {
    /// An operator with `out_c` output channels.
    pub(crate) fn read(
        graph: &Graph,
        [x, y]: [&Tensor; 2],
        parameters: &[ValueId],
        out_c: usize,
        activation: Activation,
        order: Order,
    ) -> Lowering<Self> {
        if x.is_i8() {
            let q = Quantised::read(graph, [x, y], parameters, out_c)?;
            return Ok(Self::of(&q, [x, y], activation, order));
        }
        let weights = match &graph.value(parameters[0]).data {
            Some(data) if matches!(**data, Data::F32(_)) => Arc::clone(data),
            _ => Arc::new(Data::F32(constant_f32(graph, parameters[0])?)),
        };
        let bias = match parameters.get(1).copied() {
            Some(b) => constant_f32(graph, b)?,
            None => vec![0.0; out_c],
        };
        check_len("bias", bias.len(), out_c)?;
        let count = if let Data::F32(d) = &*weights { d.len() } else { 0 };
        let content = Content::Floats { bias, weights, order };
        let arith = Arith::F32 { clamp: clamp_f32(activation) };
        Ok(Self { arith, content, weights: count, account: [4 * count, 4 * out_c] })
    }

    /// An int8 operator with these numbers.
    pub(crate) fn of(q: &Quantised, [x, y]: [&Tensor; 2], activation: Activation, order: Order) -> Self {
        let mut blob = requant_blob(&q.bias, &q.fixed);
        let (count, channels) = (q.weights.len(), q.bias.len());
        let taps = count / channels.max(1);
        blob.extend((0..count).map(|i| q.weights[order.of(i, channels, taps)] as u8));
        let (per_channel, clamp) = (q.fixed.len() > 1, clamp_i8(activation, y));
        let arith = Arith::I8 { in_zp: x.zp, out_zp: y.zp, per_channel, clamp };
        let content = Content::Blob(blob);
        Self { arith, content, weights: count, account: [count, 4 * channels] }
    }

    /// The blob.
    pub(crate) fn blob(&self) -> Vec<u8> {
        match &self.content {
            Content::Blob(blob) => blob.clone(),
            Content::Floats { bias, weights, order } => {
                let Data::F32(w) = &**weights else { unreachable!("`read` has made them float32") };
                let (channels, taps) = (bias.len(), w.len() / bias.len().max(1));
                let mut blob = Vec::with_capacity(4 * (channels + w.len()));
                blob.extend(bias.iter().flat_map(|v| v.to_le_bytes()));
                blob.extend((0..w.len()).flat_map(|i| w[order.of(i, channels, taps)].to_le_bytes()));
                blob
            }
        }
    }
}

fn check_len(what: &str, found: usize, wanted: usize) -> Lowering {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found} values for {wanted} output channels")) }
}

/// A constant in float32, dequantised if necessary.
pub(crate) fn constant_f32(graph: &Graph, v: ValueId) -> Lowering<Vec<f32>> {
    let value = graph.value(v);
    let data = value.data.as_ref().ok_or_else(|| format!("`{}` must be a constant", value.name))?;
    let integers: Vec<i64> = match &**data {
        Data::F32(d) => return Ok(d.clone()),
        Data::I8(d) => d.iter().map(|&q| q.into()).collect(),
        Data::I16(d) => d.iter().map(|&q| q.into()).collect(),
        Data::I32(d) => d.iter().map(|&q| q.into()).collect(),
        Data::I64(d) if value.quant.is_some() => d.clone(),
        Data::I64(_) => return Err(format!("constant `{}` is int64", value.name)),
    };
    let quant = value.quant.as_ref().ok_or_else(|| format!("constant `{}` has no scale", value.name))?;
    let (inner, extent) = match quant.axis {
        Some(a) => (value.shape[a + 1..].iter().product::<usize>(), value.shape[a]),
        None => (1, 1),
    };
    let real = |(i, &q): (usize, &i64)| {
        let k = i / inner.max(1) % extent.max(1);
        let k = if quant.scale.len() == 1 { 0 } else { k };
        q.saturating_sub(quant.zero_point[k.min(quant.zero_point.len() - 1)].into()) as f32 * quant.scale[k]
    };
    Ok(integers.iter().enumerate().map(real).collect())
}

/// Bounds of a fused activation in float32, as in records.
pub(crate) fn clamp_f32(activation: Activation) -> Option<(f32, f32)> {
    let bounds = activation.bounds();
    (bounds != (f32::NEG_INFINITY, f32::INFINITY)).then_some(bounds)
}

/// Bounds of a fused activation in int8 with the scale and zero point of `y`, as in records.
pub(crate) fn clamp_i8(activation: Activation, y: &Tensor) -> Option<(i8, i8)> {
    quant_math::activation_range(activation.bounds(), y.scale, i32::from(y.zp))
}

pub(crate) fn to_u16(value: usize, what: &str) -> Lowering<u16> {
    u16::try_from(value).map_err(|_| format!("{what} is {value}, but the format holds up to {}", u16::MAX))
}

pub(crate) fn to_u32(value: usize, what: &str) -> Lowering<u32> {
    u32::try_from(value).map_err(|_| format!("{what} is {value}, but the format holds up to {}", u32::MAX))
}

/// The four extents of an NHWC tensor.
pub(crate) fn nhwc(t: &Tensor) -> Lowering<[u16; 4]> {
    let [n, h, w, c] = t.shape[..] else {
        return Err(format!(
            "it needs four axes (batch, height, width, channels), but the shape is {:?}",
            t.shape
        ));
    };
    Ok([
        to_u16(n, "the batch")?,
        to_u16(h, "the height")?,
        to_u16(w, "the width")?,
        to_u16(c, "the channel count")?,
    ])
}
