//! Pruning to a budget: what it reaches, what refitting wins back, what it says when it cannot.

use std::sync::Arc;

use ndarray::{Array, Array4, ArrayD};
use offshoot_compress::Error;
use offshoot_compress::prune::{
    Counted, Groups, Instructions, PruneOptions, Score, Split, order, prune, refit, samples, scores, size,
    slice,
};
use offshoot_ir::Graph;
use offshoot_ir::passes::lossless;
use offshoot_reference::Executor;
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, Target};

/// A small residual network with random weights, after the lossless passes.
fn network() -> Graph {
    let start =
        Network::new("residual", [8, 8, 3], 11).conv("a", 16, [3, 3], [1, 1], Edge::Same).relu("a.relu");
    let stem = start.last();
    let graph = start
        .conv("b", 16, [3, 3], [1, 1], Edge::Same)
        .normalise_relu("b")
        .conv("c", 16, [3, 3], [1, 1], Edge::Same)
        .add("sum", stem)
        .relu("sum.relu")
        .depthwise("d", [3, 3], [2, 2], Edge::Same)
        .relu("d.relu")
        .conv("e", 24, [1, 1], [1, 1], Edge::Same)
        .relu("e.relu")
        .global_average("average")
        .dense("head", 4)
        .softmax("softmax");
    lossless(graph).expect("passes").0
}

/// Random images; the label is the brightest quadrant.
fn data(count: usize) -> Dataset {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let labels: Vec<i64> = (0..count).map(|i| (i % 4) as i64).collect();
    let x: Array4<f32> = Array::from_shape_fn((count, 8, 8, 3), |(i, h, w, _)| {
        let inside = (h / 4 * 2 + w / 4) as i64 == labels[i];
        random() + if inside { 0.5 } else { 0.0 }
    });
    Dataset::new(x.into_dyn(), Target::Labels(labels))
}

fn outputs(graph: &Graph, samples: &[Vec<ArrayD<f32>>]) -> Vec<f32> {
    let results = Executor::new(graph).expect("well formed").run_batch(samples).expect("runs");
    results.iter().flat_map(|r| r[0].iter().copied()).collect()
}

#[test]
fn refitting_wins_back_what_deleting_lost() {
    let (graph, data) = (network(), data(96));
    let groups = Groups::of(&graph, Split::default()).expect("analysed");
    let found = scores(&graph, &groups, Score::Taylor, &data, 32).expect("scored");
    let moves = order(&graph, &groups, &found, &vec![false; groups.len()], 4, 0.1, 0.5);
    assert!(moves.windows(2).all(|m| m[1].left < m[0].left));
    let mut removed = vec![false; groups.len()];
    moves.iter().take_while(|m| m.left > 0.5).flat_map(|m| &m.groups).for_each(|&g| removed[g] = true);
    for family in groups.families.iter().filter(|f| groups.refusal(f).is_none()) {
        let left = family.groups.iter().filter(|&&g| !removed[g]).count();
        assert!(left > 0 && left.is_multiple_of(4), "{left} channels of {family:?}");
    }
    let samples = samples(&graph, &data, 96);
    let small = slice(&graph, &groups, &removed).expect("slices");
    let fitted =
        refit(&graph, &groups, &removed, small.clone(), &samples[..64], &mut |_, _| {}).expect("fits");
    // On samples that were not fitted to.
    let wanted = outputs(&graph, &samples[64..]);
    let error = |g: &Graph| -> f32 {
        outputs(g, &samples[64..]).iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum()
    };
    let (before, after) = (error(&small), error(&fitted));
    assert!(after < 0.5 * before, "{before} became {after}");
}

