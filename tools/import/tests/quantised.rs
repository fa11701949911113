//! QuantizeLinear and DequantizeLinear in the forms that exporters write.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::import_bytes;
use offshoot_ir::{DType, Data, Graph, Op};
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

fn all_int8(graph: &Graph) -> bool {
    let inner = |n: &&offshoot_ir::Node| !matches!(n.op, Op::Quantize | Op::Dequantize);
    graph.nodes.iter().filter(inner).all(|n| graph.value(n.output).dtype == DType::I8)
}

#[test]
fn uint8_without_a_zero_point_is_128_lower() {
    let nodes = vec![node("DequantizeLinear", &["x", "s"], &["y"], vec![])];
    for (elem_type, zero_point) in [(2, -128), (3, 0)] {
        let graph = import_bytes(&model(13, elem_type, &[4], nodes.clone(), parts(vec![])), "x").unwrap();
        assert_eq!(graph.value(graph.inputs[0]).quant.as_ref().unwrap().zero_point, [zero_point]);
    }
}

#[test]
fn other_widths_are_refused() {
    let nodes = vec![node("QuantizeLinear", &["x", "s"], &["y"], vec![int("output_dtype", 7)])];
    let error = import_bytes(&model(21, 1, &[4], nodes, parts(vec![])), "x").unwrap_err().to_string();
    assert!(error.contains("output_dtype 7"), "{error}");
}

#[test]
fn a_float_bias_is_quantised() {
    let gemm = node("Gemm", &["xd", "wd", "b"], &["g"], vec![int("transB", 1)]);
    let nodes = vec![q("x", "xq"), d("xq", "xd"), d("w", "wd"), gemm, q("g", "gq"), d("gq", "y")];
    let more = vec![bytes("w", &[2, 2], 3, &[1, 2, 3, 4]), reals("b", &[2], vec![1.0, -0.375])];
    let graph = import_bytes(&model(13, 1, &[1, 2], nodes, parts(more)), "x").unwrap();
    assert!(all_int8(&graph));
    let layer = graph.nodes.iter().find(|n| matches!(n.op, Op::FullyConnected { .. })).unwrap();
    let bias = graph.value(layer.inputs[2]);
    // In steps of 0.25; 1.5 goes to the even neighbour.
    assert_eq!(bias.data.as_deref(), Some(&Data::I32(vec![4, -2])));
    assert_eq!(bias.quant.as_ref().unwrap().scale, [0.25]);
}

#[test]
fn a_float_operand_is_quantised() {
    let nodes = vec![
        q("x", "xq"),
        d("xq", "xd"),
        node("Mul", &["xd", "k"], &["m"], vec![]),
        q("m", "mq"),
        d("mq", "y"),
    ];
    let graph =
        import_bytes(&model(13, 1, &[1, 2], nodes, parts(vec![reals("k", &[], vec![-3.0])])), "x").unwrap();
    assert!(all_int8(&graph));
    let mul = graph.nodes.iter().find(|n| n.op.name() == "mul").unwrap();
    let k = graph.value(mul.inputs[1]);
    assert_eq!(k.data.as_deref(), Some(&Data::I8(vec![-127])));
    assert!((k.quant.as_ref().unwrap().scale[0] * 127.0 - 3.0).abs() < 1e-6);
}

#[test]
fn a_cast_input_is_float() {
    let nodes = vec![node("Cast", &["x"], &["f"], vec![int("to", 1)]), node("Relu", &["f"], &["y"], vec![])];
    let graph = import_bytes(&model(13, 2, &[4], nodes, vec![]), "x").unwrap();
    assert_eq!(graph.value(graph.inputs[0]).dtype, DType::F32);
}

