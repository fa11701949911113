//! A network on a Cortex-M4: readings of an accelerometer in, the state of the machine on the debugger's console.
//!
//! `cd firmware/examples/hello && cargo run --release` runs it in QEMU.

#![no_std]
#![no_main]

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use offshoot::{Arena, Error};
use panic_semihosting as _;

offshoot::include_model!(Vibration, "../model.off");

const STATES: [&str; 5] = ["normal", "imbalance", "misalignment", "looseness", "bearing"];

/// An eighth of a second of three axes, as the sensor gives them.
static READINGS: &[u8; Vibration::INPUTS[0].elements()] = include_bytes!("../readings.u8");

#[entry]
fn main() -> ! {
    // `entry` makes this static local to `main`, which runs once.
    static mut ARENA: Arena<{ Vibration::ARENA_BYTES }> = Arena::new();
    match classify(ARENA) {
        Ok(state) => hprintln!("the machine is in state: {}", STATES[state]),
        Err(error) => panic!("{error}"),
    }
    debug::exit(debug::EXIT_SUCCESS);
    loop {
        core::hint::spin_loop();
    }
}

fn classify(arena: &mut [u8]) -> Result<usize, Error> {
    let mut engine = Vibration::engine(arena)?;
    engine.write_input_f32(0, &READINGS.map(f32::from))?;
    engine.run()?;
    engine.top1(0)
}
