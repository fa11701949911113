//! Pools, NHWC.

use ndarray::{ArrayD, IxDyn};
use offshoot_ir::{PoolKind, Window};

pub(crate) fn pool(x: &ArrayD<f32>, kind: PoolKind, window: &Window, shape: &[usize]) -> ArrayD<f32> {
    let (h, w) = (x.shape()[1], x.shape()[2]);
    let [kh, kw] = window.kernel.map(usize::from);
    let area = (kh * kw) as f32;
    let place = |o: usize, k: usize, axis: usize, extent: usize| {
        let at = o * usize::from(window.stride[axis]) + k * usize::from(window.dilation[axis]);
        at.checked_sub(usize::from(window.pad[axis])).filter(|i| *i < extent)
    };
    ArrayD::from_shape_fn(IxDyn(shape), |at| {
        let (mut sum, mut max, mut count) = (0.0f32, f32::NEG_INFINITY, 0usize);
        for ky in 0..kh {
            let Some(y) = place(at[1], ky, 0, h) else { continue };
            for kx in 0..kw {
                let Some(xx) = place(at[2], kx, 1, w) else { continue };
                let v = x[[at[0], y, xx, at[3]]];
                sum += v;
                max = max.max(v);
                count += 1;
            }
        }
        match kind {
            PoolKind::Max => max,
            PoolKind::Average => sum / count.max(1) as f32,
            PoolKind::AverageIncludePad => sum / area,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_counts_only_where_asked() {
        let x = ArrayD::from_shape_vec(IxDyn(&[1, 1, 2, 1]), vec![2.0, 4.0]).unwrap();
        let window = Window { kernel: [1, 2], stride: [1, 2], dilation: [1, 1], pad: [0, 1, 0, 1] };
        let run = |kind| pool(&x, kind, &window, &[1, 1, 2, 1]).into_raw_vec_and_offset().0;
        assert_eq!(run(PoolKind::Average), [2.0, 4.0]);
        assert_eq!(run(PoolKind::AverageIncludePad), [1.0, 2.0]);
        assert_eq!(run(PoolKind::Max), [2.0, 4.0]);
    }
}
