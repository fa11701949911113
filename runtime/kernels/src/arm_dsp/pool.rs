//! int8 average pool with one window over the whole input.

use crate::requant::bounded;
use core::arch::naked_asm;
use offshoot_format::record::{Pool, PoolArith};

/// Sums `pixels` (1 to 255) pixels of four channels, `step` bytes apart: sums of the first and third channel, then of
/// the second and fourth, as two halves of a word.
///
/// # Safety
/// `src` is valid for all pixels, `sums` for two words.
#[unsafe(naked)]
unsafe extern "C" fn four(src: *const i8, step: usize, pixels: usize, sums: *mut [i16; 2]) {
    naked_asm!(
        extension!(),
        "push {{r4, r5}}",
        "mov r4, #0",
        "mov r5, #0",
        "2:",
        "ldr r12, [r0]",
        "add r0, r1",
        "sxtab16 r4, r4, r12",
        "sxtab16 r5, r5, r12, ror #8",
        "subs r2, #1",
        "bne 2b",
        "strd r4, r5, [r3]",
        "pop {{r4, r5}}",
        "bx lr",
    )
}

/// Like [`crate::portable::pool_i8`]; returns `false` and computes nothing if the window is not the whole input.
pub(crate) fn average_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { clamp, .. } = r.arith else {
        return false;
    };
    if !r.is_global() {
        return false;
    }
    let pixels = usize::from(r.h) * usize::from(r.w);
    let c = usize::from(r.c);
    let (low, high) = clamp.unwrap_or((i8::MIN, i8::MAX));
    // A checked record has at least one of both, which spares the panics of a division by zero.
    let count = (pixels as i32).max(1);
    let image = (pixels * c).max(1);
    for (image, out) in src.chunks_exact(image).zip(dst.chunks_exact_mut(c.max(1))) {
        for (first, out) in (0..c).step_by(4).zip(out.chunks_exact_mut(4)) {
            let mut sums = [[0i16; 2]; 2];
            // The outputs have as many channels.
            let Some(channels) = image.get(first..) else { break };
            // SAFETY: four channels of all pixels of the image.
            unsafe { four(channels.as_ptr(), c, pixels, sums.as_mut_ptr()) };
            let [[a, c], [b, d]] = sums;
            for (out, sum) in out.iter_mut().zip([a, b, c, d]) {
                let sum = i32::from(sum);
                let half = if sum > 0 { count / 2 } else { -(count / 2) };
                *out = bounded((sum + half) / count, low.into(), high.into());
            }
        }
    }
    true
}
