//! Converts weights and biases of linear operators to the form of the int8 kernels, whatever form the exporter chose.
//!
//! Kernels take int8 weights with zero point 0 and one scale, or one per output channel, and an int32 bias whose
//! scale is the input's times the weights' (TFLite's specification). A non-zero zero point is subtracted from the
//! weights; a channel that then no longer fits int8 gets a new scale. A bias in float or with another scale is
//! rounded to the accumulators' scale. Where bias and sum together could overflow int32, the channel's weights get a
//! coarser scale: next to so large a bias they hardly matter. Between int16 tensors the bias is int64 instead.

use offshoot_ir::{DType, Data, Node, Op, Quant, Value};

use super::constants::{constant, weights_fit};
use super::table::Table;

/// Relative difference below which scales count as equal.
const SAME: f64 = 1e-5;

/// Integers of a linear operator, with one entry per channel for each scale.
struct Channels {
    weights: Vec<i8>,
    scales: Vec<f32>,
    /// Whether the weights differ from those of the file.
    changed: bool,
}

/// Converts weights and bias of a linear operator between int8 tensors to the kernels' form, if possible.
pub(super) fn fit(t: &mut Table, node: &mut Node) {
    if !matches!(node.op, Op::Conv2d { .. } | Op::ConvTranspose2d { .. } | Op::FullyConnected { .. }) {
        return;
    }
    let (x, w) = (t.value(node.inputs[0]), t.value(node.inputs[1]));
    let Some((input, zero_point)) = x.quant.as_ref().map(|q| (q.scale[0], q.zero_point[0])) else { return };
    let Some(mut channels) = symmetric(w) else { return };
    let bias = node.inputs.get(2).map(|id| t.value(*id));
    let Some(bias) = bias.map(reals).or(Some(vec![])).filter(|b| b.iter().all(|v| v.is_finite())) else {
        return;
    };
    let count = channels.scales.len();
    if node.inputs.len() > 2 && bias.len() != count {
        return;
    }
    let own = node.inputs.get(2).and_then(|id| integers(t.value(*id)));
    // Largest magnitude of an input minus its zero point.
    let int16 = x.dtype == DType::I16;
    let reach = if int16 { 32768.0 } else { f64::from((127 - zero_point).max(128 + zero_point)) };
    let mut wide = false;
    let fan_in = channels.weights.len() / count.max(1);
    let mut sums = Vec::with_capacity(count);
    for o in 0..count {
        let weights = &mut channels.weights[o * fan_in..(o + 1) * fan_in];
        let scale = &mut channels.scales[o];
        let mut step = f64::from(input) * f64::from(*scale);
        let exact = own.as_ref().and_then(|own| own.get(o)).filter(|(_, s)| (s / step - 1.0).abs() <= SAME);
        let wanted = |step: f64| match exact {
            Some((code, s)) => (f64::from(*code) * (s / step)).round_ties_even(),
            None => (bias.get(o).copied().unwrap_or(0.0) / step).round_ties_even(),
        };
        let whole = exact.map(|(code, _)| f64::from(*code));
        let mut sum = whole.unwrap_or_else(|| wanted(step));
        let largest = |w: &[i8]| w.iter().map(|w| f64::from(w.unsigned_abs())).sum::<f64>() * reach;
        let mut coarser = 1.0f64;
        let original = weights.to_vec();
        while sum.abs() + largest(weights) > f64::from(i32::MAX) {
            if int16 {
                wide = true;
                break;
            }
            coarser *= 2.0;
            if !(*scale * 2.0).is_finite() || coarser > 2f64.powi(100) {
                return;
            }
            *scale *= 2.0;
            step *= 2.0;
            for (w, was) in weights.iter_mut().zip(&original) {
                *w = (f64::from(*was) / coarser).round_ties_even() as i8;
            }
            sum = wanted(step);
            channels.changed = true;
        }
        sums.push(sum as i64);
    }
    let scales: Vec<f32> = channels.scales.iter().map(|s| s * input).collect();
    if scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return;
    }
    if channels.changed {
        let (name, shape) = (format!("{}/int8", w.name), w.shape.clone());
        let quant = per_channel(channels.scales.clone());
        let value = constant(name, shape, DType::I8, Data::I8(channels.weights), quant);
        node.inputs[1] = t.add(value);
    }
    let Some(&b) = node.inputs.get(2) else { return };
    let b = t.value(b);
    if wide {
        let name = format!("{}/int64", b.name);
        let value = constant(name, b.shape.clone(), DType::I64, Data::I64(sums), per_channel(scales));
        node.inputs[2] = t.add(value);
        return;
    }
    let sums: Vec<i32> = sums.into_iter().map(|sum| sum as i32).collect();
    let same = b.dtype == DType::I32
        && b.quant.as_ref().is_some_and(|q| q.zero_point.iter().all(|z| *z == 0))
        && matches!(b.data.as_deref(), Some(Data::I32(d)) if *d == sums);
    if !same {
        let name = format!("{}/int32", b.name);
        let value = constant(name, b.shape.clone(), DType::I32, Data::I32(sums), per_channel(scales));
        node.inputs[2] = t.add(value);
    }
}

