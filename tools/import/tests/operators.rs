//! Operators in the forms that exporters write, imported and run in float, equal to tract's typed model.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::{import_bytes, oracle::Oracle};
use offshoot_reference::Executor;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// Imports the model, runs it and holds it against tract.
fn check_model(what: &str, opset: i64, dims: &[i64], nodes: Vec<NodeProto>, parts: Vec<TensorProto>) {
    let file = model(opset, 1, dims, nodes, parts);
    let graph = import_bytes(&file, what).unwrap_or_else(|e| panic!("{what}: {e}"));
    let shape: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    let x = ArrayD::from_shape_vec(IxDyn(&shape), wave(shape.iter().product(), 0.3)).unwrap();
    let ours = Executor::new(&graph)
        .unwrap()
        .run(std::slice::from_ref(&x))
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, &file).unwrap();
    let oracle = Oracle::open(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
    let theirs = oracle.run(&[x]).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(ours[0].shape(), theirs[0].shape(), "{what}");
    for (a, b) in ours[0].iter().zip(&theirs[0]) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{what}: {a} instead of {b}");
    }
}

/// One node from `x` (and constants, under their names) to `y`.
fn check(operator: &str, opset: i64, dims: &[i64], attributes: Vec<AttributeProto>, parts: Vec<TensorProto>) {
    let what = format!("{operator} (opset {opset}) of {dims:?} with {attributes:?}");
    let names: Vec<String> = parts.iter().map(|p| p.name.clone()).collect();
    let inputs: Vec<&str> = std::iter::once("x").chain(names.iter().map(String::as_str)).collect();
    check_model(&what, opset, dims, vec![node(operator, &inputs, &["y"], attributes)], parts);
}

#[test]
fn convolutions() {
    let x = [1, 4, 7, 6];
    let w = || vec![noise("w", &[6, 4, 3, 3]), noise("bias", &[6])];
    check("Conv", 13, &x, vec![], w());
    check("Conv", 13, &x, vec![ints("pads", &[1, 0, 2, 1]), ints("strides", &[2, 1])], w());
    check("Conv", 13, &x, vec![ints("dilations", &[2, 2])], w());
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        check("Conv", 13, &x, vec![text("auto_pad", mode), ints("strides", &[2, 2])], w());
    }
    check("Conv", 13, &x, vec![int("group", 2)], vec![noise("w", &[6, 2, 3, 3])]);
    check("Conv", 13, &x, vec![int("group", 4)], vec![noise("w", &[8, 1, 3, 3]), noise("bias", &[8])]);
    check(
        "Conv",
        13,
        &[1, 3, 11],
        vec![ints("pads", &[1, 2]), ints("strides", &[2])],
        vec![noise("w", &[5, 3, 3])],
    );
}

#[test]
fn transposed_convolutions() {
    let x = [1, 4, 5, 4];
    let w = || vec![noise("w", &[4, 3, 3, 3]), noise("bias", &[3])];
    check("ConvTranspose", 13, &x, vec![], w());
    check("ConvTranspose", 13, &x, vec![ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1])], w());
    let extra = vec![ints("strides", &[2, 2]), ints("pads", &[1, 1, 1, 1]), ints("output_padding", &[1, 1])];
    check("ConvTranspose", 13, &x, extra, w());
    check("ConvTranspose", 13, &x, vec![int("group", 2)], vec![noise("w", &[4, 3, 2, 2])]);
}

#[test]
fn pools() {
    let x = [1, 3, 7, 8];
    for operator in ["MaxPool", "AveragePool"] {
        let kernel = || ints("kernel_shape", &[3, 2]);
        check(operator, 13, &x, vec![kernel()], vec![]);
        check(
            operator,
            13,
            &x,
            vec![kernel(), ints("strides", &[2, 2]), ints("pads", &[1, 0, 1, 1])],
            vec![],
        );
        check(
            operator,
            13,
            &x,
            vec![kernel(), ints("strides", &[2, 2]), text("auto_pad", "SAME_UPPER")],
            vec![],
        );
        check(
            operator,
            13,
            &x,
            vec![ints("kernel_shape", &[2, 3]), ints("strides", &[2, 2]), int("ceil_mode", 1)],
            vec![],
        );
        check(operator, 13, &[1, 2, 9], vec![ints("kernel_shape", &[3]), ints("strides", &[2])], vec![]);
    }
    let all = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1]), int("count_include_pad", 1)];
    check("AveragePool", 13, &x, all, vec![]);
    check("GlobalAveragePool", 13, &x, vec![], vec![]);
    check("GlobalMaxPool", 13, &x, vec![], vec![]);
}

#[test]
fn products() {
    for bias in [[6i64].as_slice(), &[1, 6], &[4, 1], &[4, 6], &[1], &[]] {
        check("Gemm", 13, &[4, 5], vec![], vec![noise("w", &[5, 6]), noise("bias", bias)]);
    }
    // As many rows as columns: only the shape tells which a bias goes by.
    check("Gemm", 13, &[4, 5], vec![], vec![noise("w", &[5, 4]), noise("bias", &[4, 1])]);
    let factors = || vec![float("alpha", 0.5), float("beta", 2.0), int("transB", 1)];
    check("Gemm", 13, &[4, 5], factors(), vec![noise("w", &[6, 5]), noise("bias", &[6])]);
    check("MatMul", 13, &[2, 4, 5], vec![], vec![noise("w", &[5, 3])]);
    check("MatMul", 13, &[2, 4, 5], vec![], vec![noise("w", &[2, 5, 3])]);
    check("MatMul", 13, &[2, 4, 5], vec![], vec![noise("w", &[1, 5, 3])]);
}

