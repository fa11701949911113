//! [`ConvWinograd`]: transforms a strip of pairs of tiles, then computes blocks of four output channels from it.

use super::{saturates, zero_and_half};
use crate::requant::Requant;
use crate::tiles::Operands;
use core::arch::naked_asm;
use offshoot_base::Rule;
use offshoot_base::Span;
use offshoot_format::record::{ConvWinograd, Window};
use offshoot_format::tiled::MOST_TILE_PAIRS;

/// See [`crate::portable::conv_winograd`].
pub(crate) fn conv_winograd(
    r: &ConvWinograd,
    q: &Requant<'_>,
    weights: &[i16],
    operands: &mut Operands<'_>,
    lanes: Span,
) -> Result<bool, Rule> {
    if !saturates(q) || !r.out_c.is_multiple_of(4) {
        return Ok(false);
    }
    let (input, output) = (operands.src.start, operands.dst.start);
    let arena = operands.region(&[lanes])?.as_mut_ptr();
    // SAFETY: `region` has checked that all three lie in the arena.
    let (src, dst, lanes) =
        unsafe { (arena.add(input), arena.add(output), arena.add(lanes.start).cast::<i16>()) };
    let window = Window::from(r.window);
    let (h, w, c, out_c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c), usize::from(r.out_c));
    let [top, left, ..] = window.pad.map(usize::from);
    let (out_h, out_w) = (crate::geometry::extent(h, &window, 0), crate::geometry::extent(w, &window, 1));
    let strip = usize::from(r.strip);
    // SAFETY: a pixel of padding follows the components, and a block of weights follows it if strips have several
    // pairs.
    let (padding, weight_tile) = unsafe {
        let padding = lanes.add(24 * c * strip).cast::<i8>();
        padding.write_bytes(r.in_zp as u8, c);
        (padding.cast_const(), padding.add(c).cast::<i32>())
    };
    let mut columns = Columns { src: src.cast(), padding, h, w, c, top, left, lanes };
    let mut tiles = Tiles {
        weights: weights.as_ptr(),
        lanes,
        component: 12 * c as u32,
        bias: q.bias.as_ptr(),
        multiplier: q.multiplier.as_ptr(),
        shift: q.shift.as_ptr(),
        out: [core::ptr::null_mut(); 4],
        blocks: (out_c / 4) as u32,
        zero_and_half: zero_and_half(q),
    };
    let rows = usize::from(r.n) * out_h;
    let (mut lane, mut filled) = (0, 0);
    let mut outs = [[core::ptr::null_mut(); 4]; MOST_TILE_PAIRS as usize];
    for row in 0..rows {
        for x in (0..out_w).step_by(2) {
            columns.gather(row / out_h, row % out_h, x, lane);
            // SAFETY: pixels of the output. A second one beyond the row gets the first one's address and is written
            // before it.
            let pixels = unsafe {
                let first = dst.add((row * out_w + x) * out_c).cast::<i8>();
                [first, if x + 1 < out_w { first.add(out_c) } else { first }]
            };
            outs[filled][2 * lane..2 * lane + 2].copy_from_slice(&pixels);
            lane += 1;
            let last = row + 1 == rows && x + 2 >= out_w;
            if last && lane == 1 {
                // The last tile has no partner: it is computed twice.
                columns.gather(row / out_h, row % out_h, x, 1);
                outs[filled][2..].copy_from_slice(&pixels);
                lane = 2;
            }
            if lane == 2 {
                (lane, filled) = (0, filled + 1);
                if last || filled == strip {
                    // SAFETY: components, weights and outputs are as long as the record says.
                    unsafe { tiles.strip(c, weight_tile, &mut outs[..filled]) };
                    filled = 0;
                }
                columns.lanes = lanes.wrapping_add(24 * c * filled);
            }
        }
    }
    Ok(true)
}

/// Gathers and transforms tiles.
struct Columns {
    src: *const i8,
    padding: *const i8,
    h: usize,
    w: usize,
    c: usize,
    top: usize,
    left: usize,
    lanes: *mut i16,
}

