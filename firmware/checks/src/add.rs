//! Additions.

use crate::{Bench, signed, signed_mut};
use cortex_m_semihosting::hprintln;
use offshoot_format::record::{Binary, BinaryArith, BinaryKind, Operand};
use offshoot_kernels::{binary_i8, portable};

const CASES: usize = 400;

pub(crate) fn check(bench: &mut Bench) {
    for _ in 0..CASES {
        let len = bench.random.of(1, 70);
        let Some([dst, b]) = bench.place([len.into(), len.into()]) else { continue };
        let random = &mut bench.random;
        let relu = random.coin();
        let shifts = [0; 2].map(|_| if random.coin() { -(random.of(1, 5) as i8) } else { 0 });
        let shift = [shifts[0], shifts[1], -(random.of(14, 22) as i8)];
        let multiplier = [0; 3].map(|_| random.multiplier());
        let arith = BinaryArith::I8 {
            a_zp: random.byte(),
            b_zp: random.byte(),
            out_zp: if relu { -128 } else { random.byte() },
            clamp: (!relu && random.coin()).then_some((-60, 70)),
            blob: 0,
        };
        let r = Binary {
            kind: BinaryKind::Add,
            swapped: false,
            a: 0,
            b: Operand::Arena(0),
            dst: 0,
            dims: [1, 1, 1, len],
            broadcast: 0,
            arith,
        };
        for (memory, kernel) in [
            (&mut *bench.work, binary_i8 as fn(&_, _, _, &_, &mut _)),
            (&mut *bench.expected, portable::binary_i8),
        ] {
            let (low, high) = memory.split_at_mut(b.start);
            kernel(&r, multiplier, shift, signed(&high[..b.len]), signed_mut(&mut low[dst.range()]));
        }
        bench.compare(&(r, multiplier, shift), dst, &[]);
    }
    hprintln!("additions: {} cases", CASES);
}
