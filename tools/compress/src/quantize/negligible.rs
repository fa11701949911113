//! Output channels whose inputs hardly move them.
//!
//! Trained networks have channels that regularisation has all but switched off. With a scale of their own, their weights keep
//! their relative precision, and the channel costs as much as any other, although its output never moves by a step. Such weights
//! become zero, and the mean of their contribution is added to the bias: the channel is then a constant, which later passes remove.

use offshoot_ir::Op;

use super::tensors::Batch;
use super::vectors::vectorised;

/// A channel is negligible if its inputs, anywhere in their observed ranges, move its output by less than this many steps.
const STEPS: f32 = 0.25;

/// Fewest observations of an input channel from which its range is known well enough.
const OBSERVATIONS: usize = 32;

/// Clears the weights of negligible channels, and adds their mean contribution to `bias`. `weights` are those of `op`, which
/// reads `x` and writes a tensor of scale `step`. `seen`: the range of each input channel over all calibration samples, of which
/// `x` holds a part; a channel that moves in any of them counts. Operators other than convolutions and fully connected ones stay
/// as they are.
pub(super) fn clear(
    op: &Op,
    x: &Batch,
    seen: &[(f32, f32)],
    weights: &mut [f32],
    bias: &mut [f32],
    step: f32,
) {
    let (groups, padded) = match op {
        Op::FullyConnected { .. } => (1, false),
        Op::Conv2d { groups, window, .. } => (*groups, window.pad != [0; 4]),
        _ => return,
    };
    let inputs = x.first().and_then(|a| a.shape().last().copied()).unwrap_or(0);
    let rows = bias.len();
    if rows == 0
        || inputs == 0
        || groups == 0
        || !inputs.is_multiple_of(groups)
        || !rows.is_multiple_of(groups)
    {
        return;
    }
    if x.iter().map(|a| a.len() / inputs).sum::<usize>() < OBSERVATIONS {
        return;
    }
    let ranges = ranges(x, inputs);
    let (width, columns) = (weights.len() / rows, inputs / groups);
    for row in 0..rows {
        let first = row / (rows / groups) * columns;
        let own = &mut weights[row * width..][..width];
        let (mut spread, mut middle) = (0.0, 0.0);
        for (i, w) in own.iter().enumerate() {
            let (mut low, mut high, mean) = ranges[first + i % columns];
            if let Some(all) = seen.get(first + i % columns) {
                (low, high) = (low.min(all.0), high.max(all.1));
            }
            if padded {
                (low, high) = (low.min(0.0), high.max(0.0));
            }
            spread += w.abs() * (high - low);
            middle += w * mean;
        }
        if spread < STEPS * step && own.iter().any(|w| *w != 0.0) {
            own.fill(0.0);
            bias[row] += middle;
        }
    }
}

/// Whether the inputs of `op` are judged here.
pub(super) fn is_judged(op: &Op) -> bool {
    matches!(op, Op::FullyConnected { .. } | Op::Conv2d { .. })
}

/// Widens `known`, the range of each channel of a tensor, by these samples of it.
pub(super) fn widen(known: &mut Vec<(f32, f32)>, x: &Batch) {
    let channels = x.first().and_then(|a| a.shape().last().copied()).unwrap_or(0);
    if channels == 0 {
        return;
    }
    known.resize(channels, (f32::INFINITY, f32::NEG_INFINITY));
    for (known, (low, high, _)) in known.iter_mut().zip(ranges(x, channels)) {
        *known = (known.0.min(low), known.1.max(high));
    }
}

/// Smallest and largest element, and mean, of each channel.
fn ranges(x: &Batch, channels: usize) -> Vec<(f32, f32, f32)> {
    let mut lows = vec![f32::INFINITY; channels];
    let mut highs = vec![f32::NEG_INFINITY; channels];
    let mut sums = vec![0.0f64; channels];
    let mut count = 0usize;
    for array in x {
        let values = array.as_standard_layout();
        let values = values.as_slice().unwrap_or_default();
        vectorised(
            #[inline(always)]
            || {
                for row in values.chunks_exact(channels) {
                    for (((low, high), sum), &v) in lows.iter_mut().zip(&mut highs).zip(&mut sums).zip(row) {
                        (*low, *high, *sum) = (low.min(v), high.max(v), *sum + f64::from(v));
                    }
                }
            },
        );
        count += array.len() / channels;
    }
    let mean = |sum: f64| (sum / count.max(1) as f64) as f32;
    lows.into_iter().zip(highs).zip(sums).map(|((low, high), sum)| (low, high, mean(sum))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayD;
    use offshoot_ir::Activation;

    #[test]
    fn weights_that_move_nothing_become_a_bias() {
        let op = Op::FullyConnected { activation: Activation::Relu };
        let sample = || ArrayD::from_shape_vec(vec![2, 2], vec![1.0, -4.0, 3.0, 4.0]).unwrap();
        let given = (vec![1e-3, 2e-3, 0.5, 0.25], vec![1.0, 1.0]);
        let (mut weights, mut bias) = given.clone();
        let x: Vec<_> = (0..16).map(|_| sample()).collect();
        clear(&op, &x, &[], &mut weights, &mut bias, 0.1);
        // The first row moves by up to 1e-3 · 2 + 2e-3 · 8 < 0.1 / 4.
        assert_eq!(weights, [0.0, 0.0, 0.5, 0.25]);
        assert!((bias[0] - 1.002).abs() < 1e-6 && bias[1] == 1.0, "{bias:?}");
        // One sample says nothing about the range.
        let (mut weights, mut bias) = given.clone();
        clear(&op, &vec![sample()], &[], &mut weights, &mut bias, 0.1);
        assert_eq!((weights, bias), given);
        // Another sample, on which nothing is fitted, moves it by more.
        let (mut weights, mut bias) = given.clone();
        let mut seen = Vec::new();
        widen(&mut seen, &vec![sample(), sample() * 1000.0]);
        assert_eq!(seen, [(1.0, 3000.0), (-4000.0, 4000.0)]);
        clear(&op, &x, &seen, &mut weights, &mut bias, 0.1);
        assert_eq!((weights, bias), given);
    }
}
