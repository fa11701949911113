//! Quantised files with pairs in few places: functions of one tensor, tensors without a scale, operators on integers.

mod common;

use std::collections::{HashMap, HashSet};

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::{complete, import_bytes, open};
use offshoot_ir::passes::lossless;
use offshoot_ir::{DType, Data, Graph, Op, ValueId};
use offshoot_reference::Executor;
use tract_onnx::pb::{NodeProto, TensorProto};

fn q(x: &str, y: &str) -> NodeProto {
    node("QuantizeLinear", &[x, "s", "z"], &[y], vec![])
}

fn d(x: &str, y: &str) -> NodeProto {
    node("DequantizeLinear", &[x, "s", "z"], &[y], vec![])
}

fn parts(more: Vec<TensorProto>) -> Vec<TensorProto> {
    let mut all = vec![reals("s", &[], vec![0.5]), bytes("z", &[], 3, &[0])];
    all.extend(more);
    all
}

fn floats(graph: &Graph) -> Vec<&str> {
    let moves = |op: &Op| matches!(op, Op::Quantize | Op::Dequantize | Op::Transpose { .. } | Op::Reshape);
    let inner = graph.nodes.iter().filter(|n| !moves(&n.op));
    inner.filter(|n| graph.value(n.output).dtype == DType::F32).map(|n| n.op.name()).collect()
}

/// `graph` with the pairs that it lacks; values keep their places.
fn completed(graph: &Graph, ranges: &HashMap<ValueId, (f32, f32)>) -> Graph {
    let (whole, _) = complete(graph.clone(), ranges, &HashSet::new()).unwrap();
    assert_eq!(whole.values[..graph.values.len()], graph.values[..]);
    assert_eq!((&whole.inputs, &whole.outputs), (&graph.inputs, &graph.outputs));
    whole
}

#[test]
fn functions_of_one_tensor_are_tables_of_the_files_numbers() {
    type Case = (Vec<NodeProto>, fn(f32) -> f32);
    let cases: Vec<Case> = vec![
        (vec![node("Div", &["xd", "two"], &["f"], vec![])], |v| v / 2.0),
        (vec![node("Div", &["xd", "three"], &["f"], vec![])], |v| v / -3.0),
        (vec![node("Div", &["two", "xd"], &["f"], vec![])], |v| 2.0 / v),
        (vec![node("PRelu", &["xd", "slope"], &["f"], vec![])], |v| if v < 0.0 { 0.3 * v } else { v }),
        (vec![node("Abs", &["xd"], &["a"], vec![]), node("Mul", &["xd", "a"], &["f"], vec![])], |v| {
            v * v.abs()
        }),
        (
            vec![
                node("Add", &["xd", "two"], &["a"], vec![]),
                node("Clip", &["a", "none", "six"], &["c"], vec![]),
                node("Mul", &["xd", "c"], &["m"], vec![]),
                node("Div", &["m", "six"], &["f"], vec![]),
            ],
            |v| v * (v + 2.0).clamp(0.0, 6.0) / 6.0,
        ),
    ];
    for (between, function) in cases {
        let mut nodes = vec![q("x", "xq"), d("xq", "xd")];
        nodes.extend(between);
        nodes.extend([q("f", "fq"), d("fq", "y")]);
        let numbers = [("two", 2.0), ("three", -3.0), ("slope", 0.3), ("none", 0.0), ("six", 6.0)];
        let more = numbers.map(|(name, v)| reals(name, &[], vec![v])).to_vec();
        let graph = import_bytes(&model(13, 1, &[1, 4], nodes, parts(more)), "x").unwrap();
        let lookup = graph.nodes.iter().find_map(|n| match &n.op {
            Op::Lookup(lookup) => Some(lookup),
            _ => None,
        });
        let table = &lookup.unwrap_or_else(|| panic!("{:?}", graph.nodes)).table;
        for (code, got) in (-128i32..).zip(table) {
            // ONNX: dequantise, compute, quantise, all in float32 and half to even.
            let exact = (function(code as f32 * 0.5) / 0.5).round_ties_even();
            if exact.is_finite() {
                assert_eq!(f32::from(*got), exact.clamp(-128.0, 127.0), "{code}");
            }
        }
    }
}

