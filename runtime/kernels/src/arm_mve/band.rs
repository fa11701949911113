//! Bands of a depthwise convolution: gathers pairs of rows, and computes outputs from them. See [`super::depthwise`].

use core::arch::naked_asm;

/// Two rows to gather.
#[repr(C)]
pub(super) struct Load {
    /// First inputs of the rows.
    pub(super) rows: [*const i8; 2],
    /// Columns, at least one.
    pub(super) columns: u32,
    /// Bytes from column to column.
    pub(super) steps: [u32; 2],
    /// Channels, at most eight. The others become zero.
    pub(super) channels: u32,
}

/// Writes the channels of two rows in turn, 16 bytes for each column.
///
/// # Safety
/// The rows are valid for reads of all columns, `slot` for writes of them.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn interleave(load: &Load, slot: *mut i8) {
    naked_asm!(
        extension!(),
        "push {{r4, r5, r6, lr}}",
        "ldm r0, {{r2-r6, r12}}",
        "vctp.16 r12",
        "dls lr, r4",
        "2:",
        "vpstt",
        "vldrbt.u16 q0, [r2]",
        "vldrbt.u16 q1, [r3]",
        "add r2, r5",
        "add r3, r6",
        "vsli.16 q0, q1, #8",
        "vstrh.16 q0, [r1], #16",
        "le lr, 2b",
        "pop {{r4, r5, r6, pc}}",
    )
}

/// Arguments of the kernels, which advance the pointers.
#[repr(C)]
pub(super) struct Band {
    /// Gathered rows of the first channel.
    pub(super) patch: *const i8,
    pub(super) out: *mut i8,
    pub(super) weights: *const i8,
    pub(super) bias: *const i32,
    pub(super) multiplier: *const i32,
    pub(super) shift: *const i8,
    /// Channels, at least one.
    pub(super) channels: u32,
    /// Rows or pairs of rows of outputs.
    pub(super) steps: u32,
    /// Bytes from a pair of gathered rows to the next.
    pub(super) slot: u32,
    /// Bytes from the outputs of a step to those of the next.
    pub(super) out_step: u32,
    /// Bytes from four outputs to the next four.
    pub(super) column: u32,
    /// Fours of outputs in a step.
    pub(super) vectors: u32,
    /// Predicate of a last, incomplete four, or 0.
    pub(super) tail: u32,
    /// Predicate of a last pair of which only the first row exists, or 0.
    pub(super) last: u32,
    /// Zero point of the output.
    pub(super) zero: i32,
    /// Bounds of the output.
    pub(super) min: i32,
    pub(super) max: i32,
    /// Bytes from the weights of a window's first column to those of its third.
    pub(super) third: u32,
    /// Predicates of the weights of the first two columns, and of the third, in lanes of two bytes.
    pub(super) taps: [u32; 2],
    /// Places of a patch: four columns of two pairs.
    pub(super) patch_offsets: [u16; 8],
    /// Places of four outputs.
    pub(super) out_offsets: [u32; 4],
    /// Places of the weights of two columns.
    pub(super) weight_offsets: [u16; 8],
}

/// Sums of four outputs in r2, r4, r6 and r8 from the patch at r1, which moves on.
macro_rules! sums {
    (unit) => {
        concat!(
            "vldrh.u16 q0, [r1, q1]\n",
            "vmladav.s8 r2, q0, q4\n",
            "vmladav.s8 r4, q0, q5\n",
            "vmladav.s8 r6, q0, q6\n",
            "vmladav.s8 r8, q0, q7\n",
            "add r1, #32",
        )
    };
    (double) => {
        concat!(
            "vldrh.u16 q0, [r1, q1]\n",
            "vmladav.s8 r2, q0, q4\n",
            "vldrh.u16 q0, [r1, q5]\n",
            "vmladav.s8 r4, q0, q4\n",
            "vldrh.u16 q0, [r1, q6]\n",
            "vmladav.s8 r6, q0, q4\n",
            "vldrh.u16 q0, [r1, q7]\n",
            "vmladav.s8 r8, q0, q4\n",
            "add r1, #128",
        )
    };
}

/// From the weights of the window in q4: the other operands of [`sums`].
macro_rules! places {
    (unit) => {
        concat!("vldrb.u8 q5, [sp]\n", "vshl.i32 q6, q4, #8\n", "vshl.i32 q7, q5, #8")
    };
    (double) => {
        concat!("mov r2, #32\n", "vadd.i16 q5, q1, r2\n", "vadd.i16 q6, q5, r2\n", "vadd.i16 q7, q6, r2",)
    };
}

/// Outputs from sums in q2, with the bias in r3, multiplier in r5, shift in r7, zero point in r9.
macro_rules! outputs {
    (positive) => {
        concat!(
            "vadd.i32 q2, q2, r3\n",
            "vqrdmulh.s32 q2, q2, r5\n",
            "vrshl.s32 q2, r7\n",
            "vadd.i32 q2, q2, r9\n",
            "vqmovnb.s32 q2, q2\n",
            "vqmovnb.s16 q2, q2",
        )
    };
    (signed) => {
        concat!(
            "vadd.i32 q2, q2, r3\n",
            "vqrdmulh.s32 q2, q2, r5\n",
            "vshr.s32 q3, q2, #31\n",
            "vqadd.s32 q2, q2, q3\n",
            "vrshl.s32 q2, r7\n",
            "vadd.i32 q2, q2, r9\n",
            "vldrw.u32 q3, [sp, #48]\n",
            "vmax.s32 q2, q2, q3\n",
            "vldrw.u32 q3, [sp, #64]\n",
            "vmin.s32 q2, q2, q3",
        )
    };
}