#[test]
fn names_are_unique() {
    let flat = || vec![ints("perm", &[1, 0])];
    let nodes = vec![
        q("x", "xq"),
        d("xq", "t"),
        node("Transpose", &["t"], &["a"], flat()),
        node("Transpose", &["a"], &["t/int8"], flat()),
        node("Transpose", &["t"], &["b"], flat()),
        node("Add", &["a", "b"], &["y"], vec![]),
        node("Relu", &["t/int8"], &["relu"], vec![]),
    ];
    let graph = import_bytes(&model(13, 1, &[2, 2], nodes, parts(vec![])), "x").unwrap();
    let mut names: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// `x → Conv 1×1 by `w` and `b` → y` between pairs with a scale of 0.5; the convolution's int8 weights and int32 bias.
fn conv(
    w: Vec<TensorProto>,
    b: Vec<TensorProto>,
    between: Vec<NodeProto>,
) -> (Graph, Vec<i8>, Vec<f32>, Vec<i32>) {
    let mut nodes = vec![q("x", "xq"), d("xq", "xd")];
    nodes.extend(between);
    nodes.push(node("Conv", &["xd", "wd", "bd"], &["c"], vec![]));
    nodes.extend([q("c", "cq"), d("cq", "y")]);
    let more = [w, b].concat();
    let graph = import_bytes(&model(13, 1, &[1, 2, 1, 1], nodes, parts(more)), "conv").unwrap();
    assert!(all_int8(&graph), "{:?}", graph.nodes);
    let layer = graph.nodes.iter().find(|n| matches!(n.op, Op::Conv2d { .. })).unwrap();
    let (w, b) = (graph.value(layer.inputs[1]), graph.value(layer.inputs[2]));
    let (Some(Data::I8(weights)), Some(Data::I32(bias))) = (w.data.as_deref(), b.data.as_deref()) else {
        panic!("{w:?} {b:?}");
    };
    let numbers = (weights.clone(), w.quant.as_ref().unwrap().scale.clone(), bias.clone());
    (graph, numbers.0, numbers.1, numbers.2)
}

fn dq(x: &str, s: &str, z: &str, y: &str, attributes: Vec<tract_onnx::pb::AttributeProto>) -> NodeProto {
    node("DequantizeLinear", &[x, s, z], &[y], attributes)
}

#[test]
fn a_bias_with_a_scale_of_its_own_is_rescaled() {
    let w = vec![bytes("w", &[2, 2, 1, 1], 3, &[1, 2, 3, 4])];
    // 0.01 · 300 = 3 and -1.5, in steps of 0.5 · 0.5; the axis is one that the bias does not have.
    let own = |t: i32, v: &[i32]| {
        vec![bytes("b", &[2], t, v), reals("bs", &[2], vec![0.01, 0.005]), bytes("bz", &[2], t, &[0, 0])]
    };
    for (t, v, wanted) in [(6, [300, -300], [12, -6]), (3, [100, -50], [4, -1])] {
        let between = vec![d("w", "wd"), dq("b", "bs", "bz", "bd", vec![int("axis", 3)])];
        let (_, weights, scales, bias) = conv(w.clone(), own(t, &v), between);
        assert_eq!((weights, scales, bias), (vec![1, 2, 3, 4], vec![0.5], wanted.to_vec()));
    }
}

#[test]
fn a_bias_beyond_int32_makes_its_channel_coarser() {
    let w = vec![
        bytes("w", &[2, 2, 1, 1], 3, &[100, 100, 3, 4]),
        reals("ws", &[2], vec![1e-12, 0.5]),
        bytes("wz", &[2], 3, &[0, 0]),
    ];
    let between =
        vec![dq("w", "ws", "wz", "wd", vec![int("axis", 0)]), node("Identity", &["b"], &["bd"], vec![])];
    let (_, weights, scales, bias) = conv(w, vec![reals("b", &[2], vec![1.0, 1.0])], between);
    assert_eq!((weights[2], weights[3], scales[1], bias[1]), (3, 4, 0.5, 4));
    // The bias holds its value, and no sum can leave int32.
    assert!((f64::from(bias[0]) * f64::from(scales[0]) * 0.5 - 1.0).abs() < 1e-6, "{bias:?} {scales:?}");
    let reach = weights[..2].iter().map(|w| i64::from(w.unsigned_abs()) * 128).sum::<i64>();
    assert!(i64::from(bias[0]) + reach <= i64::from(i32::MAX));
}

#[test]
fn zero_points_of_weights_are_taken_off() {
    // Less 130 the first channel fits int8; the second needs a coarser scale.
    let w = vec![bytes("w", &[2, 2, 1, 1], 2, &[120, 255, 0, 130]), bytes("wz", &[], 2, &[130])];
    let b = vec![reals("b", &[2], vec![0.0, 0.0])];
    let between = vec![dq("w", "s", "wz", "wd", vec![]), node("Identity", &["b"], &["bd"], vec![])];
    let (_, weights, scales, _) = conv(w, b, between);
    assert_eq!(weights, [-10, 125, -127, 0]);
    assert_eq!(scales[0], 0.5);
    assert!((scales[1] * 127.0 - 65.0).abs() < 1e-4);
}

#[test]
fn constants_behind_operators_before_their_dequantisation() {
    let w = vec![
        bytes("w", &[2, 2, 1, 1], 3, &[1, 2, 3, -128]),
        bytes("lo", &[], 3, &[-127]),
        bytes("hi", &[], 3, &[127]),
    ];
    let zero = vec![whole("n", &[2]), reals("b", &[2], vec![1.0, 2.0])];
    let between = vec![
        node("Clip", &["w", "lo", "hi"], &["clipped"], vec![]),
        d("clipped", "wd"),
        node("ConstantOfShape", &["n"], &["zeros"], vec![]),
        node("Cast", &["zeros"], &["bz"], vec![int("to", 3)]),
        node("QuantizeLinear", &["b", "bs", "bz"], &["bq"], vec![]),
        dq("bq", "bs", "bz", "bd", vec![]),
    ];
    let scales = reals("bs", &[2], vec![0.25, 0.25]);
    let (_, weights, _, bias) = conv(w, [zero, vec![scales]].concat(), between);
    assert_eq!((weights, bias), (vec![1, 2, 3, -127], vec![4, 8]));
}

#[test]
fn average_pools_round_once() {
    let window = |k: i64| vec![ints("kernel_shape", &[k, k])];
    for (k, op) in [(4, "reduce"), (2, "conv2d")] {
        let nodes = vec![
            q("x", "xq"),
            d("xq", "xd"),
            node("AveragePool", &["xd"], &["p"], window(k)),
            node("QuantizeLinear", &["p", "fine", "z"], &["pq"], vec![]),
            dq("pq", "fine", "z", "y", vec![]),
        ];
        let more = vec![reals("fine", &[], vec![0.01])];
        let graph = import_bytes(&model(13, 1, &[1, 3, 4, 4], nodes, parts(more)), "x").unwrap();
        assert!(all_int8(&graph));
        assert!(graph.nodes.iter().any(|n| n.op.name() == op), "{op}");
    }
}

#[test]
fn padded_average_pools_with_a_scale_of_their_own_divide_by_what_they_cover() {
    let window = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])];
    let nodes = vec![
        q("x", "xq"),
        d("xq", "xd"),
        node("AveragePool", &["xd"], &["p"], window),
        node("QuantizeLinear", &["p", "fine", "z"], &["pq"], vec![]),
        dq("pq", "fine", "z", "y", vec![]),
    ];
    let more = vec![reals("fine", &[], vec![0.01])];
    let graph = import_bytes(&model(13, 1, &[1, 1, 2, 3], nodes, parts(more)), "x").unwrap();
    assert!(all_int8(&graph), "{:?}", graph.nodes);
    let x = ArrayD::from_shape_vec(vec![1, 1, 2, 3], vec![0.0, 0.5, 1.0, -0.5, 0.5, 0.0]).unwrap();
    let y = Executor::new(&graph).unwrap().run(&[x]).unwrap().remove(0);
    // Four elements at the ends, six in the middle; never the nine of the kernel.
    for (got, want) in y.iter().zip([0.125, 0.25, 0.5, 0.125, 0.25, 0.5]) {
        assert!((got - want).abs() <= 0.005 + 1e-6, "{y}");
    }
}

