//! Setting weights to zero: what is left, where it is put back to, and that the device's form shrinks by it.

use ndarray::{Array, Array4};
use offshoot_compress::Error;
use offshoot_compress::sparsify::{
    Masks, Method, Pattern, Rewind, Scope, SparsifyOptions, masks_of, matrices, sparsify,
};
use offshoot_ir::{Data, Graph};
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target};

/// A small network of a convolution and three fully connected layers, and a depthwise convolution between.
fn network() -> Graph {
    Network::new("small", [8, 8, 3], 5)
        .conv("conv", 16, [3, 3], [2, 2], Edge::Same)
        .relu("conv.relu")
        .depthwise("depthwise", [3, 3], [1, 1], Edge::Same)
        .relu("depthwise.relu")
        .flatten("flat")
        .dense("fc1", 64)
        .relu("fc1.relu")
        .dense("fc2", 32)
        .relu("fc2.relu")
        .dense("fc3", 8)
        .softmax("softmax")
}

/// Random images; the label is the brightest of eight tiles.
fn data(count: usize) -> Dataset {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let labels: Vec<i64> = (0..count).map(|i| (i % 8) as i64).collect();
    let x: Array4<f32> = Array::from_shape_fn((count, 8, 8, 3), |(i, h, w, _)| {
        let inside = (h / 4 * 4 + w / 2) as i64 == labels[i];
        random() + if inside { 1.0 } else { 0.0 }
    });
    Dataset::new(x.into_dyn(), Target::Labels(labels))
}

fn options(method: Method, epochs: usize) -> SparsifyOptions {
    let train = FitOptions { epochs, batch: 16, rate: 2e-3, decay: 0.0, ..FitOptions::default() };
    SparsifyOptions { density: 0.1, method, train, ..SparsifyOptions::default() }
}

fn constant<'g>(graph: &'g Graph, name: &str) -> &'g [f32] {
    let value = graph.values.iter().find(|v| v.name == name).unwrap();
    match value.data.as_deref() {
        Some(Data::F32(data)) => data,
        _ => panic!("{name}"),
    }
}

const ALL: [Method; 4] = [
    Method::OneShot,
    Method::Gradual { steps: 3 },
    Method::Iterative { rounds: 3, rewind: Rewind::Start },
    Method::Iterative { rounds: 2, rewind: Rewind::Step(4) },
];

#[test]
fn the_density_is_met_and_the_device_needs_less() {
    let (graph, data) = (network(), data(96));
    for method in ALL {
        let (sparse, report) = sparsify(&graph, &data, &options(method, 1), &mut ()).unwrap();
        let names: Vec<_> = report.matrices.iter().map(|m| m.name.as_str()).collect();
        // The depthwise convolution has nothing to lose.
        assert_eq!(names, ["conv.weight", "fc1.weight", "fc2.weight", "fc3.weight"]);
        let share = report.left as f64 / report.weights as f64;
        assert!((0.098..0.102).contains(&share), "{method:?}: {share}");
        let of = |i: usize| {
            report.matrices[i].left as f64 / (report.matrices[i].rows * report.matrices[i].columns) as f64
        };
        assert!(of(3) > 2.0 * of(1), "{method:?}: the last matrix loses less");
        assert!(report.after.flash * 2 < report.before.flash, "{method:?}: {report:?}");
        assert!(report.after.macs * 2 < report.before.macs, "{method:?}: {report:?}");
        for m in &report.matrices {
            assert_eq!(constant(&sparse, &m.name).iter().filter(|w| **w != 0.0).count(), m.left);
        }
        let (shown, left) = (masks_of(&sparse), |mask: &Vec<bool>| mask.iter().filter(|k| **k).count());
        assert_eq!(left(&shown["fc1.weight"]), report.matrices[1].left);
        let rounds = match method {
            Method::OneShot => 1,
            Method::Gradual { steps } => steps,
            Method::Iterative { rounds, .. } => rounds + 1,
        };
        assert_eq!(report.rounds.len(), rounds, "{method:?}");
        assert!(report.rounds.windows(2).all(|w| w[1].density < w[0].density));
    }
}

