//! Calibration samples far beyond all others do not make a network answer a constant.

use ndarray::{ArrayD, IxDyn};
use offshoot_compress::quantize::{Clipping, QuantizeOptions, quantize, simulate};
use offshoot_ir::Graph;
use offshoot_train::network::{Edge, Network};

type Samples = Vec<Vec<ArrayD<f32>>>;

fn samples(count: usize, phase: usize) -> Samples {
    let value = |s: usize, i: usize| (((s + phase) * 97 + i * 31 + (s + 3) * i % 41) as f32 * 0.731).sin();
    let one = |s| ArrayD::from_shape_fn(IxDyn(&[1, 6, 6, 8]), |d| value(s, d[1] * 48 + d[2] * 8 + d[3]));
    (0..count).map(|s| vec![one(s)]).collect()
}

fn network() -> Graph {
    Network::new("n", [6, 6, 8], 1)
        .conv("a", 8, [3, 3], [1, 1], Edge::Valid)
        .relu("r")
        .conv("b", 4, [4, 4], [1, 1], Edge::Valid)
        .finish()
}

/// Signal-to-noise ratio in dB of the quantised network on usual samples, and the samples that were left out.
fn quantised(calibration: &Samples, clipping: Clipping) -> (f64, Vec<usize>, usize) {
    let graph = network();
    let options = QuantizeOptions { clipping, ..QuantizeOptions::default() };
    let (made, report) = quantize(&graph, calibration, &options).unwrap();
    let tested = samples(24, 1000);
    let (want, got) = (simulate(&graph, &tested).unwrap(), simulate(&made, &tested).unwrap());
    let (mut signal, mut noise) = (0.0, 0.0);
    for (a, b) in want.iter().flatten().flatten().zip(got.iter().flatten().flatten()) {
        (signal, noise) = (signal + f64::from(*a).powi(2), noise + f64::from(a - b).powi(2));
    }
    (10.0 * (signal / noise).log10(), report.left_out, report.warnings.len())
}

#[test]
fn few_samples_far_beyond_all_others_are_left_out() {
    for (count, far) in [(8, vec![2]), (50, vec![49]), (200, vec![17]), (200, vec![3, 50, 51, 199])] {
        let mut calibration = samples(count, 0);
        for (k, &i) in far.iter().enumerate() {
            calibration[i][0] *= 1000.0 * 10f32.powi(k as i32);
        }
        for clipping in [Clipping::Auto, Clipping::MinMax] {
            let (db, left_out, warnings) = quantised(&calibration, clipping);
            assert_eq!((&left_out, warnings > 0), (&far, true));
            assert!(db > 30.0, "{count} {far:?} {clipping:?}: {db}");
        }
    }
}

#[test]
fn one_number_or_one_channel_is_enough() {
    let mut spike = samples(60, 0);
    spike[5][0][[0, 1, 2, 3]] = -4e3;
    let mut channel = samples(60, 0);
    channel[7][0].iter_mut().skip(2).step_by(8).for_each(|v| *v *= 500.0);
    for (calibration, at) in [(spike, 5), (channel, 7)] {
        let (db, left_out, _) = quantised(&calibration, Clipping::MinMax);
        assert_eq!(left_out, [at]);
        assert!(db > 30.0, "{db}");
    }
}

#[test]
fn usual_samples_and_silence_stay() {
    assert_eq!(quantised(&samples(40, 0), Clipping::Auto).1, [0usize; 0]);
    // The float network answers silence with one and the same answer: the samples that are not silent count.
    let mut quiet = samples(40, 0);
    quiet.iter_mut().enumerate().filter(|(i, _)| i % 10 > 0).for_each(|(_, s)| s[0].fill(1e-3));
    assert_eq!(quantised(&quiet, Clipping::Auto).1, [0usize; 0]);
}