/// Scales along axis 0; a single scale if all are equal.
fn per_channel(mut scale: Vec<f32>) -> Quant {
    let axis = match scale.windows(2).all(|w| w[0] == w[1]) {
        true => {
            scale.truncate(1);
            None
        }
        false => Some(0),
    };
    Quant { zero_point: vec![0; scale.len()], scale, axis }
}

/// Weights with zero points 0 and scales along axis 0, the axis of output channels.
fn symmetric(w: &Value) -> Option<Channels> {
    let (Some(Data::I8(codes)), Some(quant), Some(&channels)) =
        (w.data.as_deref(), &w.quant, w.shape.first())
    else {
        return None;
    };
    if channels == 0 {
        return None;
    }
    let per = |v: &[f32]| if v.len() == channels { v.to_vec() } else { vec![v[0]; channels] };
    if weights_fit(w) {
        return Some(Channels { weights: codes.clone(), scales: per(&quant.scale), changed: false });
    }
    let fan_in = codes.len() / channels;
    let outer = quant.axis.is_none_or(|a| a == 0);
    let inner: usize = quant.axis.map_or(1, |a| w.shape[a + 1..].iter().product::<usize>().max(1));
    let at = |i: usize| quant.axis.map_or(0, |_| (i / inner) % quant.scale.len());
    let mut weights = Vec::with_capacity(codes.len());
    let mut scales = Vec::with_capacity(channels);
    for (o, row) in codes.chunks(fan_in.max(1)).enumerate() {
        let whole = |i: usize| i32::from(row[i]) - quant.zero_point[at(o * fan_in + i)];
        let largest = (0..row.len()).map(|i| whole(i).abs()).max().unwrap_or(0);
        if outer && largest <= 127 {
            weights.extend((0..row.len()).map(|i| whole(i) as i8));
            scales.push(quant.scale[at(o * fan_in)]);
            continue;
        }
        let real = |i: usize| f64::from(whole(i)) * f64::from(quant.scale[at(o * fan_in + i)]);
        let largest = (0..row.len()).map(|i| real(i).abs()).fold(0.0, f64::max);
        let scale = if largest > 0.0 { (largest / 127.0) as f32 } else { quant.scale[at(o * fan_in)] };
        if !(scale.is_normal() && scale > 0.0) {
            return None;
        }
        weights.extend(
            (0..row.len()).map(|i| (real(i) / f64::from(scale)).round_ties_even().clamp(-127.0, 127.0) as i8),
        );
        scales.push(scale);
    }
    Some(Channels { weights, scales, changed: true })
}

/// Integers of a constant with their scales, if their zero points are 0.
fn integers(v: &Value) -> Option<Vec<(i32, f64)>> {
    let quant = v.quant.as_ref().filter(|q| q.zero_point.iter().all(|z| *z == 0))?;
    let Some(Data::I32(codes)) = v.data.as_deref() else { return None };
    let scale = |i: usize| f64::from(quant.scale[if quant.scale.len() == codes.len() { i } else { 0 }]);
    Some(codes.iter().enumerate().map(|(i, code)| (*code, scale(i))).collect())
}

/// Real values of a vector.
fn reals(v: &Value) -> Vec<f64> {
    let codes: Vec<f64> = match v.data.as_deref() {
        Some(Data::F32(d)) => return d.iter().map(|v| f64::from(*v)).collect(),
        Some(Data::I8(d)) => d.iter().map(|v| f64::from(*v)).collect(),
        Some(Data::I32(d)) => d.iter().map(|v| f64::from(*v)).collect(),
        _ => return vec![],
    };
    let Some(quant) = &v.quant else { return codes };
    let at = |i: usize| if quant.scale.len() == codes.len() { i } else { 0 };
    let real = |(i, code): (usize, &f64)| {
        (code - f64::from(quant.zero_point[at(i)])) * f64::from(quant.scale[at(i)])
    };
    codes.iter().enumerate().map(real).collect()
}
