//! Tests of the pass: what is removed, what stays, and that constants are folded to numbers computed by hand.
//! Identical bytes on the device are checked in the end-to-end tests.

use super::super::testing::{Build, names};
use super::*;
use crate::{Activation, BinaryKind, DType, Data, Graph, Node, Op, PoolKind, Quant, Value, ValueId, Window};

fn window(kernel: u16, pad: u16) -> Window {
    Window { kernel: [kernel; 2], stride: [1; 2], dilation: [1; 2], pad: [pad; 4] }
}

fn conv(kernel: u16, pad: u16, groups: usize) -> Op {
    Op::Conv2d { window: window(kernel, pad), groups, activation: Activation::Relu }
}

/// Appends an int8 operator with weights of scale 1/2 and a bias; input and output have scale 1, so that a bias of 2n
/// gives n. The output's zero point is `zp`.
fn linear(
    b: &mut Build,
    op: Op,
    x: ValueId,
    (w_shape, w): (&[usize], Vec<i8>),
    bias: Vec<i32>,
    (y_shape, zp): (&[usize], i32),
) -> ValueId {
    let rows = w_shape[0];
    let w = edit::constant(
        &mut b.0,
        "w",
        w_shape.to_vec(),
        Data::I8(w),
        Some(Quant { scale: vec![0.5; rows], zero_point: vec![0; rows], axis: Some(0) }),
    );
    let bias = edit::constant(&mut b.0, "bias", vec![rows], Data::I32(bias), None);
    let y = edit::tensor(&mut b.0, "y", y_shape.to_vec(), DType::I8, Some(Quant::per_tensor(1.0, zp)));
    b.0.nodes.push(Node { name: "n".into(), op, inputs: vec![x, w, bias], output: y });
    y
}

fn input(b: &mut Build, shape: &[usize]) -> ValueId {
    b.input_i8(shape, Quant::per_tensor(1.0, 0))
}

fn constant(graph: &Graph, node: usize, input: usize) -> &Value {
    graph.value(graph.nodes[node].inputs[input])
}

fn bias(graph: &Graph, node: usize) -> Vec<i32> {
    match constant(graph, node, 2).data.as_deref() {
        Some(Data::I32(d)) => d.clone(),
        other => panic!("not int32: {other:?}"),
    }
}

/// Channels of every node's output.
fn channels(graph: &Graph) -> Vec<usize> {
    names(graph);
    graph.nodes.iter().map(|n| graph.value(n.output).shape[graph.value(n.output).shape.len() - 1]).collect()
}

fn ones(shape: &[usize]) -> (&[usize], Vec<i8>) {
    (shape, vec![1; shape.iter().product()])
}

/// Pointwise with channel 1 of 3 dead and of bias `dead`, zero point 10; then depthwise 3×3 with `pad` around and
/// zero point 20; then pointwise.
fn chain(dead: i32, pad: u16) -> Graph {
    let mut b = Build::default();
    let x = input(&mut b, &[1, 4, 4, 2]);
    let w = (&[3, 1, 1, 2][..], vec![1, 2, 0, 0, 3, 4]);
    let y = linear(&mut b, conv(1, 0, 1), x, w, vec![0, dead, 0], (&[1, 4, 4, 3], 10));
    let extent = 2 + 2 * usize::from(pad);
    let shape = [1, extent, extent, 3];
    let y = linear(&mut b, conv(3, pad, 3), y, ones(&[3, 3, 3, 1]), vec![0, 4, 0], (&shape, 20));
    let w = (&[2, 1, 1, 3][..], vec![1, 5, 1, 1, -7, 1]);
    let y = linear(&mut b, conv(1, 0, 1), y, w, vec![100, 200], (&[1, extent, extent, 2], 0));
    b.finish(&[y])
}

