//! Tables.

use crate::{Bench, signed, signed_mut};
use cortex_m_semihosting::hprintln;
use offshoot_kernels::{lut_i8, portable};

const CASES: usize = 50;

pub(crate) fn check(bench: &mut Bench) {
    for _ in 0..CASES {
        let len = usize::from(bench.random.of(1, 300));
        let Some([table, data]) = bench.place([256, len]) else { continue };
        for (memory, kernel) in
            [(&mut *bench.work, lut_i8 as fn(&_, &mut _)), (&mut *bench.expected, portable::lut_i8)]
        {
            let (low, high) = memory.split_at_mut(data.start);
            kernel(signed(&low[table.range()]), signed_mut(&mut high[..len]));
        }
        bench.compare(&len, data, &[]);
    }
    hprintln!("tables: {} cases", CASES);
}
