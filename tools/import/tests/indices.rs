//! Indices that a run computes, integer inputs, and symbolic axes, held against numbers by hand and against tract.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::{Dims, import_bytes, import_with};
use offshoot_ir::{DType, Declared};
use offshoot_reference::Executor;
use prost::Message;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Dim};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, type_proto};

fn array(shape: &[usize], values: Vec<f32>) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), values).unwrap()
}

/// A model with inputs of given types and shapes and outputs of given names.
fn several(
    inputs: &[(&str, i32, &[i64])],
    outputs: &[&str],
    nodes: Vec<NodeProto>,
    initializer: Vec<TensorProto>,
) -> ModelProto {
    let graph = GraphProto {
        node: nodes,
        initializer,
        input: inputs.iter().map(|(name, kind, dims)| described(name, *kind, dims)).collect(),
        output: outputs.iter().map(|name| described(name, 1, &[])).collect(),
        ..Default::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 18 }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }
}

fn run(model: &ModelProto, inputs: &[ArrayD<f32>]) -> Vec<ArrayD<f32>> {
    let graph = import_bytes(&model.encode_to_vec(), "test").unwrap();
    let (graph, _) = offshoot_ir::passes::lossless(graph).unwrap();
    Executor::new(&graph).unwrap().run(inputs).unwrap()
}

fn refused(model: &ModelProto) -> String {
    import_bytes(&model.encode_to_vec(), "test").unwrap_err().to_string()
}

fn values(a: &ArrayD<f32>) -> Vec<f32> {
    a.iter().copied().collect()
}

#[test]
fn embeddings_by_tokens() {
    let table = || reals("t", &[3, 2], vec![0.0, 1.0, 10.0, 11.0, 20.0, 21.0]);
    let nodes = vec![node("Gather", &["t", "x"], &["y"], vec![])];
    let model = several(&[("x", 7, &[1, 3])], &["y"], nodes, vec![table()]);
    let graph = import_bytes(&model.encode_to_vec(), "test").unwrap();
    assert_eq!(graph.value(graph.inputs[0]).dtype, DType::I32);
    assert_eq!(graph.declared.get("x"), Some(&Declared::I64));
    let y = run(&model, &[array(&[1, 3], vec![2.0, -3.0, 1.0])]);
    assert_eq!((y[0].shape(), values(&y[0])), (&[1, 3, 2][..], vec![20.0, 21.0, 0.0, 1.0, 10.0, 11.0]));
}

#[test]
fn integer_arithmetic_drops_fractions_of_quotients() {
    let one = |name: &str, v: i64| TensorProto { dims: vec![], ..whole(name, &[v]) };
    let nodes = vec![
        node("Sub", &["x", "b"], &["d"], vec![]),
        node("Div", &["d", "c"], &["q"], vec![]),
        node("Cast", &["q"], &["y"], vec![int("to", 1)]),
        node("Cast", &["x"], &["r"], vec![int("to", 1)]),
        node("Div", &["r", "two"], &["z"], vec![]),
    ];
    let constants = vec![one("b", 3), one("c", 2), reals("two", &[], vec![2.0])];
    let model = several(&[("x", 7, &[1, 3])], &["y", "z"], nodes, constants);
    let y = run(&model, &[array(&[1, 3], vec![0.0, 3.0, 8.0])]);
    assert_eq!(values(&y[0]), [-1.0, 0.0, 2.0]);
    assert_eq!(values(&y[1]), [0.0, 1.5, 4.0]);
}

#[test]
fn the_best_come_with_their_indices() {
    let nodes = vec![node("TopK", &["x", "k"], &["v", "i"], vec![int("axis", 1)])];
    let model = several(&[("x", 1, &[1, 5])], &["v", "i"], nodes, vec![whole("k", &[3])]);
    let y = run(&model, &[array(&[1, 5], vec![1.0, 4.0, 4.0, -2.0, 3.0])]);
    assert_eq!(values(&y[0]), [4.0, 4.0, 3.0]);
    assert_eq!(values(&y[1]), [1.0, 2.0, 4.0]);
}

#[test]
fn one_hot_wraps_and_leaves_out() {
    let number = TensorProto { dims: vec![], ..whole("d", &[3]) };
    let nodes = vec![node("OneHot", &["x", "d", "v"], &["y"], vec![int("axis", 1)])];
    let constants = vec![number, reals("v", &[2], vec![-1.0, 5.0])];
    let model = several(&[("x", 7, &[1, 3])], &["y"], nodes, constants);
    let y = run(&model, &[array(&[1, 3], vec![2.0, -3.0, 3.0])]);
    assert_eq!(values(&y[0]), [-1.0, 5.0, -1.0, -1.0, -1.0, -1.0, 5.0, -1.0, -1.0]);
}

#[test]
fn scatters_join_in_order() {
    for (how, wanted) in [("none", [3.0, 2.0]), ("add", [6.5, 2.0]), ("mul", [7.5, 2.0]), ("max", [3.0, 2.0])]
    {
        let nodes = vec![node(
            "ScatterElements",
            &["x", "i", "u"],
            &["y"],
            vec![int("axis", 1), text("reduction", how)],
        )];
        let index = TensorProto { dims: vec![1, 2], ..whole("i", &[0, -2]) };
        let model =
            several(&[("x", 1, &[1, 2])], &["y"], nodes, vec![index, reals("u", &[1, 2], vec![2.5, 3.0])]);
        let y = run(&model, &[array(&[1, 2], vec![1.0, 2.0])]);
        assert_eq!(values(&y[0]), wanted, "{how}");
    }
}