#[test]
fn a_budget_is_met_or_the_nearest_reachable_point_is_named() {
    let (graph, data) = (network(), data(64));
    let options =
        PruneOptions { refit_samples: 16, score_samples: 32, periods: 2, epochs: 1, ..Default::default() };
    for score in [Score::Magnitude, Score::Taylor, Score::Hesso, Score::Cric] {
        let options = PruneOptions { score, ..options.clone() };
        let (_, free) =
            prune(&graph, &data, &PruneOptions { epochs: 0, ..options.clone() }, &mut ()).expect("free");
        assert_eq!(free.before, free.after);
        let limit = free.before.flash * 6 / 10;
        let options = PruneOptions { max_flash: Some(limit), ..options };
        let (small, report) = prune(&graph, &data, &options, &mut ()).expect("fits");
        assert!(report.after.flash <= limit && report.after.macs < report.before.macs, "{report:?}");
        small.validate().expect("well formed");
        let again = prune(&graph, &data, &options, &mut ()).expect("fits");
        assert_eq!(again, (small, report));
    }
    let options = PruneOptions { max_flash: Some(200), ..options };
    match prune(&graph, &data, &options, &mut ()) {
        Err(Error::Budget { flash, ram, .. }) => {
            assert!(flash > 200 && ram > 0);
            let options = PruneOptions { max_flash: Some(flash + 400), ..options };
            prune(&graph, &data, &options, &mut ()).expect("what is named can be had");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn channels_fade_and_work_has_a_budget_too() {
    let (graph, data) = (network(), data(96));
    // A device that takes two instructions for every byte, and a thousand more.
    let count = |off: &[u8]| Ok(Counted::from(1000 + 2 * off.len() as u64));
    let options = PruneOptions {
        refit_samples: 0,
        score_samples: 32,
        periods: 2,
        fade_epochs: 2,
        epochs: 1,
        max_instructions: Some(0),
        instructions: Some(Instructions(Arc::new(count))),
        augment: Some(Arc::new(offshoot_train::augment::Images { flip: false, shift: 1 })),
        ..Default::default()
    };
    let Err(Error::Budget { macs, .. }) = prune(&graph, &data, &options, &mut ()) else {
        panic!("no network takes no instruction")
    };
    let whole = size(&graph, &samples(&graph, &data, 2), &options.weight_bits, options.instructions.as_ref())
        .expect("measured");
    assert!(macs < whole.macs && whole.instructions == Some(1000 + 2 * whole.flash));
    let limit = whole.instructions.map(|i| i * 6 / 10);
    let options = PruneOptions { max_instructions: limit, ..options };
    let (small, report) = prune(&graph, &data, &options, &mut ()).expect("fits");
    small.validate().expect("well formed");
    assert!(report.after.instructions <= limit && report.after.macs < whole.macs, "{report:?}");
    assert_eq!(prune(&graph, &data, &options, &mut ()).expect("again"), (small, report));
    // Nothing jumps when what has faded is deleted: the network with all periods done learns on where it was.
    let macs = PruneOptions {
        max_instructions: None,
        instructions: None,
        max_macs: Some(whole.macs / 2),
        ..options
    };
    let (_, report) = prune(&graph, &data, &macs, &mut ()).expect("fits");
    assert!(report.after.macs <= whole.macs / 2 && report.after.instructions.is_none());
}

/// Networks of several kinds and sizes.
fn networks() -> Vec<Graph> {
    let plain = |seed: u64, widths: [usize; 3]| {
        Network::new("plain", [8, 8, 3], seed)
            .conv("a", widths[0], [3, 3], [1, 1], Edge::Same)
            .relu("a.relu")
            .conv("b", widths[1], [3, 3], [2, 2], Edge::Same)
            .relu("b.relu")
            .conv("c", widths[2], [3, 3], [1, 1], Edge::Same)
            .relu("c.relu")
            .flatten("flat")
            .dense("d", 24)
            .relu("d.relu")
            .dense("head", 4)
            .softmax("softmax")
    };
    let separable = |seed: u64, widths: [usize; 3]| {
        let mut n = Network::new("separable", [8, 8, 3], seed)
            .conv("stem", widths[0], [3, 3], [1, 1], Edge::Same)
            .relu("stem.relu");
        for (i, width) in widths.into_iter().enumerate() {
            n = n
                .depthwise(&format!("d{i}"), [3, 3], [1, 1], Edge::Same)
                .relu(&format!("d{i}.relu"))
                .conv(&format!("p{i}"), width, [1, 1], [1, 1], Edge::Same)
                .relu(&format!("p{i}.relu"));
        }
        n.global_average("average").dense("head", 4).softmax("softmax")
    };
    let residual = |seed: u64, width: usize| {
        let mut n = Network::new("residual", [8, 8, 3], seed)
            .conv("stem", width, [3, 3], [1, 1], Edge::Same)
            .relu("stem.relu");
        for i in 0..2 {
            let before = n.last();
            n = n
                .conv(&format!("a{i}"), width, [3, 3], [1, 1], Edge::Same)
                .relu(&format!("a{i}.relu"))
                .conv(&format!("b{i}"), width, [3, 3], [1, 1], Edge::Same)
                .add(&format!("sum{i}"), before)
                .relu(&format!("sum{i}.relu"));
        }
        n.conv("wide", 2 * width, [3, 3], [2, 2], Edge::Same)
            .relu("wide.relu")
            .global_average("average")
            .dense("head", 4)
            .softmax("softmax")
    };
    let all = [
        plain(1, [8, 16, 24]),
        plain(2, [24, 16, 8]),
        plain(3, [12, 20, 36]),
        separable(4, [16, 32, 32]),
        separable(5, [24, 24, 48]),
        separable(6, [32, 16, 20]),
        residual(7, 8),
        residual(8, 16),
        residual(9, 22),
        network(),
    ];
    all.into_iter().map(|g| lossless(g).expect("passes").0).collect()
}

#[test]
fn every_budget_is_met_and_the_tightest_is_used() {
    let data = data(48);
    for (i, graph) in networks().into_iter().enumerate() {
        let whole = size(&graph, &samples(&graph, &data, 2), &Default::default(), None).expect("measured");
        let (flash, macs) =
            (whole.flash * (50 + 5 * (i as u64 % 5)) / 100, whole.macs * (45 + 7 * (i as u64 % 4)) / 100);
        let kinds = [
            (Some(flash), None, 8),
            (None, Some(macs), 8),
            (Some(flash), Some(macs), 8),
            (Some(flash), Some(macs), 4),
            (Some(flash), None, 4),
        ];
        for (max_flash, max_macs, fewest_bits) in [kinds[i % 5], kinds[(i + 2) % 5]] {
            let options = PruneOptions {
                max_flash,
                max_macs,
                fewest_bits,
                score: if fewest_bits == 8 { Score::Magnitude } else { Score::Taylor },
                refit_samples: 0,
                score_samples: 32,
                periods: 2,
                ..Default::default()
            };
            let (small, report) = prune(&graph, &data, &options, &mut ()).expect("fits");
            small.validate().expect("well formed");
            let used = |limit: Option<u64>, now: u64| limit.map_or(0.0, |l| now as f64 / l as f64);
            let used = [used(max_flash, report.after.flash), used(max_macs, report.after.macs)];
            assert!(
                used.iter().all(|u| *u <= 1.0),
                "network {i}: {used:?} of its limits {max_flash:?} {max_macs:?}"
            );
            let tightest = used[0].max(used[1]);
            assert!(
                tightest >= 0.95,
                "network {i} ({}) uses {used:?} of {max_flash:?} bytes and {max_macs:?} MACs, bits {fewest_bits}: {:?} {:?}",
                graph.name,
                report.weight_bits.layers,
                report.families
            );
        }
    }
}

#[test]
fn layers_keep_what_they_are_given_by_name() {
    let (graph, data) = (network(), data(48));
    let options = PruneOptions {
        refit_samples: 0,
        score_samples: 32,
        keep: vec!["e".into()],
        ratios: [("b".to_owned(), 0.5)].into(),
        ..Default::default()
    };
    let count = |g: &Graph, name: &str| {
        let node = g.nodes.iter().find(|n| n.name == name).expect("stays");
        g.value(node.output).shape.last().copied().expect("has channels")
    };
    let (small, _) = prune(&graph, &data, &options, &mut ()).expect("needs no budget");
    assert_eq!(["a", "b", "e"].map(|n| count(&small, n)), [16, 8, 24]);
    // A budget takes the rest from the others.
    let whole = size(&graph, &samples(&graph, &data, 2), &Default::default(), None).expect("measured");
    let options = PruneOptions { max_flash: Some(whole.flash * 6 / 10), ..options };
    let (small, report) = prune(&graph, &data, &options, &mut ()).expect("fits");
    assert_eq!(["b", "e"].map(|n| count(&small, n)), [8, 24]);
    assert!(count(&small, "a") < 16 && report.after.flash * 10 <= whole.flash * 6, "{report:?}");
    let wrong = PruneOptions { keep: vec!["heads".into()], ..options };
    let error = prune(&graph, &data, &wrong, &mut ()).expect_err("unknown").to_string();
    assert!(error.contains("`heads`") && error.contains("`head`"), "{error}");
}
