//! NEON, which every aarch64 host and phone has, with two registers per vector; and dot products of bytes where the
//! processor has them.

#![allow(unsafe_code)]

mod dot;

use super::wide::{DotJob, Isa, Job};
use core::arch::aarch64::*;

/// Runs a job.
pub(crate) fn dispatch<J: Job>(job: J) -> bool {
    #[cfg(any(test, feature = "testing"))]
    if PORTABLE.get() {
        return false;
    }
    job.run(Neon);
    true
}

/// Runs a job on dot products of bytes; returns `false` and computes nothing if the processor has none or the job does
/// not take its input.
pub(crate) fn dispatch_dot<J: DotJob>(job: J) -> bool {
    // SAFETY: the processor has the instruction.
    dot::available() && job.run(unsafe { dot::NeonDot::new() })
}

#[cfg(any(test, feature = "testing"))]
std::thread_local! {
    /// Whether tests on this thread run without dot products.
    pub(crate) static WITHOUT_DOT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
    /// Whether tests on this thread run without NEON.
    pub(crate) static PORTABLE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// NEON.
#[derive(Clone, Copy)]
pub(crate) struct Neon;

/// A method whose body consists of NEON instructions and accesses through references.
macro_rules! method {
    ($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        #[inline(always)]
        fn $name(self, $($argument: $type),*) $(-> $result)? {
            // SAFETY: this file is built only where NEON is part of the target; accesses stay within the arrays that
            // the references point to.
            #[allow(unused_unsafe)]
            unsafe { $body }
        }
    };
}

impl Isa for Neon {
    type I16 = [int16x8_t; 2];
    type I32 = [int32x4_t; 2];

    method!(widen(x: &[i8; 16]) -> [int16x8_t; 2] {
        let x = vld1q_s8(x.as_ptr());
        [vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x)]
    });
    method!(spread(x: &[i8; 8]) -> [int16x8_t; 2] {
        const ORDER: [u8; 16] = [0, 2, 0, 2, 1, 3, 1, 3, 4, 6, 4, 6, 5, 7, 5, 7];
        let x = vld1_s8(x.as_ptr());
        let x = vqtbl1q_s8(vcombine_s8(x, x), vld1q_u8(ORDER.as_ptr()));
        [vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x)]
    });
    method!(quad(x: &[i16; 4]) -> [int16x8_t; 2] {
        let pairs = vreinterpret_s32_s16(even_odd(vld1_s16(x.as_ptr())));
        let (even, odd) = (vdupq_lane_s32::<0>(pairs), vdupq_lane_s32::<1>(pairs));
        [vreinterpretq_s16_s32(even), vreinterpretq_s16_s32(odd)]
    });
    method!(half_twice(x: [int16x8_t; 2], second: bool) -> [int16x8_t; 2] {
        let half = x[usize::from(second)];
        let (even, odd) = (vget_low_s16(half), vget_high_s16(half));
        [vcombine_s16(even, even), vcombine_s16(odd, odd)]
    });
    method!(load_i16(x: &[i16; 16]) -> [int16x8_t; 2] {
        [vld1q_s16(x.as_ptr()), vld1q_s16(x.as_ptr().add(8))]
    });
    method!(splat_i16(x: i16) -> [int16x8_t; 2] { [vdupq_n_s16(x); 2] });
    method!(sub_i16(a: [int16x8_t; 2], b: [int16x8_t; 2]) -> [int16x8_t; 2] {
        [vsubq_s16(a[0], b[0]), vsubq_s16(a[1], b[1])]
    });
    method!(low_bytes(x: [int16x8_t; 2]) -> [int16x8_t; 2] {
        [vshrq_n_s16::<8>(vshlq_n_s16::<8>(x[0])), vshrq_n_s16::<8>(vshlq_n_s16::<8>(x[1]))]
    });
    method!(madd(acc: [int32x4_t; 2], a: [int16x8_t; 2], b: [int16x8_t; 2]) -> [int32x4_t; 2] {
        [madd(acc[0], a[0], b[0]), madd(acc[1], a[1], b[1])]
    });
    method!(zip(a: [int16x8_t; 2], b: [int16x8_t; 2]) -> [[int16x8_t; 2]; 2] {
        [[vzip1q_s16(a[0], b[0]), vzip2q_s16(a[0], b[0])], [vzip1q_s16(a[1], b[1]), vzip2q_s16(a[1], b[1])]]
    });
    method!(in_order(x: [[int32x4_t; 2]; 2]) -> [[int32x4_t; 2]; 2] { x });

    method!(splat(x: i32) -> [int32x4_t; 2] { [vdupq_n_s32(x); 2] });
    method!(load(x: &[i32; 8]) -> [int32x4_t; 2] { [vld1q_s32(x.as_ptr()), vld1q_s32(x.as_ptr().add(4))] });
    method!(store(x: [int32x4_t; 2]) -> [i32; 8] {
        let mut out = [0; 8];
        vst1q_s32(out.as_mut_ptr(), x[0]);
        vst1q_s32(out.as_mut_ptr().add(4), x[1]);
        out
    });
    method!(widen_i32(x: &[i8; 8]) -> [int32x4_t; 2] {
        let x = vmovl_s8(vld1_s8(x.as_ptr()));
        [vmovl_s16(vget_low_s16(x)), vmovl_high_s16(x)]
    });
    method!(add(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [vaddq_s32(a[0], b[0]), vaddq_s32(a[1], b[1])]
    });
    method!(sub(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [vsubq_s32(a[0], b[0]), vsubq_s32(a[1], b[1])]
    });
    method!(mul(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [vmulq_s32(a[0], b[0]), vmulq_s32(a[1], b[1])]
    });
    method!(shift_left(x: [int32x4_t; 2], by: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [vshlq_s32(x[0], by[0]), vshlq_s32(x[1], by[1])]
    });
    method!(high_mul(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        // Saturates only for twice the smallest int32, which no multiplier equals.
        [vqrdmulhq_s32(a[0], b[0]), vqrdmulhq_s32(a[1], b[1])]
    });
    method!(high_mul_half(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [high_mul_half(a[0], b[0]), high_mul_half(a[1], b[1])]
    });
    method!(high_mul_shifted(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [high_mul_shifted(a[0], b[0]), high_mul_shifted(a[1], b[1])]
    });
    method!(rounding_shift_right(x: [int32x4_t; 2], by: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [rounding_shift_right(x[0], by[0]), rounding_shift_right(x[1], by[1])]
    });
    method!(clamp_i8(x: [int32x4_t; 2], low: [int32x4_t; 2], high: [int32x4_t; 2]) -> [i8; 8] {
        let a = vmovn_s32(vminq_s32(vmaxq_s32(x[0], low[0]), high[0]));
        let b = vmovn_s32(vminq_s32(vmaxq_s32(x[1], low[1]), high[1]));
        let mut out = [0; 8];
        vst1_s8(out.as_mut_ptr(), vmovn_s16(vcombine_s16(a, b)));
        out
    });
    method!(sums(x: [[int32x4_t; 2]; 8]) -> [int32x4_t; 2] { [sums([x[0], x[1], x[2], x[3]]), sums([x[4], x[5], x[6], x[7]])] });
    method!(tiled_sums(x: [[[int32x4_t; 2]; 2]; 2]) -> [int32x4_t; 2] {
        [tiled_sums(x[0]), tiled_sums(x[1])]
    });
    method!(fold(a: [int32x4_t; 2], b: [int32x4_t; 2]) -> [int32x4_t; 2] {
        [vaddq_s32(a[0], a[1]), vaddq_s32(b[0], b[1])]
    });
}

