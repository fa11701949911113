//! Steps of tiled weights with stochastic rounding: int8, and int16 whose upper bytes are tiled.

use crate::random::Random;
use core::arch::naked_asm;

/// Arguments of the kernels.
#[repr(C)]
struct Steps {
    /// 16-bit halves of the first group of four inputs, from the channel's pair on.
    halves: *mut i16,
    fine: *mut i8,
    gradients: *const i32,
    /// Groups of four inputs, at least one.
    groups: u32,
    factor: i32,
    /// Right shifts of 32 random bits, and of the product's upper word.
    shifts: [u32; 2],
    random: u32,
    /// Sum of the decreases of the weights.
    moved: i32,
}

/// Defines the kernel. `split` takes the half in `r8` and gives the weight times 256 in `r9` and the rest of the half
/// in `r8`; `join` combines 256 times the new weight in `r10` with that rest into a half in `r8`.
macro_rules! kernel {
    ($name:ident, $split:literal, $join:literal) => {
        /// Steps groups of four weights, 27 instructions each: xorshift, product with dither (`smmla`); the 16-bit
        /// weight is put together, clamped, and split again.
        ///
        /// # Safety
        /// There are as many halves, lower bytes and gradients as `groups` says.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(steps: *mut Steps) {
            naked_asm!(
                extension!(),
                // r0 halves, r1 fine, r2 gradients, r3 end of gradients, r4 factor, r5 random, r6 and r7 shifts, r11
                // moved, r12 32512.
                ".macro offshoot_step place",
                "ldr r8, [r2], #4",
                "eor r5, r5, r5, lsl #13",
                "eor r5, r5, r5, lsr #17",
                "eor r5, r5, r5, lsl #5",
                "lsr r9, r5, r6",
                "smmla r9, r8, r4, r9",
                "ldrsb r10, [r1]",
                "asr r9, r9, r7",
                "sub r10, r10, r9",
                "ldrsh r8, [r0, #\\place]",
                $split,
                "add r10, r10, r9",
                "cmp r10, r12",
                "it gt",
                "movgt r10, r12",
                "cmn r10, r12",
                "it lt",
                "rsblt r10, r12, #0",
                "strb r10, [r1], #1",
                "add r10, #128",
                "bic r10, r10, #255",
                "add r11, r11, r9",
                "sub r11, r11, r10",
                $join,
                "strh r8, [r0, #\\place]",
                ".endm",
                "push {{r0, r4-r11, lr}}",
                "mov lr, r0",
                "ldm lr, {{r0, r1, r2, r3, r4, r6, r7}}",
                "ldr r5, [lr, #28]",
                "add r3, r2, r3, lsl #4",
                "mov r11, #0",
                "movw r12, #32512",
                "2:",
                "offshoot_step 0",
                "offshoot_step 8",
                "offshoot_step 2",
                "offshoot_step 10",
                "add r0, #16",
                "cmp r2, r3",
                "bne 2b",
                "pop {{r0}}",
                "str r5, [r0, #28]",
                "asr r11, r11, #8",
                "str r11, [r0, #32]",
                "pop {{r4-r11, pc}}",
                ".purgem offshoot_step",
            )
        }
    };
}

