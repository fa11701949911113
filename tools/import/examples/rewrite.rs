//! Reads an ONNX file and writes it again, as it was imported or (`--lossless`) as the passes leave it; beside it a
//! sample `x.npy` for its first input and the float reference's output `y.npy`, in the shapes outside. Other tools can
//! then be asked what they make of the file.
//!
//! `cargo run -p offshoot-import --example rewrite -- IN.onnx FOLDER [--lossless]`

use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use offshoot_data::npy;
use offshoot_ir::{Graph, ValueId, passes::lossless};
use offshoot_reference::Executor;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, folder, rest @ ..] = &arguments[..] else {
        return Err("usage: rewrite IN.onnx FOLDER [--lossless]".into());
    };
    let mut graph = offshoot_import::import(Path::new(from))?;
    if rest == ["--lossless"] {
        graph = lossless(graph)?.0;
    }
    let folder = PathBuf::from(folder);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("model.onnx"), offshoot_import::emit(&graph)?)?;
    let input = graph.value(*graph.inputs.first().ok_or("the graph has no input")?);
    let wave = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
    let x = ArrayD::from_shape_vec(IxDyn(&input.shape), (0..input.len()).map(wave).collect())?;
    let y = Executor::new(&graph)?.run(std::slice::from_ref(&x))?;
    npy::write(&folder.join("x.npy"), &npy::Array::from(outside(&graph, graph.inputs[0], x)))?;
    let y = y.into_iter().next().ok_or("the graph has no output")?;
    npy::write(&folder.join("y.npy"), &npy::Array::from(outside(&graph, graph.outputs[0], y)))?;
    Ok(())
}

fn outside(graph: &Graph, id: ValueId, x: ArrayD<f32>) -> ArrayD<f32> {
    let rank = x.ndim();
    if !graph.value(id).channels_first_outside || rank < 3 {
        return x;
    }
    let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    x.permuted_axes(IxDyn(&first)).as_standard_layout().into_owned()
}
