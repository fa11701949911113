//! Transformer stages over patches, with residual spatial reduction between them (Liao et al. 2021).

use offshoot_ir::{Activation, BinaryKind, Graph, Op, PoolKind, ReduceKind, UnaryKind, ValueId, Window};

use super::builder::Builder;
use super::{Built, Shape};
use crate::space::Block;
use crate::{Error, Result};

/// Patches, then stages of blocks; between stages the image is halved and the channels change. Every second layer of
/// a stage (attention and hidden layers together) can be skipped.
pub(super) fn vit(shape: &Shape) -> Result<Built> {
    let fail = |reason: String| Err(Error::Space(format!("network: {reason}")));
    let [h, w, c] = shape.input;
    let [ph, pw] = shape.stem_kernel.map(usize::from);
    if ph > h || pw > w {
        return fail(format!("patches of {ph} × {pw} on an input of {h} × {w}"));
    }
    if shape.heads.len() < shape.widths.len() || shape.heads.contains(&0) {
        return fail("`heads` has one number a stage".into());
    }
    if let Some((width, heads)) = shape.widths.iter().zip(&shape.heads).find(|(w, h)| *w % *h > 0) {
        return fail(format!("{width} channels are not a multiple of {heads} heads"));
    }
    let (mut b, input) = Builder::new("vit", vec![1, h, w, c], shape.seed);
    let mut grid = [h / ph, w / pw];
    let mut width = shape.widths[0];
    let window =
        Window { kernel: shape.stem_kernel, stride: shape.stem_kernel, dilation: [1, 1], pad: [0; 4] };
    let mut image = convolution(&mut b, "stem", input, width, window, grid);
    let mut blocks = Vec::new();
    let mut tokens = image;
    for (stage, (&next, &count)) in shape.widths.iter().zip(&shape.blocks).enumerate() {
        if stage > 0 {
            if grid.iter().any(|&g| g < 2) {
                return fail(format!("stage {stage} would halve an image of {} × {}", grid[0], grid[1]));
            }
            image = b.reshape(&format!("stage{stage}.image"), tokens, vec![1, grid[0], grid[1], width]);
            image = reduction(&mut b, &format!("stage{stage}.reduce"), image, next, &mut grid);
            width = next;
        }
        let pixels = grid[0] * grid[1];
        tokens = b.reshape(&format!("stage{stage}.tokens"), image, vec![1, pixels, width]);
        let mut skippable = Vec::new();
        for index in 0..count {
            let name = format!("stage{stage}.block{index}");
            let before = b.graph.value(tokens).name.clone();
            tokens = attention(&mut b, &name, tokens, shape.heads[stage]);
            tokens = hidden(&mut b, &name, tokens, width * shape.expansion.max(1));
            if index % 2 == 1 {
                skippable.push(Block { from: before, to: b.graph.value(tokens).name.clone() });
            }
        }
        if !skippable.is_empty() {
            blocks.push(skippable);
        }
    }
    let tokens = b.layer_norm("norm", tokens);
    let pooled =
        b.push("pool", Op::Reduce { kind: ReduceKind::Mean, axes: vec![1] }, vec![tokens], vec![1, width]);
    let scores = b.dense("head", pooled, shape.classes, 1.0);
    let graph: Graph = b.finish(scores);
    graph.validate()?;
    Ok(Built { graph, blocks })
}

fn convolution(
    b: &mut Builder,
    name: &str,
    x: ValueId,
    filters: usize,
    window: Window,
    out: [usize; 2],
) -> ValueId {
    let channels = b.shape(x)[3];
    let kernel = window.kernel.map(usize::from);
    let weights = b.weights(name, vec![filters, kernel[0], kernel[1], channels], 2.0);
    let bias = b.filled(&format!("{name}.bias"), filters, 0.0);
    let op = Op::Conv2d { window, groups: 1, activation: Activation::None };
    b.push(name, op, vec![x, weights, bias], vec![1, out[0], out[1], filters])
}

/// Halves the image by a convolution and by averaging, and adds both results.
fn reduction(b: &mut Builder, name: &str, x: ValueId, filters: usize, grid: &mut [usize; 2]) -> ValueId {
    let channels = b.shape(x)[3];
    let half = grid.map(|g| g / 2);
    let window =
        |kernel: u16| Window { kernel: [kernel; 2], stride: [kernel; 2], dilation: [1, 1], pad: [0; 4] };
    let normal = b.layer_norm(&format!("{name}.norm"), x);
    let main = convolution(b, &format!("{name}.conv"), normal, filters, window(2), half);
    let pool = Op::Pool { kind: PoolKind::Average, window: window(2), activation: Activation::None };
    let means = b.push(&format!("{name}.mean"), pool, vec![x], vec![1, half[0], half[1], channels]);
    let shortcut = convolution(b, &format!("{name}.shortcut"), means, filters, window(1), half);
    *grid = half;
    b.binary(&format!("{name}.add"), BinaryKind::Add, main, shortcut)
}

fn attention(b: &mut Builder, name: &str, x: ValueId, heads: usize) -> ValueId {
    let (pixels, width) = (b.shape(x)[1], b.shape(x)[2]);
    let size = width / heads;
    let part = |suffix: &str| format!("{name}.{suffix}");
    let normal = b.layer_norm(&part("attention.norm"), x);
    let split = |b: &mut Builder, which: &str, gain: f64| {
        let flat = b.dense(&part(which), normal, width, gain);
        let apart = b.reshape(&part(&format!("{which}.heads")), flat, vec![1, pixels, heads, size]);
        let op = Op::Transpose { perm: vec![0, 2, 1, 3] };
        b.push(&part(&format!("{which}.turned")), op, vec![apart], vec![1, heads, pixels, size])
    };
    // The scale of the scores is folded into the queries' weights.
    let query = split(b, "query", 1.0 / size as f64);
    let (key, value) = (split(b, "key", 1.0), split(b, "value", 1.0));
    let square = vec![1, heads, pixels, pixels];
    let scores = b.push(&part("scores"), Op::MatMul { transpose_b: true }, vec![query, key], square.clone());
    let shares = b.push(&part("softmax"), Op::Softmax { axis: 3 }, vec![scores], square);
    let mixed = Op::MatMul { transpose_b: false };
    let mixed = b.push(&part("mixed"), mixed, vec![shares, value], vec![1, heads, pixels, size]);
    let turned = Op::Transpose { perm: vec![0, 2, 1, 3] };
    let turned = b.push(&part("mixed.turned"), turned, vec![mixed], vec![1, pixels, heads, size]);
    let flat = b.reshape(&part("mixed.flat"), turned, vec![1, pixels, width]);
    let out = b.dense(&part("project"), flat, width, 1.0);
    b.binary(&part("attention.add"), BinaryKind::Add, out, x)
}

fn hidden(b: &mut Builder, name: &str, x: ValueId, width: usize) -> ValueId {
    let outer = b.shape(x)[2];
    let part = |suffix: &str| format!("{name}.{suffix}");
    let normal = b.layer_norm(&part("hidden.norm"), x);
    let wide = b.dense(&part("expand"), normal, width, 2.0);
    let wide = b.unary(&part("hidden.relu"), wide, UnaryKind::Clip { min: 0.0, max: f32::INFINITY });
    let out = b.dense(&part("contract"), wide, outer, 1.0);
    b.binary(&part("hidden.add"), BinaryKind::Add, out, x)
}
