//! What the targets share: files in aligned memory, a mutator that keeps a file's container right, and what is done with a model.

use offshoot::engine::Engine;
use offshoot::store::{RamFlash, Store};
use offshoot::{AlignedBytes, Error, Model};
use offshoot_kernels::testing::{on_each_instruction_set, portably};
use offshoot_mutate::container::{Container, reseal};

/// Changes a file of `size` bytes in `data` and gives its new size, at most `max_size`. `mutate` changes a buffer in the same way; it
/// is libFuzzer's.
///
/// Of four changes two are in the graph section, whose length is then put right, one in the blob section and one anywhere. Length and
/// checksum of the file are put right, so that mutations reach what lies behind them.
pub fn mutate_file(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    mut mutate: impl FnMut(&mut [u8], usize, usize) -> usize,
) -> usize {
    let Some(mut container) = Container::of(&data[..size]).filter(|_| !seed.is_multiple_of(4)) else {
        let size = mutate(data, size, max_size);
        reseal(&mut data[..size]);
        return size;
    };
    let part = if seed % 4 == 3 { &mut container.blobs } else { &mut container.graph };
    let len = part.len();
    part.resize(len + 64, 0);
    let len = mutate(part, len, len + 64);
    part.truncate(len);
    let file = container.into_file();
    if file.len() > max_size.min(data.len()) {
        reseal(&mut data[..size]);
        return size;
    }
    data[..file.len()].copy_from_slice(&file);
    file.len()
}

/// Opens a file and runs each of its networks, if they are small. `Model::open` gives a model or an error; a model that opened runs.
pub fn open_and_run(bytes: &[u8]) {
    let file = AlignedBytes::copy_of(bytes);
    let Ok(model) = Model::open(&file) else { return };
    if !is_small(&model) {
        return;
    }
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, &mut arena).expect("the arena is large enough and aligned");
    for network in (0..model.network_count()).chain([0]) {
        engine.select(network).expect("the network is there");
        engine.run().expect("a model that opened runs");
    }
}

/// Runs the first network of a file twice on the portable kernels and on those of each instruction set: the arena is the same in every byte.
/// Inputs repeat the last 64 bytes of the file, whatever they are as numbers.
pub fn same_bits(bytes: &[u8]) {
    let file = AlignedBytes::copy_of(bytes);
    let Ok(model) = Model::open(&file) else { return };
    if !is_small(&model) {
        return;
    }
    let run = || {
        let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
        let mut engine = Engine::new(model, &mut arena).expect("the arena is large enough and aligned");
        for shift in 0..2 {
            for i in 0..model.input_count() {
                let input = engine.input_mut(i).expect("the input is there");
                let all = bytes[bytes.len().saturating_sub(64)..].iter().cycle().skip(shift);
                input.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
            }
            engine.run().expect("a model that opened runs");
        }
        arena.to_vec()
    };
    let right = portably(run);
    let check = || if run() == right { Ok(()) } else { Err(String::new()) };
    assert_eq!(on_each_instruction_set(check, |_, name| name), Ok(()));
}

/// Whether a run takes less than a moment.
fn is_small(model: &Model<'_>) -> bool {
    let arena = model.train_arena_bytes().unwrap_or(0).max(model.arena_bytes());
    arena <= 1 << 20 && model.work() <= 1 << 22
}

/// Lets the model of a file learn, saves what it learned to flash, loads it into another engine, and compares the two: neither panics, and
/// what was learned comes back.
pub fn learn(bytes: &[u8], choices: &[u8]) {
    let file = AlignedBytes::copy_of(bytes);
    let Ok(model) = Model::open(&file) else { return };
    let Some(arena_bytes) = model.train_arena_bytes().filter(|_| is_small(&model)) else { return };
    let mut arena = AlignedBytes::zeroed(arena_bytes as usize);
    let mut engine = Engine::learning(model, &mut arena).expect("the arena is large enough and aligned");
    // Only the first network learns.
    let other = engine.select(model.network_count());
    assert!(matches!(other, Err(Error::NoSuchNetwork { .. })));
    for (step, &choice) in choices.iter().take(4).enumerate() {
        for i in 0..model.input_count() {
            let input = engine.input_mut(i).expect("the input is there");
            // Not NaN if it is float32.
            input.iter_mut().enumerate().for_each(|(j, b)| *b = choice.wrapping_mul(j as u8 | 1) & 0x7f);
        }
        engine.run().expect("a model that opened runs");
        match engine.learn(u16::from(choice) % 8) {
            Ok(_) | Err(Error::Label { .. }) => {}
            Err(error) => panic!("step {step}: {error}"),
        }
    }
    let learned = engine.learned().expect("it learns").to_vec();
    let mut flash = vec![0xff; (learned.len() + 2048).next_multiple_of(1024) * 2];
    let range = 0..flash.len() as u32;
    let mut store = Store::open(RamFlash::new(&mut flash), range).expect("pages of this flash");
    store.save(model.source_hash(), &[&learned]).expect("it fits");
    let mut loaded = vec![0; learned.len()];
    assert!(matches!(store.load(model.source_hash(), &mut loaded), Ok(Some(_))));
    assert_eq!(loaded, learned);
    let mut arena = AlignedBytes::zeroed(arena_bytes as usize);
    let mut other = Engine::learning(model, &mut arena).expect("as before");
    other.restore(&loaded).expect("a model takes what it learned");
    assert!(other.learned() == Some(&learned[..]), "what was learned comes back");
    // Weights that no step made: they are refused, or do no harm.
    for (byte, &choice) in loaded.iter_mut().rev().zip(choices) {
        *byte ^= choice;
    }
    let _ = other.restore(&loaded);
    other.run().expect("it still runs");
    other.forget().expect("it learns");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The containers of mutated files stay right: what changes is behind them.
    #[test]
    fn mutated_files_are_sealed() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/format/v2");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let mut opened = 0;
        for path in files.filter(|path| path.extension().is_some_and(|e| e == "off")) {
            let seed_file = std::fs::read(&path).unwrap();
            for seed in 0..60u32 {
                let mut data = seed_file.clone();
                data.resize(seed_file.len() + 256, 0);
                let max = data.len();
                let size = mutate_file(&mut data, seed_file.len(), max, seed, |part, size, _| {
                    if size > 0 {
                        part[(seed as usize).wrapping_mul(7919) % size] ^= 1 << (seed / 4 % 8);
                    }
                    // Sometimes longer.
                    size + usize::from(seed % 64 == 2)
                });
                let file = AlignedBytes::copy_of(&data[..size]);
                match Model::open(&file) {
                    Ok(_) => opened += 1,
                    // The magic and version may be what changed.
                    Err(error) => assert!(error != Error::Checksum || seed % 4 == 0, "{seed}: {error}"),
                }
                open_and_run(&data[..size]);
                same_bits(&data[..size]);
                learn(&data[..size], &[1, 2, 3]);
            }
        }
        assert!(opened > 20, "{opened}");
    }
}
