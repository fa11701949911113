//! Compares every kernel with `portable`, on every instruction set of the processor.

use crate::planar::DepthwisePlanarPlaces as _;
use crate::single_multiply::ConvSingleMultiplyPlaces as _;
use crate::tiled::ConvTiledPlaces as _;
use crate::weights::Layout;
use crate::winograd::ConvWinogradPlaces as _;
use offshoot_base::{Memory, Span};
use offshoot_format::record::*;
use offshoot_kernels::geometry::{Planar, Tiled, block_words};
use offshoot_kernels::testing::{host, on_each_instruction_set, portably};
use offshoot_kernels::tiles::{Blocks, Halves};
use offshoot_kernels::{Requant, portable};
use proptest::prelude::*;

/// Runs `check` on each instruction set.
fn on_each(mut check: impl FnMut() -> Result<(), TestCaseError>) -> Result<(), TestCaseError> {
    on_each_instruction_set(&mut check, |e, name| TestCaseError::fail(std::format!("{name}: {e}")))
}

/// Random numbers from a seed (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<i8> {
        (0..count).map(|_| (self.next() >> 40) as i8).collect()
    }

    fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() >> 16) as i64 % (high - low + 1)
    }
}

/// Biases and scales for an operator's channels.
#[derive(Debug)]
struct Quantisation {
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<i8>,
    in_zp: i8,
    out_zp: i8,
    clamp: Option<(i8, i8)>,
}

impl Quantisation {
    /// `wild`: any bias, multiplier and shift that a file may hold.
    fn random(numbers: &mut Numbers, channels: usize, arranged: bool, wild: bool) -> Self {
        let scales = if arranged || numbers.next() & 2 == 0 { channels } else { 1 };
        let bias = if wild && !arranged { i64::from(i32::MAX) } else { 1 << (if wild { 29 } else { 13 }) };
        let (low, high) = match (wild, arranged) {
            (true, false) => (-31, 30),
            (true, true) => (-22, -1),
            (false, _) => (-10, -4),
        };
        let least = if wild { 0 } else { 1 << 30 };
        let mut clamp = [numbers.between(-128, 127) as i8, numbers.between(-128, 127) as i8];
        clamp.sort_unstable();
        Self {
            bias: (0..channels).map(|_| numbers.between(-bias, bias) as i32).collect(),
            multiplier: (0..scales).map(|_| numbers.between(least, i32::MAX.into()) as i32).collect(),
            shift: (0..scales).map(|_| numbers.between(low, high) as i8).collect(),
            in_zp: numbers.between(-128, 127) as i8,
            out_zp: numbers.between(-128, 127) as i8,
            clamp: (numbers.next() & 4 == 0).then_some((clamp[0], clamp[1])),
        }
    }

    fn requant(&self) -> Requant<'_> {
        let (min, max) = self.clamp.unwrap_or((-128, 127));
        Requant {
            bias: &self.bias,
            multiplier: &self.multiplier,
            shift: &self.shift,
            in_zp: self.in_zp.into(),
            out_zp: self.out_zp.into(),
            min: min.into(),
            max: max.into(),
        }
    }
}

#[derive(Clone, Debug)]
struct Shape {
    extents: [u16; 4],
    out_c: u16,
    window: Window,
    wild: bool,
    backwards: bool,
    seed: u64,
}

