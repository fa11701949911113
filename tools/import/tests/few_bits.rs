//! Integers of 2, 4 and 16 bits, and weights with a scale per block.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::import_bytes;
use offshoot_ir::{DType, Data, Graph, Op, Quant};
use offshoot_reference::Executor;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

/// Numbers of `bits` bits (ONNX type `data_type`) packed in bytes, the first in the lowest bits.
fn packed(name: &str, dims: &[i64], (data_type, bits): (i32, usize), v: &[i32]) -> TensorProto {
    let byte =
        |part: &[i32]| part.iter().rev().fold(0u32, |byte, v| byte << bits | (*v as u32 & ((1 << bits) - 1)));
    let raw_data = v.chunks(8 / bits).map(|part| byte(part) as u8).collect();
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type, raw_data, ..Default::default() }
}

fn dq(inputs: [&str; 3], y: &str, attributes: Vec<AttributeProto>) -> NodeProto {
    node("DequantizeLinear", &inputs, &[y], attributes)
}

fn run(graph: Graph, x: &[f32]) -> Vec<f32> {
    let shape = graph.value(graph.inputs[0]).shape.clone();
    let x = ArrayD::from_shape_vec(IxDyn(&shape), x.to_vec()).unwrap();
    let executor = Executor::new(&graph).unwrap();
    executor.run(&[x]).unwrap()[0].iter().copied().collect()
}

fn layer(graph: &Graph) -> &offshoot_ir::Node {
    graph.nodes.iter().find(|n| matches!(n.op, Op::FullyConnected { .. })).unwrap()
}

#[test]
fn few_bits_per_channel_stay_integers() {
    for (kind, codes, zeros, want) in [
        ((22, 4), [-8, 7, 3, -1, 0, 5], [0, 0, 0], [-8, -1, 7, 0, 3, 5]),
        ((21, 4), [0, 15, 3, 9, 8, 5], [8, 3, 0], [-8, 1, 12, 5, 3, 5]),
        ((25, 2), [0, 3, 2, 1, 2, 3], [1, 1, 1], [-1, 0, 2, 1, 1, 2]),
        ((26, 2), [-2, 1, 0, 1, -1, 0], [0, 0, 0], [-2, 1, 1, -1, 0, 0]),
    ] {
        let q = |x: &str, y: &str| node("QuantizeLinear", &[x, "s", "z"], &[y], vec![]);
        let nodes = vec![
            q("x", "xq"),
            dq(["xq", "s", "z"], "xd", vec![]),
            dq(["w", "ws", "wz"], "wd", vec![int("axis", 1)]),
            node("MatMul", &["xd", "wd"], &["p"], vec![]),
            q("p", "pq"),
            dq(["pq", "s", "z"], "y", vec![]),
        ];
        let more = vec![
            reals("s", &[], vec![0.5]),
            bytes("z", &[], 3, &[0]),
            packed("w", &[2, 3], kind, &codes),
            reals("ws", &[3], vec![0.5, 0.25, 2.0]),
            packed("wz", &[3], kind, &zeros),
        ];
        let graph = import_bytes(&model(21, 1, &[1, 2], nodes, more), "x").unwrap();
        let layer = layer(&graph);
        assert_eq!(graph.value(layer.output).dtype, DType::I8);
        let w = graph.value(layer.inputs[1]);
        // Integers without their zero points, in rows of an output.
        assert_eq!(w.data.as_deref(), Some(&Data::I8(want.to_vec())), "{kind:?}");
        assert_eq!(w.quant.as_ref().unwrap().scale, [0.5, 0.25, 2.0]);
    }
}

