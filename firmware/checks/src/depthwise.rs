//! Depthwise convolutions.

use crate::{Bench, CHANNELS, signed};
use cortex_m_semihosting::hprintln;
use offshoot_base::Span;
use offshoot_format::record::{DepthwisePlanar, Window};
use offshoot_kernels::geometry::Planar;
use offshoot_kernels::portable::fixed_point::multiply_by_quantized_multiplier;
use offshoot_kernels::tiles::Operands;
use offshoot_kernels::{Requant, depthwise_planar};

const CASES: usize = 800;

/// A random record: small windows in an image, or longer ones along one axis.
fn record(bench: &mut Bench) -> DepthwisePlanar {
    let random = &mut bench.random;
    let mut window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    let mut extents = [1; 2];
    if random.of(0, 2) == 0 {
        let axis = usize::from(random.of(0, 1));
        window.kernel[axis] = random.of(1, 17);
        (window.pad[axis], window.pad[axis + 2]) = (random.of(0, 2), random.of(0, 2));
        extents[axis] = window.kernel[axis] + random.of(0, 20);
    } else {
        window.kernel = [0; 2].map(|_| random.of(1, 3));
        window.stride = [random.of(1, 2); 2];
        window.pad = [0; 4].map(|_| random.of(0, 2));
        extents = window.kernel.map(|k| k + random.of(0, 11));
    }
    DepthwisePlanar {
        src: 0,
        dst: 0,
        scratch: 0,
        n: random.of(1, 2),
        h: extents[0],
        w: extents[1],
        c: random.of(1, 40),
        rows: random.of(60, 160),
        window: window.into(),
        in_zp: random.byte(),
        out_zp: 0,
        clamp: None,
        blob: 0,
    }
}

/// The sum of an output's products.
fn sum(r: &DepthwisePlanar, g: &Planar, src: &[i8], weights: &[i8], at: [usize; 4]) -> i32 {
    let [n, y, x, channel] = at;
    let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
    let [k_h, k_w] = g.window.kernel.map(usize::from);
    let [s_h, s_w] = g.window.stride.map(usize::from);
    let [top, left, ..] = g.window.pad.map(usize::from);
    let mut sum = 0i32;
    for ky in 0..k_h {
        for kx in 0..k_w {
            let (row, column) = ((y * s_h + ky).wrapping_sub(top), (x * s_w + kx).wrapping_sub(left));
            let inside = row < h && column < w;
            let value = if inside { src[((n * h + row) * w + column) * c + channel] } else { r.in_zp };
            sum += i32::from(value) * i32::from(weights[(ky * k_w + kx) * c + channel]);
        }
    }
    sum
}

fn output(q: &Requant<'_>, sum: i32, channel: usize) -> i8 {
    let sum = sum.wrapping_add(q.bias[channel]);
    let scaled = multiply_by_quantized_multiplier(sum, q.multiplier[channel], q.shift[channel]);
    scaled.wrapping_add(q.out_zp).clamp(q.min, q.max) as i8
}

pub(crate) fn check(bench: &mut Bench) {
    let (mut cases, mut taken) = (0, 0);
    while cases < CASES {
        let r = record(bench);
        let g = Planar::of(&r);
        let (n, c) = (usize::from(r.n), usize::from(r.c));
        assert!(c <= CHANNELS);
        let (pixels, image) = (g.out_h * g.out_w, usize::from(r.h) * usize::from(r.w) * c);
        let over = bench.random.coin() && g.in_place(&r);
        let sizes = [n * image.max(if over { pixels * c } else { 0 }), if over { 0 } else { n * pixels * c }];
        let planes = 2 * g.scratch(&r) as usize;
        let Some([src, dst, planes]) = bench.place([sizes[0], sizes[1], planes]) else { continue };
        let src = Span { len: n * image, ..src };
        let dst = Span { start: if over { src.start } else { dst.start }, len: n * pixels * c };
        let taps = g.window.kernel.map(usize::from).iter().product::<usize>();
        bench.parameters.draw(&mut bench.random, taps);
        let q = bench.parameters.requant(&mut bench.random, c, c);
        let weights = &bench.parameters.weights[..taps * c];
        for i in 0..n * pixels * c {
            let place = [i / (pixels * c), i / (g.out_w * c) % g.out_h, i / c % g.out_w, i % c];
            // The inputs of the other memory are still what they were.
            let sum = sum(&r, &g, signed(&bench.work[src.range()]), weights, place);
            bench.expected[dst.start + i] = output(&q, sum, i % c) as u8;
        }
        let mut operands = Operands { arena: &mut bench.work[..], src, dst };
        let done = depthwise_planar(&r, &g, &q, weights, &mut operands, planes);
        // Other windows have a kernel too, but not always.
        if done == Ok(true) {
            bench.compare(&(r, over), dst, &[planes]);
            taken += 1;
        }
        cases += 1;
    }
    let least = if cfg!(feature = "vectors") { 9 } else { 4 };
    assert!(taken > CASES * least / 10, "{taken} of {cases}");
    hprintln!("depthwise convolutions: {} cases", taken);
}
