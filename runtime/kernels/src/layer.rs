//! A layer with weights as learning sees it: an image, a window, and the position of each weight. A fully connected
//! layer is an image with one pixel per row. A depthwise convolution has a different weight order.

use crate::geometry::Tiled;
use crate::sparse::sparse_bytes;
use offshoot_format::record::{
    Conv2d, ConvTiled, Depthwise, DepthwisePlanar, FullyConnected, FullyConnectedSparse, Window, WindowRepr,
};
use offshoot_format::sparse::SparseRepr;

/// Order of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `[out_c, k_h, k_w, c / groups]`
    Grouped {
        /// Groups of channels.
        groups: usize,
    },
    /// `[k_h, k_w, out_c]`; output channel `o` reads input channel `o / multiplier`.
    Depthwise {
        /// Output channels per input channel.
        multiplier: usize,
    },
    /// As in [`ConvTiled`]: blocks of four output channels.
    Tiled {
        /// Inputs of a kernel row, including padding.
        row: usize,
    },
    /// The entries of a sparse matrix; only stored weights exist.
    Sparse(SparseRepr),
}

/// Extents of a layer for one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Channels of the input.
    pub c: usize,
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Channels of the output.
    pub out_c: usize,
    /// Kernel, stride, dilation, padding.
    pub window: Window,
    /// Order of the weights.
    pub order: Order,
}

const POINT: Window = Window { kernel: [1; 2], stride: [1; 2], dilation: [1; 2], pad: [0; 4] };

impl Geometry {
    fn windowed(window: WindowRepr, input: [u16; 2], c: usize, out_c: usize, order: Order) -> Option<Self> {
        let (out_h, out_w) = crate::geometry::window_output(&window, input[0], input[1]).ok()?;
        Some(Self {
            input: input.map(usize::from),
            c,
            output: [out_h as usize, out_w as usize],
            out_c,
            window: window.into(),
            order,
        })
    }

    /// Geometry of a convolution; `None` if its window is not possible.
    pub fn conv(r: &Conv2d) -> Option<Self> {
        let order = Order::Grouped { groups: r.groups.into() };
        Self::windowed(r.window, [r.h, r.w], r.c.into(), r.out_c.into(), order)
    }

    /// Geometry of a depthwise convolution; `None` if its window is not possible.
    pub fn depthwise(r: &Depthwise) -> Option<Self> {
        let multiplier = usize::from(r.multiplier);
        let c = usize::from(r.c);
        Self::windowed(r.window, [r.h, r.w], c, c * multiplier, Order::Depthwise { multiplier })
    }

    /// Geometry of a sequence: one column, with `input` and `output` time steps as pixels.
    pub fn column([input, output]: [usize; 2], c: usize, out_c: usize) -> Self {
        let order = Order::Grouped { groups: 1 };
        Self { input: [input, 1], c, output: [output, 1], out_c, window: POINT, order }
    }

    /// Geometry of a tiled convolution; `None` if its window is not possible.
    pub fn tiled(r: &ConvTiled) -> Option<Self> {
        let row = Tiled::of(r).padded;
        Self::windowed(r.window, [r.h, r.w], r.c.into(), r.out_c.into(), Order::Tiled { row })
    }

    /// Geometry of a channel-planar depthwise convolution; `None` if its window is not possible.
    pub fn planar(r: &DepthwisePlanar) -> Option<Self> {
        let c = usize::from(r.c);
        Self::windowed(r.window, [r.h, r.w], c, c, Order::Depthwise { multiplier: 1 })
    }

    /// Geometry of a fully connected layer.
    pub fn fully_connected(r: &FullyConnected) -> Self {
        Self::dense(r.rows as usize, r.in_c as usize, r.out_c as usize)
    }

    /// Geometry of a fully connected layer with sparse weights.
    pub fn sparse(r: &FullyConnectedSparse) -> Self {
        let dense = Self::dense(r.rows as usize, r.in_c as usize, r.out_c as usize);
        Self { order: Order::Sparse(r.matrix), ..dense }
    }

