//! RNN, GRU and LSTM in the forms that exporters write: held against tract, and there and back by `emit`.

mod common;

use common::*;
use ndarray::{ArrayD, Axis, IxDyn};
use offshoot_import::{emit, import_bytes, oracle::Oracle};
use offshoot_ir::{Graph, Op, Returns, passes};
use offshoot_reference::Executor;
use tract_onnx::pb::{AttributeProto, NodeProto, TensorProto};

const STEPS: i64 = 5;
const INPUTS: i64 = 3;
const UNITS: i64 = 4;

fn texts(name: &str, values: &[&str]) -> AttributeProto {
    let strings = values.iter().map(|v| v.as_bytes().to_vec()).collect();
    AttributeProto { name: name.into(), r#type: 8, strings, ..Default::default() }
}

fn gates(operator: &str) -> i64 {
    match operator {
        "RNN" => 1,
        "GRU" => 3,
        _ => 4,
    }
}

/// Weights and biases of so many directions.
fn weights(operator: &str, directions: i64) -> Vec<TensorProto> {
    let rows = gates(operator) * UNITS;
    vec![
        noise("w", &[directions, rows, INPUTS]),
        noise("rec", &[directions, rows, UNITS]),
        noise("bias", &[directions, 2 * rows]),
    ]
}

/// A layer whose outputs are called `all`, `last` and (an LSTM's) `memory`, those that `wanted` names.
fn layer(operator: &str, wanted: &[&str], extra: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let mut inputs = vec!["x", "w", "rec", "bias"];
    inputs.extend(extra);
    let outputs: Vec<&str> =
        ["all", "last", "memory"].into_iter().map(|o| if wanted.contains(&o) { o } else { "" }).collect();
    let outputs = if operator == "LSTM" { outputs } else { outputs[..2].to_vec() };
    let attributes = [attributes, vec![int("hidden_size", UNITS)]].concat();
    node(operator, &inputs, &outputs, attributes)
}

fn input(shape: &[i64]) -> ArrayD<f32> {
    let shape: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), wave(shape.iter().product(), 0.3)).unwrap()
}

fn run(graph: &Graph, x: &ArrayD<f32>) -> ArrayD<f32> {
    Executor::new(graph).unwrap().run(std::slice::from_ref(x)).unwrap().remove(0)
}

fn close(what: &str, a: &ArrayD<f32>, b: &ArrayD<f32>) {
    assert_eq!(a.shape(), b.shape(), "{what}");
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {a} instead of {b}");
    }
}

/// Imported, after the lossless passes, and there and back, the model gives what tract gives.
fn check(what: &str, shape: &[i64], nodes: Vec<NodeProto>, parts: Vec<TensorProto>) -> Graph {
    check_against(what, shape, nodes.clone(), nodes, parts)
}

/// As [`check`]; tract runs the nodes `theirs`. If these go forwards where `nodes` go backwards it is given the sequence
/// from its end (tract takes a layer of one direction, `reverse`, for one that goes forwards).
fn check_against(
    what: &str,
    shape: &[i64],
    nodes: Vec<NodeProto>,
    theirs: Vec<NodeProto>,
    parts: Vec<TensorProto>,
) -> Graph {
    let turned = nodes != theirs;
    let file = model(17, 1, shape, nodes, parts.clone());
    let graph = import_bytes(&file, what).unwrap_or_else(|e| panic!("{what}: {e}"));
    let x = input(shape);
    let ours = run(&graph, &x);
    let (lossless, _) = passes::lossless(graph.clone()).unwrap_or_else(|e| panic!("{what}: {e}"));
    close(what, &run(&lossless, &x), &ours);
    let again = import_bytes(&emit(&lossless).unwrap(), what).unwrap_or_else(|e| panic!("{what}: {e}"));
    close(what, &run(&again, &x), &ours);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, model(17, 1, shape, theirs, parts)).unwrap();
    let oracle = Oracle::open(&path).unwrap_or_else(|e| panic!("{what}: {e}"));
    let flip = |mut a: ArrayD<f32>| {
        if turned {
            a.invert_axis(Axis(0));
        }
        a.as_standard_layout().into_owned()
    };
    let mut expected = oracle.run(&[flip(x)]).unwrap_or_else(|e| panic!("{what}: {e}")).remove(0);
    if expected.shape()[0] as i64 == STEPS {
        expected = flip(expected);
    }
    close(what, &ours, &expected);
    lossless
}

