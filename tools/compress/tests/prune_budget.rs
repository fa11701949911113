//! Pruning to a budget: what it reaches, what refitting wins back, what it says when it cannot.

use std::sync::Arc;

use ndarray::{Array, Array4, ArrayD};
use offshoot_compress::Error;
use offshoot_compress::prune::{
    Groups, Instructions, PruneOptions, Score, Split, order, prune, refit, samples, scores, size, slice,
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
    let count = |off: &[u8]| Ok(1000 + 2 * off.len() as u64);
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