#[test]
fn scales_per_block_are_multiplied_exactly() {
    let codes: Vec<i32> = (0..12).map(|i| (i * 5 % 16) - 8).collect();
    let (scales, zeros) = (vec![0.3, 0.7, 1.1, 0.9], [1, -2, 0, 3]);
    // [6, 2] in blocks of 4 along the first axis, the last one shorter.
    let nodes = vec![
        dq(["w", "ws", "wz"], "wd", vec![int("axis", 0), int("block_size", 4)]),
        node("MatMul", &["x", "wd"], &["y"], vec![]),
    ];
    let more = vec![
        packed("w", &[6, 2], (22, 4), &codes),
        reals("ws", &[2, 2], scales.clone()),
        packed("wz", &[2, 2], (22, 4), &zeros),
    ];
    let graph = import_bytes(&model(21, 1, &[1, 6], nodes.clone(), more), "x").unwrap();
    let w = graph.value(layer(&graph).inputs[1]);
    let real = |k: usize, n: usize| (codes[2 * k + n] - zeros[k / 4 * 2 + n]) as f32 * scales[k / 4 * 2 + n];
    let want: Vec<f32> = (0..2).flat_map(|n| (0..6).map(move |k| (k, n))).map(|(k, n)| real(k, n)).collect();
    assert_eq!(w.data.as_deref(), Some(&Data::F32(want)));

    let wrong = vec![
        packed("w", &[6, 2], (22, 4), &codes),
        reals("ws", &[3, 2], vec![1.0; 6]),
        packed("wz", &[3, 2], (22, 4), &[0; 6]),
    ];
    let error = import_bytes(&model(21, 1, &[1, 6], nodes, wrong), "x").unwrap_err().to_string();
    assert!(error.contains("blocks of 4 need [2, 2]"), "{error}");
}

#[test]
fn sixteen_bits_are_bounded_as_the_file_says() {
    let (scale, x) = (0.001f32, [0.01234f32, -3.0, 0.0005, 70.0]);
    // Steps of int16 around zero are up to twice as wide.
    for (kind, zero, bounds) in [(5, -7, (-32768, 32767)), (4, 30000, (0, 65535))] {
        let nodes = vec![
            node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![]),
            node("Reshape", &["q", "shape"], &["r"], vec![]),
            dq(["r", "s", "z"], "y", vec![]),
        ];
        let zero_point =
            TensorProto { name: "z".into(), data_type: kind, int32_data: vec![zero], ..Default::default() };
        let more = vec![reals("s", &[], vec![scale]), zero_point, whole("shape", &[1, 4])];
        let graph = import_bytes(&model(21, 1, &[4], nodes, more), "x").unwrap();
        let step = |v: f32| ((v / scale).round_ties_even() as i32 + zero).clamp(bounds.0, bounds.1) - zero;
        let want: Vec<f32> = x.iter().map(|v| step(*v) as f32 * scale).collect();
        assert!(graph.values.iter().any(|v| v.dtype == DType::I16));
        for (got, want) in run(graph, &x).into_iter().zip(want) {
            assert!((got - want).abs() <= 2.0 * scale, "{kind}: {got} {want}");
        }
    }
}

/// The graph's int16 codes are not those of the file.
#[test]
fn moved_codes_of_sixteen_bits_leave_the_network_dequantised() {
    let nodes = vec![
        node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![]),
        node("Reshape", &["q", "shape"], &["y"], vec![]),
    ];
    let more = vec![reals("s", &[], vec![0.5]), bytes("z", &[], 5, &[-7]), whole("shape", &[1, 4])];
    let error = import_bytes(&model(21, 1, &[4], nodes, more), "x").unwrap_err().to_string();
    assert!(error.contains("DequantizeLinear"), "{error}");
}

