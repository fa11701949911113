//! One model from flash on an Arm MPS2 board, with nothing that the model does not need: a byte on UART0 says that it is
//! ready, a sample's bytes come in, the output's bytes go out. No protocol, no log, no observer; what stands here is what a product would have, but for the
//! place that samples come from.
//!
//! A model that does not open (made for another version, or with operators that are not linked) ends in `wfi`.

#![no_std]
#![no_main]

mod memory;

use core::panic::PanicInfo;
use cortex_m_rt::entry;
use offshoot::{Arena, Engine, Error, Model};

#[cfg(feature = "count")]
mod count;
#[cfg(feature = "signed")]
mod trust;

// `../single.sh` says which.
offshoot::include_model!(
    #[unsafe(link_section = ".rodata.model")]
    Network,
    env!("OFFSHOOT_MODEL", "use firmware/single.sh")
);

/// UART0 (CMSDK APB UART, Arm DDI 0479, section 4.3).
const DATA: *mut u32 = 0x4000_4000 as *mut u32;
const STATE: *const u32 = 0x4000_4004 as *const u32;
const CTRL: *mut u32 = 0x4000_4008 as *mut u32;
const BAUD_DIVIDER: *mut u32 = 0x4000_4010 as *mut u32;
const TX_FULL: u32 = 1;
const RX_FULL: u32 = 2;
const TX_RX_ENABLE: u32 = 3;

/// Says that a sample may come (ASCII's ENQ).
const READY: u8 = 5;

unsafe extern "C" {
    // Given by cortex-m-rt's link.x.
    fn DefaultHandler();
}

/// The part of the vector table that belongs to the chip: no interrupt is used, and the linker wants one entry.
#[unsafe(link_section = ".vector_table.interrupts")]
#[unsafe(no_mangle)]
#[used]
static __INTERRUPTS: [unsafe extern "C" fn(); 1] = [DefaultHandler];

#[entry]
fn main() -> ! {
    // `entry` makes this static local to `main`, which runs once.
    static mut ARENA: Arena<{ Network::ARENA_BYTES }> = Arena::new();
    let _ = serve(ARENA);
    rest()
}

/// Why the model does not open.
#[cfg(not(feature = "signed"))]
type Failure = Error;
#[cfg(feature = "signed")]
type Failure = offshoot::OpenError;

/// Samples in, outputs out, for ever; ends only with an error.
fn serve(arena: &mut [u8]) -> Result<(), Failure> {
    #[cfg(feature = "count")]
    count::start();
    // As `Network::engine`, in 32 bytes less of stack.
    #[cfg(not(feature = "signed"))]
    let mut engine = Engine::new(Model::open(Network::bytes())?, arena)?;
    #[cfg(feature = "signed")]
    let mut engine = Engine::new(Model::open(trust::verified(Network::bytes())?)?, arena)?;
    #[cfg(feature = "count")]
    let instructions = count::instructions();
    // SAFETY: registers of a UART that this board has and nothing else here uses; they have no effect on memory.
    unsafe {
        BAUD_DIVIDER.write_volatile(16);
        CTRL.write_volatile(TX_RX_ENABLE);
    }
    #[cfg(feature = "count")]
    instructions.to_le_bytes().into_iter().for_each(send);
    loop {
        send(READY);
        answer(&mut engine)?;
    }
}

/// One sample. Out of line, so that the frame of a run does not lie below that of opening the model.
#[inline(never)]
fn answer(engine: &mut Engine<'_, '_>) -> Result<(), Error> {
    engine.input_mut(0)?.fill_with(receive);
    engine.run()?;
    engine.output(0)?.iter().for_each(|&byte| send(byte));
    Ok(())
}

fn receive() -> u8 {
    // SAFETY: as in `serve`.
    unsafe {
        while STATE.read_volatile() & RX_FULL == 0 {}
        DATA.read_volatile() as u8
    }
}

fn send(byte: u8) {
    // SAFETY: as in `serve`.
    unsafe {
        while STATE.read_volatile() & TX_FULL != 0 {}
        DATA.write_volatile(byte.into());
    }
}

fn rest() -> ! {
    loop {
        // A fault, or a model that this firmware is not for: nothing more happens.
        core::hint::spin_loop();
    }
}

#[cfg(not(feature = "no-panic"))]
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    rest()
}

/// Calls a function that does not exist, so that the firmware links only if no panic can be reached.
#[cfg(feature = "no-panic")]
#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn a_panic_can_be_reached() -> !;
    }
    // SAFETY: a program with this call does not link.
    unsafe { a_panic_can_be_reached() }
}