#[test]
fn what_a_pool_took_goes_back_to_its_place() {
    let window = || vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let nodes = vec![
        node("MaxPool", &["x"], &["v", "i"], window()),
        node("MaxUnpool", &["v", "i"], &["y"], window()),
    ];
    let model = several(&[("x", 1, &[1, 2, 2, 4])], &["i", "y"], nodes, vec![]);
    let x = vec![1.0, 5.0, 2.0, 2.0, 3.0, 4.0, 2.0, 1.0, -1.0, -5.0, -2.0, -2.0, -3.0, -4.0, -2.0, -1.0];
    let y = run(&model, &[array(&[1, 2, 2, 4], x)]);
    assert_eq!(values(&y[0]), [1.0, 2.0, 8.0, 15.0]);
    let wanted = [0.0, 5.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0];
    assert_eq!(values(&y[1]), wanted);
}

#[test]
fn what_cannot_be_known_before_a_run_is_refused() {
    for operator in ["NonZero", "Unique"] {
        let nodes = vec![node(operator, &["x"], &["y"], vec![])];
        let message = refused(&several(&[("x", 1, &[1, 4])], &["y"], nodes, vec![]));
        assert!(message.contains("depends on the data"), "{message}");
    }
    let nodes = vec![node("GatherElements", &["x", "i"], &["y"], vec![int("axis", 1)])];
    let index = TensorProto { dims: vec![1, 1], ..whole("i", &[4]) };
    let message = refused(&several(&[("x", 1, &[1, 4])], &["y"], nodes, vec![index]));
    assert!(message.contains("index 4 along axis 1"), "{message}");
}

#[test]
fn symbolic_axes_take_the_extents_given() {
    let nodes = vec![node("Neg", &["x"], &["y"], vec![])];
    let mut model = several(&[("x", 1, &[1, 1, 3])], &["y"], nodes, vec![]);
    let input = model.graph.as_mut().unwrap().input.first_mut().unwrap();
    if let Some(type_proto::Value::TensorType(t)) = input.r#type.as_mut().unwrap().value.as_mut() {
        let symbol = |name: &str| Dimension { value: Some(Dim::DimParam(name.into())), ..Default::default() };
        let dim = &mut t.shape.as_mut().unwrap().dim;
        (dim[0], dim[1]) = (symbol("batch"), symbol("length"));
    }
    let message = refused(&model);
    assert!(message.contains("`--dim length=N`"), "{message}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    let dims = |name: &str| Dims::from([(name.to_owned(), 5)]);
    let graph = import_with(&path, &dims("length")).unwrap();
    assert_eq!(graph.value(graph.inputs[0]).shape, [1, 5, 3]);
    let message = import_with(&path, &dims("width")).unwrap_err().to_string();
    assert!(
        message.contains("no input has an axis named `width`; symbolic axes: batch, length"),
        "{message}"
    );
}

#[test]
fn resizes_of_other_modes() {
    // ONNX's example of a cubic resize by 2, its first row.
    let nodes = vec![node("Resize", &["x", "", "s"], &["y"], vec![text("mode", "cubic")])];
    let scales = reals("s", &[4], vec![1.0, 1.0, 2.0, 2.0]);
    let model = several(&[("x", 1, &[1, 1, 4, 4])], &["y"], nodes, vec![scales]);
    let y = run(&model, &[array(&[1, 1, 4, 4], (1..=16).map(|v| v as f32).collect())]);
    let wanted: [f64; 8] =
        [0.47265625, 0.76953125, 1.24609375, 1.875, 2.28125, 2.91015625, 3.38671875, 3.68359375];
    for (a, b) in y[0].iter().zip(wanted) {
        assert!((f64::from(*a) - b).abs() < 1e-5, "{a} instead of {b}");
    }
}

/// PyTorch writes a roll by 0 as two slices, one of them empty, that it joins.
#[test]
fn an_empty_slice_joins_nothing() {
    let part = |name: &str, from: i64, to: i64| {
        [
            whole(&format!("{name}0"), &[from]),
            whole(&format!("{name}1"), &[to]),
            whole(&format!("{name}2"), &[1]),
        ]
    };
    let nodes = vec![
        node("Slice", &["x", "a0", "a1", "a2"], &["none"], vec![]),
        node("Slice", &["x", "b0", "b1", "b2"], &["all"], vec![]),
        node("Concat", &["none", "all"], &["y"], vec![int("axis", 1)]),
    ];
    let constants = [part("a", 3, i64::MAX), part("b", 0, 3)].concat();
    let model = several(&[("x", 1, &[1, 3])], &["y"], nodes.clone(), constants.clone());
    let y = run(&model, &[array(&[1, 3], vec![1.0, 2.0, 3.0])]);
    assert_eq!((y[0].shape(), values(&y[0])), (&[1, 3][..], vec![1.0, 2.0, 3.0]));
    let model = several(&[("x", 1, &[1, 3])], &["none"], nodes, constants);
    assert!(refused(&model).contains("does not depend"), "{}", refused(&model));
}
