//! Operators that become several of the IR's, equal to tract's typed model or to numbers by hand.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::{import_bytes, oracle::Oracle};
use offshoot_ir::{ElementaryKind, elementary};
use offshoot_reference::Executor;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

fn run(what: &str, file: &[u8], x: ArrayD<f32>) -> ArrayD<f32> {
    let graph = import_bytes(file, what).unwrap_or_else(|e| panic!("{what}: {e}"));
    let outputs = Executor::new(&graph).unwrap().run(&[x]).unwrap_or_else(|e| panic!("{what}: {e}"));
    outputs[0].clone()
}

fn close(what: &str, ours: &ArrayD<f32>, theirs: &ArrayD<f32>) {
    assert_eq!(ours.shape(), theirs.shape(), "{what}");
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{what}: {a} instead of {b}");
    }
}

/// Nodes from `x` to `y`, held against tract.
fn check_nodes(what: &str, opset: i64, dims: &[i64], nodes: Vec<NodeProto>, parts: Vec<TensorProto>) {
    let file = model(opset, 1, dims, nodes, parts);
    let shape: Vec<usize> = dims.iter().map(|d| *d as usize).collect();
    let x = ArrayD::from_shape_vec(IxDyn(&shape), wave(shape.iter().product(), 0.3)).unwrap();
    let ours = run(what, &file, x.clone());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, &file).unwrap();
    let oracle = Oracle::open(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
    let theirs = oracle.run(&[x]).unwrap_or_else(|e| panic!("{what}: {e}"));
    close(what, &ours, &theirs[0]);
}

fn check(operator: &str, opset: i64, dims: &[i64], attributes: Vec<AttributeProto>, parts: Vec<TensorProto>) {
    let what = format!("{operator} (opset {opset}) of {dims:?} with {attributes:?}");
    let names: Vec<String> = parts.iter().map(|p| p.name.clone()).collect();
    let inputs: Vec<&str> = std::iter::once("x").chain(names.iter().map(String::as_str)).collect();
    check_nodes(&what, opset, dims, vec![node(operator, &inputs, &["y"], attributes)], parts);
}

/// One node, held against numbers by hand.
fn by_hand(
    operator: &str,
    x: (&[i64], &[f32]),
    attributes: Vec<AttributeProto>,
    parts: Vec<TensorProto>,
    y: (&[usize], &[f32]),
) {
    let names: Vec<String> = parts.iter().map(|p| p.name.clone()).collect();
    let inputs: Vec<&str> = std::iter::once("x").chain(names.iter().map(String::as_str)).collect();
    let file = model(19, 1, x.0, vec![node(operator, &inputs, &["y"], attributes)], parts);
    let shape: Vec<usize> = x.0.iter().map(|d| *d as usize).collect();
    let ours = run(operator, &file, ArrayD::from_shape_vec(IxDyn(&shape), x.1.to_vec()).unwrap());
    close(operator, &ours, &ArrayD::from_shape_vec(IxDyn(y.0), y.1.to_vec()).unwrap());
}

#[test]
fn reductions() {
    for operator in ["ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"] {
        check(operator, 13, &[2, 3, 4], vec![ints("axes", &[1])], vec![]);
        check(operator, 13, &[2, 3, 4], vec![ints("axes", &[0, 2]), int("keepdims", 0)], vec![]);
    }
    let nodes = vec![
        node("Mul", &["x", "k"], &["far"], vec![]),
        node("ReduceLogSumExp", &["far"], &["y"], vec![ints("axes", &[0]), int("keepdims", 0)]),
    ];
    let file = model(13, 1, &[2], nodes, vec![reals("k", &[], vec![1000.0])]);
    let y = run("far", &file, ArrayD::from_shape_vec(IxDyn(&[2]), vec![1.0, -1.0]).unwrap());
    assert_eq!(y.iter().copied().collect::<Vec<_>>(), [1000.0]);
}

