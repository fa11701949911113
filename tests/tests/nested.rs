//! Several networks in one file: each gives the bits of its own export, on the host and on a board, and going from one
//! to another costs next to nothing.

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::nest::{Pair, Scales, nest};
use offshoot_compress::prune::{Groups, Split, slice};
use offshoot_compress::quantize::{QuantizeOptions, quantize};
use offshoot_export::{CompileOptions, Prefer, compile, compile_nested};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Data, Graph};
use offshoot_target::{Device, HostDevice, Target};
use offshoot_train::network::{Edge, Network};
use proptest::prelude::*;
use std::sync::Arc;

/// A first convolution, two separable ones, a residual sum over a 3×3 convolution, a classifier.
fn network(width: usize, seed: u64) -> Graph {
    let same = Edge::Same;
    let stem = Network::new("family", [12, 10, 3], seed)
        .conv("stem", width, [3, 3], [2, 2], same)
        .normalise_relu("stem")
        .depthwise("dw1", [3, 3], [1, 1], same)
        .normalise_relu("dw1")
        .conv("pw1", width + 8, [1, 1], [1, 1], same)
        .normalise_relu("pw1");
    let branch = stem.last();
    let graph = stem
        .conv("res1", width, [3, 3], [1, 1], same)
        .normalise_relu("res1")
        .conv("res2", width + 8, [3, 3], [1, 1], same)
        .normalise("res2")
        .add("sum", branch)
        .relu("sum.relu")
        .depthwise("dw2", [5, 3], [2, 1], same)
        .normalise_relu("dw2")
        .global_average("pool")
        .dense("classes", 5)
        .finish();
    lossless(graph).unwrap().0
}

/// The prefix of every family of channels with `share` of them, in fours.
fn prefix(graph: &Graph, share: f64) -> Graph {
    let groups = Groups::of(graph, Split::default()).unwrap();
    let mut removed = vec![false; groups.len()];
    for family in groups.families.iter().filter(|f| groups.refusal(f).is_none()) {
        let kept = ((family.groups.len() as f64 * share / 4.0).round() as usize * 4).max(4);
        family.groups.iter().skip(kept).for_each(|&g| removed[g] = true);
    }
    slice(graph, &groups, &removed).unwrap()
}

fn samples(count: usize, seed: u64) -> Vec<Vec<ArrayD<f32>>> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| vec![ArrayD::from_shape_fn(IxDyn(&[1, 12, 10, 3]), |_| next())]).collect()
}

/// The quantised family: the whole, and its prefixes on its integers.
fn family(width: usize, shares: &[f64], scales: Scales, seed: u64) -> Vec<Graph> {
    let whole = network(width, seed);
    let samples = samples(6, seed);
    let options = QuantizeOptions::default();
    let quantised = quantize(&whole, &samples, &options).unwrap().0;
    let mut all = vec![quantised.clone()];
    for &share in shares {
        let mut small = prefix(&whole, share);
        if scales == Scales::Own {
            // As normalisation that was calibrated anew does: a factor a channel.
            rescale(&mut small, "pw1.weight", 1.25);
        }
        let own = quantize(&small, &samples, &options).unwrap().0;
        let whole = Pair { float: &whole, quantised: &quantised };
        let (nested, report) = nest(whole, Pair { float: &small, quantised: &own }, scales).unwrap();
        assert!(report.own.is_empty(), "{report:?}");
        all.push(nested);
    }
    all
}

fn rescale(graph: &mut Graph, constant: &str, factor: f32) {
    let value = graph.values.iter_mut().find(|v| v.name.starts_with(constant) && v.data.is_some()).unwrap();
    if let Some(Data::F32(w)) = value.data.as_mut().map(Arc::make_mut) {
        w.iter_mut().for_each(|w| *w *= factor);
    }
}

fn digests(device: &mut dyn Device, input: &[u8]) -> (Vec<u32>, Vec<Vec<u8>>) {
    (device.digests(&[input]).unwrap(), device.run(&[input]).unwrap())
}

fn input(seed: u64) -> Vec<u8> {
    samples(1, seed)[0][0].iter().map(|v| (v * 127.0) as i8 as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_network_gives_the_bits_of_its_own_export(
        width in 2usize..7,
        shares in prop::collection::vec(0.2f64..1.0, 1..4),
        own in any::<bool>(),
        prefer in prop::sample::select(vec![Prefer::Balanced, Prefer::Ram, Prefer::Flash, Prefer::Speed]),
        seed in 1u64..1000,
    ) {
        let scales = if own { Scales::Own } else { Scales::Shared };
        let graphs = family(4 * width, &shares, scales, seed);
        let options = CompileOptions { prefer, ..CompileOptions::default() };
        let nested = compile_nested(&graphs, &options).unwrap();
        let mut device = HostDevice::new();
        device.load(&nested.bytes).unwrap();
        let mut single = HostDevice::new();
        // To and fro: whatever ran before leaves no trace.
        for index in (0..graphs.len()).chain((0..graphs.len()).rev()) {
            device.select(index).unwrap();
            single.load(&compile(&graphs[index], &CompileOptions::default()).unwrap().bytes).unwrap();
            let input = input(seed + index as u64);
            prop_assert_eq!(digests(&mut device, &input), digests(&mut single, &input), "network {}", index);
        }
        prop_assert!(device.select(graphs.len()).is_err());
        for report in &nested.report.networks {
            prop_assert_eq!(report.shared_operators[0], report.shared_operators[1], "{:?}", report);
        }
    }
}

/// The sub-network of half the channels adds a twentieth at most.
#[test]
fn a_sub_network_adds_little_to_the_file() {
    let graphs = family(64, &[0.5], Scales::Shared, 3);
    let alone = compile(&graphs[0], &CompileOptions::default()).unwrap().bytes.len();
    let both = compile_nested(&graphs, &CompileOptions::default()).unwrap();
    let (both, added) = (both.bytes.len(), both.report.networks[0].added_bytes);
    println!("{alone} bytes alone, {both} with a network of half the channels, which adds {added}");
    assert!(both * 100 <= alone * 105);
}

#[test]
fn the_board_switches_between_networks_at_once() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let graphs = family(24, &[0.7, 0.4], Scales::Shared, 5);
    let nested = compile_nested(&graphs, &CompileOptions::default()).unwrap().bytes;
    let target = Target::parse("qemu:cortex-m4").unwrap();
    let mut board = offshoot_target::open(&target)
        .unwrap_or_else(|e| panic!("{e}\nrun scripts/install-deps.sh and firmware/build.sh"));
    let mut host = HostDevice::new();
    board.load(&nested).unwrap();
    host.load(&nested).unwrap();
    for index in [0, 1, 2, 0, 2] {
        let switch = board.select(index).unwrap().unwrap();
        host.select(index).unwrap();
        let input = input(index as u64 + 9);
        assert_eq!(digests(board.as_mut(), &input), digests(&mut host, &input), "network {index}");
        let run = board.profile(&[&input]).unwrap().instructions.unwrap();
        println!("network {index}: switching {switch}, a run {run} instructions");
        assert!(switch * 100 <= run, "{switch} of {run}");
    }
}