#[test]
fn symmetric_activations_of_sixteen_bits_are_int16() {
    for (kind, zero) in [(5, 0), (4, 32768)] {
        let q = |x: &str, y: &str| node("QuantizeLinear", &[x, "s", "z"], &[y], vec![]);
        let nodes = vec![
            q("x", "xq"),
            node("Reshape", &["xq", "shape"], &["xr"], vec![]),
            dq(["xr", "s", "z"], "xd", vec![]),
            dq(["w", "ws", "wz"], "wd", vec![int("axis", 1)]),
            node("MatMul", &["xd", "wd"], &["p"], vec![]),
            node("Add", &["p", "b"], &["sum"], vec![]),
            node("Relu", &["sum"], &["r"], vec![]),
            q("r", "rq"),
            dq(["rq", "s", "z"], "rd", vec![]),
            node("Mul", &["rd", "half"], &["m"], vec![]),
            q("m", "mq"),
            dq(["mq", "s", "z"], "y", vec![]),
        ];
        let zero =
            TensorProto { name: "z".into(), data_type: kind, int32_data: vec![zero], ..Default::default() };
        let more = vec![
            reals("s", &[], vec![0.001]),
            zero,
            whole("shape", &[1, 2]),
            bytes("w", &[2, 3], 3, &[100, 20, 3, -100, 0, 9]),
            reals("ws", &[3], vec![0.5, 0.25, 2.0]),
            bytes("wz", &[3], 3, &[0, 0, 0]),
            reals("b", &[3], vec![1.0, -2.0, 0.126]),
            reals("half", &[], vec![0.5]),
        ];
        let graph = import_bytes(&model(21, 1, &[2], nodes, more), "x").unwrap();
        let layer = layer(&graph);
        let (x, y) = (graph.value(layer.inputs[0]), graph.value(layer.output));
        for value in [x, y] {
            assert_eq!((value.dtype, &value.quant), (DType::I16, &Some(Quant::per_tensor(0.001, 0))));
        }
        assert_eq!(graph.value(layer.inputs[2]).data.as_deref(), Some(&Data::I32(vec![2000, -8000, 63])));
        let float = |n: &&offshoot_ir::Node| graph.value(n.output).dtype == DType::F32;
        let floats: Vec<&Op> = graph.nodes.iter().filter(float).map(|n| &n.op).collect();
        assert_eq!(floats, [&Op::Dequantize], "{kind}");
    }
}

#[test]
fn activations_of_four_bits_are_bounded() {
    let nodes =
        vec![node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![]), dq(["q", "s", "z"], "y", vec![])];
    let more = vec![reals("s", &[], vec![0.5]), packed("z", &[1], (21, 4), &[2])];
    let graph = import_bytes(&model(21, 1, &[4], nodes, more), "x").unwrap();
    assert!(graph.nodes.iter().any(|n| graph.value(n.output).dtype == DType::I8));
    // The oracle does not round.
    assert_eq!(run(graph, &[-3.0, 0.6, 100.0, 6.4]), [-1.0, 0.6, 6.5, 6.4]);
}

#[test]
fn matmul_n_bits_is_a_product() {
    let (k, n, blocks) = (40, 3, 3);
    let mut product = node(
        "MatMulNBits",
        &["x", "w", "ws", "wz"],
        &["y"],
        vec![int("K", k), int("N", n), int("bits", 4), int("block_size", 16)],
    );
    product.domain = "com.microsoft".into();
    let raw: Vec<i32> = (0..n * blocks * 8).map(|i| (i * 37 + 11) as i32 % 256).collect();
    let zeros = [0x58, 0x0a, 0x37, 0x01, 0x99, 0x0f];
    let scales: Vec<f32> = (0..n * blocks).map(|i| 0.1 + i as f32 * 0.07).collect();
    let more = vec![
        bytes("w", &[n, blocks, 8], 2, &raw),
        reals("ws", &[n * blocks], scales.clone()),
        bytes("wz", &[n * 2], 2, &zeros),
    ];
    let graph = import_bytes(&model(21, 1, &[1, k], vec![product.clone()], more.clone()), "x").unwrap();
    let code = |row: usize, i: usize| (raw[(row * 3 + i / 16) * 8 + i % 16 / 2] >> (i % 2 * 4)) & 15;
    let zero = |row: usize, block: usize| (zeros[row * 2 + block / 2] >> (block % 2 * 4)) & 15;
    let w = graph.value(layer(&graph).inputs[1]);
    let want: Vec<f32> = (0..3)
        .flat_map(|row| (0..40).map(move |i| (row, i)))
        .map(|(row, i)| (code(row, i) - zero(row, i / 16)) as f32 * scales[row * 3 + i / 16])
        .collect();
    assert_eq!(w.data.as_deref(), Some(&Data::F32(want)));

    product.attribute[0].i = 1 << 40;
    assert!(import_bytes(&model(21, 1, &[1, k], vec![product], more), "x").is_err());
}

