//! Critical initialisation: signals neither vanish nor explode on their way through an untrained network.
//!
//! Layer by layer, weights are scaled so that the layer's output before its activation has variance 1 on data (LSUV,
//! Mishkin and Matas 2016). For a plain network of ReLU and normal weights this gives He et al.'s rule; it holds for
//! any activation, for other operators in between, and for inputs of any scale (at the edge of chaos, Schoenholz et
//! al. 2017).

use offshoot_ir::{Activation, Graph, Op};

use crate::batch::Shards;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::tape::{Mode, Tape, constants};
use crate::weights::elements;

/// Samples over which variances are computed.
const SAMPLES: usize = 64;
/// Rescalings of a layer before the remaining deviation from variance 1 is accepted, and the tolerance.
const ROUNDS: usize = 4;
const TOLERANCE: f32 = 0.02;

/// `graph` with every convolution and fully connected layer scaled to an output variance of 1. Targets are not used.
///
/// # Errors
/// The samples do not fit the graph.
pub fn critical(graph: &Graph, data: &Dataset) -> Result<Graph> {
    data.check(graph)?;
    let mut out = graph.clone();
    let chosen: Vec<usize> = (0..data.len().min(SAMPLES)).collect();
    for index in 0..graph.nodes.len() {
        if !matches!(graph.nodes[index].op, Op::Conv2d { .. } | Op::FullyConnected { .. }) {
            continue;
        }
        let weights = graph.nodes[index].inputs[1];
        for _ in 0..ROUNDS {
            // Computes only the layers up to this one, and this one without its activation.
            let mut part = out.clone();
            part.nodes.truncate(index + 1);
            match &mut part.nodes[index].op {
                Op::Conv2d { activation, .. } | Op::FullyConnected { activation } => {
                    *activation = Activation::None;
                }
                _ => {}
            }
            let output = part.nodes[index].output;
            let shards = Shards::new(&part, chosen.len());
            let inputs =
                data.inputs.iter().zip(&part.inputs).map(|(x, id)| shards.cut(x, &chosen, *id)).collect();
            let tape = Tape::record(&part, &shards, &constants(&part), inputs, Mode::Train, None)?;
            let rows = tape.rows(output);
            let n = rows.len().max(1) as f32;
            let mean = rows.sum() / n;
            let deviation = (rows.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
            if !deviation.is_normal() || (deviation - 1.0).abs() < TOLERANCE {
                break;
            }
            elements(&mut out, weights).iter_mut().for_each(|w| *w /= deviation);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use ndarray::ArrayD;

    use super::*;
    use crate::dataset::Target;
    use crate::network::{Edge, Network};

    #[test]
    fn a_deep_network_passes_signals_through() {
        let mut net = Network::new("deep", [6, 6, 3], 3).conv("c0", 8, [3, 3], [1, 1], Edge::Same).relu("r0");
        for i in 1..12 {
            net = net.conv(&format!("c{i}"), 8, [3, 3], [1, 1], Edge::Same).relu(&format!("r{i}"));
        }
        let mut graph = net.global_average("average").dense("head", 5).finish();
        // Far from critical: every layer shrinks its input 20-fold.
        for value in &mut graph.values {
            if let (true, Some(offshoot_ir::Data::F32(data))) =
                (value.shape.len() == 4, value.data.as_mut().map(std::sync::Arc::make_mut))
            {
                data.iter_mut().for_each(|w| *w /= 20.0);
            }
        }
        let x = ArrayD::from_shape_fn(vec![32, 6, 6, 3], |i| {
            ((i[0] * 108 + i[1] * 18 + i[2] * 3 + i[3]) * 7919 % 1009) as f32 / 4.0
        });
        let data = Dataset::new(x.clone(), Target::Unlabelled);
        let scaled = critical(&graph, &data).unwrap();
        let spread = |graph: &Graph| {
            let y = crate::predict(graph, &x).unwrap();
            let mean = y.mean().unwrap();
            (y.mapv(|v| (v - mean).powi(2)).mean().unwrap()).sqrt()
        };
        assert!(spread(&graph) < 1e-9 && (spread(&scaled) - 1.0).abs() < 0.05, "{}", spread(&scaled));
    }
}
