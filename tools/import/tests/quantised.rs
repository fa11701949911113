//! QuantizeLinear and DequantizeLinear in the forms that exporters write.

mod common;

use common::*;
use offshoot_import::import_bytes;
use offshoot_ir::{DType, Data, Graph, Op};
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
    let nodes = vec![node("QuantizeLinear", &["x", "s"], &["y"], vec![int("output_dtype", 5)])];
    let error = import_bytes(&model(21, 1, &[4], nodes, parts(vec![])), "x").unwrap_err().to_string();
    assert!(error.contains("output_dtype 5"), "{error}");
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
