//! Operators that run together, strip of rows by strip of rows (`--prefer ram`): the bits of the plain operators, in less
//! memory, on the host and on an emulated board.

use offshoot::format::record::Record;
use offshoot::{AlignedBytes, Engine, Model};
use offshoot_export::{CompileOptions, Compiled, Prefer, compile};
use offshoot_ir::{Activation, Graph, Op, PoolKind, ValueId, Window};
use offshoot_target::{Device, HostDevice, Target};
use offshoot_tests::int8::{Builder, Numbers, extent};
use proptest::prelude::*;

/// What follows a network's first convolution.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Expand by this factor, depthwise 3×3 with this stride, project to so many channels (MobileNetV2).
    Bottleneck { expand: usize, stride: usize, channels: usize },
    /// A 3×3 convolution and a pool.
    Pooled { channels: usize, kind: PoolKind, kernel: usize, stride: usize },
}

#[derive(Clone, Debug)]
struct Shape {
    input: [usize; 3],
    stride: usize,
    pad: [usize; 4],
    channels: usize,
    parts: Vec<Part>,
    seed: u64,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let kind = prop::sample::select(vec![PoolKind::Max, PoolKind::Average]);
    let part =
        prop_oneof![
            (2usize..7, 1usize..3, 2usize..9).prop_map(|(expand, stride, channels)| Part::Bottleneck {
                expand,
                stride,
                channels
            }),
            (2usize..13, kind, 2usize..4, 1usize..4)
                .prop_map(|(channels, kind, kernel, stride)| Part::Pooled { channels, kind, kernel, stride }),
        ];
    let pad = [0usize..2, 0..2, 0..2, 0..2];
    ([9usize..24, 8..24, 1..4], 1usize..3, pad, 2usize..9, prop::collection::vec(part, 1..4), any::<u64>())
        .prop_map(|(input, stride, pad, channels, parts, seed)| Shape {
            input,
            stride,
            pad,
            channels,
            parts,
            seed,
        })
}

/// A convolution of `groups` (1, or one a channel) behind `x`, of extents `[h, w, c]`.
fn conv(
    b: &mut Builder,
    (x, [h, w, c], scale): (ValueId, [usize; 3], f32),
    (channels, kernel, stride, pad): (usize, usize, usize, [usize; 4]),
    depthwise: bool,
    relu: bool,
) -> Option<(ValueId, [usize; 3], f32)> {
    let [h, w] =
        [extent(h, kernel, stride, 1, pad[0] + pad[2])?, extent(w, kernel, stride, 1, pad[1] + pad[3])?];
    let inner = if depthwise { 1 } else { c };
    let (mut inputs, scale) = b.parameters([channels, kernel, kernel, inner], scale);
    inputs.insert(0, x);
    let u = |v: usize| v as u16;
    let window = Window { kernel: [u(kernel); 2], stride: [u(stride); 2], dilation: [1, 1], pad: pad.map(u) };
    let activation = if relu { Activation::Relu } else { Activation::None };
    let op = Op::Conv2d { window, groups: if depthwise { c } else { 1 }, activation };
    let zero = if relu { -128 } else { 4 };
    Some((b.node(op, &inputs, [1, h, w, channels], scale, zero), [h, w, channels], scale))
}

