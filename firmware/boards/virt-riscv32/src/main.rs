//! Firmware for QEMU's `virt` board with a 32-bit RISC-V core without FPU. It runs the portable kernels, as every core
//! without kernels of its own does.

#![no_std]
#![no_main]

mod counter;
mod uart;

use core::panic::PanicInfo;
use offshoot_app::{Arena, Device, RamFlash, Store, serve};
use offshoot_boards::Stack;
use riscv_rt::entry;

/// Bytes for a model that is sent over the line.
const MODEL_RAM: usize = 2 << 20;
/// Bytes for the arena.
const ARENA: usize = 1 << 20;

/// The model slot: memory that memory.x leaves free.
const MODEL_FLASH: (usize, usize) = (0x8100_0000, 3 << 20);

offshoot_boards::mark_sources!();

#[entry]
fn main() -> ! {
    static mut MODEL: Arena<MODEL_RAM> = Arena::new();
    static mut WORK: Arena<ARENA> = Arena::new();
    let (address, len) = MODEL_FLASH;
    // SAFETY: memory of the board outside everything that the linker places (memory.x), and nothing writes there while
    // the program runs.
    let model_flash = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    // SAFETY: statics that no other function can name, in a function that runs once.
    let (model_ram, arena) = unsafe { (&mut *&raw mut MODEL, &mut *&raw mut WORK) };
    serve(
        uart::Uart::start(),
        Device {
            board: "qemu:riscv32",
            clock: counter::Retired,
            gauge: Stack::of_linker(),
            model_flash,
            model_ram,
            arena,
            store: None::<Store<RamFlash<'_>>>,
        },
    );
    // The line of this board is never closed.
    offshoot_boards::rest()
}

/// A panic halts silently; the host reports a device that does not respond.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    offshoot_boards::rest()
}
