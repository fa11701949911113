//! Fully connected layers with Huffman-coded weights: one loop decodes and multiplies a row of weights.

use crate::portable::{Table, requantise};
use crate::requant::Requant;
use core::arch::naked_asm;

/// Arguments of [`row`], which advances `stream` and `bits`.
#[repr(C)]
struct Row<'a> {
    table: &'a Table,
    src: *const i8,
    /// End of the inputs; there is at least one input.
    end: *const i8,
    /// Next half-word.
    stream: *const u16,
    stream_end: *const u16,
    /// Unused bits, lowest first, below a marker bit; at least 16 of them.
    bits: u32,
}

/// Adds products of the inputs with the next weights to `acc`.
///
/// The length of a code word is the low byte of its table entry. Literals are marked so that a shift by that byte
/// leaves nothing, not even the marker bit: one test finds both literals and the need for more bits.
///
/// # Safety
/// The pointers of `row` are valid for what they say.
#[unsafe(naked)]
unsafe extern "C" fn row(row: *mut Row<'_>, acc: i32) -> i32 {
    naked_asm!(
        extension!(),
        // r0 table, r1 and r2 bits in turn, r3 inputs, r4 their end, r5 stream, r6 its end, r7 sum,
        // r8 2^16 - 1, r9 entry and weight, r10 input.
        ".macro offshoot_weight i, from, to",
        "uxtb r9, \\from",
        "ldrsh r9, [r0, r9, lsl #1]",
        "ldrsb r10, [r3], #1",
        "lsr \\to, \\from, r9",
        "lsrs r11, \\to, #16",
        "beq.w 1\\i\\()f",
        "2\\i:",
        "asr r9, r9, #8",
        "mla r7, r10, r9, r7",
        ".endm",
        // Out of line: a literal, more bits, or both.
        ".macro offshoot_more i, from, to",
        "1\\i:",
        "cmp \\to, #0",
        "bne 3\\i\\()f",
        "and r11, r9, #15",
        "lsr \\to, \\from, r11",
        "lsl r9, \\to, #8",
        "sxth r9, r9",
        "lsr \\to, \\to, #8",
        "lsrs r11, \\to, #16",
        "bne.w 2\\i\\()b",
        "3\\i:",
        // The next half-word takes the place of the marker bit, which moves up.
        "clz r11, \\to",
        "rsb r11, r11, #31",
        "cmp r5, r6",
        "ite lo",
        "ldrhlo r12, [r5], #2",
        "movhs r12, #0",
        "add r12, r12, r8",
        "lsl r12, r12, r11",
        "add \\to, \\to, r12",
        "b.w 2\\i\\()b",
        ".endm",
        "push {{r4-r11, lr}}",
        "mov lr, r0",
        "mov r7, r1",
        "ldmia lr, {{r0, r3, r4, r5, r6}}",
        "ldr.w r1, [lr, #20]",
        "movw r8, #65535",
        "b 5f",
        // The remainder of groups of four.
        "4:",
        "offshoot_weight 0, r1, r2",
        "mov r1, r2",
        "5:",
        "subs r12, r4, r3",
        "tst r12, #3",
        "bne 4b",
        "cmp r12, #0",
        "beq 7f",
        "6:",
        "offshoot_weight 1, r1, r2",
        "offshoot_weight 2, r2, r1",
        "offshoot_weight 3, r1, r2",
        "offshoot_weight 4, r2, r1",
        "cmp r3, r4",
        "bne 6b",
        "7:",
        "str.w r5, [lr, #12]",
        "str.w r1, [lr, #20]",
        "mov r0, r7",
        "pop {{r4-r11, pc}}",
        "offshoot_more 0, r1, r2",
        "offshoot_more 1, r1, r2",
        "offshoot_more 2, r2, r1",
        "offshoot_more 3, r1, r2",
        "offshoot_more 4, r2, r1",
        ".purgem offshoot_weight",
        ".purgem offshoot_more",
    )
}

/// See [`crate::portable::fully_connected_huffman`].
pub fn fully_connected_huffman(q: &Requant<'_>, table: &Table, stream: &[u16], src: &[i8], dst: &mut [i8]) {
    let (first, rest) = stream.split_first().map_or((0, stream), |(&first, rest)| (first, rest));
    let (inputs, halves) = (src.as_ptr_range(), rest.as_ptr_range());
    let bits = u32::from(first) | 1 << 16;
    let mut state =
        Row { table, src: inputs.start, end: inputs.end, stream: halves.start, stream_end: halves.end, bits };
    for (o, out) in dst.iter_mut().enumerate() {
        // SAFETY: the pointers are those of the slices.
        let acc = unsafe { row(&mut state, q.bias[o]) };
        *out = requantise(acc, q, o);
    }
}
