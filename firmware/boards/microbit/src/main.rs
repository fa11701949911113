//! Firmware for the BBC micro:bit, as QEMU emulates it: the smallest core there is, without FPU, DSP, division and atomic
//! operations. Models lie in flash; RAM is the arena's, the stack's, and little else's.

#![no_std]
#![no_main]

mod timer;
mod uart;

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use offshoot_app::{Device, RamFlash, Store, serve};
use offshoot_boards::{Aligned, Stack};

/// Room for the arena. The stack has what is left: the frame of the line takes a kilobyte, a step of learning four.
const ARENA: usize = 8704;

/// The model slot: the part of the flash that memory.x leaves free.
const MODEL_FLASH: (usize, usize) = (184 << 10, 72 << 10);

offshoot_boards::mark_sources!();

#[entry]
fn main() -> ! {
    // `entry` makes this static local to `main`, which runs once.
    static mut WORK: Aligned<ARENA> = Aligned([0; ARENA]);
    let (address, len) = MODEL_FLASH;
    // SAFETY: flash outside of all that the linker places (memory.x), and nothing writes there while the program runs.
    let model_flash = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    serve(
        uart::Uart::start(),
        Device {
            board: "qemu:cortex-m0",
            clock: timer::InstructionTimer::start(),
            gauge: Stack::of_linker(),
            model_flash,
            model_ram: &mut [],
            arena: &mut WORK.0,
            store: None::<Store<RamFlash<'_>>>,
        },
    );
    // The line of this board is never closed.
    offshoot_boards::rest()
}

/// A fault or a panic ends in silence, which the host reports as a device that does not answer.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    offshoot_boards::rest()
}