    /// Geometry of a fully connected layer on `rows` rows of `inputs` elements.
    pub fn dense(rows: usize, inputs: usize, outputs: usize) -> Self {
        Self {
            input: [1, rows],
            c: inputs,
            output: [1, rows],
            out_c: outputs,
            window: POINT,
            order: Order::Grouped { groups: 1 },
        }
    }

    /// Number of output pixels.
    pub fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Number of kernel positions.
    pub fn taps(&self) -> usize {
        usize::from(self.window.kernel[0]) * usize::from(self.window.kernel[1])
    }

    /// Number of input channels that an output channel reads.
    pub fn depth(&self) -> usize {
        match self.order {
            Order::Grouped { groups } => self.c / groups.max(1),
            Order::Depthwise { .. } => 1,
            Order::Tiled { .. } | Order::Sparse(_) => self.c,
        }
    }

    /// Number of stored weights.
    pub fn weights(&self) -> usize {
        match self.order {
            Order::Sparse(matrix) => matrix.weights() as usize,
            _ => self.out_c * self.taps() * self.depth(),
        }
    }

    /// Elements that the weights take in the blob: more than [`Self::weights`] if the order pads them or stores their
    /// positions.
    pub fn places(&self) -> usize {
        match self.order {
            Order::Tiled { row } => self.out_c.next_multiple_of(4) * usize::from(self.window.kernel[0]) * row,
            // The record has been checked, so its blob lies in the file.
            Order::Sparse(matrix) => sparse_bytes(&matrix, self.out_c as u64).unwrap_or(0) as usize,
            _ => self.weights(),
        }
    }

    /// Number of gradients that a train step of an int8 layer holds at once: those of one output channel (four if
    /// depthwise), or one per output channel if that is more.
    pub fn gradients(&self) -> usize {
        let channels = if matches!(self.order, Order::Depthwise { .. }) { 4 } else { 1 };
        (channels * self.taps() * self.depth()).max(self.out_c)
    }

    /// Index of the first weight of an output channel at a kernel position; the others of its depth follow. For a tiled
    /// or sparse layer, this is the index in the plain order.
    #[inline]
    pub fn weight(&self, channel: usize, tap: usize) -> usize {
        match self.order {
            Order::Grouped { .. } | Order::Tiled { .. } | Order::Sparse(_) => {
                (channel * self.taps() + tap) * self.depth()
            }
            Order::Depthwise { .. } => tap * self.out_c + channel,
        }
    }

    /// First input channel that an output channel reads.
    #[inline]
    pub fn first_input(&self, channel: usize) -> usize {
        match self.order {
            Order::Grouped { groups } => {
                let out_of_group = (self.out_c / groups.max(1)).max(1);
                channel / out_of_group * self.depth()
            }
            Order::Depthwise { multiplier } => channel / multiplier.max(1),
            Order::Tiled { .. } | Order::Sparse(_) => 0,
        }
    }

    /// Output channels that read an input channel.
    pub fn readers(&self, input: usize) -> core::ops::Range<usize> {
        match self.order {
            Order::Grouped { groups } => {
                let (inside, outside) = (self.depth().max(1), (self.out_c / groups.max(1)).max(1));
                input / inside * outside..(input / inside + 1) * outside
            }
            Order::Depthwise { multiplier } => input * multiplier..(input + 1) * multiplier,
            Order::Tiled { .. } | Order::Sparse(_) => 0..self.out_c,
        }
    }

    /// Outputs along an axis for which kernel position `k` lies inside the input: first, end, and the input index at
    /// the first.
    #[inline]
    pub fn reach(&self, axis: usize, k: usize) -> (usize, usize, usize) {
        let stride = usize::from(self.window.stride[axis]).max(1);
        let offset = (k * usize::from(self.window.dilation[axis])) as isize - self.window.pad[axis] as isize;
        let from = if offset < 0 { offset.unsigned_abs().div_ceil(stride) } else { 0 };
        let room = self.input[axis] as isize - offset;
        let to = if room <= 0 { 0 } else { (room as usize).div_ceil(stride) }.min(self.output[axis]);
        let from = from.min(to);
        (from, to, ((from * stride) as isize + offset).max(0) as usize)
    }
}