#[test]
fn batch_normalisation_goes_into_int8_weights() {
    // (x - mean) · gamma / sqrt(variance + epsilon) + beta: 2·x - 2.5, -x / 2 + 1.
    let statistics = || {
        vec![
            reals("gamma", &[2], vec![4.0, -0.5]),
            reals("beta", &[2], vec![-0.5, 1.0]),
            reals("mean", &[2], vec![1.0, 0.0]),
            reals("variance", &[2], vec![4.0, 1.0]),
        ]
    };
    let normal = |x: &str, y: &str| {
        node(
            "BatchNormalization",
            &[x, "gamma", "beta", "mean", "variance"],
            &[y],
            vec![float("epsilon", 0.0)],
        )
    };
    let input = [1.5f32, -2.0];
    // Alone, of a vector and of an image: one weight per channel.
    for shape in [&[1i64, 2][..], &[1, 2, 1, 1]] {
        let nodes = vec![q("x", "xq"), d("xq", "xd"), normal("xd", "n"), q("n", "nq"), d("nq", "y")];
        let graph = import_bytes(&model(13, 1, shape, nodes, parts(statistics())), "x").unwrap();
        assert!(all_int8(&graph), "{:?}", graph.nodes);
        let x = ArrayD::from_shape_vec(shape.iter().map(|d| *d as usize).collect::<Vec<_>>(), input.to_vec());
        let y = Executor::new(&graph).unwrap().run(&[x.unwrap()]).unwrap().remove(0);
        // Half a step of the sums: the input's 0.5 times the weight's 2 / 127.
        assert!((y.iter().next().unwrap() - 0.5).abs() <= 0.25 * 2.0 / 127.0 + 1e-6, "{y}");
        assert!((y.iter().last().unwrap() - 2.0).abs() <= 0.25 * 0.5 / 127.0 + 1e-6, "{y}");
    }
    // Behind a convolution: its scales, signs and bias take it.
    let w = vec![bytes("w", &[2, 2, 1, 1], 3, &[1, 2, 3, 4]), reals("b", &[2], vec![0.5, 1.0])];
    let mut nodes = vec![q("x", "xq"), d("xq", "xd"), d("w", "wd")];
    nodes.push(node("Conv", &["xd", "wd", "b"], &["c"], vec![]));
    nodes.extend([normal("c", "n"), node("Relu", &["n"], &["r"], vec![]), q("r", "rq"), d("rq", "y")]);
    let graph = import_bytes(&model(13, 1, &[1, 2, 1, 1], nodes, parts([w, statistics()].concat())), "x");
    let graph = graph.unwrap();
    assert!(all_int8(&graph), "{:?}", graph.nodes);
    let layer = graph.nodes.iter().find(|n| matches!(n.op, Op::Conv2d { .. })).unwrap();
    let (w, b) = (graph.value(layer.inputs[1]), graph.value(layer.inputs[2]));
    assert_eq!(w.data.as_deref(), Some(&Data::I8(vec![1, 2, -3, -4])));
    assert_eq!(w.quant.as_ref().unwrap().scale, [1.0, 0.25]);
    // 2 · 0.5 - 2.5 in steps of 0.5, -1 / 2 + 1 in steps of 0.125.
    assert_eq!(b.data.as_deref(), Some(&Data::I32(vec![-3, 4])));
}

