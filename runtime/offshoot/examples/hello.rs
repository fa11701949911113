//! A network in the program: readings of an accelerometer go in, the state of the machine comes out.
//!
//! `cargo run -p offshoot --example hello`

offshoot::include_model!(Vibration, "data/vibration.off");

const STATES: [&str; 5] = ["normal", "imbalance", "misalignment", "looseness", "bearing"];

/// An eighth of a second of three axes, as the sensor gives them.
static READINGS: &[u8] = include_bytes!("data/vibration_x.u8");

fn main() -> Result<(), offshoot::Error> {
    let mut arena = offshoot::Arena::<{ Vibration::ARENA_BYTES }>::new();
    let mut engine = Vibration::engine(&mut arena)?;
    for readings in READINGS.as_chunks::<{ Vibration::INPUTS[0].elements() }>().0 {
        engine.write_input_f32(0, &readings.map(f32::from))?;
        engine.run()?;
        let mut scores = [0.0; Vibration::OUTPUTS[0].elements()];
        engine.read_output_f32(0, &mut scores)?;
        println!("the machine is in state: {} (scores {scores:.2?})", STATES[engine.top1(0)?]);
    }
    println!("{} bytes of flash, {} of RAM", Vibration::bytes().len(), Vibration::ARENA_BYTES);
    Ok(())
}