#[test]
fn biases_of_one_number_and_of_8_bits() {
    let w = || bytes("w", &[2, 3], 3, &[1, 2, 3, 4, 5, 6]);
    let gemm = |b: &str| vec![node("Gemm", &["xd", "wd", b], &["g"], vec![])];
    let product = |b: &str, first: bool| {
        let sides = if first { [b, "m"] } else { ["m", b] };
        vec![node("MatMul", &["xd", "wd"], &["m"], vec![]), node("Add", &sides, &["g"], vec![])]
    };
    let own = || node("DequantizeLinear", &["bq", "bs", "bz"], &["b"], vec![]);
    // Sums are in steps of 0.25.
    for shape in [&[][..], &[1], &[1, 1]] {
        for between in [gemm("b"), product("b", false), product("b", true)] {
            let (bias, wanted) = (vec![reals("b", shape, vec![1.5])], [6, 6, 6]);
            check_bias(between, vec![], [vec![w()], bias].concat(), wanted);
        }
    }
    for (kind, codes, zero) in [(3, [40, -40, 10], 0), (2, [168, 88, 138], 128)] {
        for between in [gemm("b"), product("b", false), product("b", true)] {
            let bias = vec![
                bytes("bq", &[3], kind, &codes),
                reals("bs", &[], vec![0.1]),
                bytes("bz", &[], kind, &[zero]),
            ];
            check_bias(between, vec![own()], [vec![w()], bias].concat(), [16, -16, 4]);
        }
    }
}

fn check_bias(between: Vec<NodeProto>, own: Vec<NodeProto>, more: Vec<TensorProto>, wanted: [i32; 3]) {
    let mut nodes = vec![q("x", "xq"), d("xq", "xd"), d("w", "wd")];
    nodes.extend(own);
    nodes.extend(between);
    nodes.extend([q("g", "gq"), d("gq", "y")]);
    let graph = import_bytes(&model(13, 1, &[1, 2], nodes, parts(more)), "x").unwrap();
    assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
    let layer = graph.nodes.iter().find(|n| matches!(n.op, Op::FullyConnected { .. })).unwrap();
    assert_eq!(graph.value(layer.inputs[2]).data.as_deref(), Some(&Data::I32(wanted.to_vec())));
}

/// The answer of `operator` on the integers of `x`, which uint8 or int8 hold; each integer stands for half of its distance to
/// the zero point.
fn on_integers(kind: i32, operator: NodeProto, more: Vec<TensorProto>, x: &[f32]) -> Vec<f32> {
    let zero = if kind == 2 { 100 } else { -3 };
    let nodes = vec![q("x", "xq"), operator, d("c", "y")];
    let all = [vec![reals("s", &[], vec![0.5]), bytes("z", &[], kind, &[zero])], more].concat();
    let graph = import_bytes(&model(13, 1, &[1, 1, 1, x.len() as i64], nodes, all), "x").unwrap();
    assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 1, 1, x.len()]), x.to_vec()).unwrap();
    Executor::new(&graph).unwrap().run(&[x]).unwrap().remove(0).iter().copied().collect()
}