#[test]
fn dequantisation_sinks_below_what_it_commutes_with() {
    let pool = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let nodes = vec![
        q("x", "xq"),
        d("xq", "xd"),
        node("MaxPool", &["xd"], &["p"], pool),
        node("Relu", &["p"], &["r"], vec![]),
        node("Concat", &["r", "r"], &["j"], vec![int("axis", 1)]),
        node("Flatten", &["j"], &["f"], vec![]),
        d("w", "wd"),
        node("Gemm", &["f", "wd"], &["g"], vec![int("transB", 1)]),
        q("g", "gq"),
        d("gq", "y"),
    ];
    let more = vec![bytes("w", &[2, 8], 3, &[1; 16])];
    let graph = import_bytes(&model(13, 1, &[1, 1, 4, 4], nodes, parts(more)), "x").unwrap();
    assert!(all_int8(&graph), "{:?}", graph.nodes);
}

#[test]
fn operators_of_integers_become_pairs() {
    let w = bytes("w", &[2, 2, 1, 1], 3, &[1, 2, 3, 4]);
    let microsoft = |operator: &str, inputs: &[&str], y: &str, attributes| NodeProto {
        domain: "com.microsoft".into(),
        ..node(operator, inputs, &[y], attributes)
    };
    let nodes = vec![
        q("x", "xq"),
        node("QLinearConv", &["xq", "s", "z", "w", "s", "z", "s", "z", "b"], &["c"], vec![]),
        microsoft("QLinearAdd", &["c", "s", "z", "xq", "s", "z", "s", "z"], "a", vec![]),
        microsoft("QLinearGlobalAveragePool", &["a", "s", "z", "s", "z"], "p", vec![]),
        node("Flatten", &["p"], &["f"], vec![]),
        microsoft("QGemm", &["f", "s", "z", "v", "s", "z", "b", "s", "z"], "g", vec![int("transB", 1)]),
        d("g", "y"),
    ];
    let more = vec![w, bytes("v", &[2, 2], 3, &[5, 6, 7, 8]), bytes("b", &[2], 6, &[3, -3])];
    let graph = import_bytes(&model(13, 1, &[1, 2, 3, 3], nodes, parts(more)), "x").unwrap();
    assert!(all_int8(&graph), "{:?}", graph.nodes);
    let layer = graph.nodes.iter().find(|n| matches!(n.op, Op::FullyConnected { .. })).unwrap();
    assert_eq!(graph.value(layer.inputs[2]).data.as_deref(), Some(&Data::I32(vec![3, -3])));
}

