//! Checks every operator's gradient against finite differences of its forward result.

use std::sync::Arc;

use ndarray::ArrayD;
use offshoot_ir::{
    Activation, BinaryKind, ElementaryKind, Node, Op, PadMode, PoolKind, ReduceKind, ResizeRule, UnaryKind,
    ValueId, Window, elementary,
};

use super::{Tensor, array, backward};

/// Deterministic numbers between -1 and 1, no two of which are close to each other or to 0.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    // A permutation of evenly spaced numbers: maxima and kinks are far from ties.
    let prime = 2_147_483_647usize;
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by_key(|i| (i + 1).wrapping_mul(48_271 + 2 * seed) % prime % 1009);
    let mut out = vec![0.0; len];
    for (rank, i) in order.into_iter().enumerate() {
        out[i] = ((rank as f32 + 0.5) / len as f32) * 2.0 - 1.0 + 0.05 / len as f32;
    }
    out
}

fn check(what: &str, op: &Op, shapes: &[&[usize]], output: &[usize]) {
    let inputs = shapes.iter().enumerate().map(|(i, s)| array(s, numbers(s.iter().product(), i)));
    check_at(what, op, inputs.collect(), output);
}

/// Checks all elements of all inputs: the slope of `Σ out · r` along each, by finite differences.
fn check_at(what: &str, op: &Op, inputs: Vec<ArrayD<f32>>, output: &[usize]) {
    let node = Node {
        name: what.into(),
        op: op.clone(),
        inputs: (0..inputs.len() as u32).map(ValueId).collect(),
        output: ValueId(inputs.len() as u32),
    };
    let run = |inputs: &[ArrayD<f32>]| {
        let inputs: Vec<Tensor> = inputs.iter().cloned().map(Arc::new).collect();
        offshoot_reference::evaluate(&node, output, &inputs).unwrap()
    };
    let y = run(&inputs);
    let r = array(output, numbers(y.len(), 7));
    let value = |inputs: &[ArrayD<f32>]| -> f64 {
        run(inputs).iter().zip(&r).map(|(y, r)| f64::from(*y) * f64::from(*r)).sum()
    };
    let shared: Vec<Tensor> = inputs.iter().cloned().map(Arc::new).collect();
    let wanted = vec![true; inputs.len()];
    let gradients = backward(&node, &shared, &y, r.clone(), &wanted).unwrap();
    const BY: f32 = 1.0 / 256.0;
    for (which, gradient) in gradients.iter().enumerate() {
        let Some(gradient) = gradient else { continue };
        assert_eq!(gradient.shape(), inputs[which].shape(), "{what}, input {which}");
        let scale = gradient.iter().fold(0.1f32, |m, g| m.max(g.abs()));
        for (index, found) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut inputs = inputs.clone();
                *inputs[which].iter_mut().nth(index).unwrap() += by;
                value(&inputs)
            };
            let slope = ((moved(BY) - moved(-BY)) / (2.0 * f64::from(BY))) as f32;
            assert!(
                (slope - found).abs() <= 5e-3 * scale,
                "{what}, input {which}, element {index}: {found}, by differences {slope}"
            );
        }
    }
}

fn window(kernel: [u16; 2], stride: [u16; 2], dilation: [u16; 2], pad: [u16; 4]) -> Window {
    Window { kernel, stride, dilation, pad }
}

#[test]
fn convolutions() {
    let conv = |window, groups, activation| Op::Conv2d { window, groups, activation };
    let plain = Activation::None;
    let w = window([3, 2], [2, 1], [1, 1], [1, 0, 0, 1]);
    check("strided, asymmetric", &conv(w, 1, plain), &[&[2, 5, 4, 3], &[4, 3, 2, 3], &[4]], &[2, 2, 4, 4]);
    let w = window([2, 2], [1, 1], [2, 3], [0, 1, 1, 2]);
    check("dilated", &conv(w, 1, plain), &[&[1, 4, 5, 2], &[3, 2, 2, 2]], &[1, 3, 5, 3]);
    let w = window([1, 3], [1, 2], [1, 1], [0, 1, 0, 1]);
    check(
        "one-dimensional, grouped",
        &conv(w, 2, plain),
        &[&[2, 1, 7, 4], &[6, 1, 3, 2], &[6]],
        &[2, 1, 4, 6],
    );
    let w = window([3, 3], [2, 2], [1, 1], [1, 1, 1, 1]);
    check("depthwise", &conv(w, 3, plain), &[&[2, 5, 4, 3], &[3, 3, 3, 1], &[3]], &[2, 3, 2, 3]);
    let w = window([2, 2], [1, 1], [1, 1], [0; 4]);
    check("depth multiplier", &conv(w, 2, plain), &[&[1, 3, 3, 2], &[4, 2, 2, 1], &[4]], &[1, 2, 2, 4]);
    let w = window([1, 1], [1, 1], [1, 1], [0; 4]);
    let clip = Activation::Clip { min: -0.11, max: 0.37 };
    check("fused clip", &conv(w, 1, clip), &[&[1, 2, 2, 2], &[2, 1, 1, 2], &[2]], &[1, 2, 2, 2]);
}