impl Columns {
    #[inline(always)]
    fn gather(&self, n: usize, y: usize, x: usize, lane: usize) {
        for ky in 0..3 {
            let iy = (y + ky).wrapping_sub(self.top);
            let column = |i: usize| {
                let ix = (x + i).wrapping_sub(self.left);
                if iy < self.h && ix < self.w {
                    self.src.wrapping_add(((n * self.h + iy) * self.w + ix) * self.c)
                } else {
                    self.padding
                }
            };
            let row = Row {
                columns: [column(0), column(1), column(2), column(3)],
                // The lanes of a group alternate by words.
                dst: self.lanes.wrapping_add(2 * ky * self.c + 2 * lane),
                component: 12 * self.c,
                component3: 36 * self.c,
                end: column(0).wrapping_add(self.c),
            };
            // SAFETY: four pixels of the input or of padding; the components of a kernel row.
            unsafe { transform(&row) };
        }
    }
}

/// Arguments of [`transform`].
#[repr(C)]
struct Row {
    columns: [*const i8; 4],
    dst: *mut i16,
    /// Bytes from one component to the next, and three times that.
    component: usize,
    component3: usize,
    /// End of the first column.
    end: *const i8,
}

/// Transforms one kernel row of a tile.
///
/// # Safety
/// All pointers are valid for a pixel, `dst` for the row in all components.
#[unsafe(naked)]
unsafe extern "C" fn transform(row: *const Row) {
    naked_asm!(
        extension!(),
        "push {{r4-r11, lr}}",
        "sub sp, #4",
        "ldr r7, [r0, #28]",
        "str r7, [sp]",
        "ldmia r0, {{r0, r1, r2, r3, r4, r5, r6}}",
        "2:",
        "ldr r7, [r0], #4",
        "ldr r8, [r2], #4",
        "sxtb16 r9, r7",
        "sxtb16 r10, r8",
        "sxtb16 r7, r7, ror #8",
        "sxtb16 r8, r8, ror #8",
        "ssub16 r9, r9, r10",
        "ssub16 r7, r7, r8",
        "str r9, [r4]",
        "str r7, [r4, #8]",
        "ldr r7, [r1], #4",
        "sxtb16 r9, r7",
        "sxtb16 r7, r7, ror #8",
        "sadd16 r11, r9, r10",
        "ssub16 r10, r10, r9",
        "sadd16 r12, r7, r8",
        "ssub16 r8, r8, r7",
        "ldr lr, [r3], #4",
        "str r11, [r4, r5, lsl #1]",
        "str r10, [r4, r6]",
        "sxtb16 r11, lr",
        "sxtb16 lr, lr, ror #8",
        "ssub16 r9, r9, r11",
        "ssub16 r7, r7, lr",
        "str r9, [r4, r5]",
        "adds r4, #8",
        "str r12, [r4, r5, lsl #1]",
        "str r8, [r4, r6]",
        "str r7, [r4, r5]",
        "adds r4, #8",
        "ldr r7, [sp]",
        "cmp r0, r7",
        "bne 2b",
        "add sp, #4",
        "pop {{r4-r11, pc}}",
    )
}

/// Arguments of [`run`].
#[repr(C)]
struct Tiles {
    weights: *const i16,
    lanes: *const i16,
    /// Bytes of a component in the lanes.
    component: u32,
    bias: *const i32,
    multiplier: *const i32,
    shift: *const i8,
    /// Outputs of the first tile, then of the second.
    out: [*mut i8; 4],
    /// Number of blocks to compute, at least one.
    blocks: u32,
    zero_and_half: i32,
}

