//! What the kernels of this module need from an instruction set: vectors of sixteen int16 and of eight int32.

/// Vector operations. A value of the type proves that the processor has the instructions.
///
/// Every method is inlined into a function that is compiled for the instruction set.
pub(crate) trait Isa: Copy {
    /// Sixteen int16.
    type I16: Copy;
    /// Eight int32.
    type I32: Copy;
    /// Whether a shift by lane costs no more than one of all lanes by the same number.
    const SHIFTS_BY_LANE: bool = true;

    /// Sign-extends.
    fn widen(self, x: &[i8; 16]) -> Self::I16;
    /// Sign-extends inputs 0 … 7 into the order `0 2 0 2 1 3 1 3 4 6 4 6 5 7 5 7`.
    fn spread(self, x: &[i8; 8]) -> Self::I16;
    /// Four values in the order `0 2` four times, then `1 3` four times.
    fn quad(self, x: &[i16; 4]) -> Self::I16;
    /// The first or second half of values in the order of [`Self::spread`], in the order of [`Self::quad`].
    fn half_twice(self, x: Self::I16, second: bool) -> Self::I16;
    /// Loads.
    fn load_i16(self, x: &[i16; 16]) -> Self::I16;
    /// One value in all sixteen lanes.
    fn splat_i16(self, x: i16) -> Self::I16;
    /// Wrapping differences.
    fn sub_i16(self, a: Self::I16, b: Self::I16) -> Self::I16;
    /// The low byte of each value, sign-extended.
    fn low_bytes(self, x: Self::I16) -> Self::I16;
    /// `acc` plus the sums of neighbouring products: lane `i` adds `a[2i]·b[2i] + a[2i + 1]·b[2i + 1]`.
    fn madd(self, acc: Self::I32, a: Self::I16, b: Self::I16) -> Self::I32;
    /// As [`Self::madd`], where only the sums of lanes `i` and `i + 4` count: two registers may share their sums.
    #[inline(always)]
    fn madd_halves(self, acc: Self::I32, a: Self::I16, b: Self::I16) -> Self::I32 {
        self.madd(acc, a, b)
    }
    /// Interleaves two vectors, `a0 b0 a1 b1 …`. The order of the two halves is one that [`Self::in_order`] undoes
    /// after [`Self::madd`].
    fn zip(self, a: Self::I16, b: Self::I16) -> [Self::I16; 2];
    /// Sums over zipped vectors as elements 0 … 7 and 8 … 15.
    fn in_order(self, x: [Self::I32; 2]) -> [Self::I32; 2];

    /// One value in all eight lanes.
    fn splat(self, x: i32) -> Self::I32;
    /// Loads.
    fn load(self, x: &[i32; 8]) -> Self::I32;
    /// Stores.
    fn store(self, x: Self::I32) -> [i32; 8];
    /// Sign-extends.
    fn widen_i32(self, x: &[i8; 8]) -> Self::I32;
    /// Wrapping sums.
    fn add(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Wrapping differences.
    fn sub(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Low 32 bits of the products.
    fn mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Shifts each lane left by 0 … 31 bits.
    fn shift_left(self, x: Self::I32, by: Self::I32) -> Self::I32;
    /// As [`Self::shift_left`], with one number of bits for all lanes.
    #[inline(always)]
    fn shift_all_left(self, x: Self::I32, by: u32) -> Self::I32 {
        self.shift_left(x, self.splat(by as i32))
    }
    /// `(a·b + 2^30) >> 31`, truncated to 32 bits.
    fn high_mul(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `(a·b + 2^31) >> 32`.
    fn high_mul_half(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a·b >> (32 + `[`SHIFT`](offshoot_format::single_multiply::SHIFT)`)`.
    fn high_mul_shifted(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// [`crate::portable::fixed_point::rounding_divide_by_pot`] of each lane, by 0 … 31 bits.
    fn rounding_shift_right(self, x: Self::I32, by: Self::I32) -> Self::I32;
    /// As [`Self::rounding_shift_right`], with one number of bits for all lanes.
    #[inline(always)]
    fn rounding_shift_all_right(self, x: Self::I32, by: u32) -> Self::I32 {
        self.rounding_shift_right(x, self.splat(by as i32))
    }
    /// Clamps, then narrows; `low` and `high` are int8 values.
    fn clamp_i8(self, x: Self::I32, low: Self::I32, high: Self::I32) -> [i8; 8];

    /// The sum of all lanes for each of eight vectors.
    fn sums(self, x: [Self::I32; 8]) -> Self::I32;
    /// Sums of two blocks of four channels of tiled weights. A vector holds `AB CD AB CD AB CD AB CD`: first the sums
    /// of whole words, then those of the low bytes.
    fn tiled_sums(self, x: [[Self::I32; 2]; 2]) -> Self::I32;
    /// Adds lanes `i` and `i + 4`: those of `a`, then those of `b`.
    fn fold(self, a: Self::I32, b: Self::I32) -> Self::I32;
}

/// Work that runs on any instruction set.
pub(crate) trait Job {
    /// Runs the job.
    fn run<I: Isa>(self, isa: I);
}
