//! Helpers of the end-to-end tests: where the data is, and how to say that it is absent.

pub mod example_data;
pub mod int8;
pub mod tflite;

pub use offshoot_skip::{data, data_folder, skip, skip_emulated};

use std::path::PathBuf;

use offshoot_target::{Device, Target};

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An emulated board, such as `qemu:cortex-m4`.
pub fn board(name: &str) -> Box<dyn Device> {
    offshoot_target::open(&Target::parse(name).unwrap())
        .unwrap_or_else(|e| panic!("{name}: {e}\nrun scripts/install-deps.sh and firmware/build.sh"))
}

/// Numbers from a seed (xorshift).
#[derive(Debug)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next; 0 follows only on a seed of 0.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.draw() >> 20) as usize % n
    }

    /// A weight: not -128.
    pub fn byte(&mut self) -> i8 {
        ((self.draw() >> 40) as i8).max(-127)
    }
}
