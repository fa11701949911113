//! Pools.

use crate::{Bench, signed, signed_mut};
use cortex_m_semihosting::hprintln;
use offshoot_format::record::{Pool, PoolArith, PoolKind, Window};
use offshoot_kernels::geometry::extent;
use offshoot_kernels::{pool_i8, portable};

const CASES: usize = 400;

/// A random record; every window covers some of the input.
fn record(bench: &mut Bench) -> Pool {
    let random = &mut bench.random;
    let mut window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };
    let extents;
    if random.of(0, 4) == 0 {
        // The whole input.
        extents = [0; 2].map(|_| random.of(1, 15));
        window.kernel = extents;
    } else {
        window.kernel = [0; 2].map(|_| random.of(1, 4));
        window.stride = [0; 2].map(|_| random.of(1, 3));
        let dilated = random.of(0, 4) == 0;
        extents = window.kernel.map(|k| 2 * k + random.of(0, 8));
        for i in 0..4 {
            window.pad[i] = if dilated { 0 } else { random.of(0, window.kernel[i % 2] - 1) };
        }
        window.dilation = [if dilated { 2 } else { 1 }; 2];
    }
    Pool {
        src: 0,
        dst: 0,
        n: random.of(1, 2),
        h: extents[0],
        w: extents[1],
        c: random.of(1, 40),
        window: window.into(),
        kind: [PoolKind::Max, PoolKind::Average, PoolKind::AverageIncludePad][usize::from(random.of(0, 2))],
        arith: PoolArith::I8 { zp: random.byte(), clamp: random.coin().then_some((-50, 60)) },
    }
}

pub(crate) fn check(bench: &mut Bench) {
    let mut cases = 0;
    while cases < CASES {
        let r = record(bench);
        let window = Window::from(r.window);
        let (n, c) = (usize::from(r.n), usize::from(r.c));
        let output = n * extent(r.h.into(), &window, 0) * extent(r.w.into(), &window, 1) * c;
        let input = n * usize::from(r.h) * usize::from(r.w) * c;
        let Some([src, dst]) = bench.place([input, output]) else { continue };
        for (memory, kernel) in
            [(&mut *bench.work, pool_i8 as fn(&_, &_, &mut _)), (&mut *bench.expected, portable::pool_i8)]
        {
            let (low, high) = memory.split_at_mut(dst.start);
            kernel(&r, signed(&low[src.range()]), signed_mut(&mut high[..dst.len]));
        }
        bench.compare(&r, dst, &[]);
        cases += 1;
    }
    hprintln!("pools: {} cases", cases);
}