#[test]
fn a_ticket_goes_back_to_where_it_began() {
    let (graph, data) = (network(), data(64));
    let method = |rewind| Method::Iterative { rounds: 2, rewind };
    let with = |rewind| {
        let options = SparsifyOptions { last_epochs: Some(0), ..options(method(rewind), 2) };
        sparsify(&graph, &data, &options, &mut ()).unwrap().0
    };
    let starts = |sparse: &Graph| {
        let left = constant(sparse, "fc1.weight").iter().zip(constant(&graph, "fc1.weight"));
        left.filter(|(s, _)| **s != 0.0).all(|(s, w)| s == w)
    };
    assert!(starts(&with(Rewind::Start)));
    assert!(!starts(&with(Rewind::Step(3))));
    assert!(!starts(&with(Rewind::None)));
    // The same calls give the same bits.
    assert_eq!(with(Rewind::Step(3)), with(Rewind::Step(3)));
}

#[test]
fn patterns_hold_in_the_trained_network() {
    let (graph, data) = (network(), data(64));
    let cases = [(Pattern::Block(4), 4, None), (Pattern::NOfM { n: 2, m: 8 }, 8, Some(2))];
    for (pattern, length, most) in cases {
        for scope in [Scope::Layer, Scope::Global] {
            let own = SparsifyOptions { pattern, scope, ..options(Method::Gradual { steps: 2 }, 2) };
            if most.is_some() && scope == Scope::Global {
                continue;
            }
            let (sparse, report) = sparsify(&graph, &data, &own, &mut ()).unwrap();
            for m in &report.matrices[..3] {
                for row in constant(&sparse, &m.name).chunks(m.columns) {
                    for unit in row.chunks(length) {
                        let left = unit.iter().filter(|w| **w != 0.0).count();
                        let fits = most.map_or(left == 0 || left == unit.len(), |most| left <= most);
                        assert!(fits, "{pattern} {scope:?} {}: {left}", m.name);
                    }
                }
            }
        }
    }
}

#[test]
fn what_stays_out_stays_whole() {
    let (graph, data) = (network(), data(64));
    let own = SparsifyOptions {
        keep: ["fc1.weight".to_owned()].into(),
        least: 400,
        density: 0.3,
        ..options(Method::OneShot, 0)
    };
    let (sparse, report) = sparsify(&graph, &data, &own, &mut ()).unwrap();
    let names: Vec<_> = report.matrices.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["conv.weight", "fc2.weight"]);
    for name in ["fc1.weight", "fc3.weight"] {
        assert_eq!(constant(&sparse, name), constant(&graph, name));
    }
    assert_eq!(masks_of(&graph), Masks::new());
    assert_eq!(matrices(&graph).len(), 4);
}

#[test]
fn options_that_cannot_be_are_named() {
    let (graph, data) = (network(), data(16));
    let named = |options: SparsifyOptions| match sparsify(&graph, &data, &options, &mut ()) {
        Err(Error::Option { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    let usual = || options(Method::OneShot, 0);
    assert_eq!(named(SparsifyOptions { density: 0.0, ..usual() }), "density");
    assert_eq!(named(SparsifyOptions { density: f64::NAN, ..usual() }), "density");
    assert_eq!(named(SparsifyOptions { output_rate: 2.0, ..usual() }), "output_rate");
    assert_eq!(named(SparsifyOptions { pattern: Pattern::NOfM { n: 5, m: 4 }, ..usual() }), "pattern");
    assert_eq!(named(SparsifyOptions { method: Method::Gradual { steps: 0 }, ..usual() }), "method");
    assert_eq!(named(SparsifyOptions { keep: ["nothing".to_owned()].into(), ..usual() }), "keep");
    assert_eq!(named(SparsifyOptions { least: 1 << 30, ..usual() }), "least");
}