/// The network; `None` if a window does not fit.
fn network(s: &Shape) -> Option<Graph> {
    let mut b = Builder::new(s.seed);
    let [h, w, c] = s.input;
    let x = b.value([1, h, w, c], 0.05, -5);
    b.graph.inputs.push(x);
    let mut at = conv(&mut b, (x, s.input, 0.05), (s.channels, 3, s.stride, s.pad), false, true)?;
    for part in &s.parts {
        at = match *part {
            Part::Bottleneck { expand, stride, channels } => {
                let wide = expand * at.1[2];
                let expanded = conv(&mut b, at, (wide, 1, 1, [0; 4]), false, true)?;
                let spread = conv(&mut b, expanded, (wide, 3, stride, [1; 4]), true, true)?;
                conv(&mut b, spread, (channels, 1, 1, [0; 4]), false, false)?
            }
            Part::Pooled { channels, kind, kernel, stride } => {
                let (x, [h, w, c], scale) = conv(&mut b, at, (channels, 3, 1, [1; 4]), false, true)?;
                let extents = [extent(h, kernel, stride, 1, 0)?, extent(w, kernel, stride, 1, 0)?];
                let (k, s) = (kernel as u16, stride as u16);
                let window = Window { kernel: [k; 2], stride: [s; 2], dilation: [1, 1], pad: [0; 4] };
                let op = Op::Pool { kind, window, activation: Activation::None };
                let shape = [1, extents[0], extents[1], c];
                (b.node(op, &[x], shape, scale, -128), [extents[0], extents[1], c], scale)
            }
        };
    }
    b.graph.outputs = vec![at.0];
    Some(b.graph)
}

fn compiled(graph: &Graph, prefer: Prefer, arrange: bool) -> Compiled {
    compile(graph, &CompileOptions { prefer, arrange, ..CompileOptions::default() }).unwrap()
}

/// The output; and the bytes of arena from the first to the last that is not zero afterwards.
fn run(file: &[u8], input: &[i8]) -> (Vec<u8>, usize) {
    let file = AlignedBytes::copy_of(file);
    let model = Model::open(file.bytes()).unwrap();
    let mut arena = AlignedBytes::zeroed(model.arena_bytes() as usize);
    let mut engine = Engine::new(model, arena.bytes_mut()).unwrap();
    let bytes: Vec<u8> = input.iter().map(|&q| q as u8).collect();
    engine.input_mut(0).unwrap().copy_from_slice(&bytes);
    engine.run().unwrap();
    let output = engine.output(0).unwrap().to_vec();
    let used = arena.bytes().iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    (output, used)
}

fn fused_rows(file: &[u8]) -> usize {
    let file = AlignedBytes::copy_of(file);
    let model = Model::open(file.bytes()).unwrap();
    model.ops().filter(|(_, _, record)| matches!(record, Record::FusedRows(_))).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn fused_rows_give_the_bits_of_plain_operators_in_less_memory(shape in shapes()) {
        let Some(graph) = network(&shape) else { return Ok(()) };
        let input = Numbers(shape.seed ^ 0x9e37_79b9 | 1).bytes(shape.input.iter().product());
        let plain = run(&compiled(&graph, Prefer::Balanced, false).bytes, &input).0;
        for arrange in [true, false] {
            let fused = compiled(&graph, Prefer::Ram, arrange);
            prop_assert_eq!(run(&fused.bytes, &input).0, plain.clone(), "arranged: {}", arrange);
            let report = &fused.report;
            let shrunk = report.arena_unfused_bytes.is_some_and(|unfused| report.arena_bytes < unfused);
            prop_assert_eq!(shrunk, fused_rows(&fused.bytes) > 0);
            prop_assert!(report.arena_lower_bound_bytes <= report.arena_bytes);
        }
    }
}

/// Strips of tensors one element wide leave single pixels, for which weights lie in another order.
#[test]
fn narrow_tensors_are_fused_as_far_as_their_pieces_keep_the_rules() {
    for (seed, width) in (0..12).flat_map(|seed| [1, 2, 3].map(|width| (seed, width))) {
        let part = |stride| Part::Bottleneck { expand: 4, stride, channels: 4 };
        let parts = vec![part(1), part(2), part(1)];
        let pad = [1, 1, 1, 1];
        let shape =
            Shape { input: [48, width, 3], stride: 1 + seed as usize % 2, pad, channels: 4, parts, seed };
        let graph = network(&shape).unwrap();
        let input = Numbers(seed | 1).bytes(shape.input.iter().product());
        let plain = run(&compiled(&graph, Prefer::Balanced, false).bytes, &input).0;
        for arrange in [true, false] {
            assert_eq!(run(&compiled(&graph, Prefer::Ram, arrange).bytes, &input).0, plain, "{shape:?}");
        }
    }
}

