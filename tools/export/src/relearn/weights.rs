//! Writes what a layer learned into the weights of its operator.

use offshoot::format::learn::TrainablePart;
use offshoot::graph::learn::{Shape, TrainedLayer};
use offshoot_ir::quant_math;

use crate::error::{Error, Result};

/// Writes the trainable copy of a layer into its blob. Scales of float32 layers are multiplied into weights and biases.
/// Adaptors are added to the weights; int8 weights are then rounded again, with larger scales if necessary.
pub(super) fn fold(layer: &TrainedLayer, own: &[u8], blob: &mut [u8]) -> Result<()> {
    let shape = &layer.shape;
    match layer.repr.part {
        TrainablePart::All | TrainablePart::Bias => blob[..own.len()].copy_from_slice(own),
        TrainablePart::Scale if shape.is_whole() => blob[..own.len()].copy_from_slice(own),
        TrainablePart::Scale => {
            let channels = shape.geometry.out_c;
            let numbers = floats(own);
            let (bias, scale) = numbers.split_at(channels);
            let mut all = floats(blob);
            for (o, (bias, scale)) in bias.iter().zip(scale).enumerate() {
                all[o] = bias * scale;
                for at in places(shape, o) {
                    all[channels + at] *= scale;
                }
            }
            write(blob, &all);
        }
        TrainablePart::LowRank { rank } => {
            let channels = shape.geometry.out_c;
            let numbers = floats(own);
            let (up, down) = numbers.split_at(channels * usize::from(rank));
            if shape.is_whole() {
                whole(layer, up, down, blob)?;
            } else {
                let mut all = floats(blob);
                for o in 0..channels {
                    for (i, at) in places(shape, o).enumerate() {
                        all[channels + at] += product(up, down, rank.into(), o, i);
                    }
                }
                write(blob, &all);
            }
        }
    }
    Ok(())
}

/// Positions of an output channel's weights, in the order of their inputs.
fn places(shape: &Shape, channel: usize) -> impl Iterator<Item = usize> {
    let inputs = shape.inputs();
    let depthwise = matches!(shape.geometry.order, offshoot::kernels::layer::Order::Depthwise { .. });
    let channels = shape.geometry.out_c;
    (0..inputs).map(move |i| if depthwise { i * channels + channel } else { channel * inputs + i })
}

/// `up · down` for an output and an input.
fn product(up: &[f32], down: &[f32], rank: usize, o: usize, i: usize) -> f32 {
    let inputs = down.len() / rank;
    (0..rank).map(|r| up[o * rank + r] * down[r * inputs + i]).sum()
}

/// An int8 layer. Channels whose weights no longer fit get a larger scale, with matching bias and requantisation.
fn whole(layer: &TrainedLayer, up: &[f32], down: &[f32], blob: &mut [u8]) -> Result<()> {
    let shape = &layer.shape;
    let (channels, inputs) = (shape.geometry.out_c, shape.inputs());
    let rank = up.len() / channels;
    let [s_in, s_out] = layer.repr.scales.map(f64::from);
    let Some(mut parts) = Parts::read(shape, blob) else {
        return Err(Error::Learning("an adaptor does not fit its layer".into()));
    };
    let per_channel = parts.multiplier.len() > 1;
    let scale = |parts: &Parts, o: usize| {
        let at = if per_channel { o } else { 0 };
        f64::from(parts.multiplier[at]) * f64::from(i32::from(parts.shift[at]) - 31).exp2() * s_out / s_in
    };
    let real = |parts: &Parts, o: usize, i: usize| {
        let own = f64::from(parts.weights[o * inputs + i]) * scale(parts, o);
        own + f64::from(product(up, down, rank, o, i))
    };
    let wanted: Vec<f64> = (0..channels)
        .map(|o| (0..inputs).map(|i| real(&parts, o, i).abs()).fold(0.0, f64::max) / 127.0)
        .map(|needed| if needed.is_finite() { needed } else { 0.0 })
        .collect();
    let shared = wanted.iter().copied().fold(0.0, f64::max);
    let old = Parts { ..parts.clone() };
    for o in 0..channels {
        let before = scale(&old, o);
        let after = before.max(if per_channel { wanted[o] } else { shared });
        for i in 0..inputs {
            let q = (real(&old, o, i) / after).round().clamp(-127.0, 127.0);
            parts.weights[o * inputs + i] = if q.is_nan() { 0 } else { q as i8 };
        }
        parts.bias[o] = (f64::from(old.bias[o]) * before / after).round() as i32;
        if per_channel || o == 0 {
            let (multiplier, shift) = quant_math::quantize_multiplier(after * s_in / s_out);
            let shift = Some(shift).filter(|s| (-31..=30).contains(s));
            let out = || Error::Learning("an adaptor made weights too large for int8".into());
            (parts.multiplier[o], parts.shift[o]) = (multiplier, shift.ok_or_else(out)?);
        }
    }
    parts.write(blob);
    Ok(())
}

/// An int8 blob taken apart.
#[derive(Clone)]
struct Parts {
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<i8>,
    weights: Vec<i8>,
}

impl Parts {
    fn read(shape: &Shape, blob: &[u8]) -> Option<Self> {
        let channels = shape.geometry.out_c;
        let scales = match shape.arith {
            offshoot::format::record::Arith::I8 { per_channel, .. } if per_channel => channels,
            _ => 1,
        };
        let (bias, rest) = blob.split_at_checked(4 * channels)?;
        let (multiplier, rest) = rest.split_at_checked(4 * scales)?;
        let (shift, weights) = rest.split_at_checked(scales.next_multiple_of(4))?;
        let words = |bytes: &[u8]| {
            bytes.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
        };
        let small = |bytes: &[u8]| bytes.iter().map(|&b| b as i8).collect();
        Some(Self {
            bias: words(bias),
            multiplier: words(multiplier),
            shift: small(&shift[..scales]),
            weights: small(weights),
        })
    }

    fn write(&self, blob: &mut [u8]) {
        let mut bytes = crate::blobs::words(&self.bias);
        bytes.extend(crate::blobs::words(&self.multiplier));
        bytes.extend(crate::blobs::bytes(&self.shift));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(crate::blobs::bytes(&self.weights));
        blob.copy_from_slice(&bytes);
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

fn write(blob: &mut [u8], numbers: &[f32]) {
    blob.copy_from_slice(&crate::blobs::floats(numbers));
}
