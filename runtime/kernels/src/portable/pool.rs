//! Pools, NHWC. int8 averages over the valid pixels and rounds ties away from zero, as TFLite does.
use super::conv::taps;
use super::float::{larger, within};
use crate::geometry::extent;
use crate::requant::bounded;
use offshoot_format::record::{Pool, PoolArith, PoolKind, Window};

/// int8 pool; input and output have the same scale and zero point.
pub fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) {
    let (zp, clamp) = match r.arith {
        PoolArith::I8 { zp, clamp } => (i32::from(zp), clamp.unwrap_or((i8::MIN, i8::MAX))),
        PoolArith::F32 { .. } => return,
    };
    pool(r, src, dst, |pixels, valid, area| {
        let v = match r.kind {
            PoolKind::Max => pixels.fold(i32::from(i8::MIN), |m, v: i8| m.max(i32::from(v))),
            PoolKind::Average | PoolKind::AverageIncludePad => {
                let all = if r.kind == PoolKind::Average { valid } else { area } as i32;
                let sum: i32 = pixels.map(i32::from).sum::<i32>() + (all - valid as i32) * zp;
                let half = all / 2;
                if sum > 0 { (sum + half) / all.max(1) } else { (sum - half) / all.max(1) }
            }
        };
        bounded(v, clamp.0.into(), clamp.1.into())
    });
}

/// float32 pool; sums in the order kernel row, kernel column.
pub fn pool_f32(r: &Pool, src: &[f32], dst: &mut [f32]) {
    let clamp = match r.arith {
        PoolArith::F32 { clamp } => clamp.unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
        PoolArith::I8 { .. } => return,
    };
    pool(r, src, dst, |pixels, valid, area| {
        let v = match r.kind {
            PoolKind::Max => pixels.fold(f32::NEG_INFINITY, |s, v| larger(v, s)),
            PoolKind::Average => pixels.fold(0.0, |s, v| s + v) / valid as f32,
            PoolKind::AverageIncludePad => pixels.fold(0.0, |s, v| s + v) / area as f32,
        };
        within(v, clamp)
    });
}

#[inline(always)]
fn pool<T: Copy>(
    r: &Pool,
    src: &[T],
    dst: &mut [T],
    reduce: impl Fn(&mut dyn Iterator<Item = T>, usize, usize) -> T,
) {
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
    let [d_h, d_w] = window.dilation.map(usize::from);
    let area = usize::from(window.kernel[0]) * usize::from(window.kernel[1]);
    let mut out = dst.iter_mut();
    for n in 0..usize::from(r.n) {
        // All pixels are there in a checked record; written so that no panic is linked.
        let image = src.get(n * h * w * c..).unwrap_or(&[]);
        for y in 0..out_h {
            let (ky0, ky1, iy0) = taps(y, h, &window, 0);
            for x in 0..out_w {
                let (kx0, kx1, ix0) = taps(x, w, &window, 1);
                for channel in 0..c {
                    let Some(o) = out.next() else { return };
                    let mut pixels = (0..ky1 - ky0).flat_map(|ky| {
                        (0..kx1 - kx0).filter_map(move |kx| {
                            image.get(((iy0 + ky * d_h) * w + ix0 + kx * d_w) * c + channel).copied()
                        })
                    });
                    *o = reduce(&mut pixels, (ky1 - ky0) * (kx1 - kx0), area);
                }
            }
        }
    }
}
