//! int8 pools, four channels at a time.

use crate::pooling;
use crate::requant::bounded;
use core::arch::naked_asm;
use offshoot_format::record::{Pool, PoolArith, PoolKind};

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

/// Windows of neighbouring output pixels of a row.
#[repr(C)]
struct Windows {
    /// First input of the first window, and first output.
    src: *const i8,
    dst: *mut i8,
    /// Rows and columns, at least one each.
    taps: [usize; 2],
    /// Bytes from the end of a row to the next row, and from a column to the next.
    steps: [usize; 2],
    /// Channels, at least four. The last four overlap those before if they are not a multiple.
    channels: usize,
    /// Bounds of the output, four times each.
    low: u32,
    high: u32,
    /// Sum of the zero points in the padding, twice, half of the divisor, and the divisor.
    start: u32,
    half: u32,
    divisor: u32,
    /// Output pixels, at least one; counted down.
    count: usize,
    /// Bytes from the end of a window's first pixel to the next window.
    skip: usize,
}

/// Goes on to the next window, of [`Windows`] at lr; the last one gives the condition `eq`.
macro_rules! next_window {
    () => {
        "ldrd r9, r10, [lr, #48]\nsubs r9, #1\nstr r9, [lr, #48]\nadd r1, r10\nldr r7, [lr, #24]"
    };
}

/// Maximum of each window.
///
/// # Safety
/// The pointers are valid for all elements of the windows and of the output.
#[unsafe(naked)]
unsafe extern "C" fn maximum(windows: &mut Windows) {
    naked_asm!(
        extension!(),
        "push {{r0, r4-r11, lr}}",
        "ldm r0, {{r1-r7}}",
        "2:",
        "subs r7, #4",
        "itt mi",
        "addmi r1, r7",
        "addmi r2, r7",
        "mov r10, #0x80808080",
        "mov r12, r1",
        "mov r0, r3",
        "3:",
        "mov lr, r4",
        "4:",
        "ldr r11, [r12]",
        "add r12, r6",
        "ssub8 r9, r10, r11",
        "sel r10, r10, r11",
        "subs lr, #1",
        "bne 4b",
        "add r12, r5",
        "subs r0, #1",
        "bne 3b",
        "ldr lr, [sp]",
        "ldrd r8, r11, [lr, #28]",
        "ssub8 r0, r10, r8",
        "sel r10, r10, r8",
        "ssub8 r0, r10, r11",
        "sel r10, r11, r10",
        "str r10, [r2], #4",
        "add r1, #4",
        "cmp r7, #0",
        "bgt 2b",
        next_window!(),
        "bne 2b",
        "pop {{r0, r4-r11, pc}}",
    )
}

/// Quotient of the sum in `$v` and the divisor (r11, half of it in r10), ties away from zero.
macro_rules! divide {
    ($v:literal) => {
        concat!(
            "cmp ", $v, ", #0\n", "ite gt\n", "addgt ", $v, ", r10\n", "suble ", $v, ", r10\n", "sdiv ", $v,
            ", ", $v, ", r11\n",
        )
    };
}

/// Average of each window; its sums and those of the padding fit in 16 bits.
///
/// # Safety
/// The pointers are valid for all elements of the windows and of the output.
#[unsafe(naked)]
unsafe extern "C" fn average(windows: &mut Windows) {
    naked_asm!(
        extension!(),
        "push {{r0, r4-r11, lr}}",
        "ldm r0, {{r1-r7}}",
        "2:",
        "subs r7, #4",
        "itt mi",
        "addmi r1, r7",
        "addmi r2, r7",
        "ldr lr, [sp]",
        "ldr r8, [lr, #36]",
        "mov r9, r8",
        "mov r12, r1",
        "mov r0, r3",
        "3:",
        "mov lr, r4",
        "4:",
        "ldr r10, [r12]",
        "add r12, r6",
        "sxtab16 r8, r8, r10",
        "sxtab16 r9, r9, r10, ror #8",
        "subs lr, #1",
        "bne 4b",
        "add r12, r5",
        "subs r0, #1",
        "bne 3b",
        "ldr lr, [sp]",
        "ldrd r10, r11, [lr, #40]",
        "sxth r12, r8",
        "asr r0, r8, #16",
        divide!("r12"),
        divide!("r0"),
        "pkhbt r8, r12, r0, lsl #16",
        "sxth r12, r9",
        "asr r0, r9, #16",
        divide!("r12"),
        divide!("r0"),
        "pkhbt r9, r12, r0, lsl #16",
        "uxtb16 r8, r8",
        "uxtb16 r9, r9",
        "orr r8, r8, r9, lsl #8",
        "ldrd r10, r11, [lr, #28]",
        "ssub8 r12, r8, r10",
        "sel r8, r8, r10",
        "ssub8 r12, r8, r11",
        "sel r8, r11, r8",
        "str r8, [r2], #4",
        "add r1, #4",
        "cmp r7, #0",
        "bgt 2b",
        next_window!(),
        "bne 2b",
        "pop {{r0, r4-r11, pc}}",
    )
}

/// Like [`crate::portable::pool_i8`]; returns `false` for fewer than four channels, and for windows of more than 255
/// positions or without any.
pub(crate) fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { zp, clamp } = r.arith else {
        return false;
    };
    let channels = usize::from(r.c);
    if channels < 4 {
        return false;
    }
    let (low, high) = clamp.unwrap_or((i8::MIN, i8::MAX));
    let kernel = if r.kind == PoolKind::Max { maximum } else { average };
    pooling::visit(r, [src.len(), dst.len()], |run| {
        let [row, column] = run.steps;
        // The padding counts at most 255 zero points.
        let padding = (run.padded as i32 * i32::from(zp)) as u16;
        let mut windows = Windows {
            src: src.as_ptr().wrapping_add(run.src),
            dst: dst.as_mut_ptr().wrapping_add(run.dst),
            taps: run.taps,
            steps: [row.wrapping_sub(run.taps[1] * column), column],
            channels,
            low: u32::from(low as u8) * 0x0101_0101,
            high: u32::from(high as u8) * 0x0101_0101,
            start: u32::from(padding) * 0x0001_0001,
            half: (run.divisor / 2) as u32,
            divisor: run.divisor as u32,
            count: run.count,
            skip: run.stride.wrapping_sub(channels),
        };
        // SAFETY: every window covers elements of the input alone, and the output has all pixels.
        unsafe { kernel(&mut windows) };
    })
}