#[test]
fn transposed_convolutions() {
    let op = |window, groups| Op::ConvTranspose2d { window, groups, activation: Activation::None };
    let w = window([3, 2], [2, 1], [1, 2], [1, 0, 0, 0]);
    check("transposed", &op(w, 1), &[&[2, 3, 2, 3], &[2, 3, 2, 3], &[2]], &[2, 6, 4, 2]);
    let w = window([2, 2], [2, 2], [1, 1], [0; 4]);
    check("transposed, grouped", &op(w, 2), &[&[1, 2, 3, 4], &[6, 2, 2, 2], &[6]], &[1, 4, 6, 6]);
}

#[test]
fn products() {
    let dense = Op::FullyConnected { activation: Activation::None };
    check("dense", &dense, &[&[3, 5], &[4, 5], &[4]], &[3, 4]);
    check(
        "dense, relu, rank 3",
        &Op::FullyConnected { activation: Activation::Relu },
        &[&[2, 3, 2], &[3, 2]],
        &[2, 3, 3],
    );
    check("matmul", &Op::MatMul { transpose_b: false }, &[&[2, 3, 4], &[2, 4, 2]], &[2, 3, 2]);
    check("matmul, transposed", &Op::MatMul { transpose_b: true }, &[&[3, 4], &[2, 4]], &[3, 2]);
}

#[test]
fn pools() {
    for kind in [PoolKind::Average, PoolKind::AverageIncludePad, PoolKind::Max] {
        let w = window([3, 2], [2, 1], [1, 1], [1, 1, 1, 0]);
        let op = Op::Pool { kind, window: w, activation: Activation::None };
        check(&format!("{kind:?}"), &op, &[&[2, 4, 3, 2]], &[2, 2, 3, 2]);
    }
}

#[test]
fn arithmetic() {
    use BinaryKind::{Add, Div, Max, Min, Mul, Sub};
    for kind in [Add, Sub, Mul, Div, Min, Max] {
        let op = Op::Binary { kind, activation: Activation::None };
        for (a, b) in [(&[2, 3, 2][..], &[2, 3, 2][..]), (&[2, 1, 2], &[3, 1]), (&[1], &[2, 3, 2])] {
            let mut inputs = [a, b].map(|s| array(s, numbers(s.iter().product(), s.len())));
            // Avoids division by values near zero, and ties.
            inputs[1].mapv_inplace(|v| v.signum() * (0.613 + v.abs()));
            check_at(&format!("{kind:?} of {a:?} and {b:?}"), &op, inputs.to_vec(), &[2, 3, 2]);
        }
    }
}

#[test]
fn functions() {
    use UnaryKind::*;
    let kinds = [
        Clip { min: -0.52, max: 0.41 },
        LeakyRelu { alpha: 0.1 },
        HardSwish,
        HardSigmoid { alpha: 0.2, beta: 0.5 },
        Sigmoid,
        Tanh,
        Gelu,
        GeluTanh,
        Elu { alpha: 0.7 },
        Exp,
        Abs,
        Neg,
        Erf,
        Softplus,
    ];
    for kind in kinds {
        // 4 is beyond the bends of HardSwish and HardSigmoid.
        let x = array(&[24], numbers(24, 3)).mapv(|v| v * 4.03);
        check_at(&format!("{kind:?}"), &Op::Unary(kind), vec![x], &[24]);
    }
    // Steps have no slope to find; the others are tried where they are defined.
    for kind in ElementaryKind::ALL {
        let slope = |x: f32| elementary::derivative(kind, x, Elementary(kind).apply(x));
        let places = [(1.0, 0.0), (0.4, 0.0), (1.0, 2.9)];
        let at = |(scale, shift)| array(&[12], numbers(12, 3)).mapv(|v: f32| v * scale + shift);
        let x = places.map(at).into_iter().find(|x| x.iter().all(|&x| slope(x).is_finite()));
        let x = x.unwrap_or_else(|| panic!("{kind:?} is defined nowhere"));
        if x.iter().any(|&x| slope(x) != 0.0) {
            check_at(&format!("{kind:?}"), &Op::Unary(Elementary(kind)), vec![x], &[12]);
        }
    }
    for kind in [Log, Sqrt, Reciprocal, Pow { exponent: 2.5 }] {
        let x = array(&[12], numbers(12, 3)).mapv(|v| v + 1.6);
        check_at(&format!("{kind:?}"), &Op::Unary(kind), vec![x], &[12]);
    }
    check("prelu", &Op::PRelu, &[&[3, 4, 2], &[2]], &[3, 4, 2]);
}