/// `x` between pairs of 16 bits with this scale and zero point, with a Relu in between that the zero point stands for or not.
fn sixteen(kind: i32, zero: i32, between: Vec<NodeProto>, x: &str) -> Graph {
    let pair = |x: &str, y: &str| {
        let q = format!("{y}/q");
        let quantize = node("QuantizeLinear", &[x, "s", "z"], &[&q], vec![]);
        [quantize, dq([&q, "s", "z"], y, vec![])]
    };
    let mut nodes = pair("x", "a").to_vec();
    nodes.extend(between);
    nodes.extend(pair(x, "y"));
    let more = vec![
        reals("s", &[], vec![1.0 / 4096.0]),
        bytes("z", &[], kind, &[zero]),
        reals("six", &[], vec![6.0]),
        reals("half", &[], vec![0.5]),
        TensorProto {
            name: "pads".into(),
            dims: vec![4],
            data_type: 7,
            int64_data: vec![0, 1, 0, 2],
            ..Default::default()
        },
    ];
    import_bytes(&model(21, 1, &[1, 4], nodes, more), "x").unwrap()
}

#[test]
fn sixteen_bits_with_any_zero_point_are_int16() {
    // uint16 and int16: the range is 0 to 16, 12 to -4, and 4 to -12.
    for (kind, zero, bounds) in [(4, 0, [0.0f32, 16.0]), (4, 16384, [-4.0, 12.0]), (5, 16384, [-12.0, 4.0])] {
        let graph = sixteen(kind, zero, vec![], "a");
        assert!(graph.values.iter().any(|v| v.dtype == DType::I16), "{:?}", graph.values);
        for value in graph.values.iter().filter(|v| v.dtype == DType::I16) {
            let quant = value.quant.as_ref().unwrap();
            assert!(quant.zero_point == [0] && quant.scale[0] * 32768.0 > bounds[1].max(-bounds[0]));
        }
        // Nothing but conversions, clips and requantisations is computed in float32 or int16.
        let conversion = |op: &Op| {
            matches!(op, Op::Quantize | Op::Dequantize | Op::Requantize)
                || matches!(op, Op::Unary(offshoot_ir::UnaryKind::Clip { .. }))
        };
        assert!(graph.nodes.iter().all(|n| conversion(&n.op)), "{:?}", graph.nodes);
        let x = [-20.0, 3.0, -1.0, 20.0];
        for (got, x) in run(graph, &x).into_iter().zip(x) {
            let wanted = x.clamp(bounds[0], bounds[1]);
            assert!((got - wanted).abs() < 2e-3, "{kind} {zero}: {x} {got} {wanted}");
        }
    }
}

#[test]
fn quotients_and_pads_between_pairs_of_sixteen_bits_are_int16() {
    let quotient = vec![node("Div", &["a", "six"], &["b"], vec![])];
    let padded = vec![node("Pad", &["a", "pads", "half"], &["b"], vec![])];
    for (between, want) in
        [(quotient, vec![0.5, -0.25, 0.0, 0.125]), (padded, vec![0.5, 3.0, -1.5, 0.0, 0.75, 0.5, 0.5])]
    {
        for (kind, zero) in [(5, 0), (4, 32768), (4, 30000)] {
            let graph = sixteen(kind, zero, between.clone(), "b");
            let clips = |op: &Op| matches!(op, Op::Unary(offshoot_ir::UnaryKind::Clip { .. }));
            let inner = graph
                .nodes
                .iter()
                .filter(|n| !matches!(n.op, Op::Quantize | Op::Dequantize) && !clips(&n.op));
            for node in inner {
                assert_eq!(graph.value(node.output).dtype, DType::I16, "{zero}: {:?}", graph.nodes);
            }
            for (got, want) in run(graph, &[3.0, -1.5, 0.0, 0.75]).iter().zip(&want) {
                assert!((got - want).abs() < 1e-3, "{kind} {zero}: {got} {want}");
            }
        }
    }
}
