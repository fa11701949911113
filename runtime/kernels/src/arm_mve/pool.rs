//! int8 pools: sixteen channels at a time for a maximum, eight for an average.

use crate::geometry::extent;
use crate::portable::taps;
use core::arch::naked_asm;
use offshoot_format::record::{Pool, PoolArith, PoolKind, Window};

/// Windows of neighbouring output pixels of a row.
#[repr(C)]
struct Windows {
    /// First input of the first window.
    src: *const i8,
    dst: *mut i8,
    /// Rows and columns of a window, at least one each.
    taps: [usize; 2],
    /// Bytes from the end of a row of a window to the next row, and from a column to the next.
    steps: [usize; 2],
    /// Bytes from a window to the next.
    stride: usize,
    /// Output pixels, at least one.
    count: usize,
    /// Channels, at least one.
    channels: usize,
    /// Bounds of the output.
    low: i32,
    high: i32,
    /// Sum of the zero points in the padding, half of the divisor, and 2^32 by the divisor, rounded up.
    start: i32,
    half: i32,
    reciprocal: u32,
}

/// Maximum of each window.
///
/// # Safety
/// The pointers are valid for all windows and outputs.
#[unsafe(naked)]
unsafe extern "C" fn maximum(windows: &Windows) {
    naked_asm!(
        extension!(),
        "push {{r4-r12, lr}}",
        "ldrd r10, r11, [r0, #36]",
        "vdup.8 q2, r10",
        "vdup.8 q3, r11",
        "ldm r0, {{r1-r9}}",
        "2:",
        "mov r10, r9",
        "mov r11, r1",
        "3:",
        "vctp.8 r10",
        "vmov.i8 q0, #0x80",
        "mov r12, r11",
        "mov r0, r3",
        "4:",
        "dls lr, r4",
        "5:",
        "vpst",
        "vldrbt.u8 q1, [r12]",
        "vmax.s8 q0, q0, q1",
        "add r12, r6",
        "le lr, 5b",
        "add r12, r5",
        "subs r0, #1",
        "bne 4b",
        "vmax.s8 q0, q0, q2",
        "vmin.s8 q0, q0, q3",
        "vpst",
        "vstrbt.8 q0, [r2]",
        "add r11, #16",
        "add r2, #16",
        "subs r10, #16",
        "bgt 3b",
        "add r2, r10",
        "add r1, r7",
        "subs r8, #1",
        "bne 2b",
        "pop {{r4-r12, pc}}",
    )
}

/// The quotients of the sums in `$v`, rounded to nearest, ties away from zero.
macro_rules! divide {
    ($v:literal) => {
        concat!(
            "vshr.s32 q7, ",
            $v,
            ", #31\n",
            "vabs.s32 ",
            $v,
            ", ",
            $v,
            "\n",
            "vadd.i32 ",
            $v,
            ", ",
            $v,
            ", lr\n",
            "vmulh.u32 ",
            $v,
            ", ",
            $v,
            ", q4\n",
            "veor ",
            $v,
            ", ",
            $v,
            ", q7\n",
            "vsub.i32 ",
            $v,
            ", ",
            $v,
            ", q7\n",
        )
    };
}

