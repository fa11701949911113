//! Learning with a power cut in the middle of a save: the next start finds the save before or this one, and learning goes
//! on from it with the bits of a run that was never interrupted.

#[allow(dead_code, reason = "damaged cells are a matter of the tests of the store")]
mod flash;

use flash::{SimulatedFlash, Torn};
use offshoot::store::Store;
use offshoot::wire::crc32;
use offshoot::{Arena, Engine};

offshoot::include_model!(
    Vibration,
    concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/vibration_learns.off")
);

const LEN: usize = Vibration::INPUTS[0].elements();
static STREAM: &[u8] = include_bytes!("../examples/data/shifted_x.u8");
static LABELS: &[u8] = include_bytes!("../examples/data/shifted_y.u8");

/// Learns from these samples of the stream; every third is seen without its label too.
fn steps(engine: &mut Engine<'_, '_>, range: std::ops::Range<usize>) {
    let samples = STREAM.as_chunks::<LEN>().0;
    for i in range {
        engine.write_input_f32(0, &samples[i].map(f32::from)).unwrap();
        engine.learn(u16::from(LABELS[i])).unwrap();
        if i % 3 == 0 {
            engine.write_input_f32(0, &samples[i].map(f32::from)).unwrap();
            assert!(!engine.observe().unwrap());
        }
    }
}

#[test]
fn a_cut_save_loses_no_more_than_the_steps_since_the_last() {
    let digest = crc32(Vibration::bytes());
    let mut arena = Arena::<16_000>::new();
    let mut engine = Engine::learning(Vibration::open().unwrap(), &mut arena).unwrap();
    let mut flash = SimulatedFlash::<1, 4, 1024>::new(48);
    let range = flash.range();
    // States after 10, 20 and 30 steps; the first is saved.
    steps(&mut engine, 0..10);
    let first = engine.learned().unwrap().to_vec();
    engine.save(&mut Store::open(&mut flash, range.clone()).unwrap(), digest).unwrap();
    steps(&mut engine, 10..20);
    let second = engine.learned().unwrap().to_vec();
    let mut whole = flash.clone();
    engine.save(&mut Store::open(&mut whole, range.clone()).unwrap(), digest).unwrap();
    let work = whole.work - flash.work;
    steps(&mut engine, 20..30);
    let last = engine.learned().unwrap().to_vec();
    let (mut older, mut newer) = (0, 0);
    for manner in Torn::ALL {
        // Every stage of the save, its end byte by byte.
        let cuts = (1..=work).filter(|cut| cut % 997 == 1 || work - cut < 24);
        for cut in cuts {
            let mut cut_flash = flash.clone();
            engine.restore(&second).unwrap();
            cut_flash.cut_after(cut, manner, cut);
            let saved = engine.save(&mut Store::open(&mut cut_flash, range.clone()).unwrap(), digest);
            assert!(saved.is_err(), "power was away");
            cut_flash.power_on();
            let mut arena = Arena::<16_000>::new();
            let mut engine = Engine::learning(Vibration::open().unwrap(), &mut arena).unwrap();
            let mut store = Store::open(&mut cut_flash, range.clone()).unwrap();
            assert!(engine.restore_from(&mut store, digest).unwrap().is_some());
            let there = engine.learned().unwrap();
            assert!(there == first || there == second, "{manner:?} at {cut}: neither save");
            let from = if there == first { 10 } else { 20 };
            older += u32::from(from == 10);
            newer += u32::from(from == 20);
            steps(&mut engine, from..30);
            assert!(engine.learned() == Some(&last[..]), "{manner:?} at {cut}: other bits");
        }
    }
    println!("{older} cuts kept the save before, {newer} the new one");
    assert!(older > 50);
    // Another model finds nothing.
    let mut store = Store::open(&mut flash, range).unwrap();
    assert_eq!(engine.restore_from(&mut store, digest ^ 1).unwrap(), None);
}
