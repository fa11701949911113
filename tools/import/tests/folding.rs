//! Constants that are computed from constants, by any operator.

mod common;

use std::time::{Duration, Instant};

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::{import_bytes, oracle::Oracle};
use offshoot_ir::Op;
use offshoot_reference::Executor;
use tract_onnx::pb::{NodeProto, TensorProto};

/// A convolution whose weights `w` the nodes compute: one operator is left, and its numbers are tract's.
fn check(what: &str, mut nodes: Vec<NodeProto>, parts: Vec<TensorProto>) {
    nodes.push(node("Conv", &["x", "w"], &["y"], vec![]));
    let file = model(13, 1, &[1, 3, 6, 6], nodes, parts);
    let graph = import_bytes(&file, what).unwrap_or_else(|e| panic!("{what}: {e}"));
    let computed = graph.nodes.iter().filter(|n| !matches!(n.op, Op::Transpose { .. })).count();
    assert_eq!(computed, 1, "{what}: {:?}", graph.nodes);
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 3, 6, 6]), wave(108, 0.1)).unwrap();
    let ours = Executor::new(&graph).unwrap().run(std::slice::from_ref(&x)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, &file).unwrap();
    let theirs = Oracle::open(&path).unwrap().run(&[x]).unwrap();
    assert_eq!(ours[0].shape(), theirs[0].shape(), "{what}");
    for (a, b) in ours[0].iter().zip(&theirs[0]) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {a} instead of {b}");
    }
}

#[test]
fn weights_from_constants() {
    let v = || noise("v", &[2, 3, 3, 3]);
    check("Mul", vec![node("Mul", &["v", "k"], &["w"], vec![])], vec![v(), noise("k", &[2, 1, 1, 1])]);
    let slice = node("Slice", &["v", "from", "to"], &["w"], vec![]);
    check("Slice", vec![slice], vec![noise("v", &[4, 3, 3, 3]), whole("from", &[1]), whole("to", &[3])]);
    let concat = node("Concat", &["v", "u"], &["w"], vec![int("axis", 0)]);
    check("Concat", vec![concat], vec![v(), noise("u", &[1, 3, 3, 3])]);
    let norm = vec![
        node("Mul", &["v", "v"], &["square"], vec![]),
        node("ReduceSum", &["square", "axes"], &["sum"], vec![]),
        node("Sqrt", &["sum"], &["norm"], vec![]),
        node("Div", &["v", "norm"], &["unit"], vec![]),
        node("Mul", &["unit", "g"], &["w"], vec![]),
    ];
    check("weight norm", norm, vec![v(), whole("axes", &[1, 2, 3]), noise("g", &[2, 1, 1, 1])]);
    let chosen = vec![
        node("Greater", &["v", "k"], &["above"], vec![]),
        node("Not", &["above"], &["below"], vec![]),
        node("Where", &["below", "v", "k"], &["w"], vec![]),
    ];
    check("Where", chosen, vec![v(), reals("k", &[], vec![0.25])]);
    for operator in ["Sin", "Floor", "Sign", "Tanh", "Softplus"] {
        check(operator, vec![node(operator, &["v"], &["w"], vec![])], vec![v()]);
    }
    let halves = node("Split", &["v"], &["w", "rest"], vec![int("axis", 0)]);
    check("Split", vec![halves], vec![noise("v", &[4, 3, 3, 3])]);
    let picked = node("Gather", &["v", "at"], &["w"], vec![]);
    check("Gather", vec![picked], vec![noise("v", &[4, 3, 3, 3]), whole("at", &[3, 0, -2])]);
    let half = TensorProto {
        name: "v".into(),
        dims: vec![2, 3, 1, 1],
        data_type: 10,
        int32_data: vec![0x3c00, 0x3800, 0xc000, 0x3c00, 0, 0x4400],
        ..Default::default()
    };
    check("float16", vec![node("Cast", &["v"], &["w"], vec![int("to", 1)])], vec![half]);
}

