//! [`View`]: a channel plane of a depthwise convolution, transposed where this makes inner loops longer.

use crate::geometry::Planar;
use offshoot_format::record::DepthwisePlanar;

/// The plane as the loops see it, possibly transposed.
pub(crate) struct View {
    /// Rows and columns of the input, and the distances between them in bytes.
    pub(crate) input: [usize; 2],
    pub(crate) input_step: [usize; 2],
    /// Padding before the rows and columns.
    pub(crate) pad: [usize; 2],
    /// Rows and columns of the output, and the distances between them in bytes.
    pub(crate) output: [usize; 2],
    pub(crate) output_step: [usize; 2],
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Elements from a channel's weight to that of the next kernel row and column.
    pub(crate) weight_step: [usize; 2],
    /// Values in a row of the scratch.
    pub(crate) pitch: usize,
    /// Output rows that are computed from one fill of the scratch.
    pub(crate) band: usize,
}

impl View {
    // Not inlined: the temporaries of the transposition then do not stay on the stack below the loops.
    #[inline(never)]
    pub(crate) fn of(r: &DepthwisePlanar, g: &Planar, capacity: usize) -> Self {
        let c = usize::from(r.c);
        let (h, w) = (usize::from(r.h), usize::from(r.w));
        let [top, left, bottom, right] = g.window.pad.map(usize::from);
        let kernel = g.window.kernel.map(usize::from);
        let mut view = Self {
            input: [h, w],
            input_step: [w * c, c],
            pad: [top, left],
            output: [g.out_h, g.out_w],
            output_step: [g.out_w * c, c],
            kernel,
            stride: g.window.stride.map(usize::from),
            weight_step: [kernel[1] * g.weight_pitch, g.weight_pitch],
            pitch: g.pitch,
            band: g.band,
        };
        let whole = g.band >= g.out_h;
        let pitch = (h + top + bottom).next_multiple_of(2);
        let longer = if kernel[0] == kernel[1] { g.out_h > g.out_w } else { kernel[0] > kernel[1] };
        // The product saturates: if it wrapped, the transposed plane could exceed the scratch.
        let turned = (w + left + right).saturating_mul(pitch).saturating_add(2);
        if whole && longer && turned <= capacity {
            let pairs = [
                &mut view.input,
                &mut view.input_step,
                &mut view.pad,
                &mut view.output,
                &mut view.output_step,
                &mut view.kernel,
                &mut view.stride,
                &mut view.weight_step,
            ];
            pairs.into_iter().for_each(|pair| pair.reverse());
            (view.pitch, view.band) = (pitch, view.output[0]);
        }
        view
    }
}
