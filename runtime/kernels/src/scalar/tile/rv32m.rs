//! The loops for RV32 with multiplication: 22 instructions for eight products, two of them for each. The compiler reads
//! the weights of all steps first, and then runs out of registers.

use super::Sums;
use core::arch::naked_asm;

/// The products of both pixels' inputs, a4 and a5, with a weight.
macro_rules! products {
    ($load:literal, $at:expr, $p:literal, $q:literal) => {
        concat!(
            $load,
            " a6, ",
            $at,
            "(a1)\n",
            "mul s0, a4, a6\n",
            "add ",
            $p,
            ", ",
            $p,
            ", s0\n",
            "mul s0, a5, a6\n",
            "add ",
            $q,
            ", ",
            $q,
            ", s0\n",
        )
    };
}

/// Loads an input of each pixel.
macro_rules! inputs {
    ($p:literal, $q:literal) => {
        concat!("lh a4, ", $p, "(a0)\n", "lh a5, ", $q, "(a0)\n")
    };
}

/// One input of each pixel with the halves `256·B + A` and `256·D + C`, and their low bytes.
macro_rules! step {
    ($x:literal, $y:literal) => {
        concat!(
            inputs!($x, $y),
            products!("lh", $x, "t0", "t4"),
            products!("lb", $x, "t1", "t5"),
            products!("lh", $y, "t2", "t6"),
            products!("lb", $y, "t3", "a7"),
        )
    };
}

/// One input of each pixel with a weight of each channel.
macro_rules! wide_step {
    ($x:literal, $y:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            inputs!($x, $y),
            products!("lh", $a, "t0", "t4"),
            products!("lh", $b, "t1", "t5"),
            products!("lh", $c, "t2", "t6"),
            products!("lh", $d, "t3", "a7"),
        )
    };
}

/// One input, a5, with a weight.
macro_rules! product {
    ($load:literal, $at:literal, $weights:literal, $sum:literal) => {
        concat!(
            $load,
            " a6, ",
            $at,
            "(",
            $weights,
            ")\n",
            "mul a6, a6, a5\n",
            "add ",
            $sum,
            ", ",
            $sum,
            ", a6\n",
        )
    };
}

/// One input with the halves of two blocks.
macro_rules! vector_step {
    ($input:literal, $x:literal, $y:literal) => {
        concat!(
            "lb a5, ",
            $input,
            "(a0)\n",
            product!("lh", $x, "a1", "t0"),
            product!("lb", $x, "a1", "t1"),
            product!("lh", $y, "a1", "t2"),
            product!("lb", $y, "a1", "t3"),
            product!("lh", $x, "a2", "t4"),
            product!("lb", $x, "a2", "t5"),
            product!("lh", $y, "a2", "t6"),
            product!("lb", $y, "a2", "a7"),
        )
    };
}

/// A function over pointers to inputs and weights, the end of the inputs, and sums to write. `$weights`: bytes of a
/// group's weights.
macro_rules! tile {
    ($name:ident, $weights:literal, $($step:expr),*) => {
        /// # Safety
        /// There is at least one group of four inputs before `end`, with its weights.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(lanes: *const i16, weights: *const i16, end: *const i16, sums: *mut Sums) {
            naked_asm!(
                // Link-time optimisation reads assembly without the compiler's options.
                ".option push",
                ".option arch, +m",
                "addi sp, sp, -16",
                "sw s0, 0(sp)",
                "li t0, 0",
                "li t1, 0",
                "li t2, 0",
                "li t3, 0",
                "li t4, 0",
                "li t5, 0",
                "li t6, 0",
                "li a7, 0",
                "2:",
                $($step,)*
                "addi a0, a0, 16",
                concat!("addi a1, a1, ", $weights),
                "bne a0, a2, 2b",
                "sw t0, 0(a3)",
                "sw t1, 4(a3)",
                "sw t2, 8(a3)",
                "sw t3, 12(a3)",
                "sw t4, 16(a3)",
                "sw t5, 20(a3)",
                "sw t6, 24(a3)",
                "sw a7, 28(a3)",
                "lw s0, 0(sp)",
                "addi sp, sp, 16",
                "ret",
                ".option pop",
            )
        }
    };
}

tile!(run, 16, step!(0, 4), step!(2, 6), step!(8, 12), step!(10, 14));
tile!(
    run_wide,
    32,
    wide_step!(0, 4, 0, 4, 8, 12),
    wide_step!(2, 6, 2, 6, 10, 14),
    wide_step!(8, 12, 16, 20, 24, 28),
    wide_step!(10, 14, 18, 22, 26, 30)
);

/// Inputs are int8, with the weights of two blocks.
///
/// # Safety
/// There is at least one group of four inputs before `end`, with its weights of both blocks.
#[unsafe(naked)]
unsafe extern "C" fn run_vector(
    src: *const i8,
    one: *const i16,
    two: *const i16,
    sums: *mut Sums,
    end: *const i8,
) {
    naked_asm!(
        ".option push",
        ".option arch, +m",
        "li t0, 0",
        "li t1, 0",
        "li t2, 0",
        "li t3, 0",
        "li t4, 0",
        "li t5, 0",
        "li t6, 0",
        "li a7, 0",
        "2:",
        vector_step!(0, 0, 4),
        vector_step!(1, 8, 12),
        vector_step!(2, 2, 6),
        vector_step!(3, 10, 14),
        "addi a0, a0, 4",
        "addi a1, a1, 16",
        "addi a2, a2, 16",
        "bne a0, a4, 2b",
        "sw t0, 0(a3)",
        "sw t1, 4(a3)",
        "sw t2, 8(a3)",
        "sw t3, 12(a3)",
        "sw t4, 16(a3)",
        "sw t5, 20(a3)",
        "sw t6, 24(a3)",
        "sw a7, 28(a3)",
        "ret",
        ".option pop",
    )
}

#[inline(always)]
pub(super) fn pair(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    if lanes.len() >= 8 && weights.len() >= lanes.len() {
        // SAFETY: whole groups, with their weights.
        unsafe { run(lanes.as_ptr(), weights.as_ptr(), lanes.as_ptr_range().end, sums) };
    }
}

#[inline(always)]
pub(super) fn pair_wide(lanes: &[i16], weights: &[i16], sums: &mut Sums) {
    if lanes.len() >= 8 && weights.len() >= 2 * lanes.len() {
        // SAFETY: whole groups, with their weights.
        unsafe { run_wide(lanes.as_ptr(), weights.as_ptr(), lanes.as_ptr_range().end, sums) };
    }
}

#[inline(always)]
pub(super) fn vector(src: &[i8], one: &[i16], two: &[i16], sums: &mut Sums) {
    if src.len() >= 4 && one.len() >= 2 * src.len() && two.len() >= 2 * src.len() {
        // SAFETY: whole groups, with their weights.
        unsafe { run_vector(src.as_ptr(), one.as_ptr(), two.as_ptr(), sums, src.as_ptr_range().end) };
    }
}