/// Average of each window of at most 255 positions and at least two. The sums fit in 16 bits, and dividing by
/// multiplication is exact for them: the reciprocal is too large by less than 2^-24 of its value.
///
/// # Safety
/// The pointers are valid for all windows and outputs.
#[unsafe(naked)]
unsafe extern "C" fn average(windows: &Windows) {
    naked_asm!(
        extension!(),
        "push {{r4-r12, lr}}",
        "vpush {{d8-d15}}",
        // start, half.
        "sub sp, #8",
        "ldrd r10, r11, [r0, #44]",
        "strd r10, r11, [sp]",
        "ldr r10, [r0, #52]",
        "vdup.32 q4, r10",
        "ldrd r10, r11, [r0, #36]",
        "vdup.16 q2, r10",
        "vdup.16 q3, r11",
        "ldm r0, {{r1-r9}}",
        "2:",
        "mov r10, r9",
        "mov r11, r1",
        "3:",
        "vctp.16 r10",
        "ldr lr, [sp]",
        "vdup.16 q0, lr",
        "mov r0, r3",
        // A widening load needs one of the lower registers.
        "push {{r6}}",
        "mov r12, r6",
        "mov r6, r11",
        "4:",
        "dls lr, r4",
        "5:",
        "vpst",
        "vldrbt.s16 q1, [r6]",
        "vadd.i16 q0, q0, q1",
        "add r6, r12",
        "le lr, 5b",
        "add r6, r5",
        "subs r0, #1",
        "bne 4b",
        "pop {{r6}}",
        "ldr lr, [sp, #4]",
        "vmovlb.s16 q5, q0",
        "vmovlt.s16 q6, q0",
        divide!("q5"),
        divide!("q6"),
        "vmovnb.i32 q0, q5",
        "vmovnt.i32 q0, q6",
        "vmax.s16 q0, q0, q2",
        "vmin.s16 q0, q0, q3",
        "vpst",
        "vstrbt.16 q0, [r2]",
        "add r11, #8",
        "add r2, #8",
        "subs r10, #8",
        "bgt 3b",
        "add r2, r10",
        "add r1, r7",
        "subs r8, #1",
        "bne 2b",
        "add sp, #8",
        "vpop {{d8-d15}}",
        "pop {{r4-r12, pc}}",
    )
}

/// Like [`crate::portable::pool_i8`]; returns `false` and computes nothing for windows of more than 255 positions.
#[inline(never)]
pub(crate) fn pool_i8(r: &Pool, src: &[i8], dst: &mut [i8]) -> bool {
    let PoolArith::I8 { zp, clamp } = r.arith else {
        return false;
    };
    let (low, high) = clamp.unwrap_or((i8::MIN, i8::MAX));
    let window = Window::from(r.window);
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let (out_h, out_w) = (extent(h, &window, 0), extent(w, &window, 1));
    let [d_h, d_w] = window.dilation.map(usize::from);
    let area = window.kernel.map(usize::from).iter().product::<usize>();
    let n = usize::from(r.n);
    let fits =
        (1..256).contains(&area) && c > 0 && src.len() >= n * h * w * c && dst.len() >= n * out_h * out_w * c;
    if !fits {
        return false;
    }
    // The windows of these output columns lie inside.
    let stride = usize::from(window.stride[1]).max(1);
    let left = usize::from(window.pad[1]).div_ceil(stride).min(out_w);
    let reach = d_w * (usize::from(window.kernel[1]) - 1) + 1;
    let right = (w + usize::from(window.pad[1]))
        .checked_sub(reach)
        .map_or(left, |room| (room / stride + 1).min(out_w));
    for image in 0..n {
        for y in 0..out_h {
            let (ky0, ky1, row) = taps(y, h, &window, 0);
            let mut x = 0;
            while x < out_w {
                let count = if (left..right).contains(&x) { right - x } else { 1 };
                let (kx0, kx1, column) = taps(x, w, &window, 1);
                let (rows, columns) = (ky1 - ky0, kx1 - kx0);
                let valid = rows * columns;
                let all = if r.kind == PoolKind::AverageIncludePad { area } else { valid };
                let windows = Windows {
                    src: src[((image * h + row) * w + column) * c..].as_ptr(),
                    dst: dst[((image * out_h + y) * out_w + x) * c..].as_mut_ptr(),
                    taps: [rows, columns],
                    steps: [(d_h * w).wrapping_sub(columns * d_w).wrapping_mul(c), d_w * c],
                    stride: stride * c,
                    count,
                    channels: c,
                    low: low.into(),
                    high: high.into(),
                    start: (all - valid) as i32 * i32::from(zp),
                    half: (all / 2) as i32,
                    // 0 is not reached: the average of one position is its value.
                    reciprocal: (u32::MAX / all.max(2) as u32) + 1,
                };
                let run = if r.kind == PoolKind::Max || all == 1 { maximum } else { average };
                // SAFETY: every window covers elements of the input alone, and the output has all pixels.
                unsafe { run(&windows) };
                x += count;
            }
        }
    }
    true
}
