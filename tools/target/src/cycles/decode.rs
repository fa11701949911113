//! Classifies Thumb-2 instructions by timing (Armv7-M Architecture Reference Manual, A5: encodings).

/// Timing class of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Data processing, saturation, packing, hints.
    Alu,
    /// 32-bit multiplication, also of halves and pairs of halves (DSP).
    Multiply,
    /// 32-bit multiply-accumulate.
    MultiplyAccumulate,
    /// 64-bit multiplication.
    MultiplyLong {
        /// Whether the product is added to two registers.
        accumulate: bool,
    },
    /// Division.
    Divide,
    /// Load of one register.
    Load {
        /// The loaded register.
        dest: u8,
        /// Register of the address.
        base: u8,
    },
    /// Load of several registers.
    LoadMultiple {
        /// Number of registers.
        registers: u8,
    },
    /// Store of one register.
    Store {
        /// Register of the address.
        base: u8,
    },
    /// Store of several registers.
    StoreMultiple {
        /// Number of registers.
        registers: u8,
    },
    /// Branch, conditional or not.
    Branch,
    /// Load whose last register is the program counter.
    LoadBranch {
        /// Number of registers, including the program counter.
        registers: u8,
    },
    /// Table branch.
    TableBranch,
    /// Barriers and special registers.
    System,
    /// Addition, multiplication, comparison, conversion or move of floats.
    Float,
    /// Multiply-accumulate of floats.
    FloatMultiplyAdd,
    /// Division or square root of floats.
    FloatDivide,
}

/// An instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Size in bytes, 2 or 4.
    pub size: u8,
    /// Timing class.
    pub class: Class,
}

/// Decodes the instruction whose first half-word is `first`; `second` is the following half-word.
pub fn decode(first: u16, second: u16) -> Instruction {
    if first >> 11 >= 0b11101 {
        Instruction { size: 4, class: wide(first, second) }
    } else {
        Instruction { size: 2, class: narrow(first) }
    }
}

fn bits(word: u16, at: u32, count: u32) -> u8 {
    ((word >> at) & ((1 << count) - 1)) as u8
}

fn ones(word: u16) -> u8 {
    word.count_ones() as u8
}

fn narrow(i: u16) -> Class {
    let load = |is_load: bool, dest: u8, base: u8| {
        if is_load { Class::Load { dest, base } } else { Class::Store { base } }
    };
    match i >> 12 {
        0x4 if i & 0xFFC0 == 0x4340 => Class::Multiply,
        // BX, BLX, and MOV and ADD to the program counter.
        0x4 if i & 0xFF00 == 0x4700 || matches!(i & 0xFF87, 0x4687 | 0x4487) => Class::Branch,
        0x4 if i & 0xF800 == 0x4800 => Class::Load { dest: bits(i, 8, 3), base: 15 },
        0x5 => load(matches!(bits(i, 9, 3), 3..=7), bits(i, 0, 3), bits(i, 3, 3)),
        0x6..=0x8 => load(i & 0x0800 != 0, bits(i, 0, 3), bits(i, 3, 3)),
        0x9 => load(i & 0x0800 != 0, bits(i, 8, 3), 13),
        0xB => match i & 0xFF00 {
            // CBZ, CBNZ.
            0xB100 | 0xB300 | 0xB900 | 0xBB00 => Class::Branch,
            0xB400 | 0xB500 => Class::StoreMultiple { registers: ones(i & 0x1FF) },
            0xBC00 => Class::LoadMultiple { registers: ones(i & 0xFF) },
            0xBD00 => Class::LoadBranch { registers: ones(i & 0x1FF) },
            _ => Class::Alu,
        },
        0xC if i & 0x0800 == 0 => Class::StoreMultiple { registers: ones(i & 0xFF) },
        0xC => Class::LoadMultiple { registers: ones(i & 0xFF) },
        0xD if i & 0x0E00 == 0x0E00 => Class::System,
        0xD | 0xE => Class::Branch,
        _ => Class::Alu,
    }
}