#[test]
fn a_dead_channel_goes_through_a_depthwise_filter_into_the_next_bias() {
    // The dead channel is 6 above its zero point; 9 taps of 1 and the bias 4 make 58, at scale 1/2 29 above.
    let g = run(chain(12, 0)).expect("runs");
    assert_eq!(channels(&g), [2, 2, 2]);
    assert_eq!(bias(&g, 2), [100 + 29 * 5, 200 - 29 * 7]);
    assert_eq!(constant(&g, 0, 1).data.as_deref(), Some(&Data::I8(vec![1, 2, 3, 4])));
    assert_eq!(constant(&g, 2, 1).data.as_deref(), Some(&Data::I8(vec![1, 1, 1, 1])));
    assert_eq!(constant(&g, 1, 1).quant.as_ref().map(|q| q.scale.len()), Some(2));
    assert!(matches!(g.nodes[1].op, Op::Conv2d { groups: 2, .. }));
}

#[test]
fn with_padding_only_the_zero_point_goes() {
    assert_eq!(channels(&run(chain(12, 1)).expect("runs")), [3, 3, 2]);
    // Relu holds a negative bias at the zero point; then only the depthwise bias is left: 2 above.
    let g = run(chain(-50, 1)).expect("runs");
    assert_eq!(channels(&g), [2, 2, 2]);
    assert_eq!(bias(&g, 2), [100 + 2 * 5, 200 - 2 * 7]);
}

#[test]
fn unread_channels_go_and_what_only_they_read() {
    let mut b = Build::default();
    let x = input(&mut b, &[1, 2, 2, 1]);
    let y = linear(&mut b, conv(1, 0, 1), x, ones(&[2, 1, 1, 1]), vec![0; 2], (&[1, 2, 2, 2], 0));
    let w = (&[2, 1, 1, 2][..], vec![1, 0, 1, 1]);
    let y = linear(&mut b, conv(1, 0, 1), y, w, vec![0; 2], (&[1, 2, 2, 2], 0));
    let w = (&[1, 1, 1, 2][..], vec![1, 0]);
    let y = linear(&mut b, conv(1, 0, 1), y, w, vec![0], (&[1, 2, 2, 1], 0));
    assert_eq!(channels(&run(b.finish(&[y])).expect("runs")), [1, 1, 1]);
}

#[test]
fn residual_sums_and_outputs_stay_whole() {
    let mut b = Build::default();
    let x = input(&mut b, &[1, 2, 2, 2]);
    let dead = (&[2, 1, 1, 2][..], vec![1, 1, 0, 0]);
    let p = linear(&mut b, conv(1, 0, 1), x, dead.clone(), vec![0; 2], (&[1, 2, 2, 2], 0));
    let add = Op::Binary { kind: BinaryKind::Add, activation: Activation::None };
    let y = b.node(add, &[p, x], &[1, 2, 2, 2]);
    let y = linear(&mut b, conv(1, 0, 1), y, dead, vec![0; 2], (&[1, 2, 2, 2], 0));
    let g = b.finish(&[y]);
    assert_eq!(run(g.clone()).expect("runs"), g);
}

#[test]
fn one_channel_stays() {
    let mut b = Build::default();
    let x = input(&mut b, &[1, 2, 2, 2]);
    let zeros = (&[3, 1, 1, 2][..], vec![0; 6]);
    let y = linear(&mut b, conv(1, 0, 1), x, zeros, vec![2, 4, 6], (&[1, 2, 2, 3], 0));
    let y = linear(&mut b, conv(1, 0, 1), y, ones(&[1, 1, 1, 3]), vec![0], (&[1, 2, 2, 1], 0));
    let g = run(b.finish(&[y])).expect("runs");
    assert_eq!((channels(&g), bias(&g, 0), bias(&g, 1)), (vec![1, 1], vec![2], vec![5]));
}

