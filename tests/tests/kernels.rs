//! Random convolutions: every arrangement, plan and instruction set gives the bits of the plain portable kernels.

use offshoot::format::codec::Record;
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, Compiled, Core, Prefer, compile};
use offshoot_ir::{Activation, BinaryKind, Data, Graph, Op, PoolKind, Window};
use offshoot_target::{Device, HostDevice, Target};
use offshoot_tests::int8::{Builder, Numbers, extent};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A convolution, a depthwise convolution, a second convolution, a residual sum, a pool and a classifier.
#[derive(Clone, Debug)]
struct Shape {
    input: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    pad: [usize; 4],
    dilation: usize,
    channels: usize,
    depthwise: usize,
    depthwise_stride: usize,
    classes: usize,
    activation: Activation,
    seed: u64,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let window = (1usize..4, 1usize..5, 1usize..3, 1usize..3, [0usize..3, 0..3, 0..3, 0..3], 1usize..3);
    let activation = prop::sample::select(vec![
        Activation::None,
        Activation::Relu,
        Activation::Clip { min: 0.0, max: 6.0 },
    ]);
    let others = (1usize..19, prop::sample::select(vec![1usize, 3, 5]), 1usize..3, 2usize..40, activation);
    ([3usize..13, 3..14, 1..10], window, others, any::<u64>()).prop_map(
        |(
            input,
            (k_h, k_w, s_h, s_w, pad, dilation),
            (channels, depthwise, depthwise_stride, classes, activation),
            seed,
        )| {
            Shape {
                input,
                kernel: [k_h.min(input[0]), k_w.min(input[1])],
                stride: [s_h, s_w],
                pad,
                dilation: if input[0] > 2 * k_h { dilation } else { 1 },
                // Some forms take fours only.
                channels: if seed & 1 == 0 { channels.next_multiple_of(4) } else { channels },
                depthwise,
                depthwise_stride,
                classes,
                activation,
                seed,
            }
        },
    )
}

/// The network; `None` if a window does not fit.
fn network(s: &Shape) -> Option<Graph> {
    let mut b = Builder::new(s.seed);
    let [h, w, c] = s.input;
    let x = b.value([1, h, w, c], 0.05, -5);
    b.graph.inputs.push(x);
    let h1 = extent(h, s.kernel[0], s.stride[0], s.dilation, s.pad[0] + s.pad[2])?;
    let w1 = extent(w, s.kernel[1], s.stride[1], 1, s.pad[1] + s.pad[3])?;
    let u = |v: usize| v as u16;
    let zero = if s.activation == Activation::None { 3 } else { -128 };
    let (mut inputs, scale) = b.parameters([s.channels, s.kernel[0], s.kernel[1], c], 0.05);
    inputs.insert(0, x);
    let window = Window {
        kernel: s.kernel.map(u),
        stride: s.stride.map(u),
        dilation: [u(s.dilation), 1],
        pad: s.pad.map(u),
    };
    let conv = Op::Conv2d { window, groups: 1, activation: s.activation };
    let y1 = b.node(conv, &inputs, [1, h1, w1, s.channels], scale, zero);

    let k = s.depthwise;
    let [h2, w2] = [h1, w1].map(|n| extent(n, k, s.depthwise_stride, 1, k - 1));
    let (h2, w2) = (h2?, w2?);
    let (mut inputs, scale) = b.parameters([s.channels, k, k, 1], scale);
    inputs.insert(0, y1);
    let half = u(k / 2);
    let stride = [u(s.depthwise_stride); 2];
    let window = Window { kernel: [u(k); 2], stride, dilation: [1, 1], pad: [half, half, half, half] };
    let depthwise = Op::Conv2d { window, groups: s.channels, activation: s.activation };
    let y2 = b.node(depthwise, &inputs, [1, h2, w2, s.channels], scale, zero);

    let (mut inputs, scale3) = b.parameters([s.channels, 3, 3, s.channels], scale);
    inputs.insert(0, y2);
    let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: [1, 1, 1, 1] };
    let conv = Op::Conv2d { window, groups: 1, activation: Activation::None };
    let y3 = b.node(conv, &inputs, [1, h2, w2, s.channels], scale3, 7);
    let sum = Op::Binary { kind: BinaryKind::Add, activation: s.activation };
    let y4 = b.node(sum, &[y3, y2], [1, h2, w2, s.channels], scale3, zero);
    let window = Window { kernel: [u(h2), u(w2)], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
    let pool = Op::Pool { kind: PoolKind::Average, window, activation: Activation::None };
    let y5 = b.node(pool, &[y4], [1, 1, 1, s.channels], scale3, zero);
    let (mut inputs, scale) = b.parameters([s.classes, 1, 1, s.channels], scale3);
    if !s.seed.is_multiple_of(4) {
        // Few kinds of weights, so that coding them pays; a rare one among them.
        let weights = b.graph.value_mut(inputs[0]);
        if let Some(Data::I8(w)) = weights.data.as_mut().map(Arc::make_mut) {
            w.iter_mut().skip(1).for_each(|w| *w %= 5);
        }
    }
    inputs.insert(0, y5);
    let window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: [0; 4] };
    let conv = Op::Conv2d { window, groups: 1, activation: Activation::None };
    let y6 = b.node(conv, &inputs, [1, 1, 1, s.classes], scale, 0);
    b.graph.outputs = vec![y4, y6];
    Some(b.graph)
}