#[test]
fn operators_on_integers_compute_what_they_stand_for() {
    let x = [1.0, -2.0, 3.0];
    for (kind, zero) in [(2, 100), (3, -3)] {
        let pads = || whole("pads", &[0, 0, 0, 1, 0, 0, 0, 1]);
        let pad = |inputs: &[&str], mode: &str| node("Pad", inputs, &["c"], vec![text("mode", mode)]);
        let code = |v: i32| bytes("v", &[], kind, &[v]);
        // Without a value it pads the integer 0.
        let none = -0.5 * zero as f32;
        let got = on_integers(kind, pad(&["xq", "pads"], "constant"), vec![pads()], &x);
        assert_eq!(got, [none, 1.0, -2.0, 3.0, none]);
        let got = on_integers(kind, pad(&["xq", "pads", "v"], "constant"), vec![pads(), code(zero + 4)], &x);
        assert_eq!(got, [2.0, 1.0, -2.0, 3.0, 2.0]);
        let got = on_integers(kind, pad(&["xq", "pads"], "edge"), vec![pads()], &x);
        assert_eq!(got, [1.0, 1.0, -2.0, 3.0, 3.0]);
        let got = on_integers(kind, pad(&["xq", "pads"], "reflect"), vec![pads()], &x);
        assert_eq!(got, [-2.0, 1.0, -2.0, 3.0, -2.0]);
        let at = |operator: &str| node(operator, &["xq", "v"], &["c"], vec![]);
        assert_eq!(on_integers(kind, at("Max"), vec![code(zero + 2)], &x), [1.0, 1.0, 3.0]);
        assert_eq!(on_integers(kind, at("Min"), vec![code(zero + 2)], &x), [1.0, -2.0, 1.0]);
        let join = node("Concat", &["xq", "v"], &["c"], vec![int("axis", 3)]);
        let constant = bytes("v", &[1, 1, 1, 2], kind, &[zero, zero + 10]);
        assert_eq!(on_integers(kind, join, vec![constant], &x), [1.0, -2.0, 3.0, 0.0, 5.0]);
        let most = node("ReduceMax", &["xq"], &["c"], vec![ints("axes", &[3])]);
        assert_eq!(on_integers(kind, most, vec![], &x), [3.0]);
        let pick = node("GatherElements", &["xq", "v"], &["c"], vec![int("axis", 3)]);
        let index = || TensorProto { dims: vec![1, 1, 1, 2], ..whole("v", &[2, 0]) };
        assert_eq!(on_integers(kind, pick, vec![index()], &x), [3.0, 1.0]);
        let put = node("ScatterElements", &["xq", "v", "u"], &["c"], vec![int("axis", 3)]);
        let updates = bytes("u", &[1, 1, 1, 2], kind, &[zero + 1, zero - 1]);
        assert_eq!(on_integers(kind, put, vec![index(), updates], &x), [-0.5, -2.0, 0.5]);
        let double = reals("v", &[4], vec![1.0, 1.0, 1.0, 2.0]);
        let linear = node("Resize", &["xq", "", "v"], &["c"], vec![text("mode", "linear")]);
        assert_eq!(on_integers(kind, linear, vec![double], &x), [1.0, 0.25, -1.25, -0.75, 1.75, 3.0]);
    }
}

#[test]
fn integer_inputs_take_the_scale_behind_an_operator() {
    let pads = whole("pads", &[0, 1, 0, 1]);
    let nodes = vec![
        node("Pad", &["x", "pads"], &["p"], vec![]),
        d("p", "pd"),
        node("Relu", &["pd"], &["r"], vec![]),
    ];
    let nodes = [nodes, vec![q("r", "rq"), d("rq", "y")]].concat();
    let graph = import_bytes(&model(13, 3, &[1, 2], nodes, parts(vec![pads])), "x").unwrap();
    assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
    assert_eq!(graph.value(graph.inputs[0]).quant.as_ref().unwrap().scale, [0.5]);
}

/// `x → Conv 1×1`, then `after` from `c` to `y`.
fn behind_conv(after: Vec<NodeProto>, more: Vec<TensorProto>) -> Graph {
    let mut nodes =
        vec![q("x", "xq"), d("xq", "xd"), d("w", "wd"), node("Conv", &["xd", "wd"], &["c"], vec![])];
    nodes.extend(after);
    let w = bytes("w", &[2, 2, 1, 1], 3, &[1, 0, 0, 1]);
    let graph = import_bytes(&model(13, 1, &[1, 2, 2, 2], nodes, parts([vec![w], more].concat())), "x");
    lossless(graph.unwrap()).unwrap().0
}

