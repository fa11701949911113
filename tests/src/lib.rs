//! Helpers of the end-to-end tests: where the data is, and how to say that it is absent.

pub mod example_data;
pub mod int8;

use std::path::PathBuf;

use offshoot_target::{Device, Target};

/// The repository's root.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// `relative` in the folder of public data sets: `$OFFSHOOT_DATA`, else `../shared/data` beside the repository.
/// Prints what is skipped and returns `None` if it is absent.
pub fn data(relative: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("OFFSHOOT_DATA").map_or_else(|| root().join("../shared/data"), PathBuf::from);
    let path = folder.join(relative);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is absent (set OFFSHOOT_DATA to the folder of public data sets)", path.display());
    None
}

/// Whether emulated boards are left out (`OFFSHOOT_SKIP_EMULATED=1`); says so.
pub fn skip_emulated() -> bool {
    let skip = std::env::var_os("OFFSHOOT_SKIP_EMULATED").is_some_and(|v| v == "1");
    if skip {
        println!("skipped: emulated boards (OFFSHOOT_SKIP_EMULATED=1)");
    }
    skip
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
