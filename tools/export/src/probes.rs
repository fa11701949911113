//! Probes: linear classifiers on the features of every layer that learns (Alain and Bengio 2017, arXiv:1610.01644),
//! trained on the host and exported with the learning plan. On the device a probe turns the label into a target for its
//! layer, in the directions in which the trained network already represents classes. A random target projection would
//! pull a trained network away from what it knows.
//!
//! Each probe is trained by softmax regression on its layer's features, on the samples' labels (`compile --labels`) or
//! on the network's own predictions. The network itself does not change, and its training data are not needed.

use std::collections::HashMap;

use offshoot::format::record::DType;
use offshoot::graph::learn::TrainedLayer;
use offshoot::learn::rules::cross_entropy;
use offshoot::trace::{Observer, OpInfo};
use offshoot::{AlignedBytes, Engine, Model};

use crate::error::{Error, Result};

/// A probe in int8: scores are `scale · table · features`.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Weights, `[classes, features]`.
    pub table: Vec<i8>,
    /// Scale of the table.
    pub scale: f32,
}

/// Epochs of training.
const EPOCHS: usize = 60;

/// Trains probes for the layers that the file's learning records name. `inputs` are samples for the model's only input,
/// encoded as in the arena. Without `labels`, the network's own predictions are used. Keys are positions of operators.
///
/// # Errors
/// The file is not valid or does not learn, or a sample has the wrong length.
pub fn train(off: &[u8], inputs: &[Vec<u8>], labels: Option<&[u16]>) -> Result<HashMap<u16, Probe>> {
    let aligned = AlignedBytes::copy_of(off);
    let model = Model::open(aligned.bytes()).map_err(Error::Refused)?;
    let learning = model.learning().ok_or(Error::Refused(offshoot::Error::NotLearning))?;
    let classes = usize::from(learning.head.classes);
    let layers: Vec<TrainedLayer> = learning.layers().collect();
    let mut reader = Reader { layers: &layers, features: vec![Vec::new(); layers.len()] };
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut own = Vec::new();
    for input in inputs {
        let mut engine = Engine::new(model, arena.bytes_mut()).map_err(Error::Refused)?;
        let tensor = engine.input_mut(0).map_err(Error::Refused)?;
        if tensor.len() != input.len() {
            return Err(Error::Learning("a sample for probes does not have the length of the input".into()));
        }
        tensor.copy_from_slice(input);
        engine.run_with(&mut reader).map_err(Error::Refused)?;
        let output = model.output(0).zip(engine.output(0).ok());
        own.push(output.map_or(0, |(io, bytes)| largest(bytes, io.dtype)));
    }
    let labels = labels.map_or(own, <[u16]>::to_vec);
    let probes = layers.iter().zip(&reader.features).map(|(layer, features)| {
        (layer.repr.op, regression(features, &labels, classes, layer.grid().features()))
    });
    Ok(probes.collect())
}

/// Softmax regression with normalised steps and a little weight decay; the result is rounded to int8.
fn regression(features: &[Vec<f32>], labels: &[u16], classes: usize, width: usize) -> Probe {
    let mut table = vec![0.0f32; classes * width];
    for epoch in 0..EPOCHS {
        let rate = 0.5 * (1.0 - epoch as f32 / EPOCHS as f32);
        for (h, &label) in features.iter().zip(labels) {
            let mut residual = vec![0.0; classes];
            for (score, row) in residual.iter_mut().zip(table.chunks(width)) {
                *score = row.iter().zip(h).map(|(w, h)| w * h).sum();
            }
            cross_entropy::residual(&mut residual, label.into());
            let energy: f32 = h.iter().map(|h| h * h).sum();
            let step = rate / (1e-6 + energy);
            for (row, r) in table.chunks_mut(width).zip(&residual) {
                for (w, h) in row.iter_mut().zip(h) {
                    *w -= step * (r * h + 1e-3 * *w);
                }
            }
        }
    }
    let largest = table.iter().fold(1e-9f32, |m, w| m.max(w.abs()));
    let scale = largest / 127.0;
    Probe { table: table.iter().map(|w| (w / scale).round() as i8).collect(), scale }
}

/// Collects the features of layers that learn.
struct Reader<'l> {
    layers: &'l [TrainedLayer],
    features: Vec<Vec<Vec<f32>>>,
}

impl Observer for Reader<'_> {
    fn after(&mut self, operator: OpInfo, output: &[u8]) {
        let Some(at) = self.layers.iter().position(|l| l.repr.op == operator.index) else { return };
        let layer = &self.layers[at];
        let real: Vec<f32> = match layer.shape.arith {
            offshoot::format::record::Arith::F32 { .. } => floats(output),
            offshoot::format::record::Arith::I8 { out_zp, .. } => {
                let number = |q: &u8| (f32::from(*q as i8) - f32::from(out_zp)) * layer.repr.scales[1];
                output.iter().map(number).collect()
            }
        };
        let grid = layer.grid();
        let (pixels, cells) = grid.cell_pixels();
        let feature = |j: usize| {
            let mut sum = 0.0;
            grid.pixels(j, |i| sum += real[i]);
            sum * cells as f32 / pixels.max(1) as f32
        };
        self.features[at].push((0..grid.features()).map(feature).collect());
    }
}

fn largest(bytes: &[u8], dtype: DType) -> u16 {
    let values: Vec<f32> = match dtype {
        DType::I8 => bytes.iter().map(|&b| f32::from(b as i8)).collect(),
        DType::I16 => bytes.as_chunks().0.iter().map(|b| f32::from(i16::from_le_bytes(*b))).collect(),
        DType::F32 => floats(bytes),
        DType::I32 => words(bytes).map(|w| i32::from_le_bytes(w) as f32).collect(),
    };
    (0..values.len()).fold(0, |best, k| if values[k] > values[best] { k } else { best }) as u16
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> + '_ {
    bytes.chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]])
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    words(bytes).map(f32::from_le_bytes).collect()
}
