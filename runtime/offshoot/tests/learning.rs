//! The public interface of learning, on a network that learns with a classifier head.

use offshoot::{AlignedBytes, Arena, Engine, Error};

offshoot::include_model!(Vibration, "../examples/data/vibration_learns.off");

const LEN: usize = Vibration::INPUTS[0].elements();

/// An int8 input cannot hold what is not a number, so the engine remembers it.
#[test]
fn a_sample_with_readings_that_are_not_finite_changes_nothing_learned() {
    let mut arena = Arena::<16_000>::new();
    let mut engine = Engine::learning(Vibration::open().unwrap(), &mut arena).unwrap();
    for step in 0..12 {
        engine.write_input_f32(0, &[100.0 + step as f32; LEN]).unwrap();
        assert!(!engine.learn(step % 3).unwrap().left_out);
    }
    // The first bytes are the progress, which counts steps.
    let weights = |engine: &Engine<'_, '_>| engine.learned().unwrap()[32..].to_vec();
    let before = weights(&engine);
    for spoilt in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut readings = [110.0; LEN];
        readings[LEN / 2] = spoilt;
        engine.write_input_f32(0, &readings).unwrap();
        assert!(engine.learn(1).unwrap().left_out);
        assert!(weights(&engine) == before, "{spoilt}");
        engine.write_input_f32(0, &readings).unwrap();
        assert!(engine.observe().unwrap());
        assert!(weights(&engine) == before, "{spoilt}");
        engine.write_input_f32(0, &readings).unwrap();
        engine.run().unwrap();
    }
    engine.write_input_f32(0, &[110.0; LEN]).unwrap();
    assert!(!engine.learn(1).unwrap().left_out);
}

#[test]
fn the_class_is_that_of_the_head_once_it_has_learned() {
    let mut arena = Arena::<16_000>::new();
    let mut engine = Engine::learning(Vibration::open().unwrap(), &mut arena).unwrap();
    let run = |engine: &mut Engine<'_, '_>| {
        engine.write_input_f32(0, &[130.0; LEN]).unwrap();
        engine.run().unwrap();
        (engine.class().unwrap(), engine.top1(0).unwrap())
    };
    let (class, top1) = run(&mut engine);
    assert_eq!(class, top1);
    let label = (top1 + 2) % 5;
    engine.write_input_f32(0, &[130.0; LEN]).unwrap();
    engine.learn(label as u16).unwrap();
    assert_eq!(run(&mut engine).0, label);
}

#[test]
fn errors_name_the_way_out() {
    let model = Vibration::open().unwrap();
    let mut arena = AlignedBytes::zeroed(Vibration::ARENA_BYTES);
    let error = Engine::learning(model, &mut arena).unwrap_err();
    let needed = model.train_arena_bytes().unwrap();
    assert_eq!(error, Error::ArenaTooSmall { needed, given: Vibration::ARENA_BYTES as u32 });
    assert!(error.to_string().contains("Model::train_arena_bytes"), "{error}");
    let mut arena = AlignedBytes::zeroed(needed as usize);
    let mut engine = Engine::learning(model, &mut arena).unwrap();
    let learned = engine.learned().unwrap().len() as u32;
    let error = engine.restore(&[0; 7]).unwrap_err();
    assert_eq!(error, Error::LearnedLength { needed: learned, given: 7 });
    assert_eq!(engine.set_active_blocks(0).unwrap_err(), Error::NoSuchBlocks { blocks: 0 });
    assert_eq!(
        Error::Requires(6).to_string(),
        "the file needs cargo features that this runtime was built without: `learn` `nested`"
    );
}

/// Bytes of a camera give the input that the same real numbers give.
#[test]
fn bytes_are_written_as_real_numbers() {
    let bytes: [u8; LEN] = core::array::from_fn(|i| (i * 7) as u8);
    let mut arena = Arena::<{ Vibration::ARENA_BYTES }>::new();
    let mut engine = Vibration::engine(&mut arena).unwrap();
    engine.write_input_f32(0, &bytes.map(f32::from)).unwrap();
    let wanted = engine.input_mut(0).unwrap().to_vec();
    engine.input_mut(0).unwrap().fill(0);
    engine.write_input_u8(0, &bytes).unwrap();
    assert_eq!(engine.input_mut(0).unwrap(), wanted);
}
