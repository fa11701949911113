//! Second moments of an operator's inputs: they tell how much an error of the weights changes the output. `E|δw·x|² =
//! δwᵀ·E[x·xᵀ]·δw`.

use std::ops::Range;

use ndarray::{Array1, Array2, Axis};
use offshoot_ir::{Op, Window};
use rayon::prelude::*;

use super::tensors::Batch;

/// Most rows from which a group's moments are estimated.
const MAX_ROWS: usize = 4096;
/// Operators wider than this get no moments: the matrix would cost too much.
const MAX_WIDTH: usize = 1536;
/// Groups whose windows are gathered together.
const TOGETHER: usize = 16;
/// Damping as a share of the mean diagonal element: keeps the matrix invertible when samples are few.
const DAMPING: f32 = 0.01;

/// The moments of each group.
pub(crate) struct Moments {
    pub(crate) groups: Vec<Moment>,
}

/// The moments of one group; n is the number of weights of one output channel, in the order of the weight tensor.
pub(crate) struct Moment {
    /// Symmetric and positive definite, `[n, n]`.
    pub(crate) matrix: Array2<f32>,
    /// What was added to the diagonal.
    pub(crate) damping: f32,
    /// The observations `[count, n]` of which `matrix` holds the mean product, where they are fewer than half of n: errors then
    /// cost less by them.
    pub(crate) rows: Option<Array2<f32>>,
}

impl Moments {
    /// Moments of the operator's input `x` (every sample of the batch); `width` is the number of weights of an output
    /// channel. With `centred` the mean is subtracted, which is right if the bias will be corrected for it. `None`
    /// for operators that are not a plain sum over a window, or are too wide.
    pub(crate) fn new(op: &Op, x: &Batch, width: usize, centred: bool) -> Option<Self> {
        if width == 0 || width > MAX_WIDTH || x.is_empty() {
            return None;
        }
        let groups = match op {
            Op::FullyConnected { .. } => vec![covariance(rows_of(x, width), centred)],
            Op::Conv2d { window, groups, .. } => {
                // Neighbouring groups lie side by side in memory: a few are gathered at once.
                let starts: Vec<usize> = (0..*groups).step_by(TOGETHER).collect();
                let some = |&start: &usize| -> Vec<Moment> {
                    let rows = group_patches(x, window, *groups, start..(start + TOGETHER).min(*groups));
                    rows.into_iter().map(|rows| covariance(rows, centred)).collect()
                };
                starts.par_iter().flat_map_iter(some).collect()
            }
            _ => return None,
        };
        Some(Self { groups })
    }
}

/// Up to [`MAX_ROWS`] rows of a fully connected operator's input.
pub(crate) fn rows_of(x: &Batch, width: usize) -> Array2<f32> {
    let per_sample = x[0].len() / width;
    let pick = evenly(x.len() * per_sample);
    let mut rows = Array2::zeros((pick.len(), width));
    for (mut row, i) in rows.outer_iter_mut().zip(pick) {
        let (sample, at) = (&x[i / per_sample], i % per_sample * width);
        row.iter_mut().zip(sample.iter().skip(at)).for_each(|(r, v)| *r = *v);
    }
    rows
}

/// Up to [`MAX_ROWS`] windows of group `g` of a convolution's input, each in the order of OHWI weights.
pub(crate) fn patches(x: &Batch, window: &Window, groups: usize, g: usize) -> Array2<f32> {
    group_patches(x, window, groups, g..g + 1).pop().unwrap_or_default()
}

