//! Compares the kernels of an Arm core with the portable ones, on random shapes, and looks at the bytes around their buffers.
//! Prints to the debugger and ends with its exit code: `firmware/checks.sh` runs it in the emulator.

#![no_std]
#![no_main]

mod add;
#[cfg(feature = "vectors")]
mod conv;
mod counts;
mod depthwise;
mod int16;
mod pool;
mod table;

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
use cortex_m_semihosting::hprintln;
use offshoot_base::Span;
use offshoot_kernels::Requant;

/// Bytes of the memory that kernels work in.
const ARENA: usize = 64 << 10;
/// Bytes that no kernel may touch, before the first buffer, between two, and after the last.
const MARGIN: usize = 35;
/// Most weights, and most channels.
const WEIGHTS: usize = 16 << 10;
const CHANNELS: usize = 64;

/// Memory that starts at a multiple of 16.
#[repr(align(16))]
struct Aligned([u8; ARENA]);

#[entry]
fn main() -> ! {
    // `entry` makes these statics local to `main`, which runs once.
    static mut WORK: Aligned = Aligned([0; ARENA]);
    static mut EXPECTED: Aligned = Aligned([0; ARENA]);
    static mut PARAMETERS: Parameters = Parameters::new();
    let mut bench = Bench {
        random: Random(0x9E37_79B9_7F4A_7C15),
        work: &mut WORK.0,
        expected: &mut EXPECTED.0,
        parameters: PARAMETERS,
        used: 0,
    };
    if cfg!(feature = "counts") {
        counts::print(&mut bench);
    } else {
        compare(&mut bench);
    }
    exit(EXIT_SUCCESS);
    rest()
}

fn compare(bench: &mut Bench) {
    // Other cores run row-major weights with the portable kernel.
    #[cfg(feature = "vectors")]
    conv::check(bench);
    depthwise::check(bench);
    int16::check(bench);
    add::check(bench);
    pool::check(bench);
    table::check(bench);
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    hprintln!("{}", info);
    exit(EXIT_FAILURE);
    rest()
}

/// The end, where there is no debugger.
fn rest() -> ! {
    loop {
        cortex_m::asm::wfi();
    }
}

/// Xorshift: the same cases in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }

    /// One of `from` to `to`.
    fn of(&mut self, from: u16, to: u16) -> u16 {
        from + (self.next() % u32::from(to - from + 1)) as u16
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    fn byte(&mut self) -> i8 {
        self.next() as i8
    }

    /// A multiplier as TFLite's.
    fn multiplier(&mut self) -> i32 {
        ((1 << 30) + (self.next() >> 2)) as i32
    }
}

/// Weights and requantisation parameters.
struct Parameters {
    weights: [i8; WEIGHTS],
    bias: [i32; CHANNELS],
    multiplier: [i32; CHANNELS],
    shift: [i8; CHANNELS],
}

impl Parameters {
    const fn new() -> Self {
        Self { weights: [0; WEIGHTS], bias: [0; CHANNELS], multiplier: [0; CHANNELS], shift: [0; CHANNELS] }
    }

    /// Draws all; sums of `taps` products spread over the whole range of outputs.
    fn draw(&mut self, random: &mut Random, taps: usize) {
        self.weights.iter_mut().for_each(|w| *w = random.byte());
        let spread = 6 + (usize::BITS - taps.leading_zeros()) / 2;
        for ((bias, multiplier), shift) in self.bias.iter_mut().zip(&mut self.multiplier).zip(&mut self.shift)
        {
            *bias = (random.next() as i32) >> random.of(3, 20);
            *multiplier = random.multiplier();
            *shift = -(random.of(1, spread as u16 + 2) as i8);
        }
    }

    /// Those of `channels`; sometimes the output is that of a ReLU.
    fn requant(&self, random: &mut Random, channels: usize, scales: usize) -> Requant<'_> {
        let (out_zp, min, max) = match random.of(0, 3) {
            0 => (-128, -128, 127),
            1 => (-20, -20, 90),
            2 => (random.byte().into(), -128, 127),
            _ => (random.byte().into(), -70, 60),
        };
        Requant {
            bias: &self.bias[..channels],
            multiplier: &self.multiplier[..scales],
            shift: &self.shift[..scales],
            in_zp: 0,
            out_zp,
            min,
            max,
        }
    }
}

/// What the checks share.
struct Bench {
    random: Random,
    work: &'static mut [u8; ARENA],
    expected: &'static mut [u8; ARENA],
    parameters: &'static mut Parameters,
    /// Bytes of the memory that the buffers and their margins take.
    used: usize,
}

impl Bench {
    /// Places buffers of these sizes, with margins, at any address but for the last one, which is a scratch. Fills the memory with
    /// random bytes. `None` if they do not fit.
    fn place<const N: usize>(&mut self, sizes: [usize; N]) -> Option<[Span; N]> {
        let mut at = 0;
        let mut i = 0;
        let spans = sizes.map(|len| {
            i += 1;
            at += MARGIN + usize::from(self.random.of(0, 15));
            if i == N {
                at = at.next_multiple_of(4);
            }
            let span = Span { start: at, len };
            at += len;
            span
        });
        if at + MARGIN > ARENA {
            return None;
        }
        let random = &mut self.random;
        self.work[..at + MARGIN].iter_mut().for_each(|byte| *byte = random.next() as u8);
        self.used = at + MARGIN;
        self.expected[..at + MARGIN].copy_from_slice(&self.work[..at + MARGIN]);
        Some(spans)
    }

    /// Panics if a byte outside `free` differs.
    fn compare(&self, case: &dyn core::fmt::Debug, dst: Span, free: &[Span]) {
        for (at, (got, expected)) in self.work.iter().zip(self.expected.iter()).enumerate().take(self.used) {
            let differs = got != expected && !free.iter().any(|span| span.range().contains(&at));
            assert!(
                !differs,
                "{case:?}: byte {at} is {}, not {}; the output is {:?}",
                *got as i8,
                *expected as i8,
                dst.range()
            );
        }
    }
}

/// The int8 view of bytes.
fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: the same layout.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// As [`signed`], mutable.
fn signed_mut(bytes: &mut [u8]) -> &mut [i8] {
    // SAFETY: the same layout.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}