/// A small MobileNetV2: 64 × 64 pixels, expansion by six.
fn mobile_net() -> (Shape, Graph) {
    let part = |stride, channels| Part::Bottleneck { expand: 6, stride, channels };
    let parts = vec![part(1, 8), part(2, 12), part(1, 12), part(2, 16), part(1, 16), part(2, 24)];
    let shape = Shape { input: [64, 64, 3], stride: 2, pad: [0, 0, 1, 1], channels: 8, parts, seed: 7 };
    let graph = network(&shape).unwrap();
    (shape, graph)
}

#[test]
fn inverted_bottlenecks_never_exist_as_a_whole() {
    let (shape, graph) = mobile_net();
    let fused = compiled(&graph, Prefer::Ram, true);
    let balanced = compiled(&graph, Prefer::Balanced, true);
    let input = Numbers(11).bytes(shape.input.iter().product());
    let (output, used) = run(&fused.bytes, &input);
    assert_eq!(output, run(&balanced.bytes, &input).0);
    let (arena, whole) = (fused.report.arena_bytes, balanced.report.arena_bytes);
    println!(
        "a small MobileNetV2: arena {whole} bytes, {arena} with fused row tiles ({} of them)",
        fused_rows(&fused.bytes)
    );
    for op in fused.report.operators.iter().filter(|o| !o.members.is_empty()) {
        println!("  {}", op.members.join(" + "));
    }
    // An expanded tensor alone has 32 · 32 · 48 bytes.
    assert!(arena < 32 * 32 * 48 && 2 * arena < whole, "{arena} of {whole}");
    assert!(used as u64 <= arena && used as u64 + 64 > arena, "{used} of {arena} bytes were used");
}

#[test]
fn fused_rows_give_the_same_bits_on_cortex_m4() {
    if offshoot_tests::skip_emulated() {
        return;
    }
    let target = Target::parse("qemu:cortex-m4").unwrap();
    let mut device = offshoot_target::open(&target)
        .unwrap_or_else(|e| panic!("{e}\nrun scripts/install-deps.sh and firmware/build.sh"));
    let (shape, graph) = mobile_net();
    let file = AlignedBytes::copy_of(&compiled(&graph, Prefer::Ram, true).bytes);
    let bytes: Vec<u8> = Numbers(11).bytes(shape.input.iter().product()).iter().map(|&q| q as u8).collect();
    let mut host = HostDevice::new();
    host.load(file.bytes()).unwrap();
    device.load(file.bytes()).unwrap();
    let sample = [bytes.as_slice()];
    assert_eq!(host.digests(&sample).unwrap(), device.digests(&sample).unwrap());
}

/// Random members and numbers of fused row tiles lead to an error, or to a run that ends.
#[test]
fn broken_fused_rows_are_refused_or_run() {
    let (shape, graph) = mobile_net();
    let input = Numbers(3).bytes(shape.input.iter().product());
    let good = compiled(&graph, Prefer::Ram, true).bytes;
    let whole = AlignedBytes::copy_of(&good);
    let intact = Model::open(whole.bytes()).unwrap();
    let mut numbers = Numbers(99);
    let mut refused = 0;
    for _ in 0..600 {
        let mut bytes = good.clone();
        for _ in 0..1 + numbers.next_number() % 3 {
            // Members stand at the end of the blob section, records at the beginning of the file.
            let from_end = numbers.next_number().is_multiple_of(2);
            let at = (numbers.next_number() % 400) as usize;
            let at = if from_end { bytes.len() - 1 - at } else { 32 + at };
            bytes[at] = (numbers.next_number() >> 24) as u8;
        }
        if offshoot::format::header::seal(&mut bytes).is_none() {
            continue;
        }
        let file = AlignedBytes::copy_of(&bytes);
        match Model::open(file.bytes()) {
            Err(_) => refused += 1,
            Ok(model) if model.input(0) == intact.input(0) && model.output_count() == 1 => {
                drop(run(&bytes, &input))
            }
            Ok(_) => {}
        }
    }
    assert!(refused > 100, "{refused}");
}
