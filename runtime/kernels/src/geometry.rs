//! How tiled convolutions and channel-planar depthwise convolutions visit their tensors, the same on every instruction
//! set.

use offshoot_base::{Rule, require};
use offshoot_format::record::{ConvSingleMultiply, ConvTiled, DepthwisePlanar, Window, WindowRepr};
use offshoot_format::single_multiply::WORDS;

/// Output extent of a window along one axis; 0 if it does not fit.
pub fn extent(input: usize, window: &Window, axis: usize) -> usize {
    let (before, after) = (usize::from(window.pad[axis]), usize::from(window.pad[axis + 2]));
    let reach = usize::from(window.dilation[axis]) * (usize::from(window.kernel[axis]).max(1) - 1) + 1;
    let padded = input + before + after;
    if padded < reach { 0 } else { (padded - reach) / usize::from(window.stride[axis]).max(1) + 1 }
}

/// Sizes of a [`ConvTiled`].
#[derive(Clone, Copy, Debug)]
pub struct Tiled {
    /// Window, unpacked.
    pub window: Window,
    /// Output height.
    pub out_h: usize,
    /// Output width.
    pub out_w: usize,
    /// Output pixels, over all images.
    pub pixels: usize,
    /// Inputs that a kernel row covers.
    pub segment: usize,
    /// `segment`, padded to a multiple of four.
    pub padded: usize,
    /// Inputs of one output, including the padding of the rows.
    pub k: usize,
    /// Reads its input in place: one pixel, nothing to gather.
    pub vector: bool,
}

/// Position of the inputs of one kernel row of one output pixel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Leading elements in the padding.
    pub before: usize,
    /// Elements in the input.
    pub inside: usize,
    /// Input index of the first of them.
    pub at: usize,
}

impl Tiled {
    /// Sizes of a checked record.
    pub fn of(r: &ConvTiled) -> Self {
        let window = Window::from(r.window);
        let (out_h, out_w) = (extent(usize::from(r.h), &window, 0), extent(usize::from(r.w), &window, 1));
        let [k_h, k_w] = window.kernel.map(usize::from);
        let segment = k_w * usize::from(r.c);
        let padded = segment.next_multiple_of(4);
        // With a 32-bit `usize` these may overflow; then the record's weights or output do not fit either.
        let pixels = usize::from(r.n).saturating_mul(out_h).saturating_mul(out_w);
        let plain = window.kernel == [1, 1] && window.pad == [0; 4];
        let vector = pixels == 1 && plain && r.c.is_multiple_of(4);
        Self { window, out_h, out_w, pixels, segment, padded, k: k_h.saturating_mul(padded), vector }
    }

    /// Sizes of a checked [`ConvRowMajor`](offshoot_format::record::ConvRowMajor) with these fields: kernel rows are not
    /// padded.
    pub fn row_major(r: &ConvTiled) -> Self {
        let tiled = Self::of(r);
        let k = usize::from(tiled.window.kernel[0]).saturating_mul(tiled.segment);
        let plain = tiled.window.kernel == [1, 1] && tiled.window.pad == [0; 4];
        Self { padded: tiled.segment, k, vector: tiled.pixels == 1 && plain, ..tiled }
    }

    /// Number of pairs of output pixels; the last pair may have only one pixel.
    pub fn pairs(&self) -> usize {
        self.pixels.div_ceil(2)
    }

    /// Image, row and column of an output pixel.
    #[inline]
    pub fn position(&self, pixel: usize) -> (usize, usize, usize) {
        let row = pixel / self.out_w.max(1);
        (row / self.out_h.max(1), row % self.out_h.max(1), pixel % self.out_w.max(1))
    }

    /// Position of the inputs of a kernel row.
    #[inline]
    pub fn segment(&self, r: &ConvTiled, position: (usize, usize, usize), kernel_row: usize) -> Segment {
        let (n, y, x) = position;
        let (h, w, c) = (usize::from(r.h), usize::from(r.w), usize::from(r.c));
        let [stride_h, stride_w] = self.window.stride.map(usize::from);
        let row = y * stride_h + kernel_row * usize::from(self.window.dilation[0]);
        let row = row.wrapping_sub(usize::from(self.window.pad[0]));
        let column = x * stride_w;
        let left = usize::from(self.window.pad[1]);
        let k_w = usize::from(self.window.kernel[1]);
        let first = left.saturating_sub(column).min(k_w);
        let start = (column + first).saturating_sub(left);
        let inside = (k_w - first).min(w.saturating_sub(start));
        if row >= h || inside == 0 {
            return Segment { before: k_w * c, inside: 0, at: 0 };
        }
        Segment { before: first * c, inside: inside * c, at: ((n * h + row) * w + start) * c }
    }

