//! int8 pools, the sums or maxima of four channels in registers.

use offshoot_format::record::{Pool, PoolArith, PoolKind};

use crate::pooling::{self, Run};
use crate::requant::bounded;

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

/// Sums, or with `MAX` maxima, of a window for `N` channels from `first` on. Pointers instead of slices: checks would take more
/// instructions than the sums.
///
/// # Safety
/// All elements of the window are in memory.
#[inline(always)]
unsafe fn fold<const N: usize, const MAX: bool>(run: &Run, first: *const i8, start: i32) -> [i32; N] {
    let ([rows, columns], [row_step, column_step]) = (run.taps, run.steps);
    let mut results = [start; N];
    let mut row = first;
    for _ in 0..rows {
        let mut pixel = row;
        for _ in 0..columns {
            for (i, result) in results.iter_mut().enumerate() {
                // SAFETY: the caller has all elements.
                let x = i32::from(unsafe { *pixel.add(i) });
                *result = if MAX { x.max(*result) } else { *result + x };
            }
            pixel = pixel.wrapping_add(column_step);
        }
        row = row.wrapping_add(row_step);
    }
    results
}

/// The outputs of a run, before their bounds, from `finish`.
fn pixels<const MAX: bool>(
    run: &Run,
    src: &[i8],
    dst: &mut [i8],
    channels: usize,
    start: i32,
    finish: impl Fn(i32) -> i8,
) {
    let mut window = src.as_ptr().wrapping_add(run.src);
    let outputs = dst.get_mut(run.dst..).unwrap_or_default().chunks_exact_mut(channels.max(1));
    for output in outputs.take(run.count) {
        let mut at = window;
        let mut fours = output.chunks_exact_mut(CHANNELS);
        for four in &mut fours {
            // SAFETY: `pooling::visit` gives windows that lie in the input, and an input with all its channels.
            let results = unsafe { fold::<CHANNELS, MAX>(run, at, start) };
            for (out, v) in four.iter_mut().zip(results) {
                *out = finish(v);
            }
            at = at.wrapping_add(CHANNELS);
        }
        for out in fours.into_remainder() {
            // SAFETY: as above.
            let [v] = unsafe { fold::<1, MAX>(run, at, start) };
            *out = finish(v);
            at = at.wrapping_add(1);
        }
        window = window.wrapping_add(run.stride);
    }
}

/// Like [`crate::portable::pool_i8`]; returns `false` for windows of more than 255 positions or without any.
pub(crate) fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { zp, clamp } = r.arith else {
        return false;
    };
    let (low, high) = clamp.unwrap_or((i8::MIN, i8::MAX));
    let channels = usize::from(r.c);
    let bound = |v: i32| bounded(v, low.into(), high.into());
    pooling::visit(r, [src.len(), dst.len()], |run| {
        if r.kind == PoolKind::Max {
            return pixels::<true>(run, src, dst, channels, i8::MIN.into(), bound);
        }
        let padding = run.padded as i32 * i32::from(zp);
        let divisor = (run.divisor as i32).max(1);
        let half = divisor / 2;
        let quotient = |sum: i32| bound(if sum > 0 { sum + half } else { sum - half } / divisor);
        pixels::<false>(run, src, dst, channels, padding, quotient);
    })
}