fn wide(first: u16, second: u16) -> Class {
    let is_load = first & 0x10 != 0;
    let base = bits(first, 0, 4);
    match first >> 9 {
        // LDM, STM; LDRD, STRD, exclusive, TBB, TBH.
        0b1110100 if first & 0x40 == 0 => multiple(is_load, second & 0x8000 != 0, ones(second)),
        0b1110100 if first & 0xFFF0 == 0xE8D0 && second & 0xFFE0 == 0xF000 => Class::TableBranch,
        0b1110100 if first & 0x0120 != 0 => multiple(is_load, false, 2),
        0b1110100 if is_load => Class::Load { dest: bits(second, 12, 4), base },
        0b1110100 => Class::Store { base },
        0b1110110 | 0b1111110 => coprocessor_memory(first, second),
        0b1110111 | 0b1111111 => coprocessor(first, second),
        0b1111000..=0b1111011 if second & 0x8000 != 0 => branch_or_system(first, second),
        0b1111100 => memory(first, second),
        // Multiplication; the rest of this space is data processing.
        0b1111101 if first & 0x0180 == 0x0100 => {
            if second & 0xF000 == 0xF000 {
                Class::Multiply
            } else {
                Class::MultiplyAccumulate
            }
        }
        0b1111101 if first & 0x0180 == 0x0180 => match (first & 0x70, second & 0xF0) {
            (0x10 | 0x30, 0xF0) => Class::Divide,
            (0x00 | 0x20, _) => Class::MultiplyLong { accumulate: false },
            _ => Class::MultiplyLong { accumulate: true },
        },
        _ => Class::Alu,
    }
}

fn multiple(is_load: bool, to_counter: bool, registers: u8) -> Class {
    match (is_load, to_counter) {
        (true, true) => Class::LoadBranch { registers },
        (true, false) => Class::LoadMultiple { registers },
        (false, _) => Class::StoreMultiple { registers },
    }
}

/// Single loads and stores.
fn memory(first: u16, second: u16) -> Class {
    let (base, dest) = (bits(first, 0, 4), bits(second, 12, 4));
    match (first & 0x10 != 0, dest) {
        (false, _) => Class::Store { base },
        (true, 15) if first & 0x60 == 0x40 => Class::LoadBranch { registers: 1 },
        // Preload hints.
        (true, 15) => Class::Alu,
        (true, dest) => Class::Load { dest, base },
    }
}

fn branch_or_system(first: u16, second: u16) -> Class {
    let unconditional = second & 0x1000 != 0;
    // A condition field of 111x means that it is no branch.
    if unconditional || first & 0x0380 != 0x0380 { Class::Branch } else { Class::System }
}

fn is_float(second: u16) -> bool {
    matches!(bits(second, 8, 4), 10 | 11)
}

fn coprocessor_memory(first: u16, second: u16) -> Class {
    if !is_float(second) {
        return Class::System;
    }
    let is_load = first & 0x10 != 0;
    if first & 0xFFE0 == 0xEC40 {
        // Moves between two core registers and float registers.
        return Class::Float;
    }
    let words = bits(second, 0, 8);
    if first & 0x0120 == 0x0100 {
        let base = bits(first, 0, 4);
        return if is_load { Class::Load { dest: u8::MAX, base } } else { Class::Store { base } };
    }
    multiple(is_load, false, words)
}

