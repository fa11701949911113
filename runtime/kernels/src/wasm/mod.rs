//! SIMD128 of WebAssembly, with two registers per vector.
//!
//! It has neither shifts by lane nor a rounding high multiplication: both are products of 64 bits here. Only their words are
//! looked at, so that shifts may be logical, which engines translate to one instruction.

#![allow(unsafe_code)]

use super::wide::{DotJob, Isa, Job};
use core::arch::wasm32::*;

/// Runs a job.
pub(crate) fn dispatch<J: Job>(job: J) -> bool {
    job.run(Simd128);
    true
}

/// There are no dot products of bytes that give the same bits on every machine: computes nothing.
pub(crate) fn dispatch_dot<J: DotJob>(_job: J) -> bool {
    false
}

/// SIMD128.
#[derive(Clone, Copy)]
pub(crate) struct Simd128;

/// Two registers.
type Pair = [v128; 2];

/// A method whose body consists of SIMD128 instructions and accesses through references.
macro_rules! method {
    ($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        #[inline(always)]
        fn $name(self, $($argument: $type),*) $(-> $result)? {
            // SAFETY: this file is built only where SIMD128 is part of the target; accesses stay within the arrays that
            // the references point to.
            #[allow(unused_unsafe)]
            unsafe { $body }
        }
    };
}

impl Isa for Simd128 {
    type I16 = Pair;
    type I32 = Pair;
    const SHIFTS_BY_LANE: bool = false;

    method!(widen(x: &[i8; 16]) -> Pair {
        let x = v128_load(x.as_ptr().cast());
        [i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x)]
    });
    method!(spread(x: &[i8; 8]) -> Pair {
        let x = v128_load64_zero(x.as_ptr().cast());
        let x = i8x16_shuffle::<0, 2, 0, 2, 1, 3, 1, 3, 4, 6, 4, 6, 5, 7, 5, 7>(x, x);
        [i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x)]
    });
    method!(quad(x: &[i16; 4]) -> Pair {
        let x = v128_load64_zero(x.as_ptr().cast());
        [i16x8_shuffle::<0, 2, 0, 2, 0, 2, 0, 2>(x, x), i16x8_shuffle::<1, 3, 1, 3, 1, 3, 1, 3>(x, x)]
    });
    method!(half_twice(x: Pair, second: bool) -> Pair {
        let half = x[usize::from(second)];
        [i64x2_shuffle::<0, 0>(half, half), i64x2_shuffle::<1, 1>(half, half)]
    });
    method!(load_i16(x: &[i16; 16]) -> Pair {
        [v128_load(x.as_ptr().cast()), v128_load(x.as_ptr().add(8).cast())]
    });
    method!(splat_i16(x: i16) -> Pair { [i16x8_splat(x); 2] });
    method!(sub_i16(a: Pair, b: Pair) -> Pair { [i16x8_sub(a[0], b[0]), i16x8_sub(a[1], b[1])] });
    method!(low_bytes(x: Pair) -> Pair { x.map(|x| i16x8_shr(i16x8_shl(x, 8), 8)) });
    method!(madd(acc: Pair, a: Pair, b: Pair) -> Pair {
        [i32x4_add(acc[0], i32x4_dot_i16x8(a[0], b[0])), i32x4_add(acc[1], i32x4_dot_i16x8(a[1], b[1]))]
    });
    method!(madd_halves(acc: Pair, a: Pair, b: Pair) -> Pair {
        // Half the registers for sums: there are sixteen on x86.
        [i32x4_add(acc[0], i32x4_add(i32x4_dot_i16x8(a[0], b[0]), i32x4_dot_i16x8(a[1], b[1]))), acc[1]]
    });
    method!(zip(a: Pair, b: Pair) -> [Pair; 2] { [zip(a[0], b[0]), zip(a[1], b[1])] });
    method!(in_order(x: [Pair; 2]) -> [Pair; 2] { x });

    method!(splat(x: i32) -> Pair { [i32x4_splat(x); 2] });
    method!(load(x: &[i32; 8]) -> Pair {
        [v128_load(x.as_ptr().cast()), v128_load(x.as_ptr().add(4).cast())]
    });
    method!(store(x: Pair) -> [i32; 8] {
        let mut out = [0; 8];
        v128_store(out.as_mut_ptr().cast(), x[0]);
        v128_store(out.as_mut_ptr().add(4).cast(), x[1]);
        out
    });
    method!(widen_i32(x: &[i8; 8]) -> Pair {
        let x = i16x8_extend_low_i8x16(v128_load64_zero(x.as_ptr().cast()));
        [i32x4_extend_low_i16x8(x), i32x4_extend_high_i16x8(x)]
    });
    method!(add(a: Pair, b: Pair) -> Pair { [i32x4_add(a[0], b[0]), i32x4_add(a[1], b[1])] });
    method!(sub(a: Pair, b: Pair) -> Pair { [i32x4_sub(a[0], b[0]), i32x4_sub(a[1], b[1])] });
    method!(mul(a: Pair, b: Pair) -> Pair { [i32x4_mul(a[0], b[0]), i32x4_mul(a[1], b[1])] });
    method!(shift_left(x: Pair, by: Pair) -> Pair {
        [i32x4_mul(x[0], power_of_two(by[0])), i32x4_mul(x[1], power_of_two(by[1]))]
    });
    method!(shift_all_left(x: Pair, by: u32) -> Pair { x.map(|x| i32x4_shl(x, by)) });
    method!(high_mul(a: Pair, b: Pair) -> Pair { [high_mul(a[0], b[0]), high_mul(a[1], b[1])] });
    method!(high_mul_half(a: Pair, b: Pair) -> Pair {
        let half = i64x2_splat(1 << 31);
        let words = |a, b| {
            let [low, high] = products(a, b);
            odd(i64x2_add(low, half), i64x2_add(high, half))
        };
        [words(a[0], b[0]), words(a[1], b[1])]
    });
    method!(high_mul_shifted(a: Pair, b: Pair) -> Pair {
        let words = |a, b| {
            let [low, high] = products(a, b);
            i32x4_shr(odd(low, high), offshoot_format::single_multiply::SHIFT)
        };
        [words(a[0], b[0]), words(a[1], b[1])]
    });
    method!(rounding_shift_right(x: Pair, by: Pair) -> Pair {
        [rounding_shift_right(x[0], by[0]), rounding_shift_right(x[1], by[1])]
    });
    method!(rounding_shift_all_right(x: Pair, by: u32) -> Pair {
        let mask = i32x4_splat(((1i64 << by) - 1) as i32);
        let half = i32x4_shr(mask, 1);
        x.map(|x| {
            let threshold = i32x4_sub(half, i32x4_shr(x, 31));
            i32x4_sub(i32x4_shr(x, by), i32x4_gt(v128_and(x, mask), threshold))
        })
    });
    method!(clamp_i8(x: Pair, low: Pair, high: Pair) -> [i8; 8] {
        let a = i32x4_min(i32x4_max(x[0], low[0]), high[0]);
        let b = i32x4_min(i32x4_max(x[1], low[1]), high[1]);
        let words = i16x8_narrow_i32x4(a, b);
        let mut out = [0; 8];
        v128_store64_lane::<0>(i8x16_narrow_i16x8(words, words), out.as_mut_ptr().cast());
        out
    });
    method!(sums(x: [Pair; 8]) -> Pair { [sums([x[0], x[1], x[2], x[3]]), sums([x[4], x[5], x[6], x[7]])] });
    method!(tiled_sums(x: [[Pair; 2]; 2]) -> Pair { [tiled_sums(x[0]), tiled_sums(x[1])] });
    method!(fold(a: Pair, b: Pair) -> Pair { [i32x4_add(a[0], a[1]), i32x4_add(b[0], b[1])] });
}

