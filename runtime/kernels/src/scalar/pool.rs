//! int8 average pool with one window over the whole input.

use offshoot_format::record::{Pool, PoolArith};

/// Channels whose sums are in registers together.
const CHANNELS: usize = 4;

/// Like [`crate::portable::pool_i8`]; returns `false` and computes nothing if the window is not the whole input.
pub(crate) fn average_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { clamp, .. } = r.arith else {
        return false;
    };
    let c = usize::from(r.c);
    if !r.is_global() || !c.is_multiple_of(CHANNELS) || c == 0 {
        return false;
    }
    let pixels = usize::from(r.h) * usize::from(r.w);
    let (low, high) = clamp.unwrap_or((i8::MIN, i8::MAX));
    let count = pixels as i32;
    for (image, out) in src.chunks_exact(pixels * c).zip(dst.chunks_exact_mut(c)) {
        for (first, out) in (0..c).step_by(CHANNELS).zip(out.chunks_exact_mut(CHANNELS)) {
            let mut sums = [0i32; CHANNELS];
            for pixel in image[first..].chunks(c) {
                for (sum, &x) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(x);
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                let half = if sum > 0 { count / 2 } else { -(count / 2) };
                *out = ((sum + half) / count).clamp(low.into(), high.into()) as i8;
            }
        }
    }
    true
}