fn coprocessor(first: u16, second: u16) -> Class {
    if !is_float(second) {
        return Class::System;
    }
    if second & 0x10 != 0 {
        return Class::Float;
    }
    match first & 0xB0 {
        0x00 | 0x10 | 0x90 | 0xA0 => Class::FloatMultiplyAdd,
        0x80 => Class::FloatDivide,
        // VSQRT.
        0xB0 if first & 0xF == 1 && second & 0xC0 == 0xC0 => Class::FloatDivide,
        _ => Class::Float,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodings from an assembler.
    #[test]
    fn encodings() {
        let cases = [
            ("movs r0, #1", [0x2001, 0], 2, Class::Alu),
            ("muls r0, r1", [0x4348, 0], 2, Class::Multiply),
            ("bx lr", [0x4770, 0], 2, Class::Branch),
            ("mov r8, r0", [0x4680, 0], 2, Class::Alu),
            ("ldr r1, [pc, #4]", [0x4901, 0], 2, Class::Load { dest: 1, base: 15 }),
            ("ldrsb r2, [r1, r0]", [0x560A, 0], 2, Class::Load { dest: 2, base: 1 }),
            ("strb r2, [r1, r0]", [0x540A, 0], 2, Class::Store { base: 1 }),
            ("ldr r3, [r4, #4]", [0x6863, 0], 2, Class::Load { dest: 3, base: 4 }),
            ("strh r3, [r4]", [0x8023, 0], 2, Class::Store { base: 4 }),
            ("ldr r0, [sp, #8]", [0x9802, 0], 2, Class::Load { dest: 0, base: 13 }),
            ("push {r4, lr}", [0xB510, 0], 2, Class::StoreMultiple { registers: 2 }),
            ("pop {r4, pc}", [0xBD10, 0], 2, Class::LoadBranch { registers: 2 }),
            ("cbz r0, .", [0xB100, 0], 2, Class::Branch),
            ("it ne", [0xBF18, 0], 2, Class::Alu),
            ("ldmia r1!, {r4-r7}", [0xC9F0, 0], 2, Class::LoadMultiple { registers: 4 }),
            ("bne .", [0xD1FE, 0], 2, Class::Branch),
            ("b .", [0xE7FE, 0], 2, Class::Branch),
            ("smlad r8, r2, r4, r8", [0xFB22, 0x8804], 4, Class::MultiplyAccumulate),
            ("smmulr r0, r0, r3", [0xFB50, 0xF013], 4, Class::Multiply),
            ("mul r0, r1, r2", [0xFB01, 0xF002], 4, Class::Multiply),
            ("umull r0, r1, r2, r3", [0xFBA2, 0x0103], 4, Class::MultiplyLong { accumulate: false }),
            ("smlal r0, r1, r2, r3", [0xFBC2, 0x0103], 4, Class::MultiplyLong { accumulate: true }),
            ("udiv r0, r1, r2", [0xFBB1, 0xF0F2], 4, Class::Divide),
            ("sxtb16 r3, r2, ror #8", [0xFA2F, 0xF392], 4, Class::Alu),
            ("ssat r0, #8, r0, asr #1", [0xF320, 0x0047], 4, Class::Alu),
            ("ldr.w r2, [r0], #4", [0xF850, 0x2B04], 4, Class::Load { dest: 2, base: 0 }),
            ("ldr.w pc, [sp, #4]", [0xF8DD, 0xF004], 4, Class::LoadBranch { registers: 1 }),
            ("strb.w r1, [r2]", [0xF882, 0x1000], 4, Class::Store { base: 2 }),
            ("ldrd r0, r1, [lr, #12]", [0xE9DE, 0x0103], 4, Class::LoadMultiple { registers: 2 }),
            ("strd r4, r5, [r3]", [0xE9C3, 0x4500], 4, Class::StoreMultiple { registers: 2 }),
            ("push.w {r4-r11, lr}", [0xE92D, 0x4FF0], 4, Class::StoreMultiple { registers: 9 }),
            ("pop.w {r4-r11, pc}", [0xE8BD, 0x8FF0], 4, Class::LoadBranch { registers: 9 }),
            ("tbb [pc, r0]", [0xE8DF, 0xF000], 4, Class::TableBranch),
            ("add.w r0, r1, r2, asr #7", [0xEB01, 0x10E2], 4, Class::Alu),
            ("bl .", [0xF7FF, 0xFFFE], 4, Class::Branch),
            ("bne.w .", [0xF47F, 0xAFFE], 4, Class::Branch),
            ("dsb sy", [0xF3BF, 0x8F4F], 4, Class::System),
            ("vldr s0, [r0]", [0xED90, 0x0A00], 4, Class::Load { dest: u8::MAX, base: 0 }),
            ("vpush {s16-s19}", [0xED2D, 0x8A04], 4, Class::StoreMultiple { registers: 4 }),
            ("vmla.f32 s0, s1, s2", [0xEE00, 0x0A81], 4, Class::FloatMultiplyAdd),
            ("vadd.f32 s0, s0, s1", [0xEE30, 0x0A20], 4, Class::Float),
            ("vdiv.f32 s0, s0, s1", [0xEE80, 0x0A20], 4, Class::FloatDivide),
            ("vsqrt.f32 s0, s0", [0xEEB1, 0x0AC0], 4, Class::FloatDivide),
        ];
        for (text, [first, second], size, class) in cases {
            assert_eq!(decode(first, second), Instruction { size, class }, "{text}");
        }
    }

    #[test]
    fn anything_decodes() {
        for first in 0..=u16::MAX {
            for second in [0, 0x0AC0, 0x8000, 0xF0F2, 0xFFFF] {
                let instruction = decode(first, second);
                assert_eq!(instruction.size, if first >= 0xE800 { 4 } else { 2 });
            }
        }
    }
}