macro_rules! four {
    ($stride:ident, $rounding:ident) => {
        concat!(
            sums!($stride),
            "\nvmov q2[2], q2[0], r2, r6\n",
            "vmov q2[3], q2[1], r4, r8\n",
            outputs!($rounding),
            "\nvldrw.u32 q3, [sp, #32]",
        )
    };
}

macro_rules! kernel {
    ($name:ident, $stride:ident, $rounding:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// # Safety
        /// All pointers of `band` are valid for its channels, steps and columns.
        #[unsafe(naked)]
        pub(super) unsafe extern "C" fn $name(band: &mut Band) {
            naked_asm!(
                extension!(),
                "push {{r4-r11, lr}}",
                "vpush {{d8-d15}}",
                // A zero, weights of the window (16 bytes), band, steps, columns; out_offsets, min, max (16 bytes each);
                // slot, out_step.
                "sub sp, #88",
                "str r0, [sp, #20]",
                "mov r1, #0",
                "str r1, [sp]",
                "vldrw.u32 q0, [r0, #96]",
                "vstrw.32 q0, [sp, #32]",
                "ldrd r1, r2, [r0, #60]",
                "vdup.32 q0, r1",
                "vstrw.32 q0, [sp, #48]",
                "vdup.32 q0, r2",
                "vstrw.32 q0, [sp, #64]",
                "ldrd r1, r2, [r0, #32]",
                "strd r1, r2, [sp, #80]",
                "ldr r1, [r0, #44]",
                "str r1, [sp, #28]",
                "2:",
                // The weights of the window: rows in the bytes of a word, columns in words.
                "ldr r1, [r0, #8]",
                "vldrh.u16 q1, [r0, #112]",
                "ldrd r2, r3, [r0, #68]",
                "ldr r4, [r0, #76]",
                "add r2, r1",
                "vmsr p0, r3",
                "vpst",
                "vldrbt.u16 q2, [r1, q1]",
                "vmsr p0, r4",
                "vpst",
                "vldrbt.u16 q3, [r2, q1]",
                "add r1, #1",
                "str r1, [r0, #8]",
                "add r2, sp, #4",
                "vstrb.16 q2, [r2]",
                "vstrb.16 q3, [r2, #8]",
                "vldrb.u8 q4, [sp, #4]",
                "vldrh.u16 q1, [r0, #80]",
                places!($stride),
                "add r1, r0, #12",
                "ldm r1, {{r2, r4, r6}}",
                "ldr r3, [r2], #4",
                "ldr r5, [r4], #4",
                "ldrsb r7, [r6], #1",
                "stm r1, {{r2, r4, r6}}",
                "ldr r9, [r0, #56]",
                "ldr r10, [r0, #40]",
                "ldrd r11, r12, [r0]",
                "add r1, r11, #2",
                "add r2, r12, #1",
                "strd r1, r2, [r0]",
                "ldr r2, [r0, #28]",
                // Predicate of the last, incomplete four of a step.
                "ldr r1, [r0, #48]",
                "vmsr p0, r1",
                "cmp r2, #0",
                "beq 7f",
                "3:",
                "str r2, [sp, #24]",
                "ldr r2, [sp, #28]",
                "mov r1, r11",
                "mov r0, r12",
                "wls lr, r2, 5f",
                "4:",
                four!($stride, $rounding),
                "vstrb.32 q2, [r0, q3]",
                "add r0, r10",
                "le lr, 4b",
                "5:",
                "vmrs r2, p0",
                "cbz r2, 6f",
                four!($stride, $rounding),
                "vpst",
                "vstrbt.32 q2, [r0, q3]",
                "6:",
                "ldrd r2, r4, [sp, #80]",
                "add r11, r2",
                "add r12, r4",
                "ldr r2, [sp, #24]",
                "subs r2, #1",
                "bne 3b",
                "7:",
                // A last step of a single row, whose fours are all incomplete.
                "ldr r6, [sp, #20]",
                "ldr r4, [r6, #52]",
                "cmp r4, #0",
                "beq 12f",
                "ldr r2, [sp, #28]",
                "mov r1, r11",
                "mov r0, r12",
                "vmsr p0, r4",
                "wls lr, r2, 9f",
                "8:",
                four!($stride, $rounding),
                "vpst",
                "vstrbt.32 q2, [r0, q3]",
                "add r0, r10",
                "le lr, 8b",
                "9:",
                "ldr r6, [sp, #20]",
                "ldr r2, [r6, #48]",
                "ldr r4, [r6, #52]",
                "ands r2, r4",
                "beq 12f",
                "vmsr p0, r2",
                four!($stride, $rounding),
                "vpst",
                "vstrbt.32 q2, [r0, q3]",
                "12:",
                "ldr r0, [sp, #20]",
                "ldr r2, [r0, #24]",
                "subs r2, #1",
                "str r2, [r0, #24]",
                "bne 2b",
                "add sp, #88",
                "vpop {{d8-d15}}",
                "pop {{r4-r11, pc}}",
            )
        }
    };
}

kernel!(unit_positive, unit, positive, "Stride 1, for outputs whose zero point is -128 and that saturate.");
kernel!(unit_signed, unit, signed, "Stride 1, for any outputs.");
kernel!(
    double_positive,
    double,
    positive,
    "Stride 2, for outputs whose zero point is -128 and that saturate."
);
kernel!(double_signed, double, signed, "Stride 2, for any outputs.");
