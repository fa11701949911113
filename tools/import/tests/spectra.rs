//! Fourier transforms of frames as exporters write them, operators of the own domain, and a front end joined to a network.

mod common;

use common::*;
use ndarray::{ArrayD, IxDyn};
use offshoot_import::{emit, import_bytes, join};
use offshoot_ir::micro_frontend::MicroFrontend;
use offshoot_ir::{Graph, Op, SpectrumPart, passes};
use offshoot_reference::Executor;
use tract_onnx::pb::{NodeProto, TensorProto};

fn optimised(file: &[u8]) -> Graph {
    let graph = import_bytes(file, "test").unwrap_or_else(|e| panic!("{e}"));
    passes::lossless(graph).unwrap().0
}

fn run(graph: &Graph, x: &[f32]) -> Vec<f32> {
    let shape = &graph.value(graph.inputs[0]).shape;
    let x = ArrayD::from_shape_vec(IxDyn(shape), x.to_vec()).unwrap();
    Executor::new(graph).unwrap().run(&[x]).unwrap()[0].iter().copied().collect()
}

fn spectra(graph: &Graph) -> Vec<(usize, SpectrumPart)> {
    let found = graph.nodes.iter().filter_map(|node| match node.op {
        Op::Spectrum { frame, part, .. } => Some((frame, part)),
        _ => None,
    });
    found.collect()
}

/// Power of the bins of frames of `size` samples, `hop` apart, in float64.
fn power(x: &[f32], window: &[f32], [hop, size]: [usize; 2]) -> Vec<f64> {
    let frames = (x.len() - size) / hop + 1;
    let mut out = Vec::new();
    for frame in 0..frames {
        for bin in 0..=size / 2 {
            let part = |f: fn(f64) -> f64| {
                let turned = |i: usize| f64::from(x[frame * hop + i] * window[i]) * f(angle(i * bin, size));
                (0..size).map(turned).sum::<f64>()
            };
            out.push(part(f64::cos).powi(2) + part(f64::sin).powi(2));
        }
    }
    out
}

fn angle(at: usize, size: usize) -> f64 {
    (at % size) as f64 / size as f64 * std::f64::consts::TAU
}

fn stft(window: Vec<f32>, [hop, size]: [i64; 2], then: Vec<NodeProto>, parts: Vec<TensorProto>) -> Vec<u8> {
    let length = window.len() as i64;
    let mut nodes = vec![node("STFT", &["x", "hop", "window", "size"], &["s"], vec![int("onesided", 1)])];
    nodes.extend(then);
    let mut all = vec![whole("hop", &[hop]), reals("window", &[length], window), whole("size", &[size])];
    all.extend(parts);
    model(17, 1, &[1, 200, 1], nodes, all)
}

#[test]
fn powers_and_magnitudes_are_part_of_the_transform() {
    let (x, window) = (wave(200, 0.2), wave(64, 0.7));
    let exact = power(&x, &window, [40, 64]);
    let square = |part: &str, at: &str| {
        let parts = [format!("{part}_"), format!("{part}2")];
        vec![
            node("Gather", &["s", at], &[&parts[0]], vec![int("axis", 3)]),
            node("Pow", &[&parts[0], "two"], &[&parts[1]], vec![]),
        ]
    };
    let parts = [square("re", "zero"), square("im", "one")].concat();
    let sliced = [parts, vec![node("Add", &["re2", "im2"], &["y"], vec![])]].concat();
    let scalars = || vec![scalar("zero", 0), scalar("one", 1), reals("two", &[], vec![2.0])];
    let summed = vec![
        node("Mul", &["s", "s"], &["s2"], vec![]),
        node("ReduceSum", &["s2", "last"], &["y"], vec![int("keepdims", 0)]),
    ];
    let norm = vec![node("ReduceL2", &["s"], &["y"], vec![ints("axes", &[-1]), int("keepdims", 0)])];
    for (what, then, parts, wanted) in [
        ("slices", sliced, scalars(), SpectrumPart::Power),
        ("sum", summed, vec![whole("last", &[-1])], SpectrumPart::Power),
        ("norm", norm, vec![], SpectrumPart::Magnitude),
    ] {
        let graph = optimised(&stft(window.clone(), [40, 64], then, parts));
        assert_eq!(spectra(&graph), [(64, wanted)], "{what}");
        let found = run(&graph, &x);
        assert_eq!(found.len(), exact.len());
        for (a, power) in found.iter().zip(&exact) {
            let b = if wanted == SpectrumPart::Power { *power } else { power.sqrt() };
            assert!((f64::from(*a) - b).abs() < 1e-4 * b.max(1.0), "{what}: {a} instead of {b}");
        }
        // Written and read again it is the same.
        let again = optimised(&emit(&graph).unwrap());
        assert_eq!((spectra(&again), run(&again, &x)), (spectra(&graph), found), "{what}");
    }
}

fn scalar(name: &str, v: i64) -> TensorProto {
    TensorProto { dims: vec![], ..whole(name, &[v]) }
}