/// `a0 b0 a1 b1 …`.
#[inline(always)]
fn zip(a: v128, b: v128) -> Pair {
    [i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(a, b), i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(a, b)]
}

/// `2^by` modulo 2³² for 0 … 31, by way of the exponents of float32.
#[inline(always)]
fn power_of_two(by: v128) -> v128 {
    u32x4_trunc_sat_f32x4(i32x4_shl(i32x4_add(by, i32x4_splat(127)), 23))
}

/// Products of 64 bits: of lanes 0 and 1, and of lanes 2 and 3.
#[inline(always)]
fn products(a: v128, b: v128) -> [v128; 2] {
    [i64x2_extmul_low_i32x4(a, b), i64x2_extmul_high_i32x4(a, b)]
}

/// The upper words of four numbers of 64 bits.
#[inline(always)]
fn odd(low: v128, high: v128) -> v128 {
    i32x4_shuffle::<1, 3, 5, 7>(low, high)
}

/// `(a·b + 2^30) >> 31`, the low word of it.
#[inline(always)]
fn high_mul(a: v128, b: v128) -> v128 {
    let half = i64x2_splat(1 << 30);
    let [low, high] = products(a, b).map(|p| u64x2_shr(i64x2_add(p, half), 31));
    i32x4_shuffle::<0, 2, 4, 6>(low, high)
}

/// Shifts by `by` bits and rounds; a half goes away from zero. For all but the smallest int32, which no high multiplication gives.
#[inline(always)]
fn rounding_shift_right(x: v128, by: v128) -> v128 {
    // With one less for negative numbers, half a unit more and the floor is that rounding. A shift by `by` is a product with
    // 2^(31 - by), whose bits from 31 on count. Nothing is shifted by zero bits, where that power is none of int32.
    let less = i32x4_add(x, i32x4_shr(x, 31));
    let power = power_of_two(i32x4_sub(i32x4_splat(31), by));
    v128_bitselect(x, high_mul(less, power), i32x4_eq(by, i32x4_splat(0)))
}

/// The sum of all lanes for each of four vectors.
#[inline(always)]
fn sums(x: [Pair; 4]) -> v128 {
    let [a, b, c, d] = x.map(|x| i32x4_add(x[0], x[1]));
    let pairs = |a, b| i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
    let (ab, cd) = (pairs(a, b), pairs(c, d));
    i32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd))
}

#[inline(always)]
fn tiled_sums(x: [Pair; 2]) -> v128 {
    let [words, lower] = x.map(|x| {
        let sum = i32x4_add(x[0], x[1]);
        i32x4_add(sum, i32x4_shuffle::<2, 3, 0, 1>(sum, sum))
    });
    i32x4_shuffle::<0, 4, 1, 5>(lower, i32x4_shr(i32x4_sub(words, lower), 8))
}
