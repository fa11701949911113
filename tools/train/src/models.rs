//! The networks in `models/`.

use offshoot_data::synth::Task;
use offshoot_ir::{Graph, Op};

use crate::network::{Edge, Network};

/// The untrained network for a task; `seed` determines its weights. Its first convolution has no padding, so that
/// [`crate::fold_input`] applies.
pub fn network(task: Task, seed: u64) -> Graph {
    let start = Network::new(task.name(), task.shape(), seed);
    let classes = task.classes().len();
    match task {
        Task::Vibration => vibration(start, classes),
        Task::Glyphs => glyphs(start, classes),
        Task::Tones => tones(start, classes),
    }
}

/// Number of weights and biases of convolutions and fully connected layers, as remain after batch normalisation is
/// folded.
pub fn parameters(graph: &Graph) -> usize {
    let layers = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d { .. } | Op::FullyConnected { .. }));
    layers.flat_map(|n| &n.inputs[1..]).map(|&id| graph.value(id).len()).sum()
}

/// Multiply-accumulates of convolutions and fully connected layers: each weight is used once per output pixel.
pub fn macs(graph: &Graph) -> u64 {
    let layers = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d { .. } | Op::FullyConnected { .. }));
    layers
        .map(|n| {
            let output = &graph.value(n.output).shape;
            let pixels: usize = output[..output.len() - 1].iter().product();
            (pixels * graph.value(n.inputs[1]).len()) as u64
        })
        .sum()
}

/// One-dimensional depthwise-separable network, after DS-CNN (Zhang et al. 2017).
fn vibration(start: Network, classes: usize) -> Graph {
    let mut net = start.conv("stem", 16, [1, 8], [1, 2], Edge::Valid).normalise_relu("stem");
    for (i, (filters, stride)) in [(24, 1), (32, 2), (48, 1), (48, 2)].into_iter().enumerate() {
        net = separable(net, i, filters, [1, 7], [1, stride]);
    }
    net.global_average("pool").dense("head", classes).softmax("softmax")
}

/// Two-dimensional depthwise-separable network, after DS-CNN (Zhang et al. 2017).
fn tones(start: Network, classes: usize) -> Graph {
    let mut net = start.conv("stem", 16, [5, 4], [2, 1], Edge::Valid).normalise_relu("stem");
    for (i, (filters, stride)) in [(24, 1), (40, 2), (40, 1)].into_iter().enumerate() {
        net = separable(net, i, filters, [3, 3], [stride, stride]);
    }
    net.global_average("pool").dense("head", classes).softmax("softmax")
}

/// Small residual network, after ResNet (He et al. 2016).
fn glyphs(start: Network, classes: usize) -> Graph {
    let mut net = start.conv("stem", 10, [3, 3], [1, 1], Edge::Valid).normalise_relu("stem");
    net = residual(net, "block0", 10, 1);
    net = residual(net, "block1", 16, 2);
    net = residual(net, "block2", 20, 2);
    net.global_average("pool").dense("head", classes).softmax("softmax")
}

fn separable(net: Network, index: usize, filters: usize, kernel: [u16; 2], stride: [u16; 2]) -> Network {
    let (depthwise, pointwise) = (format!("block{index}.depthwise"), format!("block{index}.pointwise"));
    net.depthwise(&depthwise, kernel, stride, Edge::Same)
        .normalise_relu(&depthwise)
        .conv(&pointwise, filters, [1, 1], [1, 1], Edge::Same)
        .normalise_relu(&pointwise)
}

fn residual(net: Network, name: &str, filters: usize, stride: u16) -> Network {
    let part = |suffix: &str| format!("{name}.{suffix}");
    let input = net.last();
    let (net, shortcut) = if stride == 1 {
        (net, input)
    } else {
        let net = net
            .conv(&part("shortcut"), filters, [1, 1], [stride, stride], Edge::Same)
            .normalise(&part("shortcut.norm"));
        let shortcut = net.last();
        (net.back_to(input), shortcut)
    };
    net.conv(&part("conv0"), filters, [3, 3], [stride, stride], Edge::Same)
        .normalise_relu(&part("conv0"))
        .conv(&part("conv1"), filters, [3, 3], [1, 1], Edge::Same)
        .normalise(&part("conv1.norm"))
        .add(&part("add"), shortcut)
        .relu(&part("relu"))
}