/// Pool, flatten and two fully connected operators after a dead channel.
#[test]
fn channels_go_through_a_pool_and_a_flatten() {
    let mut b = Build::default();
    let x = input(&mut b, &[1, 4, 4, 1]);
    let w = (&[3, 1, 1, 1][..], vec![1, 0, 1]);
    let y = linear(&mut b, conv(1, 0, 1), x, w, vec![0, 8, 0], (&[1, 4, 4, 3], 0));
    let pool = Op::Pool {
        kind: PoolKind::Average,
        window: Window { stride: [2; 2], ..window(2, 0) },
        activation: Activation::None,
    };
    let y = b.node(pool, &[y], &[1, 2, 2, 3]);
    let y = b.node(Op::Reshape, &[y], &[1, 12]);
    let fc = Op::FullyConnected { activation: Activation::None };
    let w = (&[2, 12][..], (0..24).collect());
    let y = linear(&mut b, fc, y, w, vec![0; 2], (&[1, 2], 0));
    let g = run(b.finish(&[y])).expect("runs");
    assert_eq!(channels(&g), [2, 2, 8, 2]);
    assert_eq!(bias(&g, 3), [4 * (1 + 4 + 7 + 10), 4 * (13 + 16 + 19 + 22)]);
    let left: Vec<i8> = (0..24).filter(|i| i % 3 != 1).collect();
    assert_eq!(constant(&g, 3, 1).data.as_deref(), Some(&Data::I8(left)));
}

/// With a single scale left, TFLite's fully connected operator would round its multiplier differently.
#[test]
fn a_fully_connected_operator_with_scales_keeps_two() {
    let mut b = Build::default();
    let x = input(&mut b, &[1, 2]);
    let fc = || Op::FullyConnected { activation: Activation::None };
    let w = (&[3, 2][..], vec![0, 0, 1, 1, 0, 0]);
    let y = linear(&mut b, fc(), x, w, vec![0; 3], (&[1, 3], 0));
    let y = linear(&mut b, fc(), y, ones(&[2, 3]), vec![0; 2], (&[1, 2], 0));
    assert_eq!(channels(&run(b.finish(&[y])).expect("runs")), [2, 2]);
}

/// Float: the constant goes into a new bias; weights that another operator reads too stay.
#[test]
fn float_constants_fold_and_shared_weights_stay() {
    let mut b = Build::default();
    let x = b.input(&[1, 2, 2, 2]);
    let w = b.constant(&[2, 1, 1, 2], vec![0.0, 0.0, 1.0, 2.0]);
    let bias = b.constant(&[2], vec![3.0, 0.0]);
    let first = b.node(conv(1, 0, 1), &[x, w, bias], &[1, 2, 2, 2]);
    let second = b.node(conv(1, 0, 1), &[first, w], &[1, 2, 2, 2]);
    let w2 = b.constant(&[1, 1, 1, 2], vec![5.0, 7.0]);
    let y = b.node(conv(1, 0, 1), &[second, w2], &[1, 2, 2, 1]);
    let g = run(b.finish(&[y])).expect("runs");
    assert_eq!(channels(&g), [1, 1, 1]);
    let data = |node, input| constant(&g, node, input).data.as_deref().cloned();
    assert_eq!(data(0, 1), Some(Data::F32(vec![1.0, 2.0])));
    assert_eq!(data(1, 1), Some(Data::F32(vec![2.0])));
    assert_eq!(data(1, 2), Some(Data::F32(vec![3.0])));
    // Channel 0 of the second is 0: nothing to fold.
    assert_eq!((data(2, 1), g.nodes[2].inputs.len()), (Some(Data::F32(vec![7.0])), 2));
}

/// Channel 1 reads weights that are too small, compared with the output's scale, to move its output by a step.
#[test]
fn channels_that_no_input_moves_are_constant() {
    let made = |small: f32| {
        let mut b = Build::default();
        let x = input(&mut b, &[1, 4, 4, 2]);
        let w = (&[3, 1, 1, 2][..], vec![9, 5, 100, -90, 7, 3]);
        let first = linear(&mut b, conv(1, 0, 1), x, w, vec![4, 3, 2], (&[1, 4, 4, 3], 0));
        let weights = b.0.nodes[0].inputs[1];
        if let Some(quant) = &mut b.0.value_mut(weights).quant {
            quant.scale[1] = small;
        }
        let y = linear(&mut b, conv(1, 0, 1), first, ones(&[2, 1, 1, 3]), vec![0; 2], (&[1, 4, 4, 2], 0));
        channels(&run(b.finish(&[y])).expect("runs"))
    };
    assert_eq!(made(1e-6), [2, 2]);
    // 190 products of up to 255 need a scale below 1 / (2 · 190 · 255) to stay within half a step.
    assert_eq!(made(1e-3), [3, 2]);
}
