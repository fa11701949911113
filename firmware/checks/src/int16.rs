//! Convolutions with int16 activations.

use crate::{Bench, CHANNELS, Random, WEIGHTS};
use cortex_m_semihosting::hprintln;
use offshoot_base::Span;
use offshoot_format::record::{ConvInt16, Window};
use offshoot_kernels::geometry::extent;
use offshoot_kernels::portable::{self, RequantInt16};

const CASES: usize = 600;

/// A random record: windows, 1×1 convolutions, fully connected layers of one row, and depthwise convolutions.
fn record(random: &mut Random) -> ConvInt16 {
    let (vector, pointwise, depthwise) = (random.of(0, 4) == 0, random.of(0, 2) == 0, random.of(0, 2) == 0);
    let mut window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    if !vector && !pointwise {
        window.kernel = [0; 2].map(|_| random.of(1, 4));
        window.stride = [0; 2].map(|_| random.of(1, 2));
        window.pad = [0; 4].map(|_| random.of(0, 2));
        window.dilation = [0; 2].map(|_| if random.of(0, 3) == 0 { 2 } else { 1 });
    }
    let c = match random.of(0, 3) {
        _ if vector => random.of(1, 600),
        0 if !depthwise => random.of(60, 160),
        _ => random.of(1, 40),
    };
    let [h, w] = [0; 2].map(|_| if vector { 1 } else { random.of(4, 9) });
    let wide = random.coin();
    let out_c = if depthwise && !vector { c } else { random.of(1, 40) };
    let groups = if depthwise && !vector { c } else { 1 };
    let clamp = match random.of(0, 2) {
        0 => Some((0, i16::MAX)),
        1 => Some((-3000, 20000)),
        _ => None,
    };
    let n = random.of(1, 2);
    let per_channel = random.coin();
    ConvInt16 {
        src: 0,
        dst: 0,
        n,
        h,
        w,
        c,
        out_c,
        groups,
        window: window.into(),
        per_channel,
        wide,
        clamp,
        blob: 0,
    }
}

/// Biases, multipliers and shifts, which spread sums of `taps` products over the whole range of outputs.
pub(crate) struct Scales {
    pub(crate) bias: [i32; 2 * CHANNELS],
    pub(crate) multiplier: [i32; CHANNELS],
    pub(crate) shift: [i8; CHANNELS],
}

impl Scales {
    pub(crate) fn draw(random: &mut Random, wide: bool, taps: usize) -> Self {
        let mut scales = Self { bias: [0; 2 * CHANNELS], multiplier: [0; CHANNELS], shift: [0; CHANNELS] };
        if wide {
            for pair in scales.bias.chunks_exact_mut(2) {
                let bias = i64::from(random.next() as i32) << random.of(0, 14);
                (pair[0], pair[1]) = (bias as i32, (bias >> 32) as i32);
            }
        } else {
            scales.bias.iter_mut().for_each(|b| *b = (random.next() as i32) >> random.of(3, 20));
        }
        let spread = 3 + (usize::BITS - taps.leading_zeros()) as u16;
        for (multiplier, shift) in scales.multiplier.iter_mut().zip(&mut scales.shift) {
            *multiplier = if wide { random.of(1 << 14, 0x7fff).into() } else { random.multiplier() };
            // Now and then far beyond what networks have.
            *shift = match random.of(0, 9) {
                0 => 7 - random.of(0, 38) as i8,
                _ => -(random.of(1, spread) as i8),
            };
        }
        scales
    }
}

/// The int16 view of bytes.
pub(crate) fn halves(bytes: &[u8]) -> &[i16] {
    assert!(bytes.as_ptr().addr().is_multiple_of(2));
    // SAFETY: aligned, and every bit pattern is a number.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 2) }
}

/// As [`halves`], mutable.
pub(crate) fn halves_mut(bytes: &mut [u8]) -> &mut [i16] {
    assert!(bytes.as_ptr().addr().is_multiple_of(2));
    // SAFETY: aligned, and every bit pattern is a number.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len() / 2) }
}

pub(crate) fn check(bench: &mut Bench) {
    let mut cases = 0;
    while cases < CASES {
        let r = record(&mut bench.random);
        let window = Window::from(r.window);
        let (n, c, out_c) = (usize::from(r.n), usize::from(r.c), usize::from(r.out_c));
        let area = window.kernel.map(usize::from).iter().product::<usize>();
        let taps = area * c / usize::from(r.groups);
        let output = n * extent(r.h.into(), &window, 0) * extent(r.w.into(), &window, 1) * out_c;
        let input = n * usize::from(r.h) * usize::from(r.w) * c;
        if taps * out_c > WEIGHTS || output == 0 {
            continue;
        }
        // One byte more: the numbers begin at an even one.
        let Some([src, dst, _]) = bench.place([2 * input + 1, 2 * output + 1, 0]) else { continue };
        let even = |span: Span, len: usize| Span { start: span.start.next_multiple_of(2), len: 2 * len };
        let (src, dst) = (even(src, input), even(dst, output));
        bench.parameters.draw(&mut bench.random, taps);
        if bench.random.of(0, 9) == 0 {
            // The largest sums.
            bench.parameters.weights.fill(i8::MIN);
            for memory in [&mut *bench.work, &mut *bench.expected] {
                halves_mut(&mut memory[src.range()]).fill(i16::MIN);
            }
        }
        let scales = Scales::draw(&mut bench.random, r.wide, taps);
        let (words, count) = (if r.wide { 2 * out_c } else { out_c }, if r.per_channel { out_c } else { 1 });
        let q = RequantInt16 {
            bias: &scales.bias[..words],
            multiplier: &scales.multiplier[..count],
            shift: &scales.shift[..count],
            wide: r.wide,
            bounds: r.clamp.unwrap_or((i16::MIN, i16::MAX)),
        };
        let weights = &bench.parameters.weights[..taps * out_c];
        for (memory, kernel) in [
            (&mut *bench.work, offshoot_kernels::conv_int16 as fn(&_, &_, &_, &_, &mut _)),
            (&mut *bench.expected, portable::conv_int16),
        ] {
            let (low, high) = memory.split_at_mut(dst.start);
            kernel(&r, &q, weights, halves(&low[src.range()]), halves_mut(&mut high[..dst.len]));
        }
        bench.compare(&r, dst, &[]);
        cases += 1;
    }
    hprintln!("convolutions of int16: {} cases", cases);
}
