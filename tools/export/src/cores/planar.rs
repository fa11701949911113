//! Instructions of channel-planar depthwise convolutions, counted as their kernels loop: planes, bands of gathered rows,
//! rows, outputs.
//!
//! Fitted to 40 single layers of 3 × 3 to 48 × 48 pixels with 3×3, 5×5 and 1×5 windows on the emulated boards, with bands of
//! 256, 1,024 and 4,096 bytes: 3×3 windows within 11 %.

use offshoot::format::record::DepthwisePlanar;
use offshoot::kernels::geometry::Planar;

use super::Core;

/// Instructions of each part of the loops.
struct Loops {
    plane: f64,
    band: f64,
    /// A row that is gathered, and an element of it.
    row: f64,
    element: f64,
    /// A value that stays for the next band and is moved.
    moved: f64,
    /// An output of a 3×3 window with exact single-multiply requantisation: with a stride of 1, whose outputs share loads, and
    /// with another.
    output: [f64; 2],
    /// What TFLite's rounding adds to an output.
    rounding: f64,
    /// An output of another window: in all, and for each tap.
    any: [f64; 2],
}

const DSP: Loops = Loops {
    plane: 200.0,
    band: 270.0,
    row: 38.0,
    element: 2.0,
    moved: 1.0,
    output: [14.5, 19.4],
    rounding: 13.6,
    any: [24.5, 6.0],
};
const ARM_V7M: Loops = Loops {
    plane: 320.0,
    band: 445.0,
    row: 112.0,
    element: 6.5,
    moved: 2.2,
    output: [24.3, 34.3],
    rounding: 56.0,
    any: [30.0, 5.4],
};
const ARM_V6M: Loops = Loops {
    plane: 530.0,
    band: 1270.0,
    row: 175.0,
    element: 5.5,
    moved: 2.0,
    output: [89.6, 104.8],
    rounding: 100.0,
    any: [71.0, 17.5],
};
const RISCV32: Loops = Loops {
    plane: 420.0,
    band: 490.0,
    row: 51.0,
    element: 2.0,
    moved: 1.0,
    output: [48.6, 71.0],
    rounding: 35.0,
    any: [37.0, 5.8],
};

/// The loops over a plane.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Counts {
    bands: usize,
    rows: usize,
    elements: usize,
    moved: usize,
    outputs: usize,
}

impl Counts {
    /// The kernel turns a plane that is gathered as a whole so that its longer side becomes the inner loop.
    fn of(r: &DepthwisePlanar, g: &Planar) -> Self {
        let [top, left, bottom, right] = g.window.pad.map(usize::from);
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let [s_h, s_w] = g.window.stride.map(usize::from);
        let (height, width) = (usize::from(r.h) + top + bottom, usize::from(r.w) + left + right);
        let longer = if k_h == k_w { g.out_h > g.out_w } else { k_h > k_w };
        let turned = width.saturating_mul(height.next_multiple_of(2)).saturating_add(2);
        let whole = g.band >= g.out_h;
        let turns = whole && longer && turned as u64 <= g.scratch(r);
        let (out_rows, kernel, stride) = if turns { (g.out_w, k_w, s_w) } else { (g.out_h, k_h, s_h) };
        let bands = if whole { 1 } else { g.out_h.div_ceil(g.band.max(1)) };
        Self {
            bands,
            rows: out_rows.saturating_sub(1) * stride + kernel,
            elements: usize::from(r.h) * usize::from(r.w),
            moved: (bands - 1) * kernel.saturating_sub(stride) * g.pitch,
            outputs: g.out_h * g.out_w,
        }
    }
}

/// Instructions of a layer.
pub(super) fn instructions(core: Core, r: &DepthwisePlanar, single_multiply: bool) -> u64 {
    let loops = match core {
        Core::Dsp | Core::Mve => DSP,
        Core::ArmV7M => ARM_V7M,
        Core::ArmV6M => ARM_V6M,
        Core::RiscV32 => RISCV32,
    };
    let g = Planar::of(r);
    let counts = Counts::of(r, &g);
    let taps = g.window.kernel.map(f64::from).iter().product::<f64>();
    let small = loops.output[usize::from(g.window.stride != [1, 1])];
    let output = match (single_multiply, g.window.kernel == [3, 3]) {
        (true, _) => small,
        (false, true) => small + loops.rounding,
        (false, false) => loops.any[0] + loops.any[1] * taps,
    };
    let plane = loops.plane
        + loops.band * counts.bands as f64
        + loops.row * counts.rows as f64
        + loops.element * counts.elements as f64
        + loops.moved * counts.moved as f64
        + output * counts.outputs as f64;
    (plane * f64::from(r.c) * f64::from(r.n)) as u64
}

