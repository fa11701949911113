//! Whatever the bytes: `Model::open` gives a model or an error, and a model that opens also runs, in each of its networks, without a
//! panic.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    offshoot_fuzz::open_and_run(data);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    offshoot_fuzz::mutate_file(data, size, max_size, seed, fuzzer_mutate)
});
