//! Learning from a stream: the network was trained for another machine than the one it hangs on. What it learns is saved in
//! flash and taken up again after a restart.
//!
//! `cargo run --release -p offshoot --example learn`

use offshoot::store::{RamFlash, Store};
use offshoot::wire::crc32;
use offshoot::{Arena, Engine, Error};

offshoot::include_model!(Vibration, "data/vibration_learns.off");

/// At least what `offshoot compile` prints as the arena of training, and `Model::train_arena_bytes` says.
const TRAIN_ARENA_BYTES: usize = 16_000;
const LEN: usize = Vibration::INPUTS[0].elements();
const FLASH: u32 = 64 << 10;

static STREAM: &[u8] = include_bytes!("data/shifted_x.u8");
static LABELS: &[u8] = include_bytes!("data/shifted_y.u8");

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let mut arena = Arena::<TRAIN_ARENA_BYTES>::new();
    let mut flash = vec![0xff; FLASH as usize];
    let samples: Vec<_> = STREAM.as_chunks::<LEN>().0.iter().zip(LABELS).collect();
    let (stream, test) = samples.split_at(samples.len() / 2);

    let mut engine = Engine::learning(Vibration::open()?, &mut arena)?;
    println!("before learning: {} of {} right", right(&mut engine, test)?, test.len());
    for (readings, label) in stream {
        engine.write_input_f32(0, &readings.map(f32::from))?;
        engine.learn(u16::from(**label))?;
    }
    println!("after {} steps: {} of {} right", stream.len(), right(&mut engine, test)?, test.len());
    let mut store = Store::open(RamFlash::new(&mut flash), 0..FLASH)?;
    engine.save(&mut store, crc32(Vibration::bytes()))?;

    // The power goes and comes back: nothing is left but flash.
    arena.fill(0);
    let mut engine = Engine::learning(Vibration::open()?, &mut arena)?;
    let mut store = Store::open(RamFlash::new(&mut flash), 0..FLASH)?;
    engine.restore_from(&mut store, crc32(Vibration::bytes()))?;
    println!("after a restart: {} of {} right", right(&mut engine, test)?, test.len());
    Ok(())
}

fn right(engine: &mut Engine<'_, '_>, test: &[(&[u8; LEN], &u8)]) -> Result<usize, Error> {
    let mut right = 0;
    for (readings, label) in test {
        engine.write_input_f32(0, &readings.map(f32::from))?;
        engine.run()?;
        right += usize::from(engine.class()? == usize::from(**label));
    }
    Ok(right)
}