impl Shape {
    fn output(&self) -> Option<[usize; 2]> {
        let [_, h, w, _] = self.extents.map(usize::from);
        let out = [
            offshoot_kernels::geometry::extent(h, &self.window, 0),
            offshoot_kernels::geometry::extent(w, &self.window, 1),
        ];
        (out[0] > 0 && out[1] > 0).then_some(out)
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let channels = || prop_oneof![1u16..20, Just(32), Just(64), 60u16..70];
    let extents = (1u16..3, 1u16..10, 1u16..10, channels());
    let window =
        ([1u16..5, 1u16..5], [1u16..4, 1u16..4], [0u16..3, 0u16..3, 0u16..3, 0u16..3], [1u16..3, 1u16..3]);
    (extents, channels(), window, any::<(bool, bool, u64)>()).prop_map(
        |((n, h, w, c), out_c, (kernel, stride, pad, dilation), (wild, backwards, seed))| Shape {
            extents: [n, h, w, c],
            out_c,
            window: Window { kernel, stride, pad, dilation },
            wild,
            backwards,
            seed: seed | 1,
        },
    )
}

#[repr(align(16))]
struct Bytes([u8; 1 << 17]);

/// Runs both forms of an arranged operator in equal arenas and compares the arenas without the scratch.
fn in_arena(
    contents: &[i8],
    scratch: Span,
    mut run: impl FnMut(&mut Memory<'_>, bool),
) -> Result<(), TestCaseError> {
    let mut filled = Box::new(Bytes([0x55; 1 << 17]));
    filled.0[..contents.len()].copy_from_slice(bytemuck::cast_slice(contents));
    let mut expected = Box::new(Bytes(filled.0));
    run(&mut Memory::new(&mut expected.0, &[]), false);
    on_each(|| {
        let mut actual = Box::new(Bytes(filled.0));
        run(&mut Memory::new(&mut actual.0, &[]), true);
        prop_assert_eq!(&actual.0[..scratch.start], &expected.0[..scratch.start]);
        prop_assert_eq!(&actual.0[scratch.end()..], &expected.0[scratch.end()..]);
        Ok(())
    })
}

/// Weights in the range of blocks of words: no high byte is -128. `most`: any word that a file may hold, up to this
/// one.
fn halves(numbers: &mut Numbers, count: usize, most: Option<i16>) -> Vec<i16> {
    if let Some(most) = most {
        return (0..count).map(|_| numbers.between(i16::MIN.into(), most.into()) as i16).collect();
    }
    let byte = |n: &mut Numbers| n.between(-127, 127) as i16;
    (0..count).map(|_| byte(numbers) * 256 + byte(numbers)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn convolution(shape in shapes()) {
        let Some([out_h, out_w]) = shape.output() else { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let mut numbers = Numbers(shape.seed);
        let q = Quantisation::random(&mut numbers, shape.out_c.into(), false, shape.wild);
        let [k_h, k_w] = shape.window.kernel.map(usize::from);
        let weights = numbers.bytes(usize::from(shape.out_c) * k_h * k_w * usize::from(c));
        let src = numbers.bytes([n, h, w, c].map(usize::from).iter().product());
        let arith = Arith::I8 { in_zp: q.in_zp, out_zp: q.out_zp, per_channel: true, clamp: q.clamp };
        let r = Conv2d { src: 0, dst: 0, n, h, w, c, out_c: shape.out_c, groups: 1, window: shape.window.into(), arith, blob: 0 };
        let len = usize::from(n) * out_h * out_w * usize::from(shape.out_c);
        let mut expected = vec![0; len];
        portable::conv2d_i8(&r, &q.requant(), &weights, &src, &mut expected);
        on_each(|| {
            let mut actual = vec![0; len];
            let done = host::conv2d_i8(&r, &q.requant(), &weights, &src, &mut actual);
            prop_assert_eq!(done, shape.window.dilation[1] == 1 || k_w == 1);
            prop_assert!(!done || actual == expected);
            Ok(())
        })?;
    }

    #[test]
    fn depthwise_convolution(shape in shapes()) {
        let shape = Shape { window: Window { dilation: [1, 1], ..shape.window }, ..shape };
        let Some([out_h, out_w]) = shape.output() else { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let mut numbers = Numbers(shape.seed);
        let q = Quantisation::random(&mut numbers, c.into(), false, shape.wild);
        let [k_h, k_w] = shape.window.kernel.map(usize::from);
        let weights = numbers.bytes(usize::from(c) * k_h * k_w);
        let src = numbers.bytes([n, h, w, c].map(usize::from).iter().product());
        let arith = Arith::I8 { in_zp: q.in_zp, out_zp: q.out_zp, per_channel: true, clamp: q.clamp };
        let r = Depthwise { src: 0, dst: 0, n, h, w, c, multiplier: 1, window: shape.window.into(), arith, blob: 0 };
        let mut expected = vec![0; usize::from(n) * out_h * out_w * usize::from(c)];
        portable::depthwise_i8(&r, &q.requant(), &weights, &src, &mut expected);
        on_each(|| {
            let mut actual = vec![0; expected.len()];
            prop_assert!(host::depthwise_i8(&r, &q.requant(), &weights, &src, &mut actual));
            prop_assert_eq!(&actual, &expected);
            Ok(())
        })?;
    }

    #[test]
    fn fully_connected(rows in 1u32..5, in_c in 1u32..300, out_c in 1u32..40, wild: bool, seed: u64) {
        let mut numbers = Numbers(seed | 1);
        let q = Quantisation::random(&mut numbers, out_c as usize, false, wild);
        let weights = numbers.bytes((in_c * out_c) as usize);
        let src = numbers.bytes((rows * in_c) as usize);
        let arith = Arith::I8 { in_zp: q.in_zp, out_zp: q.out_zp, per_channel: true, clamp: q.clamp };
        let r = FullyConnected { src: 0, dst: 0, rows, in_c, out_c, arith, blob: 0 };
        let mut expected = vec![0; (rows * out_c) as usize];
        portable::fully_connected_i8(&r, &q.requant(), &weights, &src, &mut expected);
        on_each(|| {
            let mut actual = vec![0; expected.len()];
            prop_assert!(host::fully_connected_i8(&r, &q.requant(), &weights, &src, &mut actual));
            prop_assert_eq!(&actual, &expected);
            Ok(())
        })?;
    }

    #[test]
    fn blocked_convolution(shape in shapes(), one_pixel in prop::bool::weighted(0.2)) {
        let dilation = [shape.window.dilation[0], 1];
        let mut shape = Shape { window: Window { dilation, ..shape.window }, ..shape };
        if one_pixel {
            // The vector form. The stride may skip inputs.
            shape.window = Window { kernel: [1; 2], stride: [100; 2], dilation: [1; 2], pad: [0; 4] };
            let [_, h, w, c] = shape.extents;
            shape.extents = [1, h, w, c.next_multiple_of(4)];
        }
        if shape.output().is_none() { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let mut numbers = Numbers(shape.seed);
        let q = Quantisation::random(&mut numbers, shape.out_c.into(), true, shape.wild);
        let input = 1 << 15;
        let mut r = ConvTiled {
            src: input, dst: 0, scratch: 0, n, h, w, c, out_c: shape.out_c, window: shape.window.into(), in_zp: q.in_zp,
            out_zp: q.out_zp, traversal: Traversal::Forwards, clamp: q.clamp, blob: 0,
        };
        let g = Tiled::of(&r);
        let (below, above) = g.in_place_offsets(&r).unwrap();
        // As close as the in-place offset allows.
        (r.traversal, r.dst) = match (g.vector, shape.backwards) {
            (true, _) => (Traversal::Vector, 0),
            (_, false) => (Traversal::Forwards, input - below as u32),
            (_, true) => (Traversal::Backwards, input + above as u32),
        };
        r.scratch = (1 << 16) / 4;
        let (g, layout) = r.layout().unwrap();
        // From 0x7f80 on, upper bytes are 128.
        let most = if shape.seed & 2 == 0 { 0x7f7f } else { i16::MAX };
        let most = shape.wild.then_some(most);
        let weights = halves(&mut numbers, usize::from(shape.out_c.div_ceil(4)) * 2 * g.k, most);
        let scratch = r.lanes(&g).unwrap().unwrap_or(Span { start: 1 << 17, len: 0 });
        let src = numbers.bytes(layout.src.len);
        let mut contents = vec![0x55; input as usize];
        contents.extend(src);
        in_arena(&contents, scratch, |memory, wide| {
            let count = usize::from(r.out_c).div_ceil(4);
            let blocks = Blocks { first: 0, count, weights: Halves::Stored(&weights) };
            let mut run = || super::conv_blocks(&r, &g, &q.requant(), blocks, memory, &layout, r.lanes(&g).unwrap()).unwrap();
            if wide { run() } else { portably(run) }
        })?;
    }

    #[test]
    fn linear_convolution(shape in shapes(), strip in 1u8..6, forms: (bool, bool)) {
        let dilation = [shape.window.dilation[0], 1];
        let shape = Shape { window: Window { dilation, ..shape.window }, ..shape };
        if shape.output().is_none() { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let mut numbers = Numbers(shape.seed);
        let input = 1 << 15;
        let mut conv = ConvTiled {
            src: input, dst: 0, scratch: (1 << 16) / 4, n, h, w, c, out_c: shape.out_c, window: shape.window.into(),
            in_zp: numbers.between(-128, 127) as i8, out_zp: -128, traversal: Traversal::Forwards, clamp: None, blob: 0,
        };
        let g = Tiled::of(&conv);
        if g.vector { return Ok(()) };
        let (below, above) = g.in_place_offsets(&conv).unwrap();
        (conv.traversal, conv.dst) = match shape.backwards {
            false => (Traversal::Forwards, input - below as u32),
            true => (Traversal::Backwards, input + above as u32),
        };
        let r = ConvSingleMultiply::new(conv, strip, forms.0, forms.1);
        let (g, layout) = r.layout().unwrap();
        let count = usize::from(r.out_c.div_ceil(4)) * block_words(&r, &g);
        // From 0x7f80 on, upper bytes are 128.
        let mask = if shape.seed & 2 == 0 { -1 } else { !0x4000_4000 };
        let words: Vec<i32> = (0..count).map(|_| numbers.next() as i32 & mask).collect();
        let (lanes, weight_tile) = r.spans(&g).unwrap();
        let end = weight_tile.map_or(lanes.end(), |weight_tile| weight_tile.end());
        let scratch = Span { start: lanes.start, len: end - lanes.start };
        let mut contents = vec![0x55; input as usize];
        contents.extend(numbers.bytes(layout.src.len));
        in_arena(&contents, scratch, |memory, wide| {
            let mut run = || super::conv_single_multiply(&r, &g, &words, memory, &layout, r.spans(&g).unwrap()).unwrap();
            if wide { run() } else { portably(run) }
        })?;
    }

    #[test]
    fn planar_depthwise_convolution(shape in shapes()) {
        let window = Window { dilation: [1, 1], ..shape.window };
        let shape = Shape { window, ..shape };
        if shape.output().is_none() { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let mut numbers = Numbers(shape.seed);
        let q = Quantisation::random(&mut numbers, c.into(), true, shape.wild);
        let mut r = DepthwisePlanar {
            src: 0, dst: 1 << 15, scratch: (1 << 16) / 4, n, h, w, c, rows: window.kernel[0], window: window.into(),
            in_zp: q.in_zp, out_zp: q.out_zp, clamp: q.clamp, blob: 0,
        };
        if Planar::of(&r).in_place(&r) { r.dst = 0 }
        let (g, layout) = r.layout().unwrap();
        let weights = numbers.bytes(window.kernel.map(usize::from).iter().product::<usize>() * usize::from(c));
        let contents = numbers.bytes(layout.src.len);
        in_arena(&contents, r.planes(&g).unwrap(), |memory, wide| {
            // Without shifts it requantises by a single multiply.
            let straight = Requant { shift: &[], ..q.requant() };
            let q = if shape.seed & 8 == 0 { straight } else { q.requant() };
            let mut run = || super::depthwise_planar(&r, &g, &q, &weights, memory, &layout, r.planes(&g).unwrap()).unwrap();
            if wide { run() } else { portably(run) }
        })?;
    }

    #[test]
    fn winograd_convolution(shape in shapes()) {
        let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad: shape.window.pad };
        let shape = Shape { window, ..shape };
        if shape.output().is_none() { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let c = c.next_multiple_of(4);
        let mut numbers = Numbers(shape.seed);
        let q = Quantisation::random(&mut numbers, shape.out_c.into(), true, shape.wild);
        let r = ConvWinograd {
            src: 0, dst: 1 << 15, scratch: (1 << 16) / 4, n, h, w, c, out_c: shape.out_c, window: window.into(),
            in_zp: q.in_zp, out_zp: q.out_zp, clamp: q.clamp, strip: 1, blob: 0,
        };
        let layout: Layout = r.layout().unwrap();
        let count = 48 * usize::from(c) * usize::from(shape.out_c.div_ceil(4));
        let most = if shape.wild { i64::from(i16::MAX) } else { 400 };
        let weights: Vec<i16> = (0..count).map(|_| numbers.between(-most - 1, most) as i16).collect();
        let contents = numbers.bytes(layout.src.len);
        in_arena(&contents, r.lanes().unwrap(), |memory, wide| {
            let mut run = || super::conv_winograd(&r, &q.requant(), &weights, memory, &layout, r.lanes().unwrap()).unwrap();
            if wide { run() } else { portably(run) }
        })?;
    }

    #[test]
    fn sums_and_requantisation(len in 1usize..100, wild: bool, swapped: bool, add: bool, seed: u64) {
        let mut numbers = Numbers(seed | 1);
        let q = Quantisation::random(&mut numbers, 3, true, wild);
        let multiplier = [q.multiplier[0], q.multiplier[1], q.multiplier[2]];
        let mut shift = [q.shift[0], q.shift[1], q.shift[2]];
        if wild {
            shift = shift.map(|_| numbers.between(-31, 30) as i8);
        }
        let b_zp = numbers.between(-128, 127) as i8;
        let r = Binary {
            kind: if add { BinaryKind::Add } else { BinaryKind::Sub },
            a: 0, b: Operand::Arena(0), dst: 0, dims: [1, 1, 1, len as u16], broadcast: 0, swapped,
            arith: BinaryArith::I8 { a_zp: q.in_zp, b_zp, out_zp: q.out_zp, clamp: q.clamp, blob: 0 },
        };
        let (a, b) = (numbers.bytes(len), numbers.bytes(len));
        let mut expected = a.clone();
        portable::binary_i8(&r, multiplier, shift, &b, &mut expected);
        let requantize = Requantize {
            src: 0, dst: 0, len: len as u32, in_zp: q.in_zp, out_zp: q.out_zp, multiplier: multiplier[0], shift: shift[0],
            clamp: q.clamp,
        };
        let mut rescaled = a.clone();
        portable::requantize(&requantize, &mut rescaled);
        on_each(|| {
            let mut actual = a.clone();
            prop_assert!(host::binary_i8(&r, multiplier, shift, &b, &mut actual));
            prop_assert_eq!(&actual, &expected);
            actual.copy_from_slice(&a);
            prop_assert!(host::requantize(&requantize, &mut actual));
            prop_assert_eq!(&actual, &rescaled);
            Ok(())
        })?;
    }

    #[test]
    fn average_pool(shape in shapes()) {
        let Some([out_h, out_w]) = shape.output() else { return Ok(()) };
        let [n, h, w, c] = shape.extents;
        let mut numbers = Numbers(shape.seed);
        let q = Quantisation::random(&mut numbers, 1, true, false);
        let arith = PoolArith::I8 { zp: q.in_zp, clamp: q.clamp };
        let r = Pool { kind: PoolKind::Average, src: 0, dst: 0, n, h, w, c, window: shape.window.into(), arith };
        let src = numbers.bytes([n, h, w, c].map(usize::from).iter().product());
        let mut expected = vec![0; usize::from(n) * out_h * out_w * usize::from(c)];
        portable::pool_i8(&r, &src, &mut expected);
        on_each(|| {
            let mut actual = vec![0; expected.len()];
            prop_assert!(host::pool_i8(&r, &src, &mut actual));
            prop_assert_eq!(&actual, &expected);
            Ok(())
        })?;
    }
}
