//! Random records: these kernels, with the loops of [`super::tile`] in Rust, give the bits of [`crate::portable`].

use super::*;
use crate::geometry::{Planar, Tiled, block_words};
use crate::portable;
use crate::requant::Requant;
use crate::tiles::Operands;
use offshoot_base::{Memory, Span};
use offshoot_format::record::{
    Binary, BinaryArith, BinaryKind, ConvSingleMultiply, ConvTiled, ConvWinograd, DepthwisePlanar, Operand,
    Pool, PoolArith, PoolKind, Traversal, Window,
};
use proptest::prelude::*;

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    /// Between two bounds, which are included.
    fn within(&mut self, low: i32, high: i32) -> i32 {
        (i64::from(low) + (self.next() as i64) % (i64::from(high) - i64::from(low) + 1)) as i32
    }

    fn bytes(&mut self, len: usize) -> Vec<i8> {
        (0..len).map(|_| self.next() as i8).collect()
    }

    fn words(&mut self, len: usize, most: i32) -> Vec<i32> {
        (0..len).map(|_| self.within(-most, most)).collect()
    }

    fn requant(&mut self, channels: usize) -> Parameters {
        Parameters {
            bias: self.words(channels, 1 << 20),
            multiplier: (0..channels).map(|_| self.within(1 << 30, i32::MAX)).collect(),
            shift: (0..channels).map(|_| self.within(-14, -1) as i8).collect(),
            zero: self.within(-128, 127),
            clamp: if self.next().is_multiple_of(2) { (-128, 127) } else { (-100, 90) },
        }
    }
}

struct Parameters {
    bias: Vec<i32>,
    multiplier: Vec<i32>,
    shift: Vec<i8>,
    zero: i32,
    clamp: (i32, i32),
}

impl Parameters {
    fn requant(&self) -> Requant<'_> {
        let (bias, multiplier, shift) = (&self.bias[..], &self.multiplier[..], &self.shift[..]);
        let (min, max) = self.clamp;
        Requant { bias, multiplier, shift, in_zp: 0, out_zp: self.zero, min, max }
    }
}

/// Input height and width, channels, output channels, kernel, stride, padding, and a seed.
type Shape = ([u16; 2], u16, u16, [u16; 2], [u16; 2], [u16; 4], u64);

fn shapes() -> impl Strategy<Value = Shape> {
    let extents = [4u16..9, 4..9];
    let window = ([1u16..4, 1..4], [1u16..3, 1..3], [0u16..3, 0..3, 0..3, 0..3]);
    (extents, 1u16..10, 1u16..11, window, any::<u64>()).prop_map(
        |(extents, c, out_c, (kernel, stride, pad), seed)| (extents, c, out_c, kernel, stride, pad, seed),
    )
}

fn tiled((extents, c, out_c, kernel, stride, pad, _): Shape) -> ConvTiled {
    ConvTiled {
        src: 0,
        dst: 0,
        scratch: 0,
        n: 2,
        h: extents[0],
        w: extents[1],
        c,
        out_c,
        window: Window { kernel, stride, dilation: [1, 1], pad }.into(),
        in_zp: -7,
        out_zp: 0,
        traversal: Traversal::Forwards,
        clamp: None,
        blob: 0,
    }
}