#[test]
fn ranges_follow_from_the_numbers_around_a_tensor() {
    let swish = |x: &str, y: &str| {
        vec![node("Sigmoid", &[x], &["gate"], vec![]), node("Mul", &[x, "gate"], &[y], vec![])]
    };
    let pool = || node("MaxPool", &["f"], &["p"], vec![ints("kernel_shape", &[2, 2])]);
    let end = |x: &str| vec![q(x, "yq"), d("yq", "y")];
    let cases = [
        // What the function still shows.
        [swish("c", "f"), end("f")].concat(),
        [swish("c", "f"), vec![pool()], end("p")].concat(),
        // A sum with a quantised tensor, and one that another reader quantises.
        [vec![node("Add", &["c", "xd"], &["a"], vec![]), node("Relu", &["a"], &["r"], vec![])], end("r")]
            .concat(),
        vec![
            node("Relu", &["c"], &["r"], vec![]),
            q("r", "rq"),
            d("rq", "rd"),
            node("Conv", &["rd", "wd"], &["second"], vec![]),
            node("Add", &["second", "r"], &["a"], vec![]),
            q("a", "aq"),
            d("aq", "y"),
        ],
    ];
    let masked = vec![
        node("Div", &["c", "two"], &["f"], vec![]),
        node("Add", &["f", "mask"], &["m"], vec![]),
        q("m", "mq"),
        d("mq", "y"),
    ];
    for nodes in cases.into_iter().chain([masked]) {
        let two = reals("two", &[], vec![2.0]);
        let mask = reals("mask", &[2, 2], vec![0.0, -1e9, 0.0, 0.0]);
        let graph = behind_conv(nodes, vec![two, mask]);
        assert!(!floats(&graph).is_empty());
        let whole = completed(&graph, &HashMap::new());
        assert!(floats(&whole).is_empty(), "{:?}", floats(&whole));
        // The convolution hands its input on; its sums are half of that.
        let values = [3.0, -2.0, 1.5, 0.0, -7.0, 6.0, 0.5, 1.0];
        let x = ArrayD::from_shape_vec(IxDyn(&[1, 2, 2, 2]), values.to_vec()).unwrap();
        let answer = |g: &Graph| Executor::new(g).unwrap().run(std::slice::from_ref(&x)).unwrap().remove(0);
        for (got, want) in answer(&whole).iter().zip(answer(&graph).iter()) {
            // What the executor does not round saturates on the device.
            let [got, want] = [got, want].map(|v| v.clamp(-64.0, 63.5));
            assert!((got - want).abs() <= 0.5, "{got} {want}");
        }
    }
}

#[test]
fn measured_ranges_complete_the_rest() {
    let leaky = node("LeakyRelu", &["c"], &["l"], vec![float("alpha", 0.01)]);
    let graph = behind_conv(
        vec![leaky, q("l", "lq"), d("lq", "ld"), d("w", "vd"), node("Conv", &["ld", "vd"], &["y"], vec![])],
        vec![],
    );
    // Numbers down to 100 times the range would count.
    assert_eq!(floats(&completed(&graph, &HashMap::new())), ["conv2d", "unary", "conv2d"]);
    let open = open(&graph);
    assert_eq!(open.len(), 2, "{open:?}");
    let ranges: HashMap<ValueId, (f32, f32)> = open.iter().map(|id| (*id, (-8.0, 6.0))).collect();
    let (whole, names) = complete(graph.clone(), &ranges, &HashSet::new()).unwrap();
    assert!(floats(&whole).is_empty(), "{:?}", floats(&whole));
    assert_eq!(names, ["Conv_c", "Conv_y"]);
    let kept: HashSet<ValueId> = open.into_iter().collect();
    let (same, names) = complete(graph.clone(), &ranges, &kept).unwrap();
    assert_eq!((same, names.len()), (graph, 0));
}

/// The answer of `operator` on `x` between pairs with a scale of 0.05, and that of the graph's int8 form.
fn between_fine_pairs(operator: NodeProto, more: Vec<TensorProto>, shape: &[i64], x: &[f32]) -> Vec<f32> {
    let fine = |op: &str, x: &str, y: &str| node(op, &[x, "fine", "z"], &[y], vec![]);
    let nodes = vec![
        fine("QuantizeLinear", "x", "xq"),
        fine("DequantizeLinear", "xq", "xd"),
        operator,
        fine("QuantizeLinear", "f", "fq"),
        fine("DequantizeLinear", "fq", "y"),
    ];
    let more = [vec![reals("fine", &[], vec![0.05])], more].concat();
    let graph = import_bytes(&model(16, 1, shape, nodes, parts(more)), "x").unwrap();
    assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
    let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    let x = ArrayD::from_shape_vec(IxDyn(&shape), x.to_vec()).unwrap();
    Executor::new(&graph).unwrap().run(&[x]).unwrap().remove(0).iter().copied().collect()
}

