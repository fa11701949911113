//! Whatever the bytes: `Model::open` gives a model or an error, and a model that opens also runs, without a panic.
//!
//! Length and checksum are put right first, so that the mutations reach what lies behind them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use offshoot::Model;
use offshoot::engine::Engine;
use offshoot::format::header::seal;

/// Bytes that begin at a multiple of 16.
#[repr(align(16))]
#[derive(Clone, Copy)]
struct Line([u8; 16]);

fn aligned(lines: &mut [Line]) -> &mut [u8] {
    lines.as_flattened_bytes()
}

trait Flatten {
    fn as_flattened_bytes(&mut self) -> &mut [u8];
}

impl Flatten for [Line] {
    fn as_flattened_bytes(&mut self) -> &mut [u8] {
        // SAFETY: `Line` is sixteen bytes without padding.
        unsafe { core::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), size_of_val(self)) }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut lines = vec![Line([0; 16]); data.len().div_ceil(16)];
    let file = &mut aligned(&mut lines)[..data.len()];
    file.copy_from_slice(data);
    if file.len() >= 32 {
        file[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        let _ = seal(file);
    }
    let Ok(model) = Model::open(file) else { return };
    if model.arena_bytes() > 1 << 20 || model.work() > 1 << 22 {
        return;
    }
    let mut lines = vec![Line([0; 16]); (model.arena_bytes() as usize).div_ceil(16)];
    let mut engine = Engine::new(model, aligned(&mut lines)).expect("the arena is large enough and aligned");
    engine.run().expect("a model that opened runs");
});
