//! Firmware for Arm's MPS2 boards with the AN385 (Cortex-M3), AN386 (M4) and AN500 (M7) images, as QEMU emulates them.
//! The three differ in nothing that this program sees but the core: it asks the core which one it is.

#![no_std]
#![no_main]

mod timer;
mod uart;

#[cfg(feature = "defmt")]
mod log;

use core::panic::PanicInfo;
use cortex_m_rt::{entry, exception};
use offshoot_app::{Device, RamFlash, Store, serve};
use offshoot_cortex_m::Stack;

/// Room for a model that comes over the line.
const MODEL_RAM: usize = 2 << 20;
/// Room for the arena.
const ARENA: usize = 1 << 20;

/// Room for flash that holds what is learned: emulated in RAM, so that it lasts until the power goes.
const STORE: usize = 512 << 10;

/// The model slot: the part of the lower SRAM that memory.x leaves free.
const MODEL_FLASH: (usize, usize) = (0x0010_0000, 3 << 20);

/// Bytes aligned as the runtime wants models and arenas.
#[repr(C, align(16))]
struct Aligned<const N: usize>([u8; N]);

#[entry]
fn main() -> ! {
    // `entry` makes these statics local to `main`, which runs once.
    static mut MODEL: Aligned<MODEL_RAM> = Aligned([0; MODEL_RAM]);
    static mut WORK: Aligned<ARENA> = Aligned([0; ARENA]);
    static mut FLASH: Aligned<STORE> = Aligned([0; STORE]);
    #[cfg(feature = "defmt")]
    uart::start_log();
    let (address, len) = MODEL_FLASH;
    // SAFETY: memory of the board outside of all that the linker places (memory.x), and nothing writes there while
    // the program runs.
    let model_flash = unsafe { core::slice::from_raw_parts(address as *const u8, len) };
    serve(
        uart::Uart0::start(),
        Device {
            board: board(),
            clock: timer::InstructionTimer::start(),
            gauge: Stack::of_linker(),
            model_flash,
            model_ram: &mut MODEL.0,
            arena: &mut WORK.0,
            store: Store::open(RamFlash::new(&mut FLASH.0), 0..STORE as u32).ok(),
        },
    );
    // The line of this board is never closed.
    loop {
        cortex_m::asm::wfi();
    }
}

/// Name of the board, by the core's part number (CPUID register, Armv7-M B3.2.3).
fn board() -> &'static str {
    const CPUID: *const u32 = 0xE000_ED00 as *const u32;
    // SAFETY: a read-only register that every Armv7-M core has.
    match (unsafe { CPUID.read_volatile() } >> 4) & 0xFFF {
        0xC23 => "qemu:cortex-m3",
        0xC24 => "qemu:cortex-m4",
        0xC27 => "qemu:cortex-m7",
        _ => "mps2",
    }
}

/// All interrupts come here, because none has a handler of its own.
#[exception]
unsafe fn DefaultHandler(irq: i16) {
    if irq == uart::UART0_RX_IRQ {
        uart::on_receive();
    }
}

/// A fault or a panic ends in silence, which the host reports as a device that does not answer; with `defmt` the log
/// has the reason.
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    #[cfg(feature = "defmt")]
    defmt::error!("panic: {}", defmt::Display2Format(_info));
    loop {
        cortex_m::asm::wfi();
    }
}