/// [`patches`] of each of the groups `which`.
fn group_patches(x: &Batch, window: &Window, groups: usize, which: Range<usize>) -> Vec<Array2<f32>> {
    let (h, w, c) = (x[0].shape()[1], x[0].shape()[2], x[0].shape()[3]);
    let per_group = c / groups;
    let [kh, kw] = window.kernel.map(usize::from);
    let [sh, sw] = window.stride.map(usize::from);
    let [dh, dw] = window.dilation.map(usize::from);
    let [top, left, bottom, right] = window.pad.map(usize::from);
    let extent = |size: usize, pads: usize, k: usize, d: usize, s: usize| {
        (size + pads).saturating_sub(d * (k - 1) + 1) / s + 1
    };
    let (oh, ow) = (extent(h, top + bottom, kh, dh, sh), extent(w, left + right, kw, dw, sw));
    let batch = x[0].shape()[0];
    let pick = evenly(x.len() * batch * oh * ow);
    let width = kh * kw * per_group;
    let mut rows = vec![vec![0.0; pick.len() * width]; which.len()];
    let samples: Vec<_> = x.iter().map(|a| a.as_standard_layout()).collect();
    for (at, i) in pick.iter().enumerate() {
        let (ox, oy, n) = (i % ow, i / ow % oh, i / (ow * oh));
        let sample = samples[n / batch].as_slice().unwrap_or_default();
        for (tap, (ky, kx)) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))).enumerate() {
            let (y, px) = ((oy * sh + ky * dh).wrapping_sub(top), (ox * sw + kx * dw).wrapping_sub(left));
            if y >= h || px >= w {
                continue;
            }
            let pixel = &sample[((n % batch * h + y) * w + px) * c..][..c];
            let to = at * width + tap * per_group;
            let from = &pixel[which.start * per_group..];
            if per_group == 1 {
                rows.iter_mut().zip(from).for_each(|(row, from)| row[to] = *from);
                continue;
            }
            for (row, from) in rows.iter_mut().zip(from.chunks_exact(per_group)) {
                row[to..to + per_group].copy_from_slice(from);
            }
        }
    }
    // Lengths are products of the same extents, so this cannot fail.
    let matrix = |rows| Array2::from_shape_vec((pick.len(), width), rows).unwrap_or_default();
    rows.into_iter().map(matrix).collect()
}

/// Up to [`MAX_ROWS`] indices below `count`, evenly spread. The fractional step keeps them from always hitting the
/// same column.
fn evenly(count: usize) -> Vec<usize> {
    let rows = count.min(MAX_ROWS);
    (0..rows).map(|i| (i as u128 * count as u128 / rows as u128) as usize).collect()
}

fn covariance(mut rows: Array2<f32>, centred: bool) -> Moment {
    let n = rows.ncols();
    if centred && let Some(mean) = rows.mean_axis(Axis(0)) {
        let mean: Array1<f32> = mean;
        if let Some(all) = rows.as_slice_mut() {
            all.chunks_exact_mut(n).for_each(|row| row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m));
        }
    }
    let mut m = rows.t().dot(&rows) / rows.nrows().max(1) as f32;
    let mean_diagonal = m.diag().sum() / n as f32;
    let damping = if mean_diagonal > 0.0 { DAMPING * mean_diagonal } else { 1.0 };
    m.diag_mut().iter_mut().for_each(|d| *d += damping);
    let few = rows.nrows() < n / 2;
    Moment { matrix: m, damping, rows: few.then_some(rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayD;
    use offshoot_ir::Activation;

    #[test]
    fn window_of_a_convolution_comes_in_weight_order() {
        let x = ArrayD::from_shape_vec(vec![1, 2, 2, 2], (1..=8).map(|v| v as f32).collect()).unwrap();
        let window = Window { kernel: [2, 2], stride: [1, 1], dilation: [1, 1], pad: [0, 0, 0, 0] };
        let rows = patches(&vec![x.clone()], &window, 1, 0);
        assert_eq!(rows.row(0).to_vec(), (1..=8).map(|v| v as f32).collect::<Vec<_>>());
        let both = group_patches(&vec![x], &window, 2, 0..2);
        assert_eq!(both[0].row(0).to_vec(), [1.0, 3.0, 5.0, 7.0]);
        assert_eq!(both[1].row(0).to_vec(), [2.0, 4.0, 6.0, 8.0]);
    }

    #[test]
    fn constant_input_has_damped_moments() {
        let x = vec![ArrayD::zeros(vec![1, 4]); 3];
        let m = Moments::new(&Op::FullyConnected { activation: Activation::None }, &x, 4, true).unwrap();
        assert!(m.groups[0].matrix.diag().iter().all(|&d| d > 0.0));
    }
}