#[test]
fn shapes_from_shapes() {
    let nodes = vec![
        node("Shape", &["x"], &["shape"], vec![]),
        node("Gather", &["shape", "zero"], &["batch"], vec![]),
        node("Unsqueeze", &["batch", "first"], &["batches"], vec![]),
        node("Concat", &["batches", "rest"], &["wanted"], vec![int("axis", 0)]),
        node("Reshape", &["x", "wanted"], &["y"], vec![]),
    ];
    let zero = TensorProto { name: "zero".into(), data_type: 7, int64_data: vec![0], ..Default::default() };
    let file = model(13, 1, &[2, 3, 4], nodes, vec![zero, whole("first", &[0]), whole("rest", &[-1])]);
    let graph = import_bytes(&file, "shapes").unwrap();
    assert_eq!(graph.value(graph.outputs[0]).shape, [2, 12]);
    assert_eq!(graph.nodes.len(), 1);
}

#[test]
fn folding_is_bounded() {
    let refused = |what: &str, nodes: Vec<NodeProto>, parts: Vec<TensorProto>| {
        let begun = Instant::now();
        let mut all = nodes;
        all.push(node("Conv", &["x", "w"], &["y"], vec![]));
        import_bytes(&model(13, 1, &[1, 3, 6, 6], all, parts), what).expect_err(what);
        assert!(begun.elapsed() < Duration::from_secs(10), "{what} took {:?}", begun.elapsed());
    };
    let one = || reals("k", &[1, 1, 1, 1], vec![1.0]);
    let large = || whole("s", &[1 << 20, 1 << 20, 1, 1]);
    refused("Expand", vec![node("Expand", &["k", "s"], &["w"], vec![])], vec![one(), large()]);
    refused("Tile", vec![node("Tile", &["k", "s"], &["w"], vec![])], vec![one(), large()]);
    let pads = whole("s", &[0, 0, 0, 0, 1 << 40, 1 << 40, 0, 0]);
    refused("Pad", vec![node("Pad", &["k", "s"], &["w"], vec![])], vec![one(), pads]);
    let range = vec![node("Range", &["a", "b", "c"], &["w"], vec![])];
    let scalar = |name: &str, v: i64| TensorProto {
        name: name.into(),
        data_type: 7,
        int64_data: vec![v],
        ..Default::default()
    };
    refused("Range", range, vec![scalar("a", 0), scalar("b", i64::MAX), scalar("c", 1)]);
    let nothing = vec![node("ReduceMax", &["e"], &["w"], vec![])];
    refused("ReduceMax", nothing, vec![reals("e", &[0], vec![])]);
    // A product that doubles at every node.
    let mut nodes = Vec::new();
    for i in 0..40 {
        let (a, b) = (format!("t{i}"), format!("t{}", i + 1));
        nodes.push(node("Concat", &[&a, &a], &[&b], vec![int("axis", 0)]));
    }
    nodes.push(node("Identity", &["t40"], &["w"], vec![]));
    refused("Concat", nodes, vec![reals("t0", &[1], vec![1.0])]);
}