/// Attributes of the forms of an operator.
fn forms(operator: &str) -> Vec<Vec<AttributeProto>> {
    match operator {
        "GRU" => vec![vec![], vec![int("linear_before_reset", 1)]],
        _ => vec![vec![]],
    }
}

#[test]
fn every_kind_direction_and_output() {
    for operator in ["RNN", "GRU", "LSTM"] {
        for form in forms(operator) {
            for (direction, samples) in [("forward", 1), ("forward", 2), ("reverse", 1), ("bidirectional", 1)]
            {
                let directions = if direction == "bidirectional" { 2 } else { 1 };
                for output in ["all", "last", "memory"] {
                    if output == "memory" && operator != "LSTM" {
                        continue;
                    }
                    let attributes = [form.clone(), vec![text("direction", direction)]].concat();
                    let what = format!("{operator} {form:?} {direction} {samples} {output}");
                    let nodes = |attributes: Vec<AttributeProto>| {
                        let end = node("Identity", &[output], &["y"], vec![]);
                        vec![layer(operator, &[output], &[], attributes), end]
                    };
                    let forwards = if direction == "reverse" { form.clone() } else { attributes.clone() };
                    let (ours, theirs) = (nodes(attributes), nodes(forwards));
                    let shape = [STEPS, samples, INPUTS];
                    check_against(&what, &shape, ours, theirs, weights(operator, directions));
                }
            }
        }
    }
}

/// tract takes a rectified RNN for one with tanh: held against one step by hand instead.
#[test]
fn a_rectified_layer() {
    let own = layer("RNN", &["all"], &[], vec![texts("activations", &["Relu"])]);
    let nodes = vec![own, node("Identity", &["all"], &["y"], vec![])];
    let file = model(17, 1, &[1, 1, INPUTS], nodes, weights("RNN", 1));
    let graph = import_bytes(&file, "relu").unwrap();
    let again = import_bytes(&emit(&graph).unwrap(), "relu").unwrap();
    let x = input(&[1, 1, INPUTS]);
    let parts = weights("RNN", 1);
    let expected: Vec<f32> = (0..UNITS as usize)
        .map(|j| {
            let row = parts[0].float_data[j * INPUTS as usize..].iter().zip(&x);
            let bias = parts[2].float_data[j] + parts[2].float_data[UNITS as usize + j];
            row.fold(bias, |sum, (w, x)| sum + w * x).max(0.0)
        })
        .collect();
    assert!(expected.iter().any(|&v| v > 0.0) && expected.contains(&0.0));
    let expected = ArrayD::from_shape_vec(IxDyn(&[1, 1, 1, UNITS as usize]), expected).unwrap();
    close("relu", &run(&graph, &x), &expected);
    close("relu again", &run(&again, &x), &expected);
}

#[test]
fn initial_states() {
    for operator in ["RNN", "GRU", "LSTM"] {
        let nodes = vec![
            layer(operator, &["all"], if operator == "LSTM" { &["", "h", "c"] } else { &["", "h"] }, vec![]),
            node("Identity", &["all"], &["y"], vec![]),
        ];
        let mut parts = weights(operator, 1);
        parts.push(noise("h", &[1, 1, UNITS]));
        if operator == "LSTM" {
            parts.push(noise("c", &[1, 1, UNITS]));
        }
        let graph = check(operator, &[STEPS, 1, INPUTS], nodes, parts);
        assert!(graph.nodes.iter().any(|n| matches!(n.op, Op::Recurrent { .. }) && n.inputs.len() == 5));
    }
}