#[cfg(test)]
mod tests {
    use offshoot::format::record::Window;

    use super::*;

    /// 3×3 windows over `h` × `w` × 8, gathered in bands of `bytes`.
    fn record(h: u16, w: u16, stride: u16, bytes: u16) -> DepthwisePlanar {
        let window = Window { kernel: [3, 3], stride: [stride; 2], dilation: [1; 2], pad: [1; 4] };
        DepthwisePlanar {
            src: 0,
            dst: 0,
            scratch: 0,
            n: 1,
            h,
            w,
            c: 8,
            rows: (bytes / (2 * (w + 2).next_multiple_of(2))).clamp(3, h + 2),
            window: window.into(),
            in_zp: 0,
            out_zp: 0,
            clamp: None,
            blob: 0,
        }
    }

    /// Counts of single layers on the emulated boards (`offshoot profile --target`).
    #[test]
    fn estimates_are_those_of_the_boards() {
        let measured = [
            (Core::Dsp, (25, 5, 1, 256), 33143),
            (Core::Dsp, (25, 5, 1, 1024), 22361),
            (Core::Dsp, (24, 24, 1, 256), 113052),
            (Core::Dsp, (24, 24, 1, 1024), 90228),
            (Core::Dsp, (24, 24, 2, 256), 63924),
            (Core::Dsp, (24, 24, 2, 1024), 45828),
            (Core::Dsp, (48, 48, 1, 256), 463192),
            (Core::Dsp, (48, 48, 1, 1024), 330414),
            (Core::Dsp, (6, 6, 2, 256), 7827),
            (Core::Dsp, (6, 6, 2, 1024), 7827),
            (Core::ArmV7M, (25, 5, 1, 256), 66371),
            (Core::ArmV7M, (25, 5, 1, 1024), 43533),
            (Core::ArmV7M, (24, 24, 1, 256), 221208),
            (Core::ArmV7M, (24, 24, 1, 1024), 175672),
            (Core::ArmV7M, (24, 24, 2, 256), 142112),
            (Core::ArmV7M, (24, 24, 2, 1024), 101056),
            (Core::ArmV7M, (48, 48, 1, 256), 870396),
            (Core::ArmV7M, (48, 48, 1, 1024), 642306),
            (Core::ArmV7M, (6, 6, 2, 256), 16527),
            (Core::ArmV7M, (6, 6, 2, 1024), 16527),
            (Core::ArmV6M, (25, 5, 1, 256), 157228),
            (Core::ArmV6M, (25, 5, 1, 1024), 118507),
            (Core::ArmV6M, (24, 24, 1, 256), 599050),
            (Core::ArmV6M, (24, 24, 1, 1024), 494970),
            (Core::ArmV6M, (24, 24, 2, 256), 304651),
            (Core::ArmV6M, (24, 24, 2, 1024), 205226),
            (Core::ArmV6M, (6, 6, 2, 256), 34171),
            (Core::ArmV6M, (6, 6, 2, 1024), 34171),
            (Core::RiscV32, (25, 5, 1, 256), 78046),
            (Core::RiscV32, (25, 5, 1, 1024), 61848),
            (Core::RiscV32, (24, 24, 1, 256), 297304),
            (Core::RiscV32, (24, 24, 1, 1024), 252496),
            (Core::RiscV32, (24, 24, 2, 256), 149288),
            (Core::RiscV32, (24, 24, 2, 1024), 109760),
            (Core::RiscV32, (48, 48, 1, 256), 1196359),
            (Core::RiscV32, (48, 48, 1, 1024), 960772),
            (Core::RiscV32, (6, 6, 2, 256), 15351),
            (Core::RiscV32, (6, 6, 2, 1024), 15351),
        ];
        for (core, (h, w, stride, bytes), count) in measured {
            let estimated = instructions(core, &record(h, w, stride, bytes), true) as f64;
            let ratio = estimated / f64::from(count);
            assert!(
                (ratio - 1.0).abs() < 0.1,
                "{core:?}, {h} × {w}, stride {stride}, {bytes} bytes: {ratio}"
            );
        }
    }
}
