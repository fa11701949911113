//! Gradients of four output channels from planes: the errors of each channel and the values of each input channel are
//! copied to their own 16-bit plane, so that the gradient of a weight is one long dot product.
//!
//! Each row of errors takes `pitch` elements, with zeros after the last pixel. Rows of inputs have the same pitch, so a
//! kernel position is a constant distance between the two planes and rows need no separate treatment. With strides, an
//! input channel has one plane for each remainder of the position by the stride (a phase).

use crate::layer::{Geometry, Order};

/// Extents of the planes of a strip of output rows. Only [`PlaneExtents::new`] makes plans, each for one geometry; kernels rely
/// on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneExtents {
    of: Geometry,
    rows: usize,
    pitch: usize,
    phases: [usize; 2],
    inputs: usize,
}

/// A kernel row with fewer inputs than this is short.
pub const SHORT_ROW: usize = 16;

/// A cell with fewer pixels than this is small.
const SMALL_CELL: usize = 10;

/// Output channels computed at once.
pub const LANES: usize = 4;

/// Maximum pixels of a row: kernels count active pixels in a byte.
const MOST_COLUMNS: usize = 255;

/// Maximum words of the planes: longer strips save little.
const MOST_WORDS: usize = 2048;

impl PlaneExtents {
    /// PlaneExtents for a layer whose pooling grid has `cells` cells, in at most `words` words of workspace; `None` if planes
    /// do not suit the layer or do not fit.
    pub fn new(g: &Geometry, cells: usize, words: usize) -> Option<Self> {
        let depthwise = match g.order {
            Order::Depthwise { multiplier: 1 } => true,
            Order::Grouped { groups: 1 } | Order::Tiled { .. } => false,
            _ => return None,
        };
        let all_lanes = g.out_c >= LANES;
        let inputs = if depthwise || g.c.is_multiple_of(4) { 4 } else { 1 };
        // A gathered input is shared by the taps of all lanes, which does not pay with a single tap. In large cells it
        // is faster to sum the inputs of active pixels before multiplying by their common error, unless kernel rows are
        // short.
        let thin = usize::from(g.window.kernel[1]) * g.c < SHORT_ROW;
        let pays = depthwise || g.taps() > 1 && (thin || g.pixels() < SMALL_CELL * cells);
        let small = g.output[1] <= MOST_COLUMNS && g.pixels() > 1;
        if !(all_lanes && pays && small && g.window.dilation == [1; 2]) {
            return None;
        }
        let [stride_h, stride_w] = g.window.stride.map(|s| usize::from(s).max(1));
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let phases = [stride_h.min(k_h), stride_w.min(k_w)];
        let pitch = pitch(g);
        let plan = |rows| Self { of: *g, rows, pitch, phases, inputs };
        let sums = Self::sums(g);
        let takes = |rows: usize| {
            let own = plan(rows).words(g, cells);
            own <= MOST_WORDS && sums + own <= words
        };
        let most = (1..=g.output[0]).rev().find(|&rows| takes(rows))?;
        // Strips of equal height.
        Some(plan(g.output[0].div_ceil(g.output[0].div_ceil(most))))
    }

    /// Whether it was made for this geometry.
    #[cfg(arm_dsp)]
    pub fn is_of(&self, g: &Geometry) -> bool {
        self.of == *g
    }

    /// Words of the sums that are computed at once.
    pub fn sums(g: &Geometry) -> usize {
        LANES * g.taps() * g.depth()
    }

    /// Words of workspace besides those of the sums.
    pub fn words(&self, g: &Geometry, cells: usize) -> usize {
        let planes = self.phases[0] * self.phases[1] * self.inputs;
        2 * cells + LANES * self.error_words() + planes * self.plane_words(g)
    }

    /// Output rows per strip.
    #[cfg(arm_dsp)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row, an even number.
    #[cfg(arm_dsp)]
    pub fn pitch(&self) -> usize {
        self.pitch
    }

    /// Planes per input channel along each axis.
    #[cfg(arm_dsp)]
    pub fn phases(&self) -> [usize; 2] {
        self.phases
    }

    /// Number of input channels whose planes are interleaved: four or one.
    #[cfg(arm_dsp)]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Words of a channel's errors; kernels read four at a time.
    pub fn error_words(&self) -> usize {
        (self.rows * self.pitch / 2).next_multiple_of(4)
    }

    /// Words of a plane, which holds every value twice.
    pub fn plane_words(&self, g: &Geometry) -> usize {
        let [stride_h, _] = g.window.stride.map(|s| usize::from(s).max(1));
        let [k_h, k_w] = g.window.kernel.map(usize::from);
        let below = k_h.saturating_sub(1) / stride_h * self.pitch / 2;
        2 * (below + self.error_words() + k_w / 2 + 3)
    }
}

/// Columns of a phase of the input: first and end of those that are not padding, and the end of those that a kernel
/// reads.
pub fn columns(g: &Geometry, phase: usize) -> (usize, usize, usize) {
    let stride = usize::from(g.window.stride[1]).max(1);
    let pad = usize::from(g.window.pad[1]);
    let read = g.output[1] + usize::from(g.window.kernel[1]).saturating_sub(1 + phase) / stride;
    let from = pad.saturating_sub(phase).div_ceil(stride);
    let to = (g.input[1] + pad).saturating_sub(phase).div_ceil(stride).min(read);
    (from.min(to), to, read)
}

/// The smallest pitch that fits; the padding after a row may also be that before the next.
fn pitch(g: &Geometry) -> usize {
    let phases = usize::from(g.window.stride[1]).max(1).min(g.window.kernel[1].into());
    let fits = |pitch: usize| {
        (0..phases).all(|phase| {
            let (from, to, read) = columns(g, phase);
            to <= pitch && read.saturating_sub(pitch) <= from
        })
    };
    let mut pitch = g.output[1].next_multiple_of(2);
    while !fits(pitch) {
        pitch += 2;
    }
    pitch
}

#[cfg(test)]
mod tests {
    use super::*;
    use offshoot_format::record::Window;

    fn geometry(
        input: [usize; 2],
        output: [usize; 2],
        kernel: [u16; 2],
        stride: u16,
        pad: [u16; 4],
    ) -> Geometry {
        let window = Window { kernel, stride: [stride; 2], dilation: [1; 2], pad };
        Geometry { input, c: 8, output, out_c: 8, window, order: Order::Depthwise { multiplier: 1 } }
    }

    #[test]
    fn padding_between_rows_is_shared_where_there_is_some() {
        let same = geometry([25, 5], [25, 5], [3, 3], 1, [1; 4]);
        assert_eq!(pitch(&same), 6);
        assert_eq!(pitch(&geometry([8, 8], [8, 8], [3, 3], 1, [1; 4])), 10);
        let valid = geometry([8, 8], [6, 6], [3, 3], 1, [0; 4]);
        assert_eq!(pitch(&valid), 8);
        let strided = geometry([16, 16], [8, 8], [3, 3], 2, [0, 0, 1, 1]);
        assert_eq!((pitch(&strided), columns(&strided, 0), columns(&strided, 1)), (10, (0, 8, 9), (0, 8, 8)));
        let plan = PlaneExtents::new(&same, 16, 10_000).unwrap();
        assert_eq!((plan.rows, plan.phases, plan.inputs), (25, [1, 1], 4));
        let strips = PlaneExtents::new(&same, 16, 500).unwrap();
        assert!(strips.rows < 25 && strips.words(&same, 16) + PlaneExtents::sums(&same) <= 500);
        assert_eq!(PlaneExtents::new(&same, 16, 100), None);
    }
}