#[test]
fn a_window_that_ends_in_zeros_makes_frames_shorter() {
    let x = wave(200, 0.4);
    let mut window = wave(64, 0.7);
    window[50..].fill(0.0);
    for (hop, frame) in [(40, 50), (34, 50), (14, 64)] {
        let graph = optimised(&stft(
            window.clone(),
            [hop, 64],
            vec![node("Mul", &["s", "s"], &["y"], vec![])],
            vec![],
        ));
        // With a hop of 14, a shorter frame would be one more.
        assert_eq!(spectra(&graph), [(frame, SpectrumPart::Complex)], "{hop}");
        let exact = power(&x, &window, [hop as usize, 64]);
        let found: Vec<f32> = run(&graph, &x).chunks(2).map(|parts| parts[0] + parts[1]).collect();
        assert_eq!(found.len(), exact.len());
        for (a, b) in found.iter().zip(&exact) {
            assert!((f64::from(*a) - b).abs() < 1e-4 * b.max(1.0), "{hop}: {a} instead of {b}");
        }
    }
}

/// A transform without a fast form stays a product.
#[test]
fn other_lengths_are_products() {
    let y = || vec![node("Mul", &["s", "s"], &["y"], vec![])];
    assert!(spectra(&optimised(&stft(wave(60, 0.1), [30, 60], y(), vec![]))).is_empty());
    assert!(spectra(&optimised(&stft(wave(16, 0.1), [30, 16], y(), vec![]))).is_empty());
}

fn own(operator: &str, attributes: Vec<tract_onnx::pb::AttributeProto>, dims: &[i64]) -> Vec<u8> {
    let node = NodeProto { domain: "offshoot".into(), ..node(operator, &["x"], &["y"], attributes) };
    model(17, 1, dims, vec![node], vec![])
}

#[test]
fn operators_of_the_own_domain_are_written_and_read() {
    for (file, wanted) in [
        (
            own("History", vec![int("axis", 1), int("state", 3), float("fill", -1.0)], &[1, 2, 4]),
            Op::History { axis: 1, state: 3, fill: -1.0 },
        ),
        (
            own("MicroFrontend", vec![int("channels", 20), float("strength", 0.9)], &[1, 900]),
            Op::MicroFrontend(MicroFrontend {
                channels: 20,
                gain: MicroFrontend::default()
                    .gain
                    .map(|gain| offshoot_ir::micro_frontend::Gain { strength: 0.9, ..gain }),
                log: None,
                ..MicroFrontend::default()
            }),
        ),
    ] {
        let graph = optimised(&file);
        assert_eq!(graph.nodes[0].op, wanted);
        assert_eq!(optimised(&emit(&graph).unwrap()).nodes[0].op, wanted);
    }
    for (operator, attributes, dims) in [
        ("Unknown", vec![], &[1, 900][..]),
        ("History", vec![int("state", -1)], &[1, 900]),
        ("History", vec![int("state", 0)], &[1, 900]),
        ("History", vec![int("state", i64::MAX), int("axis", 1)], &[1, 900]),
        ("MicroFrontend", vec![], &[1, 400]),
        ("MicroFrontend", vec![int("frame", 0)], &[1, 900]),
        ("MicroFrontend", vec![int("frame", i64::MAX)], &[1, 900]),
        ("MicroFrontend", vec![int("hop", 0)], &[1, 900]),
        ("MicroFrontend", vec![int("channels", 1 << 40)], &[1, 900]),
        ("MicroFrontend", vec![int("rate", 8000)], &[1, 900]),
        ("MicroFrontend", vec![float("low", f32::NAN)], &[1, 900]),
        ("MicroFrontend", vec![int("scale_shift", 99)], &[1, 900]),
    ] {
        assert!(
            import_bytes(&own(operator, attributes.clone(), dims), "test").is_err(),
            "{operator} {attributes:?}"
        );
    }
}

#[test]
fn a_front_end_is_joined_node_for_node() {
    let power = vec![
        node("Mul", &["s", "s"], &["s2"], vec![]),
        node("ReduceSum", &["s2", "last"], &["y"], vec![int("keepdims", 0)]),
    ];
    let front =
        import_bytes(&stft(wave(64, 0.7), [40, 64], power, vec![whole("last", &[-1])]), "front").unwrap();
    let front = emit(&passes::lossless(front).unwrap().0).unwrap();
    // Names that both have, and an older operator set.
    let nodes =
        vec![node("Flatten", &["x"], &["s"], vec![]), node("MatMul", &["s", "window"], &["y"], vec![])];
    for opset in [9, 13, 20] {
        let parts = vec![noise("window", &[132, 3])];
        let network = model(opset, 1, &[1, 4, 33], nodes.clone(), parts);
        let joined = optimised(&join(&front, &network).unwrap());
        let x = wave(200, 0.3);
        let features = run(&optimised(&front), &x);
        let wanted = run(&optimised(&network), &features);
        let found = run(&joined, &x);
        assert!(
            found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-3 * b.abs().max(1.0)),
            "{opset}: {found:?} {wanted:?}"
        );
    }
    let other = model(17, 1, &[1, 4, 32], nodes.clone(), vec![noise("window", &[128, 3])]);
    assert!(join(&front, &other).unwrap_err().to_string().contains("[1, 4, 32]"));
    assert!(join(&front, b"no model").is_err());
    assert!(join(b"", &other).is_err());
    let integers = model(17, 3, &[1, 4, 33], nodes, vec![noise("window", &[132, 3])]);
    assert!(join(&front, &integers).unwrap_err().to_string().contains("float32"));
}
