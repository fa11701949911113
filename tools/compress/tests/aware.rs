//! Quantisation-aware training: what it computes on the way forward is what the device computes, bit for bit.

use std::collections::BTreeMap;

use ndarray::ArrayD;
use offshoot_compress::quantize::aware::{AwareOptions, aware};
use offshoot_compress::quantize::{
    Learned, Policy, QuantizeOptions, WeightBits, device_accuracy, device_outputs, quantize, quantize_learned,
};
use offshoot_ir::passes::lossless;
use offshoot_ir::{Data, Graph, Op, grid};
use offshoot_train::network::{Edge, Network};
use offshoot_train::{Dataset, FitOptions, Target, fit};

/// Deterministic numbers between -1 and 1.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let hash = |i: usize| (i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed.wrapping_mul(40_503));
    (0..len).map(|i| ((hash(i) ^ hash(i) >> 13) >> 8) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// Three classes by where the mass of an image lies.
fn data(count: usize, seed: u32) -> Dataset {
    let x = ArrayD::from_shape_vec(vec![count, 6, 6, 2], numbers(count * 72, seed)).unwrap();
    let class = |s: ndarray::ArrayViewD<'_, f32>| {
        let part = |from: usize| s.iter().skip(from * 24).take(24).sum::<f32>();
        let parts = [part(0), part(1), part(2)];
        (0..3).max_by(|&a, &b| parts[a].total_cmp(&parts[b])).unwrap() as i64
    };
    let labels = x.outer_iter().map(class).collect();
    Dataset::new(x, Target::Labels(labels))
}

/// A residual network with a depthwise convolution, trained a little; its output are the logits.
fn trained() -> Graph {
    let net = Network::new("small", [6, 6, 2], 3)
        .conv("stem", 8, [3, 3], [1, 1], Edge::Same)
        .normalise_relu("stem");
    let shortcut = net.last();
    let net = net
        .depthwise("deep", [3, 3], [1, 1], Edge::Same)
        .normalise_relu("deep")
        .conv("point", 8, [1, 1], [1, 1], Edge::Valid)
        .normalise("point")
        .add("sum", shortcut)
        .relu("relu")
        .conv("rows", 6, [1, 6], [1, 1], Edge::Valid)
        .normalise_relu("rows");
    let graph = net.conv("head", 3, [6, 1], [1, 1], Edge::Valid).global_average("flat").finish();
    let options = FitOptions { epochs: 6, batch: 32, ..FitOptions::default() };
    let (graph, _) = fit(&graph, &data(256, 1), &options, &mut ()).unwrap();
    lossless(graph).unwrap().0
}

fn cross_entropy(rows: &[Vec<f32>], labels: &[i64]) -> f64 {
    let one = |row: &Vec<f32>, label: i64| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|v| f64::from(v - max).exp()).sum();
        sum.ln() + f64::from(max) - f64::from(row[label as usize])
    };
    rows.iter().zip(labels).map(|(r, &l)| one(r, l)).sum::<f64>() / rows.len() as f64
}