#[test]
fn movements() {
    check(
        "Slice",
        13,
        &[4, 6],
        vec![],
        vec![whole("a", &[-1, 1]), whole("b", &[-9, 6]), whole("c", &[0, 1]), whole("d", &[-1, 2])],
    );
    check("Pad", 13, &[2, 3], vec![], vec![whole("pads", &[1, 0, 0, 2]), reals("v", &[], vec![0.5])]);
    check("Pad", 13, &[2, 4], vec![text("mode", "reflect")], vec![whole("pads", &[1, 2, 0, 3])]);
    check("Pad", 13, &[2, 4], vec![text("mode", "edge")], vec![whole("pads", &[1, 2, 0, 3])]);
    check("Transpose", 13, &[2, 3, 4], vec![ints("perm", &[2, 0, 1])], vec![]);
    check("Expand", 13, &[3, 1], vec![], vec![whole("s", &[2, 1, 4])]);
    check("Flatten", 13, &[2, 3, 4], vec![int("axis", 2)], vec![]);
    check("Squeeze", 13, &[2, 1, 4], vec![], vec![whole("axes", &[1])]);
    check("Unsqueeze", 13, &[2, 4], vec![], vec![whole("axes", &[0, -1])]);
    let halves = node("Split", &["x", "s"], &["a", "b"], vec![int("axis", 1)]);
    let join = node("Concat", &["b", "a"], &["y"], vec![int("axis", 1)]);
    check_model("Split", 13, &[2, 5], vec![halves, join], vec![whole("s", &[2, 3])]);
}

#[test]
fn resizes() {
    let x = [1, 2, 4, 5];
    let roi = || reals("roi", &[0], vec![]);
    let scales = || reals("s", &[4], vec![1.0, 1.0, 2.0, 2.0]);
    for coordinate in ["half_pixel", "asymmetric", "align_corners"] {
        let linear = vec![text("mode", "linear"), text("coordinate_transformation_mode", coordinate)];
        check("Resize", 13, &x, linear, vec![roi(), scales()]);
    }
    let nearest = vec![
        text("mode", "nearest"),
        text("coordinate_transformation_mode", "asymmetric"),
        text("nearest_mode", "floor"),
    ];
    check("Resize", 13, &x, nearest, vec![roi(), scales()]);
}

#[test]
fn reductions() {
    for operator in ["ReduceMean", "ReduceMax", "ReduceMin"] {
        check(operator, 13, &[2, 3, 4], vec![ints("axes", &[1, -1]), int("keepdims", 0)], vec![]);
        check(operator, 13, &[2, 3, 4], vec![ints("axes", &[0])], vec![]);
        check(operator, 13, &[2, 3, 4], vec![], vec![]);
    }
    check("ReduceSum", 13, &[2, 3, 4], vec![int("keepdims", 0)], vec![whole("axes", &[2])]);
    check("ArgMax", 13, &[2, 3, 4], vec![int("axis", 1), int("keepdims", 0)], vec![]);
}

#[test]
fn normalisations() {
    let statistics = || {
        vec![
            noise("scale", &[3]),
            noise("shift", &[3]),
            noise("mean", &[3]),
            reals("variance", &[3], vec![0.5, 1.0, 2.0]),
        ]
    };
    check("BatchNormalization", 13, &[2, 3, 4, 5], vec![], statistics());
    check("BatchNormalization", 13, &[2, 3], vec![float("epsilon", 0.1)], statistics());
    check("LayerNormalization", 17, &[2, 3, 4], vec![], vec![noise("scale", &[4]), noise("shift", &[4])]);
    for opset in [11, 13] {
        for axis in [1, 2] {
            check("Softmax", opset, &[2, 3, 4], vec![int("axis", axis)], vec![]);
            check("LogSoftmax", opset, &[2, 3, 4], vec![int("axis", axis)], vec![]);
        }
    }
}

#[test]
fn functions() {
    for operator in
        ["Relu", "LeakyRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Elu", "Selu", "Celu", "Exp"]
    {
        check(operator, 14, &[2, 3, 4], vec![], vec![]);
    }
    for operator in ["Abs", "Neg", "Erf", "Softplus"] {
        check(operator, 13, &[2, 5], vec![], vec![]);
    }
    check("Gelu", 20, &[2, 5], vec![], vec![]);
    check("Clip", 13, &[2, 5], vec![], vec![reals("lo", &[], vec![-0.5]), reals("hi", &[], vec![0.25])]);
    check("PRelu", 13, &[1, 3, 2, 2], vec![], vec![noise("slope", &[3, 1, 1])]);
    check("PRelu", 13, &[1, 1, 2, 2], vec![], vec![reals("slope", &[1], vec![0.3])]);
    for operator in ["Add", "Sub", "Mul", "Div", "Min", "Max"] {
        check(operator, 13, &[2, 3, 4], vec![], vec![reals("k", &[3, 1], vec![0.5, 2.0, -1.0])]);
    }
}

#[test]
fn log_softmax_reaches_far() {
    let nodes =
        vec![node("Mul", &["x", "k"], &["far"], vec![]), node("LogSoftmax", &["far"], &["y"], vec![])];
    let file = model(13, 1, &[1, 3], nodes, vec![reals("k", &[], vec![1000.0])]);
    let graph = import_bytes(&file, "far").unwrap();
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 3]), vec![0.0, 1.0, -1.0]).unwrap();
    let y = Executor::new(&graph).unwrap().run(&[x]).unwrap();
    assert_eq!(y[0].iter().copied().collect::<Vec<_>>(), [-1000.0, 0.0, -2000.0]);
}
