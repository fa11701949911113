//! Ways between sizes: what keeps the function keeps it, and units of a shuffled network are found again.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::levels::{
    CycleOptions, Level, LevelOptions, cycle, distance, interpolate, match_units,
};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Data, Graph, ValueId};
use offshoot_reference::Executor;
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, Target, accuracy};
use proptest::prelude::*;

/// Deterministic numbers between -1 and 1.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
    (0..len).map(|i| ((hash(i) ^ hash(i) >> 13) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn array(shape: &[usize], seed: u32) -> ArrayD<f32> {
    ArrayD::from_shape_vec(IxDyn(shape), numbers(shape.iter().product(), seed)).unwrap()
}

fn run(graph: &Graph, x: &ArrayD<f32>) -> ArrayD<f32> {
    Executor::new(graph).unwrap().run(std::slice::from_ref(x)).unwrap().remove(0)
}

fn assert_near(a: &ArrayD<f32>, b: &ArrayD<f32>, what: &str) {
    let largest = a.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-4 * largest, "{what}: {a} and {b}");
    }
}

/// Residual blocks of one form, a depthwise convolution, a flattened layer; biases and statistics moved off their start.
fn network(width: usize, blocks: usize, seed: u64, folded: bool) -> Graph {
    let mut net = Network::new("net", [5, 4, 2], seed)
        .conv("stem", width, [3, 3], [1, 1], Edge::Same)
        .normalise_relu("stem")
        .depthwise("deep", [3, 3], [1, 1], Edge::Same)
        .normalise_relu("deep");
    for i in 0..blocks {
        let input = net.last();
        net = net
            .conv(&format!("block{i}.a"), width + 3, [1, 1], [1, 1], Edge::Valid)
            .normalise_relu(&format!("block{i}.a"))
            .conv(&format!("block{i}.b"), width, [3, 3], [1, 1], Edge::Same)
            .normalise(&format!("block{i}.b"))
            .add(&format!("block{i}.sum"), input)
            .relu(&format!("block{i}.relu"));
    }
    let mut graph = net.global_average("mean").dense("wide", 7).dense("head", 3).softmax("end");
    for (i, value) in graph.values.iter_mut().enumerate() {
        if let Some(Data::F32(data)) = value.data.as_mut().map(Arc::make_mut)
            && value.shape.len() == 1
        {
            data.iter_mut().zip(numbers(64, i as u32)).for_each(|(d, n)| *d = 0.8 + 0.3 * n);
        }
    }
    if folded { lossless(graph).unwrap().0 } else { graph }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn going_up_keeps_the_function_and_down_again_is_where_it_was(
        width in 2usize..9, blocks in 0usize..3, seed in 0u64..500, folded in any::<bool>(),
    ) {
        let graph = network(width, blocks, seed, folded);
        let (small, level) = Level::of(&graph, LevelOptions { width: true, depth: false }).unwrap();
        prop_assert!(level.families.iter().any(|[a, b]| a > b));
        let x = array(&[1, 5, 4, 2], seed as u32);
        let large = level.up(&small).unwrap();
        assert_near(&run(&small, &x), &run(&large, &x), "up");
        let (again, _) = Level::of(&large, LevelOptions { width: true, depth: false }).unwrap();
        prop_assert!(distance(&small, &again) < 1e-9);
        prop_assert_eq!(distance(&interpolate(&graph, &large, 0.0).unwrap(), &graph), 0.0);
        prop_assert_eq!(distance(&interpolate(&graph, &large, 1.0).unwrap(), &large), 0.0);
    }

    #[test]
    fn shuffled_units_are_found_again(width in 2usize..9, blocks in 0usize..3, seed in 0u64..500) {
        let graph = network(width, blocks, seed, true);
        let other = network(width, blocks, seed + 1000, true);
        // Matched to another network the units change places, not the function; matched back they are where they were.
        let (there, report) = match_units(&other, &graph).unwrap();
        prop_assert!(report.distance[1] <= report.distance[0]);
        let x = array(&[1, 5, 4, 2], seed as u32);
        assert_near(&run(&graph, &x), &run(&there, &x), "matched");
        let (back, report) = match_units(&graph, &there).unwrap();
        prop_assert!(report.distance[1] < 1e-9, "{report:?}");
        assert_near(&run(&graph, &x), &run(&back, &x), "back");
    }
}

#[test]
fn like_blocks_become_one_and_two_again() {
    let graph = network(6, 4, 3, true);
    let (small, level) = Level::of(&graph, LevelOptions { width: false, depth: true }).unwrap();
    assert_eq!(level.removed.len(), 2, "{:?}", level.removed);
    let convs = |g: &Graph| g.nodes.iter().filter(|n| n.name.starts_with("block")).count();
    assert_eq!(convs(&small) * 2, convs(&graph));
    let value =
        |g: &Graph, name: &str| match g.values.iter().find(|v| v.name == name).unwrap().data.as_deref() {
            Some(Data::F32(d)) => d.clone(),
            _ => panic!("{name}"),
        };
    let weights = |g: &Graph, node: &str| {
        let n = g.nodes.iter().find(|n| n.name == node).unwrap();
        value(g, &g.value(n.inputs[1]).name)
    };
    let (a, b) = (weights(&graph, "block0.a"), weights(&graph, "block1.a"));
    for ((a, b), mean) in a.iter().zip(&b).zip(weights(&small, "block0.a")) {
        assert!((0.5 * (a + b) - mean).abs() < 1e-6);
    }
    let large = level.up(&small).unwrap();
    assert_eq!(weights(&large, "block0.a"), weights(&large, "block1.a"));
    let (again, _) = Level::of(&large, LevelOptions { width: false, depth: true }).unwrap();
    let x = array(&[1, 5, 4, 2], 8);
    assert_near(&run(&small, &x), &run(&again, &x), "down again");
    // Both ways at once.
    let (small, level) = Level::of(&graph, LevelOptions::default()).unwrap();
    assert!(level.up(&small).unwrap().validate().is_ok() && small.values.len() < graph.values.len());
    assert!(level.up(&graph).is_err());
}

#[test]
fn networks_of_another_form_do_not_match() {
    assert!(match_units(&network(4, 1, 1, true), &network(5, 1, 1, true)).is_err());
    let mut flat = network(4, 0, 1, true);
    flat.nodes.pop();
    assert!(match_units(&network(4, 0, 1, true), &flat).is_err());
}

#[test]
fn a_cycle_trains_the_large_network() {
    let x = array(&[192, 5, 4, 2], 4);
    let label = |s: ndarray::ArrayViewD<'_, f32>| {
        // Channels lie last.
        let [a, b] = [0, 1].map(|c| s.iter().skip(c).step_by(2).sum::<f32>());
        i64::from(a > b) + i64::from(a > b + 3.0)
    };
    let labels: Vec<i64> = x.outer_iter().map(label).collect();
    let data = Dataset::new(x.clone(), Target::Labels(labels.clone()));
    let graph = network(8, 0, 5, false);
    let options = CycleOptions { epochs: [2, 20, 40], batch: 16, ..CycleOptions::default() };
    let (trained, report) = cycle(&graph, &data, &options, &mut ()).unwrap();
    println!("{report:?}");
    assert!(report.macs[1] < report.macs[0]);
    let reached = accuracy(&trained, &x, &labels).unwrap();
    println!("{reached}, {} before", accuracy(&graph, &x, &labels).unwrap());
    assert!(reached > 0.8, "{reached}");
    let first = trained.value(ValueId(0));
    assert_eq!(first.shape, graph.value(ValueId(0)).shape);
}
