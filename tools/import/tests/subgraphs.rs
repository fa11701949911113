//! Functions of the file, If, Loop and Scan become part of the graph; an If on a computed condition becomes a switch.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::import_bytes;
use offshoot_reference::Executor;
use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{
    AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto,
};

fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..Default::default() }
}

fn body(inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>, parts: Vec<TensorProto>) -> GraphProto {
    GraphProto {
        name: "body".into(),
        input: inputs.iter().map(|n| named(n)).collect(),
        output: outputs.iter().map(|n| named(n)).collect(),
        node: nodes,
        initializer: parts,
        ..Default::default()
    }
}

fn graph(name: &str, g: GraphProto) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Graph as i32,
        g: Some(g),
        ..Default::default()
    }
}

fn truth(name: &str, value: bool) -> TensorProto {
    TensorProto { name: name.into(), data_type: 9, int32_data: vec![value.into()], ..Default::default() }
}

fn run(file: &[u8], shape: &[usize], x: &[f32]) -> Vec<f32> {
    let graph = import_bytes(file, "test").unwrap_or_else(|e| panic!("{e}"));
    let x = ArrayD::from_shape_vec(IxDyn(shape), x.to_vec()).unwrap();
    Executor::new(&graph).unwrap().run(&[x]).unwrap()[0].iter().copied().collect()
}

#[test]
fn the_chosen_branch_stays() {
    for (condition, wanted) in [(true, [-1.0, 2.0]), (false, [1.0, 2.0])] {
        let then = body(&[], &["a"], vec![node("Identity", &["x"], &["a"], vec![])], vec![]);
        let other = body(&[], &["b"], vec![node("Abs", &["x"], &["b"], vec![])], vec![]);
        let branches = vec![graph("then_branch", then), graph("else_branch", other)];
        let nodes = vec![node("If", &["c"], &["z"], branches), node("Add", &["z", "zero"], &["y"], vec![])];
        let parts = vec![truth("c", condition), reals("zero", &[1], vec![0.0])];
        assert_eq!(run(&model(17, 1, &[1, 2], nodes, parts), &[1, 2], &[-1.0, 2.0]), wanted);
    }
}

#[test]
fn a_condition_that_is_computed_becomes_a_switch() {
    let branches = |other: Vec<NodeProto>| {
        // Both have an `a` of their own, and read that of the graph around them.
        let then = vec![node("Neg", &["x"], &["a"], vec![]), node("Add", &["a", "a"], &["p"], vec![])];
        let then = body(&[], &["p"], then, vec![]);
        vec![graph("then_branch", then), graph("else_branch", body(&[], &["q"], other, vec![]))]
    };
    let file = |other: Vec<NodeProto>| {
        let nodes = vec![
            node("ReduceMax", &["x"], &["m"], vec![int("keepdims", 0)]),
            node("Greater", &["m", "zero"], &["c"], vec![]),
            node("Sub", &["x", "one"], &["a"], vec![]),
            node("If", &["c"], &["z"], branches(other)),
            node("Add", &["z", "a"], &["y"], vec![]),
        ];
        model(17, 1, &[1, 2], nodes, vec![reals("zero", &[], vec![0.0]), reals("one", &[1], vec![1.0])])
    };
    let made = file(vec![node("Abs", &["a"], &["q"], vec![])]);
    assert_eq!(run(&made, &[1, 2], &[-1.0, 2.0]), [2.0 - 2.0, -4.0 + 1.0]);
    assert_eq!(run(&made, &[1, 2], &[-1.0, -3.0]), [2.0 - 2.0, 4.0 - 4.0]);
    let switches =
        import_bytes(&made, "test").unwrap().nodes.iter().filter(|n| n.op.name() == "switch").count();
    assert_eq!(switches, 1);
    let other = file(vec![node("ReduceMax", &["a"], &["q"], vec![])]);
    let error = import_bytes(&other, "test").unwrap_err().to_string();
    assert!(error.contains("results of the shapes [1, 1] and [1, 2]"), "{error}");
}

#[test]
fn loops_are_unrolled_and_may_nest() {
    // Doubles three times two, and shows each state.
    let inner_nodes =
        vec![node("Identity", &["go_in"], &["go_out"], vec![]), node("Add", &["s", "s"], &["t"], vec![])];
    let inner = body(&["i", "go_in", "s"], &["go_out", "t"], inner_nodes, vec![]);
    let outer_nodes = vec![
        node("Identity", &["go_in"], &["go_out"], vec![]),
        node("Loop", &["two", "", "s"], &["t"], vec![graph("body", inner)]),
        node("Identity", &["t"], &["shown"], vec![]),
    ];
    let parts = vec![TensorProto { dims: vec![], ..whole("two", &[2]) }];
    let outer = body(&["i", "go_in", "s"], &["go_out", "t", "shown"], outer_nodes, parts);
    let nodes = vec![node("Loop", &["three", "", "x"], &["", "y"], vec![graph("body", outer)])];
    let parts = vec![TensorProto { dims: vec![], ..whole("three", &[3]) }];
    let y = run(&model(17, 1, &[1, 2], nodes, parts), &[1, 2], &[1.0, -0.5]);
    assert_eq!(y, [4.0, -2.0, 16.0, -8.0, 64.0, -32.0]);
}

#[test]
fn endless_loops_are_refused() {
    let nodes = vec![node("Identity", &["go_in"], &["go_out"], vec![])];
    let endless = body(&["i", "go_in", "s"], &["go_out", "s"], nodes, vec![]);
    let nodes = vec![node("Loop", &["", "", "x"], &["y"], vec![graph("body", endless)])];
    let error = import_bytes(&model(17, 1, &[1, 2], nodes, vec![]), "test").unwrap_err().to_string();
    assert!(error.contains("iterations"), "{error}");
}

#[test]
fn functions_of_the_file_are_called() {
    let slope = AttributeProto { ref_attr_name: "slope".into(), ..float("alpha", 0.0) };
    let inner = vec![node("LeakyRelu", &["a"], &["b"], vec![slope]), node("Neg", &["b"], &["c"], vec![])];
    let function = FunctionProto {
        name: Some("Bent".into()),
        domain: Some("own".into()),
        input: vec!["a".into()],
        output: vec!["c".into()],
        attribute: vec!["slope".into()],
        node: inner,
        ..Default::default()
    };
    let call = NodeProto { domain: "own".into(), ..node("Bent", &["x"], &["y"], vec![float("slope", 0.5)]) };
    let file = model(17, 1, &[1, 2], vec![call], vec![]);
    let mut file = ModelProto::decode(&file[..]).unwrap();
    file.functions = vec![function.clone()];
    assert_eq!(run(&file.encode_to_vec(), &[1, 2], &[-1.0, 2.0]), [0.5, -2.0]);
    // A function that calls itself.
    let endless = NodeProto { domain: "own".into(), ..node("Bent", &["a"], &["c"], vec![]) };
    file.functions = vec![FunctionProto { node: vec![endless], ..function }];
    let error = import_bytes(&file.encode_to_vec(), "test").unwrap_err().to_string();
    assert!(error.contains("nested"), "{error}");
}