impl Tiles {
    /// Computes the outputs of several pairs of tiles at the positions `outs`. Copies each block of weights to
    /// `weight_tile` for all pairs, because the caches in front of a microcontroller's flash hold less than a block.
    ///
    /// # Safety
    /// All pointers are valid for what the record says; there is a weight tile if there are several pairs.
    unsafe fn strip(&mut self, c: usize, weight_tile: *mut i32, outs: &mut [[*mut i8; 4]]) {
        if let [out] = outs {
            self.out = *out;
            // SAFETY: guaranteed by the caller.
            unsafe { run(self) };
            return;
        }
        let mut one = Tiles { weights: weight_tile.cast_const().cast(), blocks: 1, ..*self };
        let mut weights = self.weights.cast::<i32>();
        for _ in 0..self.blocks {
            // SAFETY: a block has 24 words for each input channel, and there are `blocks` of them.
            unsafe {
                let next = weights.add(24 * c);
                copy(weights, weight_tile, next);
                weights = next;
            }
            one.lanes = self.lanes;
            for out in &mut *outs {
                one.out = *out;
                // SAFETY: components, one block of weights, and its outputs.
                unsafe { run(&one) };
                one.lanes = one.lanes.wrapping_add(24 * c);
                *out = out.map(|out| out.wrapping_add(4));
            }
            one.bias = one.bias.wrapping_add(4);
            one.multiplier = one.multiplier.wrapping_add(4);
            one.shift = one.shift.wrapping_add(4);
        }
    }
}

/// Copies words up to `end`, eight at a time.
///
/// # Safety
/// `from..end` is readable and `to` writable for the same length, a non-zero multiple of eight words.
#[unsafe(naked)]
unsafe extern "C" fn copy(from: *const i32, to: *mut i32, end: *const i32) {
    naked_asm!(
        extension!(),
        "push {{r4-r10, lr}}",
        "2:",
        "ldmia r0!, {{r3-r10}}",
        "stmia r1!, {{r3-r10}}",
        "cmp r0, r2",
        "bne 2b",
        "pop {{r4-r10, pc}}",
    )
}

