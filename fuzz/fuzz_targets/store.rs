//! Whatever lies in flash: a store opens, saves and loads, without a panic, and loads what it saved last.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot::store::{RamFlash, Store};

const PAGES: usize = 4;
const PAGE: usize = 1024;
const MODEL: u32 = 7;

fuzz_target!(|data: &[u8]| {
    let (operations, contents) = data.split_at(data.len().min(8));
    let mut flash = vec![0xff; PAGES * PAGE];
    // The contents stand at the beginning of the pages, where headers are.
    for (page, part) in
        flash.chunks_exact_mut(PAGE).zip(contents.chunks(contents.len().div_ceil(PAGES).max(1)))
    {
        let len = part.len().min(PAGE);
        page[..len].copy_from_slice(&part[..len]);
    }
    let range = 0..flash.len() as u32;
    let mut saved: Option<Vec<u8>> = None;
    for (i, &operation) in operations.iter().enumerate() {
        // Opened anew before each, as after a loss of power.
        let mut store =
            Store::open(RamFlash::new(&mut flash), range.clone()).expect("pages that can be read");
        match operation % 4 {
            0 => {
                store.factory_reset().expect("pages that can be erased");
                assert_eq!(store.generation(), None);
                saved = None;
            }
            1 | 2 => {
                let weights =
                    vec![operation ^ i as u8; usize::from(operation) * 7 % (store.capacity() as usize).max(1)];
                if store.save(MODEL, &[&weights]).is_ok() {
                    saved = Some(weights);
                }
            }
            _ => {
                if let Some(weights) = &saved {
                    let mut loaded = vec![0; weights.len()];
                    // A record of no bytes is that of a reset.
                    let found = store.load(MODEL, &mut loaded).expect("whole weights");
                    assert_eq!(found.is_some(), !weights.is_empty());
                    assert_eq!(&loaded, weights);
                }
            }
        }
    }
});
