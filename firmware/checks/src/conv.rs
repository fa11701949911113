//! Convolutions with row-major weights.

use crate::{Bench, WEIGHTS, signed, signed_mut};
use cortex_m_semihosting::hprintln;
use offshoot_base::Span;
use offshoot_format::record::{ConvTiled, Traversal, Window};
use offshoot_format::row_major::PIXELS;
use offshoot_kernels::geometry::Tiled;
use offshoot_kernels::tiles::Operands;
use offshoot_kernels::{conv_row_major, portable};

const CASES: usize = 600;
/// Most bytes of gathered inputs.
const LANES: usize = 2048;

/// A random record: windows, 1×1 convolutions and fully connected layers.
fn record(bench: &mut Bench) -> ConvTiled {
    let random = &mut bench.random;
    let (vector, pointwise) = (random.of(0, 4) == 0, random.of(0, 2) == 0);
    let windowed = !vector && !pointwise;
    let mut window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    if windowed {
        window.kernel = [0; 2].map(|_| random.of(1, 4));
        window.stride = [0; 2].map(|_| random.of(1, 2));
        window.pad = [0; 4].map(|_| random.of(0, 2));
        window.dilation[0] = if random.of(0, 3) == 0 { 2 } else { 1 };
    }
    let [h, w] = [0; 2].map(|_| if vector { 1 } else { random.of(7, 12) });
    ConvTiled {
        src: 0,
        dst: 0,
        scratch: 0,
        n: if vector { 1 } else { random.of(1, 2) },
        h,
        w,
        c: random.of(1, if windowed { 20 } else { 70 }),
        out_c: random.of(1, 21),
        window: window.into(),
        in_zp: random.byte(),
        out_zp: 0,
        traversal: if random.coin() { Traversal::Forwards } else { Traversal::Backwards },
        clamp: None,
        blob: 0,
    }
}

pub(crate) fn check(bench: &mut Bench) {
    let mut cases = 0;
    while cases < CASES {
        let r = record(bench);
        let g = Tiled::row_major(&r);
        let channels = usize::from(r.out_c);
        let input = usize::from(r.n) * usize::from(r.h) * usize::from(r.w) * usize::from(r.c);
        let rows = channels.next_multiple_of(4) * g.k;
        let lanes = if g.vector { 0 } else { PIXELS * g.k };
        if rows > WEIGHTS || lanes > LANES || g.pixels == 0 {
            continue;
        }
        // Some outputs lie over the input.
        let (below, above) = g.in_place_offsets_of::<PIXELS>(&r).unwrap_or((u64::MAX, u64::MAX));
        let output = g.pixels * channels;
        let over = bench.random.coin() && !g.vector && below.max(above) < 4096;
        let (first, all) = match (over, r.traversal) {
            (false, _) => (0, input),
            (true, Traversal::Backwards) => (0, input.max(above as usize + output)),
            (true, _) => (below as usize, (below as usize + input).max(output)),
        };
        let Some([mut src, mut dst, scratch]) = bench.place([all, if over { 0 } else { output }, lanes])
        else {
            continue;
        };
        if over {
            let at = src.start + if r.traversal == Traversal::Backwards { above as usize } else { 0 };
            dst = Span { start: at, len: output };
        }
        src = Span { start: src.start + first, len: input };
        bench.parameters.draw(&mut bench.random, g.k);
        let scales = if g.vector && bench.random.coin() { 1 } else { channels };
        let q = bench.parameters.requant(&mut bench.random, channels, scales);
        let weights = &bench.parameters.weights[..rows];
        let mut gathered = [0i8; LANES];
        let whole = &mut gathered[..lanes];
        let threes = g.pixels.div_ceil(PIXELS);
        for i in 0..threes {
            let first = PIXELS * if r.traversal == Traversal::Backwards { threes - 1 - i } else { i };
            if g.vector {
                let mut x = [0i8; LANES];
                x[..input].copy_from_slice(signed(&bench.expected[src.range()]));
                let dst = signed_mut(&mut bench.expected[dst.range()]);
                portable::conv_row_major(&g, &q, weights, 0, &x[..input], dst);
            } else {
                portable::gather_row_major(&r, &g, first, signed(&bench.expected[src.range()]), whole);
                let dst = signed_mut(&mut bench.expected[dst.range()]);
                portable::conv_row_major(&g, &q, weights, first, whole, dst);
            }
        }
        let mut operands = Operands { arena: &mut bench.work[..], src, dst };
        let done = conv_row_major(&r, &g, &q, weights, &mut operands, (!g.vector).then_some(scratch));
        assert_eq!(done, Ok(true));
        bench.compare(&(r, over), dst, &[scratch]);
        cases += 1;
    }
    hprintln!("convolutions with row-major weights: {} cases", cases);
}
