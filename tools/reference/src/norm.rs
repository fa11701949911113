//! Softmax, normalisation, reduction.

use ndarray::{ArrayD, Axis};
use offshoot_ir::ReduceKind;

pub(crate) fn softmax(x: &ArrayD<f32>, axis: usize) -> ArrayD<f32> {
    let mut out = x.clone();
    for mut lane in out.lanes_mut(Axis(axis)) {
        let max = lane.fold(f32::NEG_INFINITY, |m, v| m.max(*v));
        lane.mapv_inplace(|v| (v - max).exp());
        let sum = lane.sum();
        lane.mapv_inplace(|v| v / sum);
    }
    out
}

/// x […, C]; gamma, beta, mean, variance [C].
pub(crate) fn batch_norm(x: &ArrayD<f32>, p: [&ArrayD<f32>; 4], epsilon: f32) -> ArrayD<f32> {
    let mut out = x.clone();
    let affine: Vec<(f32, f32)> = (p[0].iter().zip(p[1]).zip(p[2].iter().zip(p[3])))
        .map(|((gamma, beta), (mean, variance))| {
            let scale = gamma / (variance + epsilon).sqrt();
            (scale, beta - mean * scale)
        })
        .collect();
    for mut row in out.rows_mut() {
        for (v, (scale, offset)) in row.iter_mut().zip(&affine) {
            *v = *v * scale + offset;
        }
    }
    out
}

/// Normalises over the last axis.
pub(crate) fn layer_norm(
    x: &ArrayD<f32>,
    gamma: &ArrayD<f32>,
    beta: &ArrayD<f32>,
    epsilon: f32,
) -> ArrayD<f32> {
    let mut out = x.clone();
    for mut row in out.rows_mut() {
        let n = row.len().max(1) as f32;
        let mean = row.sum() / n;
        let variance = row.fold(0.0, |s, v| s + (v - mean) * (v - mean)) / n;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for ((v, g), b) in row.iter_mut().zip(gamma.iter()).zip(beta.iter()) {
            *v = (*v - mean) * scale * g + b;
        }
    }
    out
}

/// Drops the reduced axes; the caller reshapes.
pub(crate) fn reduce(x: &ArrayD<f32>, kind: ReduceKind, axes: &[usize]) -> ArrayD<f32> {
    let mut out = x.clone();
    let mut count = 1;
    for axis in axes.iter().rev() {
        count *= out.shape()[*axis];
        out = match kind {
            ReduceKind::Mean | ReduceKind::Sum => out.sum_axis(Axis(*axis)),
            ReduceKind::Max => out.fold_axis(Axis(*axis), f32::NEG_INFINITY, |m, v| m.max(*v)),
            ReduceKind::Min => out.fold_axis(Axis(*axis), f32::INFINITY, |m, v| m.min(*v)),
        };
    }
    if kind == ReduceKind::Mean {
        out.mapv_inplace(|v| v / count as f32);
    }
    out
}

/// Indices as floats; drops the axis.
pub(crate) fn argmax(x: &ArrayD<f32>, axis: usize, select_last: bool) -> ArrayD<f32> {
    x.map_axis(Axis(axis), |lane| {
        let mut best = 0;
        for (i, v) in lane.iter().enumerate() {
            if *v > lane[best] || (select_last && *v == lane[best]) {
                best = i;
            }
        }
        best as f32
    })
}

#[cfg(test)]
mod tests {
    use ndarray::{IxDyn, arr2};

    use super::*;

    #[test]
    fn by_hand() {
        let x = arr2(&[[1.0f32, 3.0], [2.0, 2.0]]).into_dyn();
        assert_eq!(reduce(&x, ReduceKind::Mean, &[0, 1]).sum(), 2.0);
        assert_eq!(reduce(&x, ReduceKind::Max, &[1]).as_slice().unwrap(), [3.0, 2.0]);
        assert_eq!(argmax(&x, 1, true).as_slice().unwrap(), [1.0, 1.0]);
        assert_eq!(argmax(&x, 1, false).as_slice().unwrap(), [1.0, 0.0]);
        assert!((softmax(&x, 1)[[1, 0]] - 0.5).abs() < 1e-6);
        let (one, zero) = (ArrayD::ones(IxDyn(&[2])), ArrayD::zeros(IxDyn(&[2])));
        assert!((layer_norm(&x, &one, &zero, 0.0)[[0, 1]] - 1.0).abs() < 1e-6);
        let same = batch_norm(&x, [&one, &zero, &zero, &one], 0.0);
        assert_eq!(same, x);
    }
}
