//! Tensors of a batch of samples: real values, rounding to a grid, noise.

use std::borrow::Cow;

use ndarray::ArrayD;
use offshoot_ir::grid::on_grid;
use offshoot_ir::{Activation, DType, Data, Graph, Quant, Value, ValueId};
use rayon::prelude::*;

use super::vectors::vectorised;

/// One tensor of every sample of a batch.
pub(crate) type Batch = Vec<ArrayD<f32>>;

/// The elements of an array, in any order.
pub(crate) fn elements(array: &ArrayD<f32>) -> Cow<'_, [f32]> {
    match array.as_slice_memory_order() {
        Some(values) => Cow::Borrowed(values),
        None => Cow::Owned(array.iter().copied().collect()),
    }
}

/// The real values of a constant.
pub(crate) fn real_values(value: &Value) -> Vec<f32> {
    let Some(data) = &value.data else {
        return Vec::new();
    };
    // Elements with the same scale lie side by side.
    let inner = match value.quant.as_ref().and_then(|q| q.axis) {
        Some(axis) => value.shape[axis + 1..].iter().product::<usize>().max(1),
        None => value.len().max(1),
    };
    let quant = value.quant.as_ref();
    match data.as_ref() {
        Data::F32(v) => v.clone(),
        Data::I8(v) => affine(v, quant, inner),
        Data::I16(v) => affine(v, quant, inner),
        Data::I32(v) => affine(v, quant, inner),
        Data::I64(v) => v.iter().map(|&q| q as f32).collect(),
    }
}

/// Real values of codes, of which `inner` after another have the same scale.
fn affine<T: Copy + Into<f64>>(codes: &[T], quant: Option<&Quant>, inner: usize) -> Vec<f32> {
    let Some(quant) = quant else { return codes.iter().map(|&q| q.into() as f32).collect() };
    let mut values = Vec::with_capacity(codes.len());
    for (i, part) in codes.chunks(inner).enumerate() {
        let k = i % quant.scale.len();
        let (scale, zero) = (f64::from(quant.scale[k]), f64::from(quant.zero_point[k]));
        values.extend(part.iter().map(|&q| (scale * (q.into() - zero)) as f32));
    }
    values
}

/// Applies a fused activation to an operator's output.
pub(crate) fn activate(activation: Activation, batch: &mut Batch) {
    let (low, high) = activation.bounds();
    if low > f32::NEG_INFINITY || high < f32::INFINITY {
        map(
            batch,
            #[inline(always)]
            move |x| x.max(low).min(high),
        );
    }
}

/// Replaces every element `x` by `f(x)`. `f` is `#[inline(always)]`.
#[inline(always)]
pub(crate) fn map(batch: &mut Batch, f: impl Fn(f32) -> f32 + Copy + Sync) {
    batch.par_iter_mut().for_each(|a| match a.as_slice_memory_order_mut() {
        Some(values) => vectorised(
            // A copy of what `f` captures stays in registers.
            #[inline(always)]
            move || values.iter_mut().for_each(|x| *x = f(*x)),
        ),
        None => a.mapv_inplace(f),
    });
}

/// Rounds a tensor to its int8 grid if it has one.
pub(crate) fn round(graph: &Graph, id: ValueId, batch: &mut Batch) {
    let value = graph.value(id);
    if let (DType::I8, Some(quant)) = (value.dtype, &value.quant) {
        let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
        // The device quantises NaN (0 / 0, for instance) to the zero point.
        map(
            batch,
            #[inline(always)]
            move |v| if v.is_nan() { 0.0 } else { on_grid(v, scale, zero) },
        );
    }
}

/// A sample whose signal has more than this many times the median energy counts as if it had this much.
const LOUD: f64 = 10.0;

/// Energies of signal and noise of all samples together, from those of each. One sample that is much louder than the others
/// must not hide what becomes of them: its energies are scaled down.
pub fn pooled(samples: &[(f64, f64)]) -> (f64, f64) {
    let mut signals: Vec<f64> = samples.iter().map(|s| s.0).collect();
    signals.sort_by(f64::total_cmp);
    let limit = LOUD * signals.get(signals.len() / 2).copied().unwrap_or(0.0);
    samples.iter().fold((0.0, 0.0), |(signal, noise), &(s, e)| {
        let loud = s.is_finite() && limit > 0.0 && s > limit;
        let weight = if loud { limit / s } else { 1.0 };
        (signal + weight * s, noise + weight * e)
    })
}

/// Energies of `float` and of the difference between `quantized` and `float`, [`pooled`] over the samples.
pub(crate) fn energies(float: &Batch, quantized: &Batch) -> (f64, f64) {
    let add = |(s, e): (f64, f64), (&f, &q): (&f32, &f32)| {
        (s + f64::from(f) * f64::from(f), e + (f64::from(f) - f64::from(q)).powi(2))
    };
    let samples = float
        .par_iter()
        .zip(quantized)
        .map(|(f, q)| match (f.as_slice(), q.as_slice()) {
            (Some(f), Some(q)) => f.iter().zip(q).fold((0.0, 0.0), add),
            _ => f.iter().zip(q).fold((0.0, 0.0), add),
        })
        .collect::<Vec<_>>();
    pooled(&samples)
}

/// Signal-to-noise ratio in dB, clamped to ±200 so that it stays a number in JSON.
pub(crate) fn decibels(signal: f64, error: f64) -> f32 {
    if error <= signal * 1e-20 {
        return 200.0;
    }
    ((10.0 * (signal / error).log10()) as f32).max(-200.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loud_sample_does_not_hide_the_others() {
        // Seven are lost entirely, the eighth is exact to 60 dB.
        let mut samples = vec![(1.0, 1.0); 7];
        samples.push((1e6, 1.0));
        let (signal, noise) = pooled(&samples);
        assert!((signal - 17.0).abs() < 1e-9 && decibels(signal, noise) < 4.0, "{signal} {noise}");
        // Alike samples, and silence with a few signals, count as they are.
        assert_eq!(pooled(&[(1.0, 0.1), (8.0, 0.2), (2.0, 0.3)]), (11.0, 0.1 + 0.2 + 0.3));
        assert_eq!(pooled(&[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (5.0, 1.0)]), (5.0, 1.0));
    }
}
