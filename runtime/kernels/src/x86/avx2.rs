//! Vectors of 256 bits. The three instruction sets differ in [`Isa::madd`]; two of them have [`Dot::dot`].

use crate::wide::{Dot, Isa};
use core::arch::x86_64::*;

/// One instruction set; `$madd` is its multiply-add of neighbours.
macro_rules! isa {
    ($name:ident, $doc:literal, |$acc:ident, $a:ident, $b:ident| $madd:expr) => {
        #[doc = $doc]
        #[derive(Clone, Copy)]
        pub(super) struct $name(());

        impl $name {
            /// # Safety
            /// The processor has the instructions.
            #[inline(always)]
            pub(super) unsafe fn new() -> Self {
                Self(())
            }
        }

        impl Isa for $name {
            type I16 = __m256i;
            type I32 = __m256i;

            #[inline(always)]
            fn madd(self, $acc: __m256i, $a: __m256i, $b: __m256i) -> __m256i {
                // SAFETY: the caller of `new` guarantees the instructions.
                unsafe { $madd }
            }

            common!();
        }
    };
}

/// A method whose body consists of AVX2 instructions and accesses through references.
macro_rules! method {
    ($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block) => {
        #[inline(always)]
        fn $name(self, $($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller of `new` guarantees the instructions; unaligned accesses stay within the arrays that
            // the references point to.
            unsafe { $body }
        }
    };
}

macro_rules! common {
    () => {
        method!(widen(x: &[i8; 16]) -> __m256i { _mm256_cvtepi8_epi16(_mm_loadu_si128(x.as_ptr().cast())) });
        method!(spread(x: &[i8; 8]) -> __m256i {
            let order = _mm_setr_epi8(0, 2, 0, 2, 1, 3, 1, 3, 4, 6, 4, 6, 5, 7, 5, 7);
            _mm256_cvtepi8_epi16(_mm_shuffle_epi8(_mm_loadl_epi64(x.as_ptr().cast()), order))
        });
        method!(quad(x: &[i16; 4]) -> __m256i {
            let all = _mm256_set1_epi64x(x.as_ptr().cast::<i64>().read_unaligned());
            let order = _mm256_setr_epi8(
                0, 1, 4, 5, 0, 1, 4, 5, 0, 1, 4, 5, 0, 1, 4, 5, 2, 3, 6, 7, 2, 3, 6, 7, 2, 3, 6, 7, 2, 3, 6, 7,
            );
            _mm256_shuffle_epi8(all, order)
        });
        method!(half_twice(x: __m256i, second: bool) -> __m256i {
            if second { _mm256_permute4x64_epi64::<0xfa>(x) } else { _mm256_permute4x64_epi64::<0x50>(x) }
        });
        method!(load_i16(x: &[i16; 16]) -> __m256i { _mm256_loadu_si256(x.as_ptr().cast()) });
        method!(splat_i16(x: i16) -> __m256i { _mm256_set1_epi16(x) });
        method!(sub_i16(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi16(a, b) });
        method!(low_bytes(x: __m256i) -> __m256i { _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)) });
        method!(zip(a: __m256i, b: __m256i) -> [__m256i; 2] {
            [_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b)]
        });
        method!(in_order(x: [__m256i; 2]) -> [__m256i; 2] {
            [_mm256_permute2x128_si256::<0x20>(x[0], x[1]), _mm256_permute2x128_si256::<0x31>(x[0], x[1])]
        });
        method!(splat(x: i32) -> __m256i { _mm256_set1_epi32(x) });
        method!(load(x: &[i32; 8]) -> __m256i { _mm256_loadu_si256(x.as_ptr().cast()) });
        method!(store(x: __m256i) -> [i32; 8] {
            let mut out = [0; 8];
            _mm256_storeu_si256(out.as_mut_ptr().cast(), x);
            out
        });
        method!(widen_i32(x: &[i8; 8]) -> __m256i { _mm256_cvtepi8_epi32(_mm_loadl_epi64(x.as_ptr().cast())) });
        method!(add(a: __m256i, b: __m256i) -> __m256i { _mm256_add_epi32(a, b) });
        method!(sub(a: __m256i, b: __m256i) -> __m256i { _mm256_sub_epi32(a, b) });
        method!(mul(a: __m256i, b: __m256i) -> __m256i { _mm256_mullo_epi32(a, b) });
        method!(shift_left(x: __m256i, by: __m256i) -> __m256i { _mm256_sllv_epi32(x, by) });
        method!(high_mul(a: __m256i, b: __m256i) -> __m256i {
            let half = _mm256_set1_epi64x(1 << 30);
            let even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
            let odd = _mm256_add_epi64(odd, half);
            _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<31>(even), _mm256_slli_epi64::<1>(odd))
        });
        method!(high_mul_half(a: __m256i, b: __m256i) -> __m256i {
            let half = _mm256_set1_epi64x(1 << 31);
            let even = _mm256_add_epi64(_mm256_mul_epi32(a, b), half);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
            let odd = _mm256_add_epi64(odd, half);
            _mm256_blend_epi32::<0xaa>(_mm256_srli_epi64::<32>(even), odd)
        });
        method!(high_mul_shifted(a: __m256i, b: __m256i) -> __m256i {
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(b));
            let even = _mm256_srli_epi64::<32>(_mm256_mul_epi32(a, b));
            _mm256_srai_epi32::<{ offshoot_format::single_multiply::SHIFT as i32 }>(_mm256_blend_epi32::<0xaa>(even, odd))
        });
        method!(rounding_shift_right(x: __m256i, by: __m256i) -> __m256i {
            let mask = _mm256_sub_epi32(_mm256_sllv_epi32(_mm256_set1_epi32(1), by), _mm256_set1_epi32(1));
            let rest = _mm256_and_si256(x, mask);
            let threshold = _mm256_sub_epi32(_mm256_srli_epi32::<1>(mask), _mm256_srai_epi32::<31>(x));
            _mm256_sub_epi32(_mm256_srav_epi32(x, by), _mm256_cmpgt_epi32(rest, threshold))
        });
        method!(clamp_i8(x: __m256i, low: __m256i, high: __m256i) -> [i8; 8] {
            let x = _mm256_min_epi32(_mm256_max_epi32(x, low), high);
            let halves = _mm_packs_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            let bytes = _mm_packs_epi16(halves, halves);
            // Through a register, because the result is usually stored at once.
            bytemuck::cast(_mm_cvtsi128_si64(bytes))
        });
        method!(sums(x: [__m256i; 8]) -> __m256i {
            let first = _mm256_hadd_epi32(_mm256_hadd_epi32(x[0], x[1]), _mm256_hadd_epi32(x[2], x[3]));
            let second = _mm256_hadd_epi32(_mm256_hadd_epi32(x[4], x[5]), _mm256_hadd_epi32(x[6], x[7]));
            fold(first, second)
        });
        method!(tiled_sums(x: [[__m256i; 2]; 2]) -> __m256i {
            // Sums of AB, CD, A, C of the first block, then of the second.
            let first = _mm256_add_epi32(
                _mm256_unpacklo_epi64(x[0][0], x[0][1]),
                _mm256_unpackhi_epi64(x[0][0], x[0][1]),
            );
            let second = _mm256_add_epi32(
                _mm256_unpacklo_epi64(x[1][0], x[1][1]),
                _mm256_unpackhi_epi64(x[1][0], x[1][1]),
            );
            let both = fold(first, second);
            // A C A C, AB CD AB CD.
            let lower = _mm256_unpackhi_epi64(both, both);
            let upper = _mm256_srai_epi32::<8>(_mm256_sub_epi32(both, lower));
            _mm256_unpacklo_epi32(lower, upper)
        });
        method!(fold(a: __m256i, b: __m256i) -> __m256i { fold(a, b) });
    };
}

