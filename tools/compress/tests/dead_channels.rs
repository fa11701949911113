//! A channel that is almost dead (Maestro and fading leave such) does not take its layer off the arranged kernels.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use offshoot::format::tag::Tag;
use offshoot::graph::Model;
use offshoot_compress::quantize::{QuantizeOptions, numbers, quantize, quantize_learned};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::{Data, Graph};
use offshoot_train::network::{Edge, Network};

fn samples() -> Vec<Vec<ArrayD<f32>>> {
    let value = |s: usize, i: usize| ((s * 97 + i * 31) % 64) as f32 / 32.0 - 1.0;
    let one = |s| ArrayD::from_shape_fn(IxDyn(&[1, 6, 6, 8]), |d| value(s, d[1] * 48 + d[2] * 8 + d[3]));
    (0..4).map(|s| vec![one(s)]).collect()
}

/// Multiplies the weights of the channels `0..` of the first layer by `factors`, and gives it biases.
fn network(factors: &[f32], bias: f32) -> Graph {
    let mut graph = Network::new("n", [6, 6, 8], 1)
        .conv("a", 8, [3, 3], [1, 1], Edge::Valid)
        .relu("r")
        .conv("b", 4, [4, 4], [1, 1], Edge::Valid)
        .finish();
    let inputs = graph.nodes[0].inputs.clone();
    for (id, change) in [(inputs[1], true), (inputs[2], false)] {
        let value = graph.value_mut(id);
        let Some(Data::F32(data)) = value.data.as_mut().map(Arc::make_mut) else { panic!() };
        let width = data.len() / 8;
        for (channel, factor) in data.chunks_mut(width).zip(factors) {
            channel.iter_mut().for_each(|w| *w = if change { *w * factor } else { bias });
        }
    }
    graph
}

fn tags(quantised: &Graph) -> Vec<Tag> {
    let compiled = compile(quantised, &CompileOptions::default()).unwrap();
    let model = Model::open(&compiled.bytes).unwrap();
    model.ops().map(|(info, ..)| info.tag).collect()
}

#[test]
fn layers_with_almost_dead_channels_run_on_the_arranged_kernels() {
    let alive = tags(&quantize(&network(&[1.0], 0.1), &samples(), &QuantizeOptions::default()).unwrap().0);
    assert!(!alive.contains(&Tag::Conv2d), "{alive:?}");
    for factor in [1e-5f32, 1e-7, 1e-12, 1e-30, 0.0] {
        for bias in [0.1, -0.3, 0.0] {
            let graph = network(&[factor, 1.0, factor], bias);
            let (quantised, _) = quantize(&graph, &samples(), &QuantizeOptions::default()).unwrap();
            assert_eq!(tags(&quantised), alive, "{factor} {bias}");
            let mut found = numbers(&graph, &quantised, &QuantizeOptions::default()).unwrap();
            found.steps.values_mut().for_each(|steps| steps[0] = factor);
            let quantised = quantize_learned(&graph, &found, &QuantizeOptions::default()).unwrap();
            assert_eq!(tags(&quantised), alive, "learned {factor} {bias}");
        }
    }
}
