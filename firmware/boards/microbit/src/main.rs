//! Firmware for the BBC micro:bit as emulated by QEMU: the smallest core, without FPU, DSP extension, division and
//! atomic operations. Models lie in flash; RAM holds the arena, the stack, and little else.

#![no_std]
#![no_main]

mod timer;
mod uart;

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use offshoot_app::{Arena, Device, RamFlash, Store, serve};
use offshoot_boards::Stack;

/// Bytes for the arena. The rest is for the stack: the line's frame takes one kilobyte, a train step four.
const ARENA: usize = 8704;

/// The model slot: the part of the flash that memory.x leaves free.
const MODEL_FLASH: (usize, usize) = (196 << 10, 60 << 10);

offshoot_boards::mark_sources!();

#[entry]
fn main() -> ! {
    // `entry` makes this static local to `main`, which runs once.
    static mut WORK: Arena<ARENA> = Arena::new();
    let (address, len) = MODEL_FLASH;
    // SAFETY: flash outside everything that the linker places (memory.x), and nothing writes there while the program
    // runs.
    let model_flash = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    serve(
        uart::Uart::start(),
        Device {
            board: "qemu:cortex-m0",
            clock: timer::InstructionTimer::start(),
            gauge: Stack::of_linker(),
            model_flash,
            model_ram: &mut [],
            arena: WORK,
            store: None::<Store<RamFlash<'_>>>,
        },
    );
    // The line of this board is never closed.
    offshoot_boards::rest()
}

/// A fault or panic halts silently; the host reports a device that does not respond.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    offshoot_boards::rest()
}