/// Computes the outputs of two tiles. Sums start at twice the bias; requantisation as in [`super::pair::run`].
///
/// # Safety
/// All pointers are valid for what the record says.
#[unsafe(naked)]
unsafe extern "C" fn run(tiles: *const Tiles) {
    naked_asm!(
        extension!(),
        ".macro offshoot_tile_step",
        "ldmia r0!, {{r2, r3}}",
        "ldmia r1!, {{r4, r5}}",
        "smlad r6, r2, r4, r6",
        "smlad r10, r3, r4, r10",
        "smlad r7, r2, r5, r7",
        "smlad r11, r3, r5, r11",
        "ldmia r1!, {{r4, r5}}",
        "smlad r8, r2, r4, r8",
        "smlad r12, r3, r4, r12",
        "smlad r9, r2, r5, r9",
        "smlad lr, r3, r5, lr",
        ".endm",
        // One component, with its sums in r6-r9 for the first tile and r10-lr for the second. One loop serves all four
        // components: with a loop for each, the code exceeds the instruction caches in front of a microcontroller's
        // flash.
        ".macro offshoot_tile_component label",
        "ldr r2, [sp, #4]",
        "add r2, r0",
        "str r2, [sp, #48]",
        "adr.w r2, \\label\\()f",
        "orr r2, r2, #1",
        "str r2, [sp, #52]",
        "b.w 9f",
        ".p2align 2",
        "\\label:",
        ".endm",
        ".macro offshoot_tile_bias",
        "ldr r2, [sp, #8]",
        "ldmia.w r2, {{r6, r7, r8, r9}}",
        "lsls r6, r6, #1",
        "lsls r7, r7, #1",
        "lsl r8, r8, #1",
        "lsl r9, r9, #1",
        "mov r10, r6",
        "mov r11, r7",
        "mov r12, r8",
        "mov lr, r9",
        ".endm",
        ".macro offshoot_tile_zero",
        "movs r6, #0",
        "movs r7, #0",
        "mov r8, r6",
        "mov r9, r6",
        "mov r10, r6",
        "mov r11, r6",
        "mov r12, r6",
        "mov lr, r6",
        ".endm",
        // Two outputs of a channel: the third sum of the component `m` in the register, the others at `at` in each
        // component.
        ".macro offshoot_tile_outputs m, at, out, channel",
        "ldr r3, [sp, #(60 + \\at)]",
        "ldr r4, [sp, #(92 + \\at)]",
        "ldr r2, [sp, #(124 + \\at)]",
        "add r3, r2",
        "add r4, r2",
        "add r3, \\m",
        "sub r4, r4, \\m",
        "smmulr r3, r3, r0",
        "smmulr r4, r4, r0",
        "add r3, r3, r3, asr #31",
        "add r4, r4, r4, asr #31",
        "add r3, r5",
        "add r4, r5",
        "asrs r3, r1",
        "asrs r4, r1",
        "ssat r3, #8, r3, asr #1",
        "ssat r4, #8, r4, asr #1",
        "ldr r2, [sp, #(24 + \\out)]",
        "strb r4, [r2, #\\channel]",
        "ldr r2, [sp, #(20 + \\out)]",
        "strb r3, [r2, #\\channel]",
        ".endm",
        ".macro offshoot_tile_channel p, q, at, channel",
        "ldr r2, [sp, #12]",
        "ldr r0, [r2, #(4 * \\channel)]",
        "ldr r2, [sp, #16]",
        "ldrsb r1, [r2, #\\channel]",
        "mvns r1, r1",
        "ldr r5, [sp, #40]",
        "lsls r5, r1",
        "offshoot_tile_outputs \\p, \\at, 0, \\channel",
        "offshoot_tile_outputs \\q, (16 + \\at), 8, \\channel",
        ".endm",
        // Stack: lanes 0, component 4, bias 8, multiplier 12, shift 16, outputs 20 24 28 32, blocks 36, zero 40,
        // weights 44, end 48, return address 52, sums of the components 0, 1 and 2 from 60, 92, 124.
        "push {{r4-r11, lr}}",
        "sub sp, #156",
        "ldmia r0, {{r1-r11}}",
        "ldr r12, [r0, #44]",
        "mov r0, sp",
        "stmia r0!, {{r2-r7}}",
        "stmia r0!, {{r8, r9, r10, r11, r12}}",
        "2:",
        "ldr r0, [sp]",
        "offshoot_tile_bias",
        "offshoot_tile_component 3",
        "add r2, sp, #60",
        "stmia r2!, {{r6, r7}}",
        "stmia.w r2, {{r8, r9, r10, r11, r12, lr}}",
        "offshoot_tile_bias",
        "offshoot_tile_component 4",
        "add r2, sp, #92",
        "stmia r2!, {{r6, r7}}",
        "stmia.w r2, {{r8, r9, r10, r11, r12, lr}}",
        "offshoot_tile_zero",
        "offshoot_tile_component 5",
        "add r2, sp, #124",
        "stmia r2!, {{r6, r7}}",
        "stmia.w r2, {{r8, r9, r10, r11, r12, lr}}",
        "offshoot_tile_zero",
        "offshoot_tile_component 6",
        "str r1, [sp, #44]",
        "offshoot_tile_channel r6, r10, 0, 0",
        "offshoot_tile_channel r7, r11, 4, 1",
        "offshoot_tile_channel r8, r12, 8, 2",
        "offshoot_tile_channel r9, lr, 12, 3",
        "add r0, sp, #8",
        "ldmia r0, {{r1, r2, r3, r4, r5, r6, r7}}",
        "adds r1, #16",
        "adds r2, #16",
        "adds r3, #4",
        "adds r4, #4",
        "adds r5, #4",
        "adds r6, #4",
        "adds r7, #4",
        "stmia r0!, {{r1, r2, r3, r4, r5, r6, r7}}",
        "ldr r1, [sp, #44]",
        "ldr r3, [sp, #36]",
        "subs r3, #1",
        "str r3, [sp, #36]",
        "bne.w 2b",
        "add sp, #156",
        "pop {{r4-r11, pc}}",
        "9:",
        "offshoot_tile_step",
        "offshoot_tile_step",
        "offshoot_tile_step",
        "offshoot_tile_step",
        "offshoot_tile_step",
        "offshoot_tile_step",
        "ldr r2, [sp, #48]",
        "cmp r0, r2",
        "bne 9b",
        "ldr pc, [sp, #52]",
        ".purgem offshoot_tile_step",
        ".purgem offshoot_tile_component",
        ".purgem offshoot_tile_bias",
        ".purgem offshoot_tile_zero",
        ".purgem offshoot_tile_outputs",
        ".purgem offshoot_tile_channel",
    )
}
