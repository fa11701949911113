//! Firmware for Arm's FPGA boards as emulated by QEMU: MPS2 with the images AN385 (Cortex-M3), AN386 (M4), AN500 (M7)
//! and AN505 (M33; feature `an505`); MPS3 with AN547 (M55; feature `an547`).

#![no_std]
#![no_main]

mod image;
mod timer;

#[cfg(feature = "defmt")]
mod log;

use core::panic::PanicInfo;
// Links the crate that implements the critical section.
use cortex_m as _;
use cortex_m_rt::{entry, exception};
use offshoot_app::{Arena, Device, RamFlash, Store, serve};
use offshoot_boards::Stack;
use offshoot_boards::cmsdk::{Registers, Uart};

/// Bytes for a model that is sent over the line.
const MODEL_RAM: usize = 2 << 20;
/// Bytes for the arena.
const ARENA: usize = 1 << 20;

/// Bytes for learned weights. The flash is emulated in RAM, so it lasts until power-off.
const STORE: usize = 512 << 10;

// SAFETY: the image has a UART there.
static UART0: Uart = Uart::new(unsafe { Registers::at(image::UART0) });

offshoot_boards::mark_sources!();

#[entry]
fn main() -> ! {
    // `entry` makes these statics local to `main`, which runs once.
    static mut MODEL: Arena<MODEL_RAM> = Arena::new();
    static mut WORK: Arena<ARENA> = Arena::new();
    static mut FLASH: Arena<STORE> = Arena::new();
    #[cfg(feature = "defmt")]
    log::start();
    let (address, len) = image::MODEL_FLASH;
    // SAFETY: memory of the board outside everything that the linker places (memory/), and nothing writes there while
    // the program runs.
    let model_flash = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    serve(
        UART0.start(&image::UART0_IRQS),
        Device {
            board: image::board(),
            clock: image::Counter::start(),
            gauge: Stack::of_linker(),
            model_flash,
            model_ram: MODEL,
            arena: WORK,
            store: Store::open(RamFlash::new(FLASH), 0..STORE as u32).ok(),
        },
    );
    // The line of this board is never closed.
    offshoot_boards::rest()
}

/// Handles all interrupts, because none has its own handler; only the UART's are enabled.
#[exception]
unsafe fn DefaultHandler(_irq: i16) {
    UART0.on_receive();
}

/// A fault or panic halts silently; the host reports a device that does not respond. With `defmt`, the log has the
/// reason.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("panic: {}", defmt::Display2Format(_info));
    offshoot_boards::rest()
}