#[test]
fn numbers_of_unlike_sizes_per_channel_keep_their_own_scales() {
    let shape = [1, 3, 1, 2];
    let x = [1.0, -2.0, 3.0, -4.0, 5.0, -6.0];
    let numbers = [20.0, 0.11, -0.5];
    let constant = reals("k", &[3, 1, 1], numbers.to_vec());
    type Function = fn(f32, f32) -> f32;
    let cases: [(&str, Function); 3] =
        [("Mul", |v, k| v * k), ("Div", |v, k| v / k), ("PRelu", |v, k| if v < 0.0 { v * k } else { v })];
    for (operator, function) in cases {
        let operator = node(operator, &["xd", "k"], &["f"], vec![]);
        let got = between_fine_pairs(operator.clone(), vec![constant.clone()], &shape, &x);
        for ((got, v), i) in got.iter().zip(x).zip(0..) {
            let exact = function(v, numbers[i / 2]);
            assert!((got - exact).abs() <= 1e-4 * exact.abs(), "{operator:?} of {v}: {got} {exact}");
        }
    }
}

#[test]
fn integer_inputs_are_clipped_on_the_scale_behind() {
    for (operator, wanted) in [("Clip", [-1.0, 0.5, 1.0]), ("Relu", [0.0, 0.5, 3.0])] {
        let bounds: &[&str] = if operator == "Clip" { &["x", "least", "most"] } else { &["x"] };
        let nodes = vec![node(operator, bounds, &["c"], vec![]), d("c", "y")];
        let more = vec![bytes("least", &[], 3, &[-2]), bytes("most", &[], 3, &[2])];
        let graph = import_bytes(&model(14, 3, &[3], nodes, parts(more)), "x").unwrap();
        assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
        let x = ArrayD::from_shape_vec(IxDyn(&[3]), vec![-7.0, 0.5, 3.0]).unwrap();
        let y = Executor::new(&graph).unwrap().run(&[x]).unwrap();
        assert_eq!(y[0].as_slice().unwrap(), wanted);
    }
}

#[test]
fn a_sum_behind_a_convolution_is_its_bias() {
    for (first, own) in [(false, false), (true, false), (false, true)] {
        let bias = if own { "bd" } else { "b" };
        let sides = if first { [bias, "c"] } else { ["c", bias] };
        let nodes = vec![
            q("x", "xq"),
            d("xq", "xd"),
            d("w", "wd"),
            d("bq", "bd"),
            node("Conv", &["xd", "wd"], &["c"], vec![]),
            node("Add", &sides, &["a"], vec![]),
            node("Relu", &["a"], &["r"], vec![]),
            q("r", "rq"),
            d("rq", "y"),
        ];
        let more = vec![
            bytes("w", &[2, 2, 1, 1], 3, &[1, 0, 0, 1]),
            reals("b", &[2, 1, 1], vec![1.5, -2.0]),
            bytes("bq", &[1, 2, 1, 1], 3, &[3, -4]),
        ];
        let graph = import_bytes(&model(13, 1, &[1, 2, 2, 2], nodes, parts(more)), "x").unwrap();
        assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
        let layer = graph.nodes.iter().find(|n| matches!(n.op, Op::Conv2d { .. })).unwrap();
        assert_eq!(graph.value(layer.inputs[2]).data.as_deref(), Some(&Data::I32(vec![6, -8])));
    }
}

/// Numbers that say "never" have no part in a scale.
#[test]
fn masks_leave_the_scores_their_steps() {
    let nodes = vec![
        q("x", "xq"),
        d("xq", "xd"),
        node("Add", &["xd", "mask"], &["m"], vec![]),
        q("m", "mq"),
        d("mq", "y"),
    ];
    let mask = reals("mask", &[1, 4], vec![0.0, -1e9, f32::MIN, 1.0]);
    let graph = import_bytes(&model(13, 1, &[1, 4], nodes, parts(vec![mask])), "x").unwrap();
    assert!(floats(&graph).is_empty(), "{:?}", graph.nodes);
    let sum = graph.nodes.iter().find(|n| n.op.name() == "add").unwrap();
    let mask = graph.value(sum.inputs[1]);
    // From what makes the lowest sum of the highest score, -64 - 63.5, less one step.
    assert_eq!(mask.quant.as_ref().unwrap().scale, [128.0 / 127.0]);
    assert_eq!(mask.data.as_deref(), Some(&Data::I8(vec![0, -127, -127, 1])));
}
