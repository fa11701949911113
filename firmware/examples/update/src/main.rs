//! A model is replaced on a Cortex-M4: a delta arrives, power goes away in its middle, the new model is tried and confirmed; then a file
//! arrives damaged, and is refused.
//!
//! `cd firmware/examples/update && cargo run --release` runs it in QEMU. That board has no flash that can be programmed, so RAM stands in
//! for it. The test `updates` makes `next.delta` and holds the program against what it must print.

#![no_std]
#![no_main]

use core::ops::Range;

use cortex_m_rt::entry;
use cortex_m_semihosting::{debug, hprintln};
use offshoot::store::RamFlash;
use offshoot::store::nor_flash::NorFlashErrorKind;
use offshoot::store::slots::{Active, Image, Layout, Patch, Slots, UpdateError};
use offshoot::{Arena, Engine, Error, Model};
use offshoot_app::StackGauge;
use offshoot_boards::Stack;
use panic_semihosting as _;

// The model that a programmer writes to slot A.
offshoot::include_model!(Vibration, "../model.off");

/// Two slots of 16 kB, and four control pages of 1 kB.
const LAYOUT: Layout = Layout { slots: [0..0x4000, 0x4000..0x8000], control: 0x8000..0x9000 };

/// From that model to one whose last layer learned, as `offshoot delta` writes it.
static DELTA: &[u8] = include_bytes!("../next.delta");

/// Readings of a machine in state 0, which a model must still know after an update.
static READINGS: &[u8; Vibration::INPUTS[0].elements()] = include_bytes!("../../hello/readings.u8");

type Failure = UpdateError<NorFlashErrorKind>;

#[entry]
fn main() -> ! {
    // `entry` makes these statics local to `main`, which runs once.
    static mut FLASH: Arena<0x9000> = Arena::new();
    static mut ARENA: Arena<{ Vibration::ARENA_BYTES }> = Arena::new();
    match live(FLASH, ARENA) {
        Ok(()) => debug::exit(debug::EXIT_SUCCESS),
        Err(error) => panic!("{error}"),
    }
    loop {
        core::hint::spin_loop();
    }
}

/// The life of a device.
fn live(flash: &mut [u8], arena: &mut [u8]) -> Result<(), Failure> {
    let factory = Vibration::bytes();
    flash.fill(0xff);
    flash.iter_mut().zip(factory).for_each(|(cell, byte)| *cell = *byte);
    open(flash)?.adopt(factory.len() as u32)?;
    say("at first", boot(flash, arena)?);

    let mut gauge = Stack::of_linker();
    let before = gauge.paint();
    let (header, instructions) = DELTA.split_first_chunk().ok_or(UpdateError::Delta)?;
    // Power goes away after a half: the delta comes again from its start, and flash keeps what it has.
    for part in [&instructions[..instructions.len() / 2], instructions] {
        let mut slots = open(flash)?;
        let mut patch = slots.begin_delta(header)?;
        for piece in part.chunks(64) {
            slots.write_delta(&mut patch, piece)?;
        }
        if part.len() == instructions.len() {
            slots.finish(opens)?;
        }
    }
    let stack = gauge.deepest() - before;
    let kept = size_of::<Slots<RamFlash<'_>>>() + size_of::<Patch>();
    hprintln!(
        "a delta of {} bytes took {} bytes of stack, {} of them between its pieces",
        DELTA.len(),
        stack,
        kept
    );
    say("after a reset", boot(flash, arena)?);

    // A file that arrives damaged: its hash is another.
    let mut slots = open(flash)?;
    let wrong = Image { len: factory.len() as u32, sha256: [0; 32] };
    slots.begin(wrong)?;
    slots.write(0, factory)?;
    hprintln!("another file: {}", slots.finish(opens).err().unwrap_or(UpdateError::Nothing));
    say("after that", boot(flash, arena)?);
    Ok(())
}

/// The partition, as after each reset.
fn open(flash: &mut [u8]) -> Result<Slots<RamFlash<'_>>, Failure> {
    Ok(Slots::open(RamFlash::new(flash), LAYOUT)?)
}

/// What runs after a reset: the active model, or the one before if it fails its self-test.
fn boot(flash: &mut [u8], arena: &mut [u8]) -> Result<Active, Failure> {
    loop {
        let mut slots = open(flash)?;
        let active = slots.boot(3)?.ok_or(UpdateError::Nothing)?;
        let start = slots.range(active.slot).start as usize;
        let file = &flash[start..start + active.image.len as usize];
        let passed = !active.on_trial || self_test(file, arena) == Ok(0);
        let mut slots = open(flash)?;
        if passed {
            slots.confirm()?;
            return Ok(active);
        }
        slots.reject()?;
    }
}

/// The check before the switch: the file opens. With the feature `signed` this is where its signature is verified.
fn opens(flash: &mut RamFlash<'_>, range: Range<u32>) -> bool {
    let file = flash.bytes().get(range.start as usize..range.end as usize);
    file.is_some_and(|file| Model::open(file).is_ok())
}

/// The state of the machine that the readings are from, by this model.
fn self_test(file: &[u8], arena: &mut [u8]) -> Result<usize, Error> {
    let mut engine = Engine::new(Model::open(file)?, arena)?;
    engine.write_input_f32(0, &READINGS.map(f32::from))?;
    engine.run()?;
    engine.top1(0)
}

fn say(when: &str, Active { slot, image, on_trial }: Active) {
    let trial = if on_trial { ", which passed its self-test" } else { "" };
    let [a, b, ..] = image.sha256;
    hprintln!("{}: slot {:?}, {} bytes, SHA-256 {:02x}{:02x}...{}", when, slot, image.len, a, b, trial);
}