#[test]
fn dynamic_quantisation_stands_for_float() {
    let nodes = vec![
        node("DynamicQuantizeLinear", &["x"], &["xq", "xs", "xz"], vec![]),
        node("MatMulInteger", &["xq", "w", "xz", "wz"], &["sum"], vec![]),
        node("Cast", &["sum"], &["float"], vec![int("to", 1)]),
        node("Mul", &["xs", "s"], &["scale"], vec![]),
        node("Mul", &["float", "scale"], &["y"], vec![]),
    ];
    let more = vec![bytes("w", &[2, 1], 2, &[130, 126]), bytes("wz", &[], 2, &[128])];
    let graph = import_bytes(&model(13, 1, &[1, 2], nodes, parts(more)), "x").unwrap();
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 2]), vec![3.0, 1.0]).unwrap();
    let y = Executor::new(&graph).unwrap().run(&[x]).unwrap();
    // (3 · 2 - 1 · 2) · 0.5
    assert_eq!(y[0].iter().copied().collect::<Vec<_>>(), [2.0]);
}

#[test]
fn a_pair_for_every_reader_is_one() {
    let nodes = vec![
        q("x", "xq"),
        d("xq", "xd"),
        node("LeakyRelu", &["xd"], &["l"], vec![]),
        q("l", "lq"),
        q("l", "mq"),
        d("lq", "ld"),
        d("mq", "md"),
        node("Sigmoid", &["ld"], &["s1"], vec![]),
        q("s1", "sq"),
        d("sq", "sd"),
        node("Mul", &["md", "sd"], &["p"], vec![]),
        q("p", "pq"),
        d("pq", "y"),
    ];
    let graph = import_bytes(&model(13, 1, &[1, 4], nodes, parts(vec![])), "x").unwrap();
    assert!(all_int8(&graph), "{:?}", graph.nodes);
}

/// Clip of the integers between a pair, as Brevitas writes fewer bits and narrow ranges.
#[test]
fn integers_are_clipped_between_a_pair() {
    for (elem_type, zero, bounds, kept) in [(3, 0, [-8, 7], [-4.0, 3.5]), (2, 128, [100, 140], [-14.0, 6.0])]
    {
        let clip = node("Clip", &["xq", "least", "most"], &["c"], vec![]);
        let nodes = vec![q("x", "xq"), clip, d("c", "y")];
        let all = vec![
            reals("s", &[], vec![0.5]),
            bytes("z", &[], elem_type, &[zero]),
            bytes("least", &[], elem_type, &bounds[..1]),
            bytes("most", &[], elem_type, &bounds[1..]),
        ];
        let graph = import_bytes(&model(13, 1, &[4], nodes, all), "x").unwrap();
        assert!(all_int8(&graph));
        let x = ArrayD::from_shape_vec(IxDyn(&[4]), vec![-20.0, -1.0, 1.5, 20.0]).unwrap();
        let y = Executor::new(&graph).unwrap().run(&[x]).unwrap();
        assert_eq!(y[0].as_slice().unwrap(), [kept[0], -1.0, 1.5, kept[1]]);
    }
}

