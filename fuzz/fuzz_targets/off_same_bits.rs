//! Whatever an `.off` file holds: if it opens, the portable kernels and those of this machine's instruction sets leave the same arena.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| offshoot_fuzz::same_bits(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    offshoot_fuzz::mutate_file(data, size, max_size, seed, fuzzer_mutate)
});
