//! Pools, NHWC.

use ndarray::ArrayD;
use offshoot_ir::{PoolKind, Window};

use super::window::Windows;
use super::{array, flat};

/// A maximum's gradient goes to the first of equal elements.
pub(super) fn pool(x: &ArrayD<f32>, dy: &ArrayD<f32>, kind: PoolKind, window: &Window) -> ArrayD<f32> {
    let (Ok(image), Ok([_, rows, columns, _])) =
        (<[usize; 4]>::try_from(x.shape()), <[usize; 4]>::try_from(dy.shape()))
    else {
        return ArrayD::zeros(x.raw_dim());
    };
    let windows = Windows { image, places: [rows, columns], window };
    let (c, xs, ds) = (image[3], flat(x), flat(dy));
    let mut dx = vec![0.0; xs.len()];
    if kind == PoolKind::Max {
        let mut best = vec![(f32::NEG_INFINITY, usize::MAX); ds.len()];
        windows.each(|place, _, pixel| {
            for (b, i) in best[place * c..][..c].iter_mut().zip(pixel * c..) {
                if b.1 == usize::MAX || xs[i] > b.0 {
                    *b = (xs[i], i);
                }
            }
        });
        for ((_, i), d) in best.into_iter().zip(ds.iter()) {
            if let Some(to) = dx.get_mut(i) {
                *to += d;
            }
        }
    } else {
        let mut count = vec![0usize; windows.count()];
        windows.each(|place, _, _| count[place] += 1);
        if kind == PoolKind::AverageIncludePad {
            count.fill(windows.taps());
        }
        windows.each(|place, _, pixel| {
            let share = 1.0 / count[place] as f32;
            let to = dx[pixel * c..][..c].iter_mut();
            to.zip(&ds[place * c..][..c]).for_each(|(to, d)| *to += d * share);
        });
    }
    array(x.shape(), dx)
}