    /// In-place offsets in bytes: by how much the output must start before the input if pairs are computed in order,
    /// and after the input if they are computed backwards. `None` if there are too many kernel rows to compute them.
    pub fn in_place_offsets(&self, r: &ConvTiled) -> Option<(u64, u64)> {
        self.in_place_offsets_of::<2>(r)
    }

    /// Like [`Self::in_place_offsets`], for `N` pixels at a time instead of pairs.
    #[inline(always)]
    pub fn in_place_offsets_of<const N: usize>(&self, r: &ConvTiled) -> Option<(u64, u64)> {
        // Visits every kernel row of every pixel, which a file must not be able to make slow.
        const MOST_ROWS: usize = 1 << 22;
        let k_h = usize::from(self.window.kernel[0]);
        if self.pixels.saturating_mul(k_h) > MOST_ROWS {
            return None;
        }
        let out_c = u64::from(r.out_c);
        let touched = |pixel: usize| {
            let position = self.position(pixel);
            let segments = (0..k_h).map(|ky| self.segment(r, position, ky)).filter(|s| s.inside > 0);
            segments.fold((u64::MAX, 0), |(first, end), s| {
                (first.min(s.at as u64), end.max((s.at + s.inside) as u64))
            })
        };
        let (mut below, mut first_needed) = (0, u64::MAX);
        for pixel in (N..self.pixels).rev() {
            first_needed = first_needed.min(touched(pixel).0);
            if pixel % N == 0 && first_needed != u64::MAX {
                // The pixels before `pixel` have just been written.
                below = below.max((pixel as u64 * out_c).saturating_sub(first_needed));
            }
        }
        let (mut above, mut needed_end) = (0, 0);
        for pixel in 0..self.pixels {
            if pixel % N == 0 {
                // Backwards: the pixels at `pixel` have just been written; those before it come later.
                above = above.max(u64::saturating_sub(needed_end, pixel as u64 * out_c));
            }
            needed_end = needed_end.max(touched(pixel).1);
        }
        Some((below, above))
    }
}

/// Scratch index of input `k` of pixel `lane` of a pair.
#[inline]
pub fn lane_index(k: usize, lane: usize) -> usize {
    (k / 4) * 8 + (k & 1) * 4 + lane * 2 + (k >> 1 & 1)
}

/// Weight of output channel `o` for input `k`, from the 16-bit halves of all blocks; `all` is the number of inputs,
/// padding included.
#[inline]
pub fn tiled_weight(halves: &[i16], all: usize, o: usize, k: usize) -> i32 {
    // The weights are as long as the record says.
    let at = (o / 4) * all * 2 + (k / 4) * 8 + (k & 1) * 4 + (o & 2) + (k >> 1 & 1);
    let half = halves.get(at).copied().unwrap_or(0);
    let low = i32::from(half as i8);
    if o & 1 == 0 { low } else { (i32::from(half) - low) >> 8 }
}

/// Words per block of four output channels of a convolution with exact single-multiply requantisation: weights, then
/// biases and multipliers.
pub fn block_words(r: &ConvSingleMultiply, g: &Tiled) -> usize {
    let weights = if r.wide { g.k.saturating_mul(2) } else { g.k };
    weights.saturating_add(WORDS)
}

/// Sizes of a [`DepthwisePlanar`].
#[derive(Clone, Copy, Debug)]
pub struct Planar {
    /// Window, unpacked.
    pub window: Window,
    /// Output height.
    pub out_h: usize,
    /// Output width.
    pub out_w: usize,
    /// Values in a row of the scratch.
    pub pitch: usize,
    /// Rows of the padded input.
    pub padded_h: usize,
    /// Output rows that one band computes.
    pub band: usize,
    /// Distance in elements between the weights of neighbouring taps of a channel: the channels of the whole tensor,
    /// also if the record covers only some of them.
    pub weight_pitch: usize,
}

impl Planar {
    /// Sizes of a checked record.
    pub fn of(r: &DepthwisePlanar) -> Self {
        let window = Window::from(r.window);
        let [top, left, bottom, right] = window.pad.map(usize::from);
        let padded_w = usize::from(r.w) + left + right;
        let rows = usize::from(r.rows);
        Self {
            window,
            out_h: extent(usize::from(r.h), &window, 0),
            out_w: extent(usize::from(r.w), &window, 1),
            pitch: padded_w.next_multiple_of(2),
            padded_h: usize::from(r.h) + top + bottom,
            band: rows.saturating_sub(usize::from(window.kernel[0])) / usize::from(window.stride[0]).max(1)
                + 1,
            weight_pitch: r.c.into(),
        }
    }

    /// Number of values in the scratch.
    pub fn scratch(&self, r: &DepthwisePlanar) -> u64 {
        u64::from(r.rows) * self.pitch as u64 + 2
    }

