//! Chains of element-wise operators that are a function of one tensor: one table, rounded once.

use ndarray::{ArrayD, IxDyn};
use offshoot::format::tag::Tag;
use offshoot::graph::Model;
use offshoot_compress::quantize::{QuantizeOptions, quantize, simulate};
use offshoot_export::{CompileOptions, compile};
use offshoot_ir::{Activation, BinaryKind, DType, Data, Graph, Node, Op, UnaryKind, Value, ValueId};

/// A graph of functions of `x`, in the order of `nodes`: operator, inputs and output, by number of their value; values 0 and 1 are
/// the input and a constant of one half.
fn network(nodes: &[(Op, &[usize], usize)], output: usize) -> Graph {
    let mut g = Graph::default();
    let mut value = |name: &str| {
        g.add_value(Value {
            name: name.into(),
            shape: vec![1, 32],
            dtype: DType::F32,
            quant: None,
            data: None,
            channels_first_outside: false,
        })
    };
    let x = value("x");
    let made: Vec<ValueId> = nodes.iter().map(|n| value(&format!("v{}", n.2))).collect();
    let half = g.add_constant("half", vec![], Data::F32(vec![0.5]));
    let ids: Vec<ValueId> = [x, half].into_iter().chain(made).collect();
    for (op, inputs, to) in nodes {
        let inputs = inputs.iter().map(|&i| ids[i]).collect();
        g.nodes.push(Node { name: format!("n{to}"), op: op.clone(), inputs, output: ids[*to] });
    }
    (g.inputs, g.outputs) = (vec![x], vec![ids[output]]);
    g.validate().unwrap();
    g
}

fn binary(kind: BinaryKind) -> Op {
    Op::Binary { kind, activation: Activation::None }
}

/// Tags of the device's operators, and the ratio in dB.
fn made(graph: &Graph) -> (Vec<Tag>, f64) {
    let value = |s: usize, i: usize| ((s * 97 + i * 31) as f32 * 0.731).sin() * 4.0;
    let one = |s| vec![ArrayD::from_shape_fn(IxDyn(&[1, 32]), |d| value(s, d[1]))];
    let samples: Vec<_> = (0..24).map(one).collect();
    let (quantised, report) = quantize(graph, &samples, &QuantizeOptions::default()).unwrap();
    assert!(report.operators.iter().all(|o| !o.float));
    let compiled = compile(&quantised, &CompileOptions::default()).unwrap();
    assert!(compiled.report.fallbacks.is_empty());
    let model = Model::open(&compiled.bytes).unwrap();
    let (want, got) = (simulate(graph, &samples).unwrap(), simulate(&quantised, &samples).unwrap());
    let (mut signal, mut noise) = (0.0, 0.0);
    for (a, b) in want.iter().flatten().flatten().zip(got.iter().flatten().flatten()) {
        (signal, noise) = (signal + f64::from(*a).powi(2), noise + f64::from(a - b).powi(2));
    }
    (model.ops().map(|(info, ..)| info.tag).collect(), 10.0 * (signal / noise).log10())
}

#[test]
fn a_gated_unit_is_one_table() {
    let graph =
        network(&[(Op::Unary(UnaryKind::Sigmoid), &[0], 2), (binary(BinaryKind::Mul), &[0, 2], 3)], 3);
    let (tags, db) = made(&graph);
    assert_eq!(tags, [Tag::Lut]);
    assert!(db > 42.0, "{db}");
}

#[test]
fn a_chain_with_constants_is_one_table() {
    let graph = network(
        &[
            (Op::Unary(UnaryKind::Abs), &[0], 2),
            (binary(BinaryKind::Add), &[2, 1], 3),
            (Op::Unary(UnaryKind::Log), &[3], 4),
        ],
        4,
    );
    let (tags, db) = made(&graph);
    assert_eq!(tags, [Tag::Lut]);
    assert!(db > 38.0, "{db}");
}

/// A value in between that other operators read has a table of its own from the same tensor.
#[test]
fn a_value_in_between_has_its_own_table() {
    let mut graph = network(
        &[
            (Op::Unary(UnaryKind::Tanh), &[0], 2),
            (binary(BinaryKind::Mul), &[2, 1], 3),
            (Op::Unary(UnaryKind::Exp), &[3], 4),
        ],
        4,
    );
    graph.outputs.push(graph.nodes[0].output);
    let (tags, db) = made(&graph);
    assert_eq!(tags, [Tag::Lut, Tag::Lut]);
    assert!(db > 38.0, "{db}");
}