/// As PyTorch writes a classifier of sequences: the last step of the sequence, flattened.
#[test]
fn the_last_step_of_a_sequence_needs_no_sequence() {
    let nodes = vec![
        layer("GRU", &["all", "last"], &[], vec![int("linear_before_reset", 1)]),
        node("Squeeze", &["all", "axis"], &["flat"], vec![]),
        node("Gather", &["flat", "end"], &["y"], vec![int("axis", 0)]),
    ];
    let end = TensorProto { int64_data: vec![-1], data_type: 7, name: "end".into(), ..Default::default() };
    let parts = [weights("GRU", 1), vec![whole("axis", &[1]), end]].concat();
    let graph = check("last step", &[STEPS, 1, INPUTS], nodes, parts);
    let returns: Vec<_> = (graph.nodes.iter())
        .filter_map(|n| if let Op::Recurrent { returns, .. } = n.op { Some(returns) } else { None })
        .collect();
    assert_eq!(returns, [Returns::Last]);
}

#[test]
fn samples_may_come_first() {
    let parts = weights("LSTM", 1);
    let nodes = |layout| {
        let own = layer("LSTM", &["last"], &[], vec![int("layout", layout)]);
        vec![own, node("Flatten", &["last"], &["y"], vec![int("axis", 0)])]
    };
    let by_step = import_bytes(&model(17, 1, &[STEPS, 1, INPUTS], nodes(0), parts.clone()), "a").unwrap();
    let by_sample = import_bytes(&model(17, 1, &[1, STEPS, INPUTS], nodes(1), parts), "b").unwrap();
    let x = input(&[STEPS, 1, INPUTS]);
    let moved = x.clone().into_shape_with_order(IxDyn(&[1, STEPS as usize, INPUTS as usize])).unwrap();
    assert_eq!(run(&by_step, &x), run(&by_sample, &moved));
}

/// A bound that nothing reaches leads to the unrolled form, which has the numbers of the operator.
#[test]
fn unrolled_steps_have_the_operators_numbers() {
    for operator in ["RNN", "GRU", "LSTM"] {
        let graph = |attributes: Vec<AttributeProto>| {
            let own = layer(operator, &["all"], &[], attributes);
            let nodes = vec![own, node("Identity", &["all"], &["y"], vec![])];
            import_bytes(&model(17, 1, &[STEPS, 1, INPUTS], nodes, weights(operator, 1)), "steps").unwrap()
        };
        let (whole, steps) = (graph(vec![]), graph(vec![float("clip", 1e9)]));
        let layers = |g: &Graph| g.nodes.iter().filter(|n| matches!(n.op, Op::Recurrent { .. })).count();
        assert_eq!((layers(&whole), layers(&steps)), (1, 0), "{operator}");
        let x = input(&[STEPS, 1, INPUTS]);
        for (a, b) in run(&whole, &x).iter().zip(run(&steps, &x).iter()) {
            assert!((a - b).abs() < 1e-5, "{operator}: {a} and {b}");
        }
    }
}

#[test]
fn what_has_no_form_is_refused() {
    let reason = |own: NodeProto, parts: Vec<TensorProto>| {
        let nodes = vec![own, node("Identity", &["all"], &["y"], vec![])];
        import_bytes(&model(17, 1, &[STEPS, 1, INPUTS], nodes, parts), "no").unwrap_err().to_string()
    };
    let of = |operator: &str, attribute: AttributeProto| {
        reason(layer(operator, &["all"], &[], vec![attribute]), weights(operator, 1))
    };
    assert!(of("RNN", texts("activations", &["Swirl"])).contains("swirl"));
    assert!(of("GRU", text("direction", "sideways")).contains("sideways"));
    // Weights that do not fit.
    let mut parts = weights("GRU", 1);
    parts[0] = noise("w", &[1, 3 * UNITS, INPUTS + 1]);
    assert!(reason(layer("GRU", &["all"], &[], vec![]), parts).contains("weights"));
    let mut parts = weights("GRU", 1);
    parts[2] = noise("bias", &[1, 3 * UNITS]);
    assert!(reason(layer("GRU", &["all"], &[], vec![]), parts).contains("biases"));
}
