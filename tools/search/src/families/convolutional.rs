//! Depthwise-separable and residual networks.

use offshoot_train::network::{Edge, Network};

use super::{Built, Shape};
use crate::space::Block;

fn start(name: &str, shape: &Shape) -> Network {
    Network::new(name, shape.input, shape.seed)
        .conv("stem", shape.stem, shape.stem_kernel, shape.stem_stride, Edge::Same)
        .normalise_relu("stem")
}

/// Blocks of a depthwise and a pointwise convolution. Blocks that keep the image size and the channels can be
/// skipped, the last of a stage first.
pub(super) fn ds_cnn(shape: &Shape) -> Built {
    let mut net = start("ds-cnn", shape);
    let (mut channels, mut last, mut blocks) = (shape.stem, "stem.relu.out".to_owned(), Vec::new());
    for (stage, (&width, &count)) in shape.widths.iter().zip(&shape.blocks).enumerate() {
        let mut skippable = Vec::new();
        for index in 0..count {
            let stride = if shape.halve && stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("stage{stage}.block{index}");
            let (depthwise, pointwise) = (format!("{name}.depthwise"), format!("{name}.pointwise"));
            net = net
                .depthwise(&depthwise, [shape.kernel; 2], [stride; 2], Edge::Same)
                .normalise_relu(&depthwise)
                .conv(&pointwise, width, [1, 1], [1, 1], Edge::Same)
                .normalise_relu(&pointwise);
            let to = format!("{pointwise}.relu.out");
            if stride == 1 && channels == width {
                skippable.push(Block { from: last.clone(), to: to.clone() });
            }
            (channels, last) = (width, to);
        }
        if !skippable.is_empty() {
            blocks.push(skippable);
        }
    }
    Built { graph: net.global_average("pool").dense("head", shape.classes).finish(), blocks }
}

/// Blocks of two convolutions and a shortcut. Blocks with an identity shortcut can be skipped.
pub(super) fn resnet(shape: &Shape) -> Built {
    let mut net = start("resnet", shape);
    let (mut channels, mut last, mut blocks) = (shape.stem, "stem.relu.out".to_owned(), Vec::new());
    for (stage, (&width, &count)) in shape.widths.iter().zip(&shape.blocks).enumerate() {
        let mut skippable = Vec::new();
        for index in 0..count {
            let stride = if shape.halve && stage > 0 && index == 0 { 2 } else { 1 };
            let part = |suffix: &str| format!("stage{stage}.block{index}.{suffix}");
            let input = net.last();
            let plain = stride == 1 && channels == width;
            let shortcut = if plain {
                input
            } else {
                net = net
                    .conv(&part("shortcut"), width, [1, 1], [stride; 2], Edge::Same)
                    .normalise(&part("shortcut.norm"));
                let shortcut = net.last();
                net = net.back_to(input);
                shortcut
            };
            net = net
                .conv(&part("conv0"), width, [shape.kernel; 2], [stride; 2], Edge::Same)
                .normalise_relu(&part("conv0"))
                .conv(&part("conv1"), width, [shape.kernel; 2], [1, 1], Edge::Same)
                .normalise(&part("conv1.norm"))
                .add(&part("add"), shortcut)
                .relu(&part("relu"));
            let to = format!("{}.out", part("relu"));
            if plain {
                skippable.push(Block { from: last.clone(), to: to.clone() });
            }
            (channels, last) = (width, to);
        }
        if !skippable.is_empty() {
            blocks.push(skippable);
        }
    }
    Built { graph: net.global_average("pool").dense("head", shape.classes).finish(), blocks }
}
