//! Two networks that take turns in one arena: it is as large as the larger of them, not as both together.
//!
//! `cargo run -p offshoot --example two_models`

use offshoot::{Arena, Engine, Error};

offshoot::include_model!(Vibration, "data/vibration.off");
offshoot::include_model!(Tones, "data/tones.off");

const SHARED: usize =
    if Vibration::ARENA_BYTES > Tones::ARENA_BYTES { Vibration::ARENA_BYTES } else { Tones::ARENA_BYTES };

static READINGS: &[u8] = include_bytes!("data/vibration_x.u8");
static SOUNDS: &[u8] = include_bytes!("data/tones_x.u8");

fn main() -> Result<(), Error> {
    // Validated once; binding a model to the arena is cheap, and happens whenever the arena changes hands.
    let (vibration, tones) = (Vibration::open()?, Tones::open()?);
    let mut arena = Arena::<SHARED>::new();
    let readings = READINGS.as_chunks::<{ Vibration::INPUTS[0].elements() }>().0;
    let sounds = SOUNDS.as_chunks::<{ Tones::INPUTS[0].elements() }>().0;
    for (readings, sound) in readings.iter().zip(sounds) {
        let state = classify(Engine::new(vibration, &mut arena)?, &readings.map(f32::from))?;
        let sound = classify(Engine::new(tones, &mut arena)?, &sound.map(f32::from))?;
        println!("state of the machine: {state}, sound: {sound}");
    }
    println!("one arena of {SHARED} bytes ({} and {})", Vibration::ARENA_BYTES, Tones::ARENA_BYTES);
    Ok(())
}

fn classify(mut engine: Engine<'_, '_>, input: &[f32]) -> Result<usize, Error> {
    engine.write_input_f32(0, input)?;
    engine.run()?;
    engine.top1(0)
}