proptest! {
    #[test]
    fn tiled_convolutions(shape in shapes()) {
        let mut numbers = Numbers(shape.6);
        let r = tiled(shape);
        let g = Tiled::of(&r);
        let src = numbers.bytes(2 * usize::from(r.h) * usize::from(r.w) * usize::from(r.c));
        let blocks = usize::from(r.out_c).div_ceil(4);
        let weights: Vec<i16> = (0..blocks * 2 * g.k).map(|_| numbers.next() as i16).collect();
        let parameters = numbers.requant(r.out_c.into());
        let q = parameters.requant();
        let single = ConvSingleMultiply::new(r, 1, false, shape.6.is_multiple_of(2));
        let words = numbers.words(blocks * block_words(&single, &g), i32::MAX);
        let mut lanes = [vec![0i16; 2 * g.k], vec![0; 2 * g.k]];
        let output = g.pixels * usize::from(r.out_c);
        let mut dst = [vec![0i8; output], vec![0; output]];
        let mut straight = dst.clone();
        for pair in 0..g.pairs() {
            portable::gather_pair(&r, &g, pair, &src, &mut lanes[0]);
            gather_pair(&r, &g, pair, &src, &mut lanes[1]);
            prop_assert_eq!(&lanes[0], &lanes[1]);
            portable::conv_pair(&r, &g, &q, (0, &weights), pair, &lanes[0], &mut dst[0]);
            conv_pair(&r, &g, &q, (0, &weights), pair, &lanes[0], &mut dst[1]);
            portable::conv_pair_single_multiply(&single, &g, &words, pair, &lanes[0], &mut straight[0]);
            conv_pair_single_multiply(&single, &g, &words, pair, &lanes[0], &mut straight[1]);
        }
        prop_assert_eq!(&dst[0], &dst[1]);
        prop_assert_eq!(&straight[0], &straight[1]);
    }

    #[test]
    fn vectors(groups in 1usize..9, out_c in 1u16..20, one in any::<bool>(), seed in any::<u64>()) {
        let mut numbers = Numbers(seed);
        let r = tiled(([1, 1], 4 * groups as u16, out_c, [1, 1], [1, 1], [0; 4], seed));
        let g = Tiled { pixels: 1, ..Tiled::of(&r) };
        let src = numbers.bytes(4 * groups);
        let blocks = usize::from(out_c).div_ceil(4);
        let weights: Vec<i16> = (0..blocks * 2 * g.k).map(|_| numbers.next() as i16).collect();
        let mut parameters = numbers.requant(out_c.into());
        if one {
            parameters.multiplier.truncate(1);
            parameters.shift.truncate(1);
        }
        let q = parameters.requant();
        let mut dst = [vec![0i8; out_c.into()], vec![0; out_c.into()]];
        portable::conv_vector(&g, &q, (0, &weights), &src, &mut dst[0]);
        // The blocks of two weight tiles.
        let cut = (seed % (blocks as u64 + 1)) as usize;
        let (before, after) = weights.split_at(cut * 2 * g.k);
        conv_vector(&g, &q, (0, before), &src, &mut dst[1]);
        conv_vector(&g, &q, (cut, after), &src, &mut dst[1]);
        prop_assert_eq!(&dst[0], &dst[1]);
    }

    #[test]
    fn depthwise_convolutions(shape in shapes(), small in any::<bool>(), straight in any::<bool>(), more in 0u16..3) {
        let (extents, c, _, mut kernel, stride, pad, seed) = shape;
        if small {
            kernel = [3, 3];
        }
        let mut numbers = Numbers(seed);
        let whole = extents[0] + pad[0] + pad[2];
        let r = DepthwisePlanar {
            src: 0,
            dst: 0,
            scratch: 0,
            n: 2,
            h: extents[0],
            w: extents[1],
            c,
            rows: (kernel[0] + 3 * more).min(whole),
            window: Window { kernel, stride, dilation: [1, 1], pad }.into(),
            in_zp: 5,
            out_zp: 0,
            clamp: None,
            blob: 0,
        };
        let g = Planar::of(&r);
        let mut parameters = numbers.requant(c.into());
        if straight {
            parameters.shift.clear();
        }
        let q = parameters.requant();
        let weights = numbers.bytes(usize::from(kernel[0] * kernel[1] * c));
        let src = numbers.bytes(2 * usize::from(r.h) * usize::from(r.w) * usize::from(c));
        let mut dst = vec![0i8; 2 * g.out_h * g.out_w * usize::from(c)];
        for n in 0..2 {
            for channel in 0..usize::from(c) {
                let rows = 0..g.padded_h;
                let mut plane = vec![0; g.padded_h * g.pitch];
                portable::gather_band(&r, &g, (n, channel), 0, rows, &src, &mut plane);
                portable::depthwise_band(&r, &g, &q, &weights, (n, channel), 0..g.out_h, &plane, &mut dst);
            }
        }
        let [src_at, planes_at, dst_at] = [0, 2048, 8192];
        let mut arena = Arena([0; 16384]);
        let spans = [Span::new(src_at, src.len() as u64, 1), Span::new(dst_at, dst.len() as u64, 1)];
        let planes = Span::new(planes_at, g.scratch(&r), 2).unwrap();
        let [src_span, dst_span] = spans.map(Result::unwrap);
        Memory::new(&mut arena.0, &[]).write::<i8>(src_span).unwrap().copy_from_slice(&src);
        let mut operands = Operands { arena: &mut arena.0, src: src_span, dst: dst_span };
        depthwise_planar(&r, &g, &q, &weights, &mut operands, planes).unwrap();
        let memory = Memory::new(&mut arena.0, &[]);
        prop_assert_eq!(bytemuck::cast_slice::<u8, i8>(memory.bytes(dst_span).unwrap()), &dst[..]);
    }

    #[test]
    fn winograd_convolutions(shape in shapes()) {
        let (extents, c, out_c, _, _, pad, seed) = shape;
        let mut numbers = Numbers(seed);
        let c = c.next_multiple_of(4);
        let window = Window { kernel: [3, 3], stride: [1, 1], dilation: [1, 1], pad };
        let r = ConvWinograd {
            src: 0,
            dst: 0,
            scratch: 0,
            n: 2,
            h: extents[0],
            w: extents[1],
            c,
            out_c,
            window: window.into(),
            in_zp: 3,
            out_zp: 0,
            clamp: None,
            strip: 1,
            blob: 0,
        };
        let parameters = numbers.requant(out_c.into());
        let q = parameters.requant();
        let blocks = usize::from(out_c).div_ceil(4);
        let weights: Vec<i16> = (0..blocks * 48 * usize::from(c)).map(|_| numbers.within(-500, 500) as i16).collect();
        let src = numbers.bytes(2 * usize::from(r.h) * usize::from(r.w) * usize::from(c));
        let extent = |axis: usize| crate::geometry::extent(extents[axis].into(), &window, axis);
        let mut dst = vec![0i8; 2 * extent(0) * extent(1) * usize::from(out_c)];
        portable::conv_winograd(&r, &q, &weights, &src, &mut dst);
        let mut arena = Arena([0; 16384]);
        let src_span = Span::new(0, src.len() as u64, 1).unwrap();
        let lanes = Span::new(2048, 24 * u64::from(c), 2).unwrap();
        let dst_span = Span::new(8192, dst.len() as u64, 1).unwrap();
        Memory::new(&mut arena.0, &[]).write::<i8>(src_span).unwrap().copy_from_slice(&src);
        let mut operands = Operands { arena: &mut arena.0, src: src_span, dst: dst_span };
        conv_winograd(&r, &q, &weights, &mut operands, lanes).unwrap();
        let memory = Memory::new(&mut arena.0, &[]);
        prop_assert_eq!(bytemuck::cast_slice::<u8, i8>(memory.bytes(dst_span).unwrap()), &dst[..]);
    }

    #[test]
    fn sums_and_differences(seed in any::<u64>(), swapped in any::<bool>(), sum in any::<bool>()) {
        let mut numbers = Numbers(seed);
        let clamp = if seed.is_multiple_of(3) { Some((-90, 100)) } else { None };
        let [a_zp, b_zp, out_zp] = [0; 3].map(|_: i8| numbers.next() as i8);
        let r = Binary {
            a: 0,
            b: Operand::Arena(0),
            dst: 0,
            dims: [1, 1, 1, 64],
            broadcast: 0,
            kind: if sum { BinaryKind::Add } else { BinaryKind::Sub },
            swapped,
            arith: BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, blob: 0 },
        };
        let multiplier = [0; 3].map(|_| numbers.within(1 << 30, i32::MAX));
        let shift = [numbers.within(-5, 0), numbers.within(-5, 0), numbers.within(-22, -15)].map(|s| s as i8);
        let (a, b) = (numbers.bytes(64), numbers.bytes(64));
        let mut dst = [a.clone(), a];
        portable::binary_i8(&r, multiplier, shift, &b, &mut dst[0]);
        prop_assert!(add_i8(&r, multiplier, shift, &b, &mut dst[1]));
        prop_assert_eq!(&dst[0], &dst[1]);
    }

    #[test]
    fn average_pools(h in 1u16..8, w in 1u16..8, blocks in 1u16..5, seed in any::<u64>()) {
        let c = 4 * blocks;
        let r = Pool {
            src: 0,
            dst: 0,
            n: 2,
            h,
            w,
            c,
            window: Window { kernel: [h, w], stride: [1, 1], dilation: [1, 1], pad: [0; 4] }.into(),
            kind: PoolKind::Average,
            arith: PoolArith::I8 { zp: 4, clamp: Some((-120, 90)) },
        };
        let src = Numbers(seed).bytes(2 * usize::from(h * w * c));
        let mut dst = [vec![0i8; 2 * usize::from(c)], vec![0; 2 * usize::from(c)]];
        portable::pool_i8(&r, &src, &mut dst[0]);
        prop_assert!(average_i8(&r, &src, &mut dst[1]));
        prop_assert_eq!(&dst[0], &dst[1]);
    }

    #[test]
    fn any_pools(
        kernel in [1u16..5, 1u16..5],
        stride in [1u16..4, 1u16..4],
        more in [0u16..8, 0u16..8],
        pad in [0u16..4, 0u16..4, 0u16..4, 0u16..4],
        dilated in any::<bool>(),
        c in 1u16..14,
        kind in 0..3usize,
        seed in any::<u64>(),
    ) {
        let window = Window {
            kernel,
            stride,
            dilation: [if dilated { 2 } else { 1 }; 2],
            pad: core::array::from_fn(|i| if dilated { 0 } else { pad[i].min(kernel[i % 2] - 1) }),
        };
        let [h, w] = [0, 1].map(|a| 2 * kernel[a] + more[a]);
        let r = Pool {
            src: 0,
            dst: 0,
            n: 2,
            h,
            w,
            c,
            window: window.into(),
            kind: [PoolKind::Max, PoolKind::Average, PoolKind::AverageIncludePad][kind],
            arith: PoolArith::I8 { zp: seed as i8, clamp: seed.is_multiple_of(2).then_some((-50, 60)) },
        };
        let src = Numbers(seed).bytes(2 * usize::from(h * w * c));
        let pixels = [(h, 0), (w, 1)].map(|(n, a)| crate::geometry::extent(n.into(), &window, a));
        let mut dst = [(); 2].map(|()| vec![0i8; 2 * pixels[0] * pixels[1] * usize::from(c)]);
        portable::pool_i8(&r, &src, &mut dst[0]);
        prop_assert!(pool_i8(&r, &src, &mut dst[1]));
        prop_assert_eq!(&dst[0], &dst[1]);
    }
}

#[repr(align(16))]
struct Arena([u8; 16384]);
