//! Dot products of bytes (`sdot`, Armv8.2's FEAT_DotProd), detected at run time. In assembly, because the intrinsics
//! are not stable.

use super::Neon;
use crate::wide::{Dot, Isa};
use core::arch::aarch64::*;
use core::arch::asm;

/// NEON with dot products.
#[derive(Clone, Copy)]
pub(super) struct NeonDot(());

impl NeonDot {
    /// # Safety
    /// The processor has the instruction.
    #[inline(always)]
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

/// Whether the processor has the instruction.
pub(super) fn available() -> bool {
    #[cfg(any(test, feature = "testing"))]
    if super::WITHOUT_DOT.get() || super::PORTABLE.get() {
        return false;
    }
    if cfg!(target_feature = "dotprod") {
        return true;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use core::ffi::c_ulong;
        unsafe extern "C" {
            // From the C library, which programs on these systems are linked with.
            safe fn getauxval(kind: c_ulong) -> c_ulong;
        }
        const AT_HWCAP: c_ulong = 16;
        const HWCAP_ASIMDDP: c_ulong = 1 << 20;
        return getauxval(AT_HWCAP) & HWCAP_ASIMDDP != 0;
    }
    // Other systems have no portable way to ask; Apple's targets have the instruction built in.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    false
}

/// Methods that forward to [`Neon`].
macro_rules! same {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($argument: $type),*) $(-> $result)? {
                Neon.$name($($argument),*)
            }
        )*
    };
}

type I16 = <Neon as Isa>::I16;
type I32 = <Neon as Isa>::I32;

impl Isa for NeonDot {
    type I16 = I16;
    type I32 = I32;

    same! {
        widen(x: &[i8; 16]) -> I16;
        spread(x: &[i8; 8]) -> I16;
        quad(x: &[i16; 4]) -> I16;
        half_twice(x: I16, second: bool) -> I16;
        load_i16(x: &[i16; 16]) -> I16;
        splat_i16(x: i16) -> I16;
        sub_i16(a: I16, b: I16) -> I16;
        low_bytes(x: I16) -> I16;
        madd(acc: I32, a: I16, b: I16) -> I32;
        zip(a: I16, b: I16) -> [I16; 2];
        in_order(x: [I32; 2]) -> [I32; 2];
        splat(x: i32) -> I32;
        load(x: &[i32; 8]) -> I32;
        store(x: I32) -> [i32; 8];
        widen_i32(x: &[i8; 8]) -> I32;
        add(a: I32, b: I32) -> I32;
        sub(a: I32, b: I32) -> I32;
        mul(a: I32, b: I32) -> I32;
        shift_left(x: I32, by: I32) -> I32;
        high_mul(a: I32, b: I32) -> I32;
        high_mul_half(a: I32, b: I32) -> I32;
        high_mul_shifted(a: I32, b: I32) -> I32;
        rounding_shift_right(x: I32, by: I32) -> I32;
        clamp_i8(x: I32, low: I32, high: I32) -> [i8; 8];
        sums(x: [I32; 8]) -> I32;
        tiled_sums(x: [[I32; 2]; 2]) -> I32;
        fold(a: I32, b: I32) -> I32;
    }
}

impl Dot for NeonDot {
    type I8 = [int8x16_t; 2];
    const FLIP: i8 = 0;
    const MANY: bool = false;

    #[inline(always)]
    fn flip(self, x: &[i8; 16], to: &mut [i8; 16]) {
        *to = *x;
    }

    #[inline(always)]
    fn bytes(self, even: &[i16; 16], odd: &[i16; 16]) -> [[int8x16_t; 2]; 2] {
        // SAFETY: NEON is part of the target; reads stay within the arrays.
        unsafe {
            let [even, odd] = [even, odd].map(|words| {
                let words = words.as_ptr();
                [bytes_of(vld1q_s16(words)), bytes_of(vld1q_s16(words.add(8)))]
            });
            [[even[0], odd[0]], [even[1], odd[1]]]
        }
    }

    #[inline(always)]
    fn dot(self, acc: I32, weights: [int8x16_t; 2], inputs: &[i8; 4]) -> I32 {
        let [mut even, mut odd] = acc;
        // SAFETY: the caller of `new` guarantees the instruction, which works on registers only; NEON is part of the
        // target.
        unsafe {
            let inputs = vreinterpretq_s8_s32(vdupq_n_s32(i32::from_ne_bytes(bytemuck::cast(*inputs))));
            asm!(
                ".arch_extension dotprod",
                "sdot {even:v}.4s, {first:v}.16b, {inputs:v}.16b",
                "sdot {odd:v}.4s, {second:v}.16b, {inputs:v}.16b",
                even = inout(vreg) even,
                odd = inout(vreg) odd,
                first = in(vreg) weights[0],
                second = in(vreg) weights[1],
                inputs = in(vreg) inputs,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        [even, odd]
    }

    #[inline(always)]
    fn wrap_odd(self, x: I32) -> I32 {
        const UP: [i32; 4] = [0, 8, 0, 8];
        const DOWN: [i32; 4] = [0, -8, 0, -8];
        // SAFETY: NEON is part of the target; reads stay within the arrays.
        unsafe {
            let (up, down) = (vld1q_s32(UP.as_ptr()), vld1q_s32(DOWN.as_ptr()));
            [vshlq_s32(vshlq_s32(x[0], up), down), vshlq_s32(vshlq_s32(x[1], up), down)]
        }
    }
}

/// Splits words of two weights, `256·upper + lower`, into bytes (a negative lower one has taken one from the upper):
/// four inputs of channel A, then of B, C, D.
#[inline]
#[target_feature(enable = "neon")]
fn bytes_of(words: int16x8_t) -> int8x16_t {
    const ORDER: [u8; 16] = [0, 8, 2, 10, 1, 9, 3, 11, 4, 12, 6, 14, 5, 13, 7, 15];
    let negative = vandq_s16(words, vdupq_n_s16(0x80));
    let bytes = vreinterpretq_s8_s16(vaddq_s16(words, vaddq_s16(negative, negative)));
    // SAFETY: reads the array.
    vqtbl1q_s8(bytes, unsafe { vld1q_u8(ORDER.as_ptr()) })
}