fn run(file: &[u8], input: &[i8]) -> Vec<Vec<u8>> {
    let file = AlignedBytes::copy_of(file);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let bytes: Vec<u8> = input.iter().map(|&q| q as u8).collect();
    engine.input_mut(0).unwrap().copy_from_slice(&bytes);
    engine.run().unwrap();
    (0..2).map(|i| engine.output(i).unwrap().to_vec()).collect()
}

fn compiled(graph: &Graph, prefer: Prefer, arrange: bool) -> Vec<u8> {
    compile_with(graph, prefer, arrange).bytes
}

fn compile_with(graph: &Graph, prefer: Prefer, arrange: bool) -> Compiled {
    compile_for(graph, prefer, arrange, Core::Dsp)
}

fn compile_for(graph: &Graph, prefer: Prefer, arrange: bool, core: Core) -> Compiled {
    compile(graph, &CompileOptions { prefer, arrange, core, ..CompileOptions::default() }).unwrap()
}

const PREFERENCES: [Prefer; 4] = [Prefer::Balanced, Prefer::Speed, Prefer::Ram, Prefer::Flash];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arranged_operators_give_the_bits_of_plain_ones(shape in shapes()) {
        let Some(graph) = network(&shape) else { return Ok(()) };
        let input = Numbers(shape.seed ^ 0x9e37_79b9 | 1).bytes(shape.input.iter().product());
        let plain = run(&compiled(&graph, Prefer::Balanced, false), &input);
        for prefer in PREFERENCES {
            for core in [Core::Dsp, Core::Mve] {
                let file = compile_for(&graph, prefer, true, core).bytes;
                prop_assert_eq!(&run(&file, &input), &plain, "{:?} {:?}", prefer, core);
            }
        }
    }
}

/// Runs `count` random networks on a board and compares every operator with the host. `kinds` must be among them.
fn random_networks(target: &str, core: Core, count: usize, kinds: &[&str]) {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let target = Target::parse(target).unwrap();
    let mut device = offshoot_target::open(&target)
        .unwrap_or_else(|e| panic!("{e}\nrun scripts/install-deps.sh and firmware/build.sh"));
    let mut host = HostDevice::new();
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(4), ..Config::default() });
    let (mut networks, mut met) = (0, BTreeSet::new());
    while networks < count {
        let shape = shapes().new_tree(&mut runner).unwrap().current();
        let Some(graph) = network(&shape) else { continue };
        let input = Numbers(shape.seed ^ 0x9e37_79b9 | 1).bytes(shape.input.iter().product());
        let bytes: Vec<u8> = input.iter().map(|&q| q as u8).collect();
        let prefer = PREFERENCES[networks % PREFERENCES.len()];
        let compiled = compile_for(&graph, prefer, true, core);
        met.extend(compiled.report.operators.iter().map(|o| o.kind));
        let file = AlignedBytes::copy_of(&compiled.bytes);
        host.load(file.bytes()).unwrap();
        device.load(file.bytes()).unwrap();
        let sample = [bytes.as_slice()];
        let here = host.digests(&sample).unwrap();
        let there = device.digests(&sample).unwrap_or_else(|e| panic!("{shape:?} {prefer:?}: {e}"));
        let first = here.iter().zip(&there).position(|(a, b)| a != b);
        assert_eq!(first, None, "{shape:?} {prefer:?}: operator {first:?} departs");
        networks += 1;
    }
    let missing: Vec<_> = kinds.iter().filter(|kind| !met.contains(**kind)).collect();
    assert!(missing.is_empty(), "no network had {missing:?}");
}

#[test]
fn random_networks_give_the_same_bits_on_cortex_m4() {
    let kinds = [
        "conv_tiled",
        "depthwise_planar",
        "conv_winograd",
        "fully_connected_huffman",
        "conv_packed",
        "conv_single_multiply",
        "depthwise_single_multiply",
    ];
    random_networks("qemu:cortex-m4", Core::Dsp, 40, &kinds);
}

