//! Mutated `.off` files, wire streams, ONNX and TensorFlow Lite files: an answer or an error, never a panic, never without end.
//!
//! `OFFSHOOT_FUZZ_SECONDS` sets how long each runs (default 5). The long runs:
//! `OFFSHOOT_FUZZ_SECONDS=600 cargo test --release -p offshoot-tests --test hostile -- --nocapture`.
//! `fuzz/` holds the same as coverage-guided targets.

use std::time::{Duration, Instant};

use offshoot::format::header::seal;
use offshoot::wire::frame::{self, Event, FrameReader};
use offshoot::wire::message::{Mode, Request, Response};
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_cli::commands::compile;
use offshoot_cli::files;
use offshoot_cli::ui::Ui;
use offshoot_tests::root;

/// xorshift64*: the same mutations every time.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n.max(1)
    }

    /// Flips, overwrites, cuts, repeats: one to four changes, mostly within `hot` (where the structure is).
    fn mutate(&mut self, seed: &[u8], hot: std::ops::Range<usize>) -> Vec<u8> {
        const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x0f, 0xfe, 0x40];
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                break;
            }
            let span = if self.below(8) == 0 { 0..bytes.len() } else { hot.start..hot.end.min(bytes.len()) };
            let at = (span.start + self.below(span.len().max(1))).min(bytes.len() - 1);
            match self.below(6) {
                0 => bytes[at] ^= 1 << self.below(8),
                1 => bytes[at] = TELLING[self.below(TELLING.len())],
                2 => bytes[at] = self.next() as u8,
                3 => {
                    let n = self.below(9).min(bytes.len() - at);
                    bytes[at..at + n].fill(0xff);
                }
                4 => {
                    let n = self.below(16).min(bytes.len() - at);
                    let copy = bytes[at..at + n].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                _ => {
                    let n = self.below(16).min(bytes.len() - at);
                    bytes.drain(at..at + n);
                }
            }
        }
        bytes
    }
}

fn for_a_while(what: &str, mut round: impl FnMut(&mut Dice) -> bool) {
    let seconds = std::env::var("OFFSHOOT_FUZZ_SECONDS").ok().and_then(|v| v.parse().ok()).unwrap_or(5);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut dice = Dice(0x0ff5_4007);
    let (mut rounds, mut accepted) = (0u64, 0u64);
    while Instant::now() < end {
        let begun = Instant::now();
        accepted += u64::from(round(&mut dice));
        rounds += 1;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(20), "{what}: round {rounds} took {took:?}");
    }
    println!("{what}: {rounds} mutations in {seconds} s, {accepted} of them accepted, no panic");
    assert!(rounds > 10, "{what}: {rounds} rounds only");
}

fn shipped_onnx() -> Vec<Vec<u8>> {
    ["glyphs", "vibration", "tones"]
        .map(|name| std::fs::read(root().join("models").join(name).join("model.onnx")).unwrap())
        .to_vec()
}

#[test]
fn off_files() {
    let ui = Ui { json: true };
    let seeds: Vec<Vec<u8>> = shipped_onnx()
        .iter()
        .map(|onnx| {
            let graph = offshoot_import::import_bytes(onnx, "seed").unwrap();
            let (graph, _) = files::optimise(graph).unwrap();
            let args = compile::Args { precision: Some(compile::Precision::F32), ..compile::Args::default() };
            compile::make(&ui, graph, &[], &args, None).unwrap().compiled.bytes
        })
        .collect();
    for_a_while(".off", |dice| {
        let seed = &seeds[dice.below(seeds.len())];
        let graph_end = 32 + u32::from_le_bytes([seed[24], seed[25], seed[26], seed[27]]) as usize;
        let mut bytes = dice.mutate(seed, 0..graph_end);
        // Length and checksum are put right, so that the mutations reach what lies behind them.
        if bytes.len() >= 32 && dice.below(10) != 0 {
            let len = (bytes.len() as u32).to_le_bytes();
            bytes[8..12].copy_from_slice(&len);
            let _ = seal(&mut bytes);
        }
        let file = AlignedBytes::copy_of(&bytes);
        let Ok(model) = Model::open(&file) else { return false };
        if model.arena_bytes() <= 1 << 22 && model.work() <= 1 << 24 {
            let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
            let mut engine = Engine::new(model, &mut arena).unwrap();
            engine.run().unwrap();
        }
        true
    });
}

#[test]
fn wire_streams() {
    let mut seed = Vec::new();
    let payload = [7u8; 64];
    let requests = [
        Request::Run { mode: Mode::Profile },
        Request::LoadChunk { offset: 64, data: &payload },
        Request::WriteInput { index: 0, offset: 0, data: &payload },
    ];
    for request in &requests {
        let mut buffer = [0; 2048];
        let n = frame::encode(1, request, &mut buffer).unwrap();
        seed.extend(&buffer[..n]);
    }
    for_a_while("wire", |dice| {
        let bytes = dice.mutate(&seed, 0..seed.len());
        let mut reader = FrameReader::new();
        let mut decoded = false;
        for byte in bytes {
            if let Event::Frame = reader.push(byte) {
                decoded |= frame::decode::<Request<'_>>(reader.payload()).is_ok();
                let _ = frame::decode::<Response<'_>>(reader.payload());
            }
        }
        // The decoders are also held against what no checksum protected.
        let noise = dice.mutate(&seed, 0..seed.len());
        let _ = frame::decode::<Request<'_>>(&noise);
        let _ = frame::decode::<Response<'_>>(&noise);
        decoded
    });
}

#[test]
fn onnx_files() {
    let seeds = shipped_onnx();
    for_a_while("ONNX", |dice| {
        let seed = &seeds[dice.below(seeds.len())];
        // Nodes and attributes come first in these files, weights after them.
        let bytes = dice.mutate(seed, 0..seed.len() / 4);
        let Ok(graph) = offshoot_import::import_bytes(&bytes, "mutated") else { return false };
        offshoot_ir::passes::lossless(graph).is_ok()
    });
}

#[test]
fn tflite_files() {
    let files = offshoot_tests::tflite::operators();
    let seeds: Vec<&Vec<u8>> =
        files.iter().filter(|(name, _)| name.ends_with(".tflite")).map(|(_, f)| f).collect();
    for_a_while("TensorFlow Lite", |dice| {
        let seed = seeds[dice.below(seeds.len())];
        let mut bytes = dice.mutate(seed, 0..seed.len());
        if dice.below(16) == 0 {
            bytes.truncate(dice.below(bytes.len()));
        } else if let Some(mark) = bytes.get_mut(4..8) {
            mark.copy_from_slice(b"TFL3");
        }
        let Ok(graph) = offshoot_import::import_bytes(&bytes, "mutated") else { return false };
        offshoot_ir::passes::lossless(graph).is_ok()
    });
}
