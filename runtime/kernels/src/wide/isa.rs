//! What a kernel of this room needs of an instruction set: vectors of sixteen int16 and of eight int32.

/// Vector operations. A value of the type is the proof that the processor has the instructions.
///
/// Every method is inlined into a function that is compiled for the instruction set.
pub(crate) trait Isa: Copy {
    /// Sixteen int16.
    type I16: Copy;
    /// Eight int32.
    type I32: Copy;

    /// Sign-extends.
    fn widen(self, x: &[i8; 16]) -> Self::I16;
    /// Sign-extends inputs 0 … 7 into the order `0 2 0 2 1 3 1 3 4 6 4 6 5 7 5 7`.
    fn spread(self, x: &[i8; 8]) -> Self::I16;
    /// Four numbers in the order `0 2` four times, then `1 3` four times.
    fn quad(self, x: &[i16; 4]) -> Self::I16;
    /// Of numbers in the order of [`Self::spread`] the first half or the second, in the order of [`Self::quad`].
    fn half_twice(self, x: Self::I16, second: bool) -> Self::I16;
    /// Reads.
    fn load_i16(self, x: &[i16; 16]) -> Self::I16;
    /// One number sixteen times.
    fn splat_i16(self, x: i16) -> Self::I16;
    /// Differences, which wrap.
    fn sub_i16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    /// The low byte of each, sign-extended.
    fn low_bytes(self, x: Self::I16) -> Self::I16;
    /// `acc` plus the sums of neighbouring products: lane `i` gets `a[2i]·b[2i] + a[2i + 1]·b[2i + 1]`.
    fn madd(self, acc: Self::I32, a: Self::I16, b: Self::I16) -> Self::I32;
    /// Neighbours from two vectors, `a0 b0 a1 b1 …`; the two halves in an order that [`Self::in_order`] undoes after
    /// [`Self::madd`].
    fn zip(self, a: Self::I16, b: Self::I16) -> [Self::I16; 2];
    /// Sums over zipped vectors as elements 0 … 7 and 8 … 15.
    fn in_order(self, x: [Self::I32; 2]) -> [Self::I32; 2];

    /// One number eight times.
    fn splat(self, x: i32) -> Self::I32;
    /// Reads.
    fn load(self, x: &[i32; 8]) -> Self::I32;
    /// Writes.
    fn store(self, x: Self::I32) -> [i32; 8];
    /// Sign-extends.
    fn widen_i32(self, x: &[i8; 8]) -> Self::I32;
    /// Sums, which wrap.
    fn add(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Differences, which wrap.
    fn sub(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Low 32 bits of the products.
    fn mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Left by 0 … 31 bits each.
    fn shift_left(self, x: Self::I32, by: Self::I32) -> Self::I32;
    /// `(a·b + 2^30) >> 31`, truncated to 32 bits.
    fn high_mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `(a·b + 2^31) >> 32`.
    fn high_mul_half(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a·b >> (32 + `[`SHIFT`](offshoot_format::single_multiply::SHIFT)`)`.
    fn high_mul_shifted(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// [`crate::portable::fixed_point::rounding_divide_by_pot`] of each, by 0 … 31 bits.
    fn rounding_shift_right(self, x: Self::I32, by: Self::I32) -> Self::I32;
    /// Bounds, then narrows: `low` and `high` are int8 values.
    fn clamp_i8(self, x: Self::I32, low: Self::I32, high: Self::I32) -> [i8; 8];

    /// The sum of all lanes of each of eight vectors.
    fn sums(self, x: [Self::I32; 8]) -> Self::I32;
    /// Sums of two blocks of four channels of tiled weights. A vector holds `AB CD AB CD AB CD AB CD`; first that of
    /// whole words, then that of low bytes.
    fn tiled_sums(self, x: [[Self::I32; 2]; 2]) -> Self::I32;
    /// Lanes `i` and `i + 4` of each added: those of `a`, then those of `b`.
    fn fold(self, a: Self::I32, b: Self::I32) -> Self::I32;
}

/// Work that runs on whatever instruction set there is.
pub(crate) trait Job {
    /// Does it.
    fn run<I: Isa>(self, isa: I);
}
