//! Files that no exporter wrote: an error, soon, and never a panic.

mod common;

use std::time::{Duration, Instant};

use common::*;
use offshoot_import::{ImportError, import_bytes};
use proptest::prelude::*;

fn refused(what: &str, bytes: &[u8]) -> String {
    let begun = Instant::now();
    let error = import_bytes(bytes, what).expect_err(what);
    assert!(begun.elapsed() < Duration::from_secs(5), "{what} took {:?}", begun.elapsed());
    error.to_string()
}

#[test]
fn four_dimensional_windows_are_listed() {
    let kernel = vec![ints("kernel_shape", &[2, 2, 2, 2])];
    let pool = model(13, 1, &[1, 2, 4, 4, 4, 4], vec![node("MaxPool", &["x"], &["y"], kernel)], vec![]);
    assert!(matches!(import_bytes(&pool, "pool"), Err(ImportError::Unsupported(list)) if list.len() == 1));
    for dims in [vec![1i64], vec![1, 2], vec![1, 2, 4, 4, 4, 4]] {
        let weights = || noise("w", &vec![2; dims.len()]);
        for operator in ["Conv", "ConvTranspose", "GlobalAveragePool", "Resize", "MaxPool"] {
            // The mean over any number of axes is a reduction.
            if operator == "GlobalAveragePool" && dims.len() > 2 {
                continue;
            }
            let inputs: &[&str] = if operator == "Resize" { &["x", "", "w"] } else { &["x", "w"] };
            refused(
                operator,
                &model(13, 1, &dims, vec![node(operator, inputs, &["y"], vec![])], vec![weights()]),
            );
        }
    }
}

#[test]
fn extents_are_bounded() {
    let expand = |shape: &[i64]| {
        let nodes =
            vec![node("Expand", &["x", "s"], &["e"], vec![]), node("PRelu", &["e", "a"], &["y"], vec![])];
        model(16, 1, &[1, 1, 1], nodes, vec![whole("s", shape), reals("a", &[1], vec![0.5])])
    };
    refused("large", &expand(&[1, 1 << 40, 1]));
    refused("larger", &expand(&[1 << 31, 1 << 31, 1 << 31]));
    refused("negative", &expand(&[1, -5, 1]));
    for shape in [[-2, -2], [i64::MIN, 1], [1 << 62, 4], [0, 1 << 40]] {
        let nodes =
            vec![node("ConstantOfShape", &["s"], &["c"], vec![]), node("Add", &["x", "c"], &["y"], vec![])];
        refused("constant of shape", &model(13, 1, &[1, 1], nodes, vec![whole("s", &shape)]));
    }
}

#[test]
fn arithmetic_on_extremes() {
    let (min, max) = (i64::MIN, i64::MAX);
    let split = node("Split", &["x", "s"], &["y", "z", "q"], vec![int("axis", 0)]);
    refused("split", &model(13, 1, &[4], vec![split], vec![whole("s", &[max, max, 6])]));
    let gather = node("Gather", &["x", "s"], &["y"], vec![]);
    refused("gather", &model(13, 1, &[4], vec![gather], vec![whole("s", &[max, min])]));
    let slice = node("Slice", &["x", "a", "b", "", "s"], &["y"], vec![]);
    let parts = vec![whole("a", &[max]), whole("b", &[min]), whole("s", &[min])];
    // The last element alone.
    assert_eq!(import_bytes(&model(13, 1, &[4], vec![slice], parts), "slice").unwrap().nodes.len(), 1);
    let range = node("Range", &["a", "b", "c"], &["r"], vec![]);
    let add = node("Add", &["x", "r"], &["y"], vec![]);
    let parts = vec![whole("a", &[0]), whole("b", &[min]), whole("c", &[1])];
    refused("range", &model(13, 1, &[4], vec![range, add], parts));
    let zeros = bytes("s", &[1], 6, &[i32::MIN]);
    let nodes = vec![
        node("DequantizeLinear", &["w", "k", "s"], &["d"], vec![]),
        node("Add", &["x", "d"], &["y"], vec![]),
    ];
    let parts = vec![bytes("w", &[1], 6, &[i32::MAX]), reals("k", &[1], vec![1.0]), zeros];
    assert!(import_bytes(&model(13, 1, &[4], nodes, parts), "zero point").is_ok());
}

#[test]
fn long_chains_are_quick() {
    let begun = Instant::now();
    let mut nodes = vec![node("QuantizeLinear", &["x", "s", "z"], &["q"], vec![])];
    nodes.push(node("DequantizeLinear", &["q", "s", "z"], &["t0"], vec![]));
    let name = |i: usize| format!("t{i}");
    for i in 0..6000 {
        let operator = if i % 3 == 0 { "Relu" } else { "Transpose" };
        nodes.push(node(operator, &[&name(i)], &[&name(i + 1)], vec![]));
    }
    nodes.push(node("QuantizeLinear", &["t6000", "s", "z"], &["p"], vec![]));
    nodes.push(node("DequantizeLinear", &["p", "s", "z"], &["y"], vec![]));
    let parts = vec![reals("s", &[], vec![0.1]), bytes("z", &[], 3, &[0])];
    import_bytes(&model(13, 1, &[2, 2], nodes, parts), "chain").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Convolution, clip, pool and Gemm with quantised weights: about every path of the importer in a kilobyte.
fn seed() -> Vec<u8> {
    let q = |x: &str, y: &str| node("QuantizeLinear", &[x, "s", "z"], &[y], vec![]);
    let d = |x: &str, y: &str| node("DequantizeLinear", &[x, "s", "z"], &[y], vec![]);
    let window = vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1]), ints("strides", &[1, 1])];
    let pool = vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let nodes = vec![
        q("x", "xq"),
        d("xq", "xd"),
        d("w", "wd"),
        node("Conv", &["xd", "wd", "b"], &["c"], window),
        node("Relu", &["c"], &["r"], vec![]),
        q("r", "rq"),
        d("rq", "rd"),
        node("MaxPool", &["rd"], &["m"], pool),
        node("Reshape", &["m", "shape"], &["f"], vec![]),
        node("Gemm", &["f", "g"], &["h"], vec![int("transB", 1)]),
        node("Softmax", &["h"], &["y"], vec![int("axis", 1)]),
    ];
    let weights: Vec<i32> = (0..18).map(|i| i * 7 % 51 - 25).collect();
    let parts = vec![
        reals("s", &[], vec![0.05]),
        bytes("z", &[], 3, &[0]),
        bytes("w", &[2, 1, 3, 3], 3, &weights),
        noise("b", &[2]),
        whole("shape", &[1, -1]),
        noise("g", &[3, 8]),
    ];
    model(13, 1, &[1, 1, 4, 4], nodes, parts)
}

#[test]
fn the_seed_is_a_model() {
    let graph = import_bytes(&seed(), "seed").unwrap();
    assert!(graph.nodes.iter().any(|n| n.op.name() == "conv2d"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..8),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut file = seed();
        for (at, value, kind) in changes {
            let at = at.index(file.len());
            match kind {
                0 => file[at] ^= 1 << (value % 8),
                1 => file[at] = value,
                2 => file.insert(at, value),
                _ => { file.remove(at); }
            }
        }
        if let Some(cut) = cut {
            file.truncate(cut.index(file.len()));
        }
        let begun = Instant::now();
        let _ = import_bytes(&file, "changed");
        prop_assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