#[test]
fn the_forward_pass_is_the_devices() {
    let graph = trained();
    let (train, held) = (data(256, 1), data(96, 2));
    let Target::Labels(labels) = &held.target else { panic!("labels") };
    for (bits, device) in [(4, true), (2, true), (4, false)] {
        let weight_bits = WeightBits::all(bits);
        let options = AwareOptions {
            weight_bits,
            epochs: 2,
            batch: 32,
            rate: 2e-3,
            device,
            validation: Some(held.clone()),
            ..AwareOptions::default()
        };
        let (after, report) = aware(&graph, &train, &options, &mut ()).unwrap();
        assert_eq!(report.policy.learned(), Some(report.learned()));
        let quantized = quantize_learned(&after, &report.learned(), &report.quantize_options(&[])).unwrap();
        if report.best > 0 {
            // Loss and accuracy that training saw are those of the compiled file.
            let judged = report.epochs[report.best - 1].validation.unwrap();
            let loss = cross_entropy(&device_outputs(&quantized, &held).unwrap(), labels);
            let accuracy = device_accuracy(&quantized, &held).unwrap();
            println!(
                "{bits} bits, device {device}: {} and {loss}, {:?} and {accuracy}",
                judged.loss, judged.accuracy
            );
            let tolerance = if device { 1e-6 } else { 0.02 };
            assert!((f64::from(judged.loss) - loss).abs() < tolerance, "{} is not {loss}", judged.loss);
            assert!(!device || judged.accuracy == Some(accuracy));
        }
        // Codes are those of the learned steps.
        for node in after.nodes.iter().filter(|n| matches!(n.op, Op::Conv2d { .. })) {
            let Some(Data::F32(weights)) = after.value(node.inputs[1]).data.as_deref() else { panic!() };
            let made = quantized.nodes.iter().find(|n| n.output == node.output).unwrap();
            let Some(Data::I8(codes)) = quantized.value(made.inputs[1]).data.as_deref() else { panic!() };
            let steps = &report.policy.steps[&node.name];
            let depthwise = matches!(node.op, Op::Conv2d { groups, .. } if groups > 1);
            let own = if depthwise { 8 } else { bits };
            let width = weights.len() / steps.len();
            for (i, (w, q)) in weights.iter().zip(codes).enumerate() {
                let wanted = grid::weight_code(*w, steps[i / width], grid::top(own)) * grid::spread(own);
                assert_eq!(*q, wanted, "{}[{i}]", node.name);
            }
        }
    }
}

#[test]
fn training_wins_back_what_two_bits_cost() {
    let graph = trained();
    let (train, held) = (data(256, 1), data(200, 2));
    let weight_bits = WeightBits::all(2);
    let options = QuantizeOptions { weight_bits: weight_bits.clone(), ..QuantizeOptions::default() };
    let samples = offshoot_compress::prune::samples(&graph, &train, 64);
    let (plain, _) = quantize(&graph, &samples, &options).unwrap();
    let before = device_accuracy(&plain, &held).unwrap();
    let options = AwareOptions {
        weight_bits,
        epochs: 12,
        batch: 16,
        rate: 5e-3,
        validation: Some(data(96, 3)),
        ..AwareOptions::default()
    };
    let (after, report) = aware(&graph, &train, &options, &mut ()).unwrap();
    let quantized = quantize_learned(&after, &report.learned(), &report.quantize_options(&[])).unwrap();
    let now = device_accuracy(&quantized, &held).unwrap();
    println!("two bits: {before} after quantisation, {now} after training");
    assert!(now > before, "{now} after training, {before} before");
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let graph = trained();
    let options = QuantizeOptions::default();
    let empty = quantize_learned(&graph, &Learned::default(), &options).unwrap_err();
    assert!(empty.to_string().contains("there is none for tensor `input`"), "{empty}");
    let ranges: BTreeMap<String, (f32, f32)> =
        graph.values.iter().filter(|v| v.data.is_none()).map(|v| (v.name.clone(), (-1.0, 2.0))).collect();
    let with = |steps: &[(&str, Vec<f32>)]| {
        let steps = steps.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect();
        quantize_learned(&graph, &Learned { steps, ranges: ranges.clone() }, &options)
    };
    assert!(with(&[]).is_ok());
    for (steps, wanted) in [
        (("stem", vec![0.1; 3]), "8 output channels"),
        (("stem", vec![f32::NAN; 8]), "no step"),
        (("nothing", vec![0.1; 8]), "no operator"),
    ] {
        let error = with(&[steps]).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn a_policy_file_keeps_every_number() {
    let policy = Policy::new(
        WeightBits { weights: 4, layers: [("a".into(), 8)].into(), levels: [("b/c".into(), 16)].into() },
        Learned {
            steps: [("a".into(), numbers(7, 5).iter().map(|v| v.abs() * 1e-3).collect())].into(),
            ranges: [("x".into(), (-0.1, 1.0 / 3.0))].into(),
        },
    );
    let text = toml::to_string(&policy).unwrap();
    assert_eq!(toml::from_str::<Policy>(&text).unwrap(), policy, "{text}");
    assert!(toml::from_str::<Policy>("wieghts = 4").is_err());
    assert_eq!(toml::from_str::<Policy>("weights = 4\n[layers]\n\"a\" = 8").unwrap().learned(), None);
}
