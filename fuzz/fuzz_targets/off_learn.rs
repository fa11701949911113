//! Whatever the learning records: a model that opens learns, and what it learned goes to flash and back, without a panic. The last
//! four bytes of the file choose inputs and labels.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    let choices = data.last_chunk::<4>().copied().unwrap_or_default();
    offshoot_fuzz::learn(data, &choices);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    offshoot_fuzz::mutate_file(data, size, max_size, seed, fuzzer_mutate)
});
