//! Runs a compiled network over many inputs on this machine, on as many threads as asked for, and says how long it took.
//!
//! `throughput MODEL.off INPUTS THREADS OUTPUTS`: INPUTS are the bytes of the first input, sample after sample; OUTPUTS is
//! written with those of the first output. Prints wall-clock seconds of the inference alone.

use std::time::Instant;

use offshoot::{Engine, Model};

/// Memory that begins at a multiple of 16.
fn aligned(len: usize) -> Vec<u128> {
    vec![0; len.div_ceil(16)]
}

fn main() -> Result<(), Box<dyn core::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, threads, outputs] = arguments.as_slice() else {
        return Err("usage: throughput MODEL.off INPUTS THREADS OUTPUTS".into());
    };
    let file = std::fs::read(model)?;
    let mut memory = aligned(file.len());
    let memory: &mut [u8] = bytemuck::cast_slice_mut(&mut memory);
    memory[..file.len()].copy_from_slice(&file);
    let model = Model::open(&memory[..file.len()]).map_err(|e| format!("{e:?}"))?;
    let inputs = std::fs::read(inputs)?;
    let threads: usize = threads.parse()?;
    let mut arena = aligned(model.arena_bytes() as usize);
    let mut engine =
        Engine::new(model, bytemuck::cast_slice_mut(&mut arena)).map_err(|e| format!("{e:?}"))?;
    let input_len = engine.input_mut(0).map_err(|e| format!("{e:?}"))?.len();
    let output_len = engine.output(0).map_err(|e| format!("{e:?}"))?.len();
    let samples = inputs.len() / input_len;
    let mut results = vec![0; samples * output_len];
    let share = samples.div_ceil(threads.max(1)).max(1);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let parts = inputs.chunks(share * input_len).zip(results.chunks_mut(share * output_len));
        for (inputs, results) in parts {
            scope.spawn(move || {
                let mut arena = aligned(model.arena_bytes() as usize);
                let mut engine = Engine::new(model, bytemuck::cast_slice_mut(&mut arena))
                    .expect("the arena is large enough");
                for (input, result) in inputs.chunks_exact(input_len).zip(results.chunks_mut(output_len)) {
                    engine.input_mut(0).expect("it was there").copy_from_slice(input);
                    engine.run().expect("the model was opened");
                    result.copy_from_slice(engine.output(0).expect("it was there"));
                }
            });
        }
    });
    println!("{}", start.elapsed().as_secs_f64());
    std::fs::write(outputs, results)?;
    Ok(())
}
