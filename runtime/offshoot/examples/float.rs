//! A network in float32, for a device with an FPU: real numbers go in and come out, nothing is quantised.
//!
//! `cargo run -p offshoot --example float`

offshoot::include_model!(Tones, "data/tones_f32.off");

const SOUNDS: [&str; 8] = ["noise", "tone", "dual", "rising", "falling", "beeps", "claps", "warble"];

/// Half a second of log-mel frames each.
static SAMPLES: &[u8] = include_bytes!("data/tones_x.u8");

fn main() -> Result<(), offshoot::Error> {
    assert_eq!(Tones::INPUTS[0].dtype, offshoot::DType::F32);
    let mut arena = offshoot::Arena::<{ Tones::ARENA_BYTES }>::new();
    let mut engine = Tones::engine(&mut arena)?;
    for frames in SAMPLES.as_chunks::<{ Tones::INPUTS[0].elements() }>().0 {
        engine.write_input_f32(0, &frames.map(f32::from))?;
        engine.run()?;
        let mut scores = [0.0; Tones::OUTPUTS[0].elements()];
        engine.read_output_f32(0, &mut scores)?;
        let class = engine.top1(0)?;
        println!("heard: {} (score {:.3})", SOUNDS[class], scores[class]);
    }
    Ok(())
}