/// `0 2 1 3`.
#[inline]
#[target_feature(enable = "neon")]
fn even_odd(x: int16x4_t) -> int16x4_t {
    vreinterpret_s16_s32(vzip1_s32(
        vreinterpret_s32_s16(vuzp1_s16(x, x)),
        vreinterpret_s32_s16(vuzp2_s16(x, x)),
    ))
}

#[inline]
#[target_feature(enable = "neon")]
fn madd(acc: int32x4_t, a: int16x8_t, b: int16x8_t) -> int32x4_t {
    let low = vmull_s16(vget_low_s16(a), vget_low_s16(b));
    vaddq_s32(acc, vpaddq_s32(low, vmull_high_s16(a, b)))
}

#[inline]
#[target_feature(enable = "neon")]
fn high_mul_half(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    let low = vrshrn_n_s64::<32>(vmull_s32(vget_low_s32(a), vget_low_s32(b)));
    vcombine_s32(low, vrshrn_n_s64::<32>(vmull_high_s32(a, b)))
}

#[inline]
#[target_feature(enable = "neon")]
fn high_mul_shifted(a: int32x4_t, b: int32x4_t) -> int32x4_t {
    let low = vshrn_n_s64::<32>(vmull_s32(vget_low_s32(a), vget_low_s32(b)));
    let high = vshrn_n_s64::<32>(vmull_high_s32(a, b));
    vshrq_n_s32::<{ offshoot_format::single_multiply::SHIFT as i32 }>(vcombine_s32(low, high))
}

#[inline]
#[target_feature(enable = "neon")]
fn rounding_shift_right(x: int32x4_t, by: int32x4_t) -> int32x4_t {
    let mask = vsubq_s32(vshlq_s32(vdupq_n_s32(1), by), vdupq_n_s32(1));
    let threshold = vsubq_s32(vshrq_n_s32::<1>(mask), vshrq_n_s32::<31>(x));
    let up = vreinterpretq_s32_u32(vcgtq_s32(vandq_s32(x, mask), threshold));
    vsubq_s32(vshlq_s32(x, vnegq_s32(by)), up)
}

#[inline]
#[target_feature(enable = "neon")]
fn sums(x: [[int32x4_t; 2]; 4]) -> int32x4_t {
    let first = vpaddq_s32(vaddq_s32(x[0][0], x[0][1]), vaddq_s32(x[1][0], x[1][1]));
    let second = vpaddq_s32(vaddq_s32(x[2][0], x[2][1]), vaddq_s32(x[3][0], x[3][1]));
    vpaddq_s32(first, second)
}

#[inline]
#[target_feature(enable = "neon")]
fn tiled_sums(x: [[int32x4_t; 2]; 2]) -> int32x4_t {
    let words = vaddq_s32(x[0][0], x[0][1]);
    let words = vaddq_s32(words, vextq_s32::<2>(words, words));
    let lower = vaddq_s32(x[1][0], x[1][1]);
    let lower = vaddq_s32(lower, vextq_s32::<2>(lower, lower));
    vzip1q_s32(lower, vshrq_n_s32::<8>(vsubq_s32(words, lower)))
}