#[test]
fn what_is_not_a_model_is_named() {
    let reason = |bytes: &[u8]| import_bytes(bytes, "x").unwrap_err().to_string();
    assert!(reason(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n").contains("Git LFS"));
    assert!(reason(b"\x1c\0\0\0TFL3\0\0").contains("TensorFlow Lite"));
    assert!(reason(b"PK\x03\x04rest").contains("ZIP"));
    assert!(reason(b"").contains("empty"));
}

#[test]
fn names_and_numbers_are_checked() {
    let refused = |nodes: Vec<NodeProto>, parts: Vec<TensorProto>| {
        import_bytes(&model(13, 1, &[2, 2], nodes, parts), "x").unwrap_err().to_string()
    };
    let twice = vec![node("Relu", &["x"], &["y"], vec![]), node("Abs", &["x"], &["y"], vec![])];
    assert!(refused(twice, vec![]).contains("`y` is written twice"));
    let add = node("Add", &["x", "k"], &["y"], vec![]);
    assert!(refused(vec![add], vec![reals("k", &[1], vec![f32::NAN])]).contains("`k` holds NaN"));
    let mode = TensorProto { name: "t".into(), data_type: 9, int32_data: vec![1], ..Default::default() };
    let dropout = node("Dropout", &["x", "", "t"], &["y"], vec![]);
    assert!(refused(vec![dropout], vec![mode]).contains("training_mode"));
}

/// The constant that the nodes compute as `k`, read back from `x + k`.
fn folded(nodes: Vec<NodeProto>, parts: Vec<TensorProto>, shape: &[i64]) -> Vec<f32> {
    let mut nodes = nodes;
    nodes.push(node("Add", &["x", "k"], &["y"], vec![]));
    let graph = import_bytes(&model(13, 1, shape, nodes, parts), "x").unwrap();
    let extents: Vec<usize> = shape.iter().map(|d| *d as usize).collect();
    Executor::new(&graph).unwrap().run(&[ArrayD::zeros(IxDyn(&extents))]).unwrap()[0]
        .iter()
        .copied()
        .collect()
}

#[test]
fn ends_of_slices_beyond_32_bits() {
    let whole1 = |name: &str, v: i64| whole(name, &[v]);
    let slice = |from: i64, to: i64, by: i64| {
        let nodes = vec![node("Slice", &["v", "from", "to", "axes", "by"], &["k"], vec![])];
        let v = reals("v", &[5], vec![1.0, 2.0, 3.0, 4.0, 5.0]);
        (nodes, vec![v, whole1("from", from), whole1("to", to), whole1("axes", 0), whole1("by", by)])
    };
    let check = |from: i64, to: i64, by: i64, want: &[f32]| {
        let (nodes, parts) = slice(from, to, by);
        assert_eq!(folded(nodes, parts, &[1, want.len() as i64]), want, "{from}..{to} by {by}");
    };
    check(1, i64::MAX, 1, &[2.0, 3.0, 4.0, 5.0]);
    check(i64::MIN, (1 << 32) + 1, 2, &[1.0, 3.0, 5.0]);
    check(i64::MAX, i64::MIN, -1, &[5.0, 4.0, 3.0, 2.0, 1.0]);
    check((1 << 32) + 1, -(1 << 32) - 3, -2, &[5.0, 3.0, 1.0]);
    check(-(1 << 33), 2, 1 << 34, &[1.0]);
}

#[test]
fn float64_is_computed_in_float64() {
    let double = |name: &str, v: &[f64]| TensorProto {
        name: name.into(),
        dims: vec![v.len() as i64],
        data_type: 11,
        double_data: v.to_vec(),
        ..Default::default()
    };
    let nodes = vec![
        node("Sub", &["a", "b"], &["d"], vec![]),
        node("Exp", &["d"], &["e"], vec![]),
        node("Cast", &["e"], &["k"], vec![int("to", 1)]),
    ];
    let parts = vec![double("a", &[1e9 + 0.25, 2e9]), double("b", &[1e9, 2e9 + 0.5])];
    assert_eq!(folded(nodes, parts, &[1, 2]), [0.25f64.exp() as f32, (-0.5f64).exp() as f32]);
}

#[test]
fn ranges_go_down_too() {
    let scalar = |name: &str, v: i64| TensorProto {
        name: name.into(),
        data_type: 7,
        int64_data: vec![v],
        ..Default::default()
    };
    let nodes = || {
        vec![
            node("Range", &["a", "b", "c"], &["r"], vec![]),
            node("Cast", &["r"], &["k"], vec![int("to", 1)]),
        ]
    };
    let down = vec![scalar("a", 7), scalar("b", 0), scalar("c", -2)];
    assert_eq!(folded(nodes(), down, &[1, 4]), [7.0, 5.0, 3.0, 1.0]);
    let up = vec![scalar("a", -1), scalar("b", 6), scalar("c", 3)];
    assert_eq!(folded(nodes(), up, &[1, 3]), [-1.0, 2.0, 5.0]);
    let float = |name: &str, v: f32| reals(name, &[], vec![v]);
    let only = vec![node("Range", &["a", "b", "c"], &["k"], vec![])];
    let parts = vec![float("a", 1.0), float("b", -0.2), float("c", -0.5)];
    assert_eq!(folded(only, parts, &[1, 3]), [1.0, 0.5, 0.0]);
}

#[test]
fn what_cannot_be_computed_has_a_plain_reason() {
    use std::cell::Cell;
    thread_local!(static PRINTED: Cell<usize> = const { Cell::new(0) });
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PRINTED.set(PRINTED.get() + 1);
        before(info);
    }));
    let reason = |nodes: Vec<NodeProto>, parts: Vec<TensorProto>| {
        let mut nodes = nodes;
        nodes.push(node("Add", &["x", "k"], &["y"], vec![]));
        import_bytes(&model(13, 1, &[1, 3], nodes, parts), "x").unwrap_err().to_string()
    };
    let v = || reals("v", &[2, 3], vec![0.0; 6]);
    let gather = |axis: i64| vec![node("Gather", &["v", "at"], &["k"], vec![int("axis", axis)])];
    let text = reason(gather(4), vec![v(), whole("at", &[0])]);
    assert!(text.contains("axis 4 of a tensor with 2 axes"), "{text}");
    let text = reason(gather(1), vec![v(), whole("at", &[3])]);
    assert!(text.contains("index 3 along axis 1, which has 3 elements"), "{text}");
    let text = reason(vec![node("MatMul", &["v", "v"], &["k"], vec![])], vec![v()]);
    assert!(text.contains("reads only constants"), "{text}");
    let text =
        reason(vec![node("ScatterND", &["v", "at", "v"], &["k"], vec![])], vec![v(), whole("at", &[9])]);
    assert!(text.contains("reads only constants"), "{text}");
    assert_eq!(PRINTED.get(), 0, "a panic was printed");
}

