//! Windows of any small size over one channel's plane.

use super::add::smmulr;
use super::plane::Windows;
use core::arch::asm;

/// Maximum number of taps, with each kernel row rounded up to an even number.
pub(super) const MOST: usize = 64;

/// `sum + a.0 · b.0 + a.1 · b.1`.
#[inline(always)]
fn smlad(a: u32, b: u32, sum: i32) -> i32 {
    let y;
    // SAFETY: an instruction on registers.
    unsafe {
        asm!("smlad {y}, {a}, {b}, {s}", a = in(reg) a, b = in(reg) b, s = in(reg) sum, y = lateout(reg) y,
            options(pure, nomem, nostack, preserves_flags));
    }
    y
}

/// Computes the outputs of `windows`; ignores its weights and its counts of pairs and singles.
///
/// # Safety
/// As for [`super::plane::run`]; `kernel` has at most [`MOST`] taps.
pub(super) unsafe fn run(
    windows: &mut Windows,
    kernel: [usize; 2],
    stride: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> i16,
) {
    let [k_h, k_w] = kernel;
    let pairs = k_w.div_ceil(2);
    let mut weights = [0u32; MOST / 2];
    let mut words = weights.iter_mut();
    for row in 0..k_h {
        for column in (0..k_w).step_by(2) {
            // The taps of a checked record fit.
            let Some(word) = words.next() else { return };
            let second = if column + 1 < k_w { weight(row, column + 1) } else { 0 };
            *word = u32::from(weight(row, column) as u16) | u32::from(second as u16) << 16;
        }
    }
    for _ in 0..windows.rows {
        for x in 0..columns {
            let mut sum = windows.bias;
            let mut next = 0;
            for row in 0..k_h {
                // SAFETY: a row of the scratch, which is readable beyond its window.
                let line = unsafe { windows.src.byte_add(row * windows.pitch).add(x * stride) };
                for pair in 0..pairs {
                    // SAFETY: as above.
                    let values = unsafe { line.add(2 * pair).cast::<u32>().read_unaligned() };
                    sum = smlad(values, weights[next & (MOST / 2 - 1)], sum);
                    next += 1;
                }
            }
            let scaled = smmulr(sum, windows.multiplier);
            let rounded =
                scaled.wrapping_add(scaled >> 31).wrapping_add(windows.offset) >> windows.shift >> 1;
            // SAFETY: an output of the plane.
            unsafe {
                *windows.out = rounded.clamp(-128, 127) as i8;
                windows.out = windows.out.add(windows.step);
            }
        }
        // SAFETY: the next row of the scratch and of the output, or what follows the last.
        unsafe {
            windows.src = windows.src.byte_add(windows.advance);
            windows.out = windows.out.wrapping_add(windows.gap);
        }
    }
}