    /// How cores with the M-profile vector extension gather the rows; `None` if they have no kernel for the window.
    pub fn row_pairs(&self, r: &DepthwisePlanar) -> Option<RowPairs> {
        let unit = match self.window.stride {
            [1, 1] => true,
            [2, 2] => false,
            _ => return None,
        };
        let small = self.window.kernel.iter().all(|&k| k <= 3);
        let [_, left, _, right] = self.window.pad.map(usize::from);
        let patches = if unit { self.out_w.div_ceil(2) } else { self.out_w.next_multiple_of(4) };
        let columns = (usize::from(r.w) + left + right).max(2 * patches + 2);
        // Their kernel has 16-bit offsets.
        let fits = (columns + 4) * RowPairs::COLUMN <= usize::from(u16::MAX)
            && 8 * self.weight_pitch <= usize::from(u16::MAX);
        let steps = if unit { self.out_h.div_ceil(2) } else { self.out_h };
        (small && fits).then_some(RowPairs { unit, columns, steps })
    }

    /// Whether an output over the input overwrites only rows that are already gathered.
    pub fn in_place(&self, r: &DepthwisePlanar) -> bool {
        let (h, w) = (usize::from(r.h), usize::from(r.w));
        let (k_h, stride, top) = (
            usize::from(self.window.kernel[0]),
            usize::from(self.window.stride[0]),
            usize::from(self.window.pad[0]),
        );
        (0..self.out_h).all(|y| {
            let gathered = (y * stride + k_h).saturating_sub(top).min(h);
            (y + 1) * self.out_w <= gathered * w
        }) && (r.n == 1 || self.out_h * self.out_w == h * w)
    }
}

/// Pairs of rows of the padded input of a [`DepthwisePlanar`], gathered for eight channels at a time.
#[derive(Clone, Copy, Debug)]
pub struct RowPairs {
    /// Whether the stride is 1.
    pub unit: bool,
    /// Columns of a pair.
    pub columns: usize,
    /// Pairs of output rows (stride 1) or output rows (stride 2). Each needs the gathered rows from its pair on to the end of the
    /// next one.
    pub steps: usize,
}

impl RowPairs {
    /// Channels that are gathered together.
    pub const CHANNELS: usize = 8;
    /// Bytes of a column of a pair.
    pub const COLUMN: usize = 2 * Self::CHANNELS;

    /// Bytes of a pair.
    pub fn bytes(&self) -> usize {
        self.columns * Self::COLUMN
    }
}

/// Output height and width of a convolution or pool.
///
/// # Errors
/// [`Rule::Window`] if a stride, dilation or kernel extent is 0 or the dilated kernel exceeds the padded input;
/// [`Rule::Shape`] if the output does not fit 16 bits.
pub fn window_output(window: &WindowRepr, h: u16, w: u16) -> Result<(u32, u32), Rule> {
    let window = Window::from(*window);
    let [top, left, bottom, right] = window.pad;
    let extent = |axis: usize, input: u16, before: u16, after: u16| {
        let (kernel, stride, dilation) = (window.kernel[axis], window.stride[axis], window.dilation[axis]);
        require(kernel > 0 && stride > 0 && dilation > 0, Rule::Window)?;
        // At most 65535 * 65534 + 1, which fits 32 bits.
        let reach = u32::from(dilation) * (u32::from(kernel) - 1) + 1;
        let padded = u32::from(input) + u32::from(before) + u32::from(after);
        let room = padded.checked_sub(reach).ok_or(Rule::Window)?;
        let output = room / u32::from(stride) + 1;
        require(output <= u32::from(u16::MAX), Rule::Shape)?;
        Ok(output)
    };
    Ok((extent(0, h, top, bottom)?, extent(1, w, left, right)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: u16, stride: u16, dilation: u16, pad: u16) -> WindowRepr {
        Window { kernel: [kernel; 2], stride: [stride; 2], dilation: [dilation; 2], pad: [pad; 4] }.into()
    }

    #[test]
    fn output_extents() {
        assert_eq!(window_output(&window(3, 1, 1, 1), 5, 7), Ok((5, 7)));
        assert_eq!(window_output(&window(3, 2, 1, 0), 5, 7), Ok((2, 3)));
        assert_eq!(window_output(&window(3, 1, 2, 0), 5, 7), Ok((1, 3)));
        assert_eq!(window_output(&window(3, 1, 3, 0), 5, 7), Err(Rule::Window));
        assert_eq!(window_output(&window(1, 0, 1, 0), 5, 7), Err(Rule::Window));
        assert_eq!(window_output(&window(65535, 1, 65535, 65535), 5, 7), Err(Rule::Window));
        assert_eq!(window_output(&window(1, 1, 1, 65535), 5, 7), Err(Rule::Shape));
    }
}