/// See [`Isa::fold`].
#[inline]
#[target_feature(enable = "avx2")]
fn fold(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b))
}

isa!(Avx2, "AVX2.", |acc, a, b| _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)));
isa!(AvxVnni, "AVX2 and AVX-VNNI.", |acc, a, b| _mm256_dpwssd_avx_epi32(acc, a, b));
isa!(Avx512Vnni, "AVX2 and AVX512-VNNI on vectors of 256 bits.", |acc, a, b| _mm256_dpwssd_epi32(acc, a, b));

/// Splits words of two weights, `256·upper + lower`, into bytes; a negative lower one has taken one from the upper.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of(words: __m256i) -> __m256i {
    let negative = _mm256_and_si256(words, _mm256_set1_epi16(0x80));
    _mm256_add_epi16(words, _mm256_add_epi16(negative, negative))
}

/// Dot products of bytes; `$dot` multiplies unsigned with signed bytes; `$many`: whether there are 32 registers.
macro_rules! dot {
    ($name:ident, $many:literal, |$acc:ident, $inputs:ident, $weights:ident| $dot:expr) => {
        impl Dot for $name {
            type I8 = __m256i;
            const FLIP: i8 = i8::MIN;
            const MANY: bool = $many;

            #[inline(always)]
            fn dot(self, $acc: __m256i, $weights: __m256i, inputs: &[i8; 4]) -> __m256i {
                // SAFETY: the caller of `new` guarantees the instructions.
                unsafe {
                    let $inputs = _mm256_set1_epi32(i32::from_ne_bytes(bytemuck::cast(*inputs)));
                    $dot
                }
            }

            method!(flip(x: &[i8; 16], to: &mut [i8; 16]) {
                let x = _mm_loadu_si128(x.as_ptr().cast());
                _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_xor_si128(x, _mm_set1_epi8(Self::FLIP)));
            });
            method!(bytes(even: &[i16; 16], odd: &[i16; 16]) -> [__m256i; 2] {
                // Four inputs of channel A, then of B, C, D, within lanes of 128 bits, which hold four inputs each.
                let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
                    0, 8, 2, 10, 1, 9, 3, 11, 4, 12, 6, 14, 5, 13, 7, 15,
                ));
                let even = _mm256_shuffle_epi8(bytes_of(_mm256_loadu_si256(even.as_ptr().cast())), order);
                let odd = _mm256_shuffle_epi8(bytes_of(_mm256_loadu_si256(odd.as_ptr().cast())), order);
                [_mm256_permute2x128_si256::<0x20>(even, odd), _mm256_permute2x128_si256::<0x31>(even, odd)]
            });
            method!(wrap_odd(x: __m256i) -> __m256i {
                let wrapped = _mm256_srai_epi32::<8>(_mm256_slli_epi32::<8>(x));
                _mm256_blend_epi32::<0xaa>(x, wrapped)
            });
        }
    };
}

dot!(AvxVnni, false, |acc, inputs, weights| _mm256_dpbusd_avx_epi32(acc, inputs, weights));
dot!(Avx512Vnni, true, |acc, inputs, weights| _mm256_dpbusd_epi32(acc, inputs, weights));