#[test]
fn normalisations() {
    check("softmax", &Op::Softmax { axis: 2 }, &[&[2, 3, 4]], &[2, 3, 4]);
    check("softmax along the middle", &Op::Softmax { axis: 1 }, &[&[2, 3, 4]], &[2, 3, 4]);
    check("layer norm", &Op::LayerNorm { epsilon: 1e-3 }, &[&[2, 2, 5], &[5], &[5]], &[2, 2, 5]);
    let mut inputs: Vec<ArrayD<f32>> =
        [&[3, 2, 4][..], &[4], &[4], &[4], &[4]].map(|s| array(s, numbers(s.iter().product(), 2))).to_vec();
    inputs[4].mapv_inplace(|v| v + 1.5);
    check_at("batch norm, stored", &Op::BatchNorm { epsilon: 1e-3 }, inputs, &[3, 2, 4]);
}

#[test]
fn movements() {
    check("reshape", &Op::Reshape, &[&[2, 3, 4]], &[4, 6]);
    check("transpose", &Op::Transpose { perm: vec![2, 0, 1] }, &[&[2, 3, 4]], &[4, 2, 3]);
    check("concat", &Op::Concat { axis: 1 }, &[&[2, 1, 2], &[2, 3, 2], &[2, 2, 2]], &[2, 6, 2]);
    let slice = Op::Slice { start: vec![0, 4, 1], step: vec![1, -2, 2] };
    check("slice", &slice, &[&[2, 5, 4]], &[2, 3, 2]);
    for mode in [None, Some(PadMode::Reflect), Some(PadMode::Edge)] {
        let op = Op::Pad { before: vec![0, 2, 1], after: vec![0, 1, 2], mode, value: 0.5 };
        check(&format!("pad {mode:?}"), &op, &[&[2, 3, 4]], &[2, 6, 7]);
    }
    check("expand", &Op::Expand, &[&[2, 1, 3]], &[4, 2, 5, 3]);
}

#[test]
fn reductions() {
    for kind in [ReduceKind::Mean, ReduceKind::Sum, ReduceKind::Max, ReduceKind::Min] {
        let op = Op::Reduce { kind, axes: vec![1, 2] };
        check(&format!("{kind:?}, dropped"), &op, &[&[2, 3, 2, 2]], &[2, 2]);
        check(&format!("{kind:?}, kept"), &op, &[&[2, 3, 2, 2]], &[2, 1, 1, 2]);
    }
}

#[test]
fn resizes() {
    for (bilinear, coordinate) in [(false, "asymmetric"), (true, "half_pixel"), (true, "align_corners")] {
        let (coordinate, nearest) = (coordinate.into(), "floor".into());
        let op =
            Op::Resize(ResizeRule { bilinear, coordinate, nearest, scale: [2.0, 1.5], rounded_steps: false });
        check("resize", &op, &[&[2, 2, 4, 2]], &[2, 4, 6, 2]);
    }
}

#[test]
fn recurrent_layers() {
    use offshoot_ir::{RecurrentKind, Returns};
    let (n, t, i, h) = (2, 4, 3, 3);
    for kind in [
        RecurrentKind::Tanh,
        RecurrentKind::Relu,
        RecurrentKind::Gru,
        RecurrentKind::GruResetAfter,
        RecurrentKind::Lstm,
    ] {
        let (rows, biases, states) = (kind.gates() * h, kind.biases() * h, kind.states() * h);
        for (returns, reverse, output) in [
            (Returns::Sequence, true, vec![n, t, h]),
            (Returns::Last, false, vec![n, h]),
            (Returns::State, false, vec![n, states]),
        ] {
            if returns == Returns::State && kind != RecurrentKind::Lstm {
                continue;
            }
            let op = Op::Recurrent { kind, returns, reverse };
            let what = format!("{op:?}");
            let (x, w, r, b) = ([n, t, i], [rows, i], [rows, h], [biases]);
            check(&what, &op, &[&x, &w, &r, &b], &output);
            // A single state for all samples, and one per sample.
            check(&what, &op, &[&x, &w, &r, &b, &[1, states]], &output);
            check(&what, &op, &[&x, &w, &r, &b, &[n, states]], &output);
        }
    }
}

#[test]
fn what_has_no_gradient_says_so() {
    let node = Node {
        name: "best".into(),
        op: Op::ArgMax { axis: 0, select_last: false },
        inputs: vec![ValueId(0)],
        output: ValueId(1),
    };
    let x = Arc::new(array(&[2], vec![0.0, 1.0]));
    let error = backward(&node, std::slice::from_ref(&x), &x, x.as_ref().clone(), &[true]).unwrap_err();
    assert!(error.to_string().contains("`best`"), "{error}");
}
