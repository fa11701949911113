//! Time of a training step, milliseconds an image: `cargo run --release -p offshoot-train --example speed -- NET.onnx`.
//!
//! Samples are random: the time does not depend on them. A second number is that with the network as its own teacher.

use std::time::Instant;

use ndarray::ArrayD;
use offshoot_train::{Dataset, FitOptions, Target, Teacher, fit};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("give an ONNX file")?;
    let images: usize = std::env::args().nth(2).map_or(Ok(512), |n| n.parse())?;

    let (graph, _) = offshoot_ir::passes::lossless(offshoot_import::import(std::path::Path::new(&path))?)?;
    let shape = graph.value(graph.inputs[0]).shape.clone();
    let shape = [&[images], &shape[1..]].concat();
    let mut at = 0u32;
    let x = ArrayD::from_shape_simple_fn(shape, || {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (at >> 8) as f32 / (1 << 24) as f32
    });
    let classes = graph.value(graph.outputs[0]).len() as i64;
    let data = Dataset::new(x, Target::Labels((0..images as i64).map(|i| i % classes).collect()));
    let plain = FitOptions { epochs: 1, rate: 0.0, ..FitOptions::default() };
    let teacher = Teacher { graph: graph.clone(), temperature: 4.0, weight: 0.5, features: vec![] };
    for (what, options) in
        [("alone", plain.clone()), ("with a teacher", FitOptions { teacher: Some(teacher), ..plain })]
    {
        let start = Instant::now();
        fit(&graph, &data, &options, &mut ())?;
        let each = 1e3 * start.elapsed().as_secs_f64() / images as f64;
        println!("{what}: {each:.3} ms an image on {} threads", rayon::current_num_threads());
    }
    Ok(())
}