/// Those of files for this core, and of files for any.
#[test]
fn random_networks_give_the_same_bits_on_cortex_m55() {
    let kinds = ["conv_row_major", "depthwise_planar", "binary", "pool"];
    random_networks("qemu:cortex-m55", Core::Mve, 120, &kinds);
    random_networks("qemu:cortex-m55", Core::Dsp, 20, &["conv_tiled", "depthwise_single_multiply"]);
}

/// Each kernel by itself, on random shapes, with the bytes around its buffers (`firmware/checks`).
#[test]
fn kernels_on_boards_give_the_bits_of_portable_ones_and_keep_to_their_buffers() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let script = offshoot_tests::root().join("firmware/checks.sh");
    for board in ["cortex-m3", "cortex-m4", "cortex-m55"] {
        let output = std::process::Command::new(&script).args(["--board", board]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{board}: {said}{}", String::from_utf8_lossy(&output.stderr));
        let kinds =
            ["depthwise convolutions", "additions", "pools", "tables", "convolutions with row-major weights"];
        // Only vectors take row-major weights.
        for kind in &kinds[..if board == "cortex-m55" { 5 } else { 4 }] {
            assert!(said.contains(&format!("{kind}: ")), "{board}: {kind} are missing: {said}");
        }
    }
}

/// A large image, made small by a convolution with these strides, and two Winograd convolutions, which have room for strips.
fn small_behind_large(strides: [usize; 2], seed: u64) -> Graph {
    let mut b = Builder::new(seed);
    let (large, [h, w]) = (48, strides.map(|s| (48 - 3) / s + 1));
    let mut x = b.value([1, large, large, 8], 0.05, -5);
    b.graph.inputs.push(x);
    let (mut scale, mut in_c) = (0.05, 8);
    for (channels, stride, pad) in [(12, strides, 0), (16, [1, 1], 1), (8, [1, 1], 1)] {
        let (mut inputs, next) = b.parameters([channels, 3, 3, in_c], scale);
        inputs.insert(0, x);
        let stride = stride.map(|s| s as u16);
        let window = Window { kernel: [3, 3], stride, dilation: [1, 1], pad: [pad; 4] };
        let conv = Op::Conv2d { window, groups: 1, activation: Activation::None };
        x = b.node(conv, &inputs, [1, h, w, channels], next, 3);
        b.graph.outputs.push(x);
        (scale, in_c) = (next, channels);
    }
    b.graph.outputs.remove(0);
    b.graph
}

/// Pairs of tiles, of how many tiles they are made, and those of a strip, of each Winograd convolution.
fn winograd_strips(file: &[u8]) -> Vec<[usize; 3]> {
    let strip = |record: Record| match record {
        Record::ConvWinograd(r) => {
            let tiles = usize::from(r.h) * usize::from(r.w).div_ceil(2);
            Some([tiles.div_ceil(2), tiles, r.strip.into()])
        }
        _ => None,
    };
    Model::open(file).unwrap().ops().filter_map(|(.., record)| strip(record)).collect()
}

#[test]
fn strips_of_winograd_tiles_give_the_bits_of_plain_operators_on_cortex_m4() {
    let mut device = (!offshoot_tests::skip_emulated()).then(|| offshoot_tests::board("qemu:cortex-m4"));
    let (mut host, mut met) = (HostDevice::new(), vec![]);
    for (seed, strides) in [[3, 3], [4, 7], [11, 11], [8, 9], [7, 11], [4, 5]].into_iter().enumerate() {
        let graph = small_behind_large(strides, 0x5eed + seed as u64);
        let input = Numbers(77 + seed as u64).bytes(48 * 48 * 8);
        let file = AlignedBytes::copy_of(&compiled(&graph, Prefer::Speed, true));
        assert_eq!(run(file.bytes(), &input), run(&compiled(&graph, Prefer::Balanced, false), &input));
        met.extend(winograd_strips(file.bytes()));
        let Some(device) = &mut device else { continue };
        let bytes: Vec<u8> = input.iter().map(|&q| q as u8).collect();
        host.load(file.bytes()).unwrap();
        device.load(file.bytes()).unwrap();
        let (here, there) = (host.digests(&[&bytes]).unwrap(), device.digests(&[&bytes]).unwrap());
        assert_eq!(here, there, "strides {strides:?}");
    }
    assert!(met.iter().any(|[pairs, _, strip]| *strip > 1 && pairs > strip), "{met:?}");
    assert!(met.iter().any(|[pairs, _, strip]| *strip > 1 && pairs % strip == 1), "no pair alone: {met:?}");
    assert!(met.iter().any(|[_, tiles, strip]| *strip > 1 && tiles % 2 == 1), "no tile alone: {met:?}");
}
