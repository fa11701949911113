//! Critical initialisation: signals neither die out nor grow on their way through a network that is not yet trained.
//!
//! Layer by layer, weights are scaled so that what a layer computes has variance 1 before its activation, on data
//! (LSUV, Mishkin and Matas 2016). For a plain network of ReLU and normal weights that is He et al.'s rule; it holds for
//! any activation, for other operators in between, and for inputs of any size (at the edge of chaos, Schoenholz et al.
//! 2017).

use offshoot_ir::{Activation, Graph, Op};

use crate::batch::Shards;
use crate::dataset::Dataset;
use crate::error::Result;
use crate::tape::{Mode, Tape, constants};
use crate::weights::elements;

/// Samples that variances are taken over.
const SAMPLES: usize = 64;
/// Scalings of a layer before what is left is accepted, and how far from 1 that may be.
const ROUNDS: usize = 4;
const TOLERANCE: f32 = 0.02;

/// `graph` with every convolution and fully connected layer scaled to outputs of variance 1. Targets are not looked at.
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
            // Only what comes before it is computed, and it without its activation.
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
        // As far from critical as it gets: every layer makes its input 20 times smaller.
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
