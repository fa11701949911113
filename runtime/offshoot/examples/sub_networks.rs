//! Two networks in one file on the same weights: the small one looks first, the large one only when the small one is unsure.
//!
//! `cargo run -p offshoot --example sub_networks`

use offshoot::{Arena, Engine, Error};

offshoot::include_model!(Tones, "data/tones_nested.off");

const WHOLE: usize = 0;
const SMALL: usize = 1;
const SURE: f32 = 0.5;
const FRAMES: usize = Tones::INPUTS[0].elements();

static SAMPLES: &[u8] = include_bytes!("data/tones_x.u8");

fn main() -> Result<(), Error> {
    let mut arena = Arena::<{ Tones::ARENA_BYTES }>::new();
    let mut engine = Tones::engine(&mut arena)?;
    let samples = SAMPLES.as_chunks::<FRAMES>().0;
    let mut unsure = 0;
    for (number, frames) in samples.iter().enumerate() {
        let (mut class, score) = classify(&mut engine, SMALL, frames)?;
        if score < SURE {
            unsure += 1;
            class = classify(&mut engine, WHOLE, frames)?.0;
        }
        println!("sound {number}: class {class}");
    }
    println!("the small network was unsure about {unsure} of {} sounds", samples.len());
    Ok(())
}

/// Class and score that one network of the file gives.
fn classify(
    engine: &mut Engine<'_, '_>,
    network: usize,
    frames: &[u8; FRAMES],
) -> Result<(usize, f32), Error> {
    engine.select(network)?;
    engine.write_input_f32(0, &frames.map(f32::from))?;
    engine.run()?;
    let mut scores = [0.0; Tones::OUTPUTS[0].elements()];
    engine.read_output_f32(0, &mut scores)?;
    let class = engine.top1(0)?;
    Ok((class, scores[class]))
}
