//! What is written as ONNX reads back with the same numbers.

use std::path::PathBuf;

use ndarray::{ArrayD, IxDyn};
use offshoot_import::{emit, import, import_bytes};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Activation, DType, Data, Graph, Node, Op, Value, ValueId};
use offshoot_reference::Executor;

fn sample(graph: &Graph) -> Vec<ArrayD<f32>> {
    let wave = |i: usize| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0;
    (graph.inputs.iter())
        .map(|id| {
            let value = graph.value(*id);
            ArrayD::from_shape_vec(IxDyn(&value.shape), (0..value.len()).map(wave).collect()).unwrap()
        })
        .collect()
}

fn round_trip(what: &str, graph: &Graph) {
    let back = import_bytes(&emit(graph).unwrap_or_else(|e| panic!("{what}: {e}")), "back")
        .unwrap_or_else(|e| panic!("{what}: {e}"));
    let (back, _) = lossless(back).unwrap();
    let wanted = Executor::new(graph).unwrap().run(&sample(graph)).unwrap();
    let found = Executor::new(&back).unwrap().run(&sample(graph)).unwrap();
    assert_eq!(wanted.len(), found.len(), "{what}");
    for (w, f) in wanted.iter().zip(&found) {
        let scale = w.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let worst = w.iter().zip(f.iter()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(worst <= 1e-5 * scale, "{what}: {worst} of {scale}");
    }
}

#[test]
fn shipped_networks() {
    for name in ["glyphs", "vibration", "tones"] {
        let path =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models").join(name).join("model.onnx");
        let graph = import(&path).unwrap();
        round_trip(name, &graph);
        round_trip(name, &lossless(graph).unwrap().0);
    }
}

/// A switch is written as a stack and a gather, which become a switch again.
#[test]
fn switches() {
    let mut graph = Graph::default();
    let value = |graph: &mut Graph, shape: &[usize], dtype: DType| {
        let name = format!("v{}", graph.values.len());
        let shape = shape.to_vec();
        graph.add_value(Value { name, shape, dtype, quant: None, data: None, channels_first_outside: false })
    };
    let x = value(&mut graph, &[1, 4], DType::F32);
    graph.inputs = vec![x];
    let node = |graph: &mut Graph, op: Op, inputs: Vec<ValueId>, shape: &[usize], dtype: DType| {
        let output = value(graph, shape, dtype);
        graph.nodes.push(Node { name: format!("n{}", output.0), op, inputs, output });
        output
    };
    let op = Op::ArgMax { axis: 1, select_last: false };
    let index = node(&mut graph, op, vec![x], &[1], DType::I32);
    let mut inputs = Vec::new();
    for i in 0..3 {
        let weights = (0..8).map(|k| (k * 3 + i) as f32 / 9.0 - 1.0).collect();
        let w = graph.add_constant(format!("w{i}"), vec![2, 4], Data::F32(weights));
        let op = Op::FullyConnected { activation: Activation::None };
        inputs.push(node(&mut graph, op, vec![x, w], &[1, 2], DType::F32));
    }
    inputs.push(index);
    let y = node(&mut graph, Op::Switch, inputs, &[1, 2], DType::F32);
    graph.outputs = vec![y];
    round_trip("switch", &graph);
    let (back, _) = lossless(import_bytes(&emit(&graph).unwrap(), "back").unwrap()).unwrap();
    assert!(back.nodes.iter().any(|n| n.op == Op::Switch), "a stack of layers");
}

#[test]
fn public_networks() {
    for name in ["ad", "kws", "ic", "vww", "sww"] {
        let Some(path) = offshoot_skip::data(&format!("mlperf_tiny/{name}_f32.onnx")) else { return };
        let graph = import(&path).unwrap();
        round_trip(name, &graph);
        round_trip(name, &lossless(graph).unwrap().0);
    }
}

#[test]
fn quantised_graphs_are_refused() {
    let mut graph =
        import(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/tones/model.onnx")).unwrap();
    let id = graph.nodes[0].output;
    graph.value_mut(id).quant = Some(offshoot_ir::Quant::per_tensor(1.0, 0));
    assert!(emit(&graph).is_err());
}