#[test]
fn comparisons() {
    let numbers = [-1.5f32, -0.0, 0.0, 1e-30, 2.0, 3.0];
    let other = || vec![reals("k", &[6], vec![-1.5, 0.0, 1e-30, 1e-30, 3.0, 2.0])];
    for (operator, truth) in [
        ("Greater", [0.0f32, 0.0, 0.0, 0.0, 0.0, 1.0]),
        ("GreaterOrEqual", [1.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
        ("Less", [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]),
        ("LessOrEqual", [1.0, 1.0, 1.0, 1.0, 1.0, 0.0]),
        ("Equal", [1.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
    ] {
        by_hand(operator, (&[6], &numbers), vec![], other(), (&[6], &truth));
    }
    by_hand("Sign", (&[6], &numbers), vec![], vec![], (&[6], &[-1.0, 0.0, 0.0, 1.0, 1.0, 1.0]));
    by_hand("ThresholdedRelu", (&[3], &[1.0, 1.5, -2.0]), vec![], vec![], (&[3], &[0.0, 1.5, 0.0]));
}

#[test]
fn where_takes_each_branch_as_it_is() {
    let choose = |then: &str, otherwise: &str| {
        vec![
            node("Greater", &["x", "zero"], &["c"], vec![]),
            node("Log", &["x"], &["log"], vec![]),
            node("Where", &["c", then, otherwise], &["y"], vec![]),
        ]
    };
    let zero = || reals("zero", &[], vec![0.0]);
    let x = ArrayD::from_shape_vec(IxDyn(&[3]), vec![-2.0, 0.0, 5.0f32]).unwrap();
    let far = |v: f32| vec![zero(), reals("k", &[], vec![v])];
    let values = |nodes, parts| {
        run("where", &model(13, 1, &[3], nodes, parts), x.clone()).iter().copied().collect::<Vec<_>>()
    };
    // The branch that is not taken holds NaN and -inf.
    assert_eq!(values(choose("log", "zero"), vec![zero()]), [0.0, 0.0, 5.0f32.ln()]);
    assert_eq!(values(choose("x", "k"), far(f32::NEG_INFINITY)), [f32::NEG_INFINITY, f32::NEG_INFINITY, 5.0]);
    assert_eq!(values(choose("k", "x"), far(f32::NEG_INFINITY)), [-2.0, 0.0, f32::NEG_INFINITY]);
    assert_eq!(values(choose("x", "k"), far(-1e9)), [-1e9, -1e9, 5.0]);
}

#[test]
fn masks_of_constants() {
    for number in [f32::NEG_INFINITY, f32::MIN, -1e9, 0.0, 2.5] {
        let condition = TensorProto {
            data_type: 9,
            int32_data: vec![1, 0, 1],
            dims: vec![3],
            name: "c".into(),
            ..Default::default()
        };
        let nodes = vec![node("Where", &["c", "x", "k"], &["y"], vec![])];
        let file = model(13, 1, &[2, 3], nodes, vec![condition, reals("k", &[], vec![number])]);
        let x = ArrayD::from_shape_vec(IxDyn(&[2, 3]), vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0f32]).unwrap();
        let y: Vec<f32> = run("mask", &file, x).iter().copied().collect();
        assert_eq!(y, [1.0, number, 3.0, 4.0, number, 6.0]);
    }
}

#[test]
fn logic() {
    let truths = |name: &str, op: &str| node(op, &["x", "zero"], &[name], vec![]);
    for (operator, truth) in [("And", [0.0f32, 0.0, 0.0]), ("Or", [1.0, 0.0, 1.0]), ("Xor", [1.0, 0.0, 1.0])]
    {
        let nodes =
            vec![truths("a", "Greater"), truths("b", "Less"), node(operator, &["a", "b"], &["y"], vec![])];
        let file = model(13, 1, &[3], nodes, vec![reals("zero", &[], vec![0.0])]);
        let y = run(operator, &file, ArrayD::from_shape_vec(IxDyn(&[3]), vec![1.0, 0.0, -1.0]).unwrap());
        assert_eq!(y.iter().copied().collect::<Vec<_>>(), truth, "{operator}");
    }
    let nodes = vec![truths("a", "Greater"), node("Not", &["a"], &["y"], vec![])];
    let file = model(13, 1, &[2], nodes, vec![reals("zero", &[], vec![0.0])]);
    let y = run("Not", &file, ArrayD::from_shape_vec(IxDyn(&[2]), vec![1.0, 0.0]).unwrap());
    assert_eq!(y.iter().copied().collect::<Vec<_>>(), [0.0, 1.0]);
}

#[test]
fn normalisations() {
    let parameters = |n: i64| vec![noise("scale", &[n]), noise("shift", &[n])];
    check("InstanceNormalization", 13, &[2, 3, 4, 5], vec![], parameters(3));
    check("InstanceNormalization", 13, &[2, 3, 7], vec![float("epsilon", 0.1)], parameters(3));
    check("GroupNormalization", 21, &[2, 6, 4, 5], vec![int("num_groups", 3)], parameters(6));
    check("RMSNormalization", 23, &[2, 3, 4], vec![], vec![noise("scale", &[4])]);
    for p in [1, 2] {
        check("LpNormalization", 13, &[2, 3, 4], vec![int("axis", 1), int("p", p)], vec![]);
    }
    by_hand("LpNormalization", (&[1, 2], &[0.0, 0.0]), vec![], vec![], (&[1, 2], &[0.0, 0.0]));
    by_hand("LogSoftmax", (&[1, 3], &[4.0, -1.0, 0.5]), vec![int("axis", 0)], vec![], (&[1, 3], &[0.0; 3]));
}

#[test]
fn functions() {
    for operator in ["Mish", "Softsign", "Hardmax"] {
        check(operator, 18, &[2, 5], vec![], vec![]);
    }
    // IsNaN and IsInf give bool, and Acosh and Atanh are not defined for all of the inputs.
    let others = ["IsNaN", "IsInf", "Acosh", "Atanh"];
    for operator in ElementaryKind::ALL.map(elementary::onnx_name) {
        if !others.contains(&operator.as_str()) {
            check(&operator, 18, &[2, 5], vec![], vec![]);
        }
    }
    check("ReduceProd", 18, &[2, 5], vec![], vec![whole("axes", &[1])]);
    by_hand(
        "Mod",
        (&[1, 4], &[4.5, -4.5, 4.5, -4.5]),
        vec![int("fmod", 1)],
        vec![reals("by", &[4], vec![2.0, 2.0, -2.0, -2.0])],
        (&[1, 4], &[0.5, -0.5, 0.5, -0.5]),
    );
    by_hand(
        "Equal",
        (&[1, 3], &[f32::NEG_INFINITY, 0.0, f32::INFINITY]),
        vec![],
        vec![reals("low", &[1], vec![f32::NEG_INFINITY])],
        (&[1, 3], &[1.0, 0.0, 0.0]),
    );
    let nodes =
        vec![node("Abs", &["x"], &["high"], vec![]), node("Clip", &["x", "", "high"], &["y"], vec![])];
    check_nodes("Clip", 13, &[2, 5], nodes, vec![]);
    check_nodes(
        "Mean",
        13,
        &[2, 5],
        vec![node("Mean", &["x", "k", "k"], &["y"], vec![])],
        vec![noise("k", &[5])],
    );
}

#[test]
fn rearrangements() {
    for mode in ["DCR", "CRD"] {
        check("DepthToSpace", 13, &[1, 8, 2, 3], vec![int("blocksize", 2), text("mode", mode)], vec![]);
    }
    check("SpaceToDepth", 13, &[1, 2, 4, 6], vec![int("blocksize", 2)], vec![]);
    check("Tile", 13, &[2, 1, 3], vec![], vec![whole("repeats", &[1, 4, 2])]);
    for upper in [0, 1] {
        check("Trilu", 14, &[2, 3, 4], vec![int("upper", upper)], vec![]);
    }
    by_hand(
        "CumSum",
        (&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
        vec![],
        vec![whole("axis", &[0])],
        (&[2, 2], &[1.0, 2.0, 4.0, 6.0]),
    );
    let backwards = vec![int("exclusive", 1), int("reverse", 1)];
    by_hand(
        "CumSum",
        (&[3], &[1.0, 2.0, 3.0]),
        backwards,
        vec![whole("axis", &[0])],
        (&[3], &[5.0, 3.0, 0.0]),
    );
    by_hand(
        "Gather",
        (&[4], &[0.0, 1.0, 2.0, 3.0]),
        vec![],
        vec![whole("at", &[3, 1, 1, 0, -1])],
        (&[5], &[3.0, 1.0, 1.0, 0.0, 3.0]),
    );
}

#[test]
fn padding_beyond_the_record() {
    let x: (&[i64], &[f32]) = (&[3], &[1.0, 2.0, 3.0]);
    let pads = |v: &[i64]| vec![whole("pads", v)];
    by_hand(
        "Pad",
        x,
        vec![text("mode", "reflect")],
        pads(&[4, 3]),
        (&[10], &[1.0, 2.0, 3.0, 2.0, 1.0, 2.0, 3.0, 2.0, 1.0, 2.0]),
    );
    by_hand(
        "Pad",
        x,
        vec![text("mode", "wrap")],
        pads(&[1, 4]),
        (&[8], &[3.0, 1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 1.0]),
    );
    by_hand("Pad", x, vec![], pads(&[-1, 1]), (&[3], &[2.0, 3.0, 0.0]));
}

#[test]
fn pools_count_what_was_asked_for() {
    // Windows of 3 by 2 over 4 columns with one of padding before: the last one reaches one column beyond.
    let attributes = vec![
        ints("kernel_shape", &[1, 3]),
        ints("strides", &[1, 2]),
        ints("pads", &[0, 1, 0, 0]),
        int("ceil_mode", 1),
        int("count_include_pad", 1),
    ];
    let x: (&[i64], &[f32]) = (&[1, 1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    by_hand("AveragePool", x, attributes, vec![], (&[1, 1, 1, 3], &[1.0, 3.0, 4.5]));
    check("GlobalAveragePool", 13, &[1, 2, 2, 3, 2], vec![], vec![]);
}

#[test]
fn sums_of_products() {
    for (equation, dims) in [
        ("bij,bjk->bik", vec![2i64, 4, 3]),
        ("bij,bkj->bki", vec![2, 5, 4]),
        ("ijk,jl->ikl", vec![3, 2]),
        ("abc,abd->acd", vec![2, 3, 5]),
        ("abc,d->abcd", vec![5]),
        ("abc,cab->b", vec![4, 2, 3]),
        ("abc,dc", vec![6, 4]),
    ] {
        let nodes = vec![node("Einsum", &["x", "w"], &["y"], vec![text("equation", equation)])];
        check_nodes(equation, 13, &[2, 3, 4], nodes, vec![noise("w", &dims)]);
    }
    check("Einsum", 13, &[2, 3, 4], vec![text("equation", "abc->ca")], vec![]);
    check("MatMul", 13, &[2, 3, 4], vec![], vec![noise("v", &[4])]);
}

#[test]
fn volumes() {
    let x = [1, 3, 5, 6, 4];
    let w = |dims: &[i64]| vec![noise("w", dims), noise("bias", &[2])];
    check("Conv", 13, &x, vec![], w(&[2, 3, 2, 3, 2]));
    let moved = || {
        vec![ints("strides", &[2, 1, 2]), ints("pads", &[1, 0, 1, 2, 1, 0]), ints("dilations", &[2, 1, 1])]
    };
    check("Conv", 13, &x, moved(), w(&[2, 3, 2, 3, 2]));
    for operator in ["MaxPool", "AveragePool"] {
        check(operator, 13, &x, vec![ints("kernel_shape", &[2, 3, 2]), ints("strides", &[2, 1, 2])], vec![]);
        let padded = vec![ints("kernel_shape", &[2, 3, 2]), ints("pads", &[1, 1, 0, 0, 1, 1])];
        check(operator, 13, &x, padded, vec![]);
    }
}

/// Transposed convolutions against the definition: each input number times the kernel, added where it lands.
#[test]
fn transposed_volumes() {
    let (shape, kernel) = ([2usize, 3, 2, 2], [2usize, 3, 2]);
    for (stride, pads, extra) in [
        ([1i64, 1, 1], [0i64; 6], [0i64; 3]),
        ([2, 2, 1], [1, 0, 0, 0, 1, 0], [1, 0, 0]),
        ([3, 1, 2], [0, 1, 1, 2, 0, 0], [2, 0, 1]),
    ] {
        let [ci, d, h, w] = shape;
        let co = 3;
        let x = wave(ci * d * h * w, 0.3);
        let weights = wave(ci * co * kernel.iter().product::<usize>(), 2.0);
        let out: Vec<usize> = (0..3)
            .map(|a| {
                let n = shape[a + 1] as i64;
                (stride[a] * (n - 1) + extra[a] + kernel[a] as i64 - pads[a] - pads[a + 3]) as usize
            })
            .collect();
        let mut wanted = vec![0f32; co * out.iter().product::<usize>()];
        for (at, value) in x.iter().enumerate() {
            let (i, place) = (at / (d * h * w), [at / (h * w) % d, at / w % h, at % w]);
            for o in 0..co {
                for k in 0..kernel.iter().product::<usize>() {
                    let tap = [k / (kernel[1] * kernel[2]), k / kernel[2] % kernel[1], k % kernel[2]];
                    let to: Vec<i64> =
                        (0..3).map(|a| place[a] as i64 * stride[a] + tap[a] as i64 - pads[a]).collect();
                    if (0..3).all(|a| (0..out[a] as i64).contains(&to[a])) {
                        let index = ((o * out[0] + to[0] as usize) * out[1] + to[1] as usize) * out[2]
                            + to[2] as usize;
                        wanted[index] += value * weights[(i * co + o) * kernel.iter().product::<usize>() + k];
                    }
                }
            }
        }
        let attributes = vec![ints("strides", &stride), ints("pads", &pads), ints("output_padding", &extra)];
        let nodes = vec![node("ConvTranspose", &["x", "w"], &["y"], attributes)];
        let dims = [1, ci as i64, d as i64, h as i64, w as i64];
        let parts = vec![reals("w", &[ci as i64, co as i64, 2, 3, 2], weights)];
        let x = ArrayD::from_shape_vec(IxDyn(&[1, ci, d, h, w]), x).unwrap();
        let y = run("ConvTranspose", &model(13, 1, &dims, nodes, parts), x);
        close(
            "ConvTranspose",
            &y,
            &ArrayD::from_shape_vec(IxDyn(&[1, co, out[0], out[1], out[2]]), wanted).unwrap(),
        );
    }
}

#[test]
fn weights_from_values() {
    for (groups, pads) in [(1i64, [0i64; 4]), (2, [1, 0, 1, 1])] {
        let attributes = || vec![int("group", groups), ints("pads", &pads), ints("strides", &[2, 1])];
        let scale = node("Mul", &["v", "k"], &["w"], vec![]);
        let weights = noise("v", &[4, 4 / groups, 3, 2]);
        let sum = node("ReduceMax", &["x"], &["k"], vec![int("keepdims", 0)]);
        let conv = node("Conv", &["x", "w", "b"], &["y"], attributes());
        check_nodes("Conv", 13, &[1, 4, 6, 5], vec![sum, scale, conv], vec![weights, noise("b", &[4])]);
    }
}

#[test]
fn transforms() {
    for (axis, onesided, inverse) in [(1, 0, 0), (1, 1, 0), (1, 0, 1)] {
        let attributes = vec![int("axis", axis), int("onesided", onesided), int("inverse", inverse)];
        check("DFT", 17, &[2, 6, 1], attributes, vec![]);
    }
    check("DFT", 17, &[1, 4, 5, 2], vec![int("axis", 2)], vec![]);
    // A power of two: the fast transform.
    check("DFT", 17, &[2, 64, 1], vec![int("axis", 1), int("onesided", 1)], vec![]);
    check("DFT", 17, &[2, 32, 3, 1], vec![int("axis", 1), int("onesided", 1)], vec![]);
    check("DFT", 17, &[1, 4, 5, 2], vec![int("axis", 1), int("inverse", 1)], vec![]);
}

#[test]
fn codes_from_a_table() {
    let table = || reals("t", &[4, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    for (operator, last, wanted) in [
        ("ArgMax", 0, [2.0f32, 3.0, 6.0, 7.0]),
        ("ArgMax", 1, [4.0, 5.0, 6.0, 7.0]),
        ("ArgMin", 0, [0.0, 1.0, 0.0, 1.0]),
        ("ArgMin", 1, [6.0, 7.0, 4.0, 5.0]),
    ] {
        let attributes = vec![int("axis", 1), int("keepdims", 0), int("select_last_index", last)];
        let nodes =
            vec![node(operator, &["x"], &["i"], attributes), node("Gather", &["t", "i"], &["y"], vec![])];
        let x =
            ArrayD::from_shape_vec(IxDyn(&[2, 4]), vec![0.0, 5.0, 5.0, 0.0, 1.0, 1.0, 1.0, 2.0f32]).unwrap();
        let y = run(operator, &model(13, 1, &[2, 4], nodes, vec![table()]), x);
        assert_eq!(
            (y.shape(), y.iter().copied().collect::<Vec<_>>()),
            ([2usize, 2].as_slice(), wanted.to_vec()),
            "{operator} {last}"
        );
    }
}