/// Defines the kernel for 8-bit weights. `split` extracts the weight from the half in `lr` to `r12`; `join` adds the
/// weight's change in `r8` to the half in `lr`.
macro_rules! kernel_eight {
    ($name:ident, $split:literal, $join:literal) => {
        /// Steps groups of four weights. Most steps are zero, since 8-bit weights are coarse: a group takes 32
        /// instructions, plus 13 for each of its weights if one changes.
        ///
        /// # Safety
        /// There are as many halves and gradients as `groups` says.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(steps: *mut Steps) {
            naked_asm!(
                extension!(),
                // r0 halves, r1 moved, r2 gradients, r3 end of gradients, r4 factor, r5 random, r6 and r7 shifts.
                ".macro offshoot_draw gradient",
                "eor r5, r5, r5, lsl #13",
                "eor r5, r5, r5, lsr #17",
                "eor r5, r5, r5, lsl #5",
                "lsr lr, r5, r6",
                "smmla \\gradient, \\gradient, r4, lr",
                "asr \\gradient, \\gradient, r7",
                ".endm",
                ".macro offshoot_take step, place",
                "cmp \\step, #0",
                "beq 5f",
                "ldrsh lr, [r0, #\\place]",
                $split,
                "sub \\step, r12, \\step",
                "ssat \\step, #8, \\step",
                "cmn \\step, #127",
                "it lt",
                "mvnlt \\step, #126",
                "sub \\step, \\step, r12",
                "sub r1, r1, \\step",
                $join,
                "strh lr, [r0, #\\place]",
                "5:",
                ".endm",
                "push {{r0, r4-r11, lr}}",
                "mov lr, r0",
                "ldm lr, {{r0, r1, r2, r3, r4, r6, r7}}",
                "ldr r5, [lr, #28]",
                "add r3, r2, r3, lsl #4",
                "mov r1, #0",
                "2:",
                "ldmia r2!, {{r8, r9, r10, r11}}",
                "offshoot_draw r8",
                "offshoot_draw r9",
                "offshoot_draw r10",
                "offshoot_draw r11",
                "orr r12, r8, r9",
                "orr lr, r10, r11",
                "orrs r12, r12, lr",
                "beq 3f",
                "offshoot_take r8, 0",
                "offshoot_take r9, 8",
                "offshoot_take r10, 2",
                "offshoot_take r11, 10",
                "3:",
                "add r0, #16",
                "cmp r2, r3",
                "bne 2b",
                "pop {{r0}}",
                "str r5, [r0, #28]",
                "str r1, [r0, #32]",
                "pop {{r4-r11, pc}}",
                ".purgem offshoot_draw",
                ".purgem offshoot_take",
            )
        }
    };
}

kernel_eight!(lower_eight, "sxtb r12, lr", "add lr, lr, \\step");
kernel_eight!(upper_eight, "sxtb r12, lr\nsub r12, lr, r12\nasr r12, r12, #8", "add lr, lr, \\step, lsl #8");

kernel!(lower, "sxtb r9, r8\nsub r8, r8, r9\nlsl r9, r9, #8", "add r8, r8, r10, asr #8");
kernel!(upper, "sxtb lr, r8\nsub r9, r8, lr\nmov r8, lr", "add r8, r8, r10");

/// Steps the weights of a line, `[groups of four inputs]`: `halves` begins at the channel's pair, and the upper or
/// lower weight of each half is stepped; see `offshoot_learn::integer`. 8-bit weights have no lower bytes. `shift` is
/// 48 or more. Returns the sum of the decreases, or `None` without a change if the line is not a whole number of
/// groups.
pub fn step_line(
    halves: &mut [i16],
    is_upper: bool,
    fine: &mut [i8],
    gradients: &[i32],
    (factor, shift): (i32, u32),
    random: &mut Random,
) -> Option<i32> {
    let groups = gradients.len() / 4;
    let whole = gradients.len() % 4 == 0 && (1..1 << 13).contains(&groups);
    let eight = fine.is_empty();
    let fits = (eight || fine.len() == gradients.len()) && halves.len() >= 8 * groups.saturating_sub(1) + 6;
    if !whole || !fits || !(48..=62).contains(&shift) {
        return None;
    }
    let mut steps = Steps {
        halves: halves.as_mut_ptr(),
        fine: fine.as_mut_ptr(),
        gradients: gradients.as_ptr(),
        groups: groups as u32,
        factor,
        shifts: [64 - shift, shift - 32],
        random: random.state(),
        moved: 0,
    };
    // SAFETY: there is one of each per weight of the groups, as checked above.
    unsafe {
        match (eight, is_upper) {
            (false, false) => lower(&mut steps),
            (false, true) => upper(&mut steps),
            (true, false) => lower_eight(&mut steps),
            (true, true) => upper_eight(&mut steps),
        }
    }
    *random = Random::of_state(steps.random);
    Some(steps.moved)
}