#[test]
fn unsorted_graphs_are_named() {
    let nodes = vec![node("Relu", &["t"], &["y"], vec![]), node("Abs", &["x"], &["t"], vec![])];
    let text = import_bytes(&model(13, 1, &[1, 3], nodes, vec![]), "x").unwrap_err().to_string();
    assert!(text.contains("which the later node `Abs_t` writes") && text.contains("sort"), "{text}");
    let nodes = vec![node("Relu", &["t"], &["y"], vec![])];
    let text = import_bytes(&model(13, 1, &[1, 3], nodes, vec![]), "x").unwrap_err().to_string();
    assert!(text.contains("given by no node"), "{text}");
}

/// The importer drops a constant behind its last reader, no earlier.
#[test]
fn constants_stay_for_their_last_reader() {
    let nodes = vec![
        node("Conv", &["x", "w"], &["first"], vec![]),
        node("Mul", &["first", "k"], &["scaled"], vec![]),
        node("Conv", &["x", "w"], &["second"], vec![]),
        node("Add", &["scaled", "second"], &["sum"], vec![]),
        node("Add", &["sum", "k"], &["y"], vec![]),
    ];
    let parts = vec![noise("w", &[2, 3, 3, 3]), noise("k", &[1, 2, 1, 1])];
    let file = model(13, 1, &[1, 3, 6, 6], nodes, parts);
    let graph = import_bytes(&file, "shared").unwrap();
    let x = ArrayD::from_shape_vec(IxDyn(&[1, 3, 6, 6]), wave(108, 0.1)).unwrap();
    let ours = Executor::new(&graph).unwrap().run(std::slice::from_ref(&x)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, &file).unwrap();
    let theirs = Oracle::open(&path).unwrap().run(&[x]).unwrap();
    for (a, b) in ours[0].iter().zip(&theirs[0]) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{a} instead of {b}");
    }
}