/// A constant before an activation: on the left of a product, and first in a Concat, as a class token is.
#[test]
fn constants_come_first() {
    let w = bytes("w", &[2, 3], 3, &[1, 2, 3, 4, 5, 6]);
    let product = node("MatMul", &["wd", "xd"], &["m"], vec![]);
    let nodes = vec![q("x", "xq"), d("xq", "xd"), d("w", "wd"), product, q("m", "mq"), d("mq", "y")];
    let graph = import_bytes(&model(13, 1, &[1, 3, 2], nodes, parts(vec![w])), "x").unwrap();
    assert!(all_int8(&graph));
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 3, 2]), vec![1.0, -1.0, 0.0, 2.0, 1.0, 0.5]).unwrap();
    let y = Executor::new(&graph).unwrap().run(&[x]).unwrap();
    assert_eq!(y[0].as_slice().unwrap(), [2.0, 2.25, 5.0, 4.5]);

    let token = bytes("t", &[1, 1, 2], 3, &[3, -4]);
    let join = node("Concat", &["td", "xd"], &["j"], vec![int("axis", 1)]);
    let nodes = vec![q("x", "xq"), d("xq", "xd"), d("t", "td"), join, q("j", "jq"), d("jq", "y")];
    let graph = import_bytes(&model(13, 1, &[1, 1, 2], nodes, parts(vec![token])), "x").unwrap();
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 1, 2]), vec![1.0, -0.5]).unwrap();
    let y = Executor::new(&graph).unwrap().run(&[x]).unwrap();
    assert_eq!(y[0].as_slice().unwrap(), [1.5, -2.0, 1.0, -0.5]);
}

/// Integers of a recurrent layer have a column for each row of ONNX's weights.
#[test]
fn dynamically_quantised_recurrent_layers_stand_for_float() {
    let (inputs, units) = (3, 2);
    let codes = |n: usize, step: usize| -> Vec<i32> { (0..n).map(|i| (i * step % 200) as i32).collect() };
    let (w, r) = (codes(inputs * 4 * units, 37), codes(units * 4 * units, 59));
    // A scale for each column of the input's weights, one for the state's.
    let scales: Vec<f32> = (0..4 * units).map(|i| 0.002 + 0.001 * i as f32).collect();
    let lstm = node(
        "DynamicQuantizeLSTM",
        &["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"],
        &["", "y"],
        vec![int("hidden_size", units as i64)],
    );
    let lstm = NodeProto { domain: "com.microsoft".into(), ..lstm };
    let bias: Vec<f32> = (0..8 * units).map(|i| 0.01 * i as f32).collect();
    let more = vec![
        bytes("w", &[1, inputs as i64, 4 * units as i64], 2, &w),
        bytes("r", &[1, units as i64, 4 * units as i64], 2, &r),
        reals("b", &[1, 8 * units as i64], bias.clone()),
        reals("ws", &[1, 4 * units as i64], scales.clone()),
        bytes("wz", &[1, 4 * units as i64], 2, &[100; 8]),
        reals("rs", &[1], vec![0.004]),
        bytes("rz", &[1], 2, &[90]),
    ];
    let real = |codes: &[i32], rows: usize, scale: &dyn Fn(usize) -> f32, zero: i32| -> Vec<f32> {
        let columns = 4 * units;
        let one = |o: usize, i: usize| (codes[i * columns + o] - zero) as f32 * scale(o);
        (0..columns).flat_map(|o| (0..rows).map(move |i| (o, i))).map(|(o, i)| one(o, i)).collect()
    };
    let float = node("LSTM", &["x", "w", "r", "b"], &["", "y"], vec![int("hidden_size", units as i64)]);
    let wanted = vec![
        reals("w", &[1, 4 * units as i64, inputs as i64], real(&w, inputs, &|o| scales[o], 100)),
        reals("r", &[1, 4 * units as i64, units as i64], real(&r, units, &|_| 0.004, 90)),
        reals("b", &[1, 8 * units as i64], bias),
    ];
    let run = |nodes, more| {
        let graph = import_bytes(&model(14, 1, &[4, 1, inputs as i64], nodes, more), "x").unwrap();
        let x: Vec<f32> = (0..4 * inputs).map(|i| (i as f32 * 0.7).sin()).collect();
        let x = ArrayD::from_shape_vec(IxDyn(&[4, 1, inputs]), x).unwrap();
        Executor::new(&graph).unwrap().run(&[x]).unwrap()[0].iter().copied().collect::<Vec<f32>>()
    };
    assert_eq!(run(vec![lstm], more), run(vec![float], wanted));
}
