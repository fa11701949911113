//! The int8 layer that forms are made from.

use offshoot::format::record::Window;
use offshoot_ir::Activation;

use crate::forms::parameters::{Quantised, clamp_i8};
use crate::lowered::Tensor;

/// An int8 convolution with one group, or a depthwise convolution.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Input and output. Their buffers are the draft's, not the lowered graph's.
    pub(crate) x: Tensor,
    pub(crate) y: Tensor,
    /// Extents of the input, NHWC; (1, 1, rows, inputs) for a fully connected layer.
    pub(crate) input: [u16; 4],
    pub(crate) window: Window,
    pub(crate) activation: Activation,
    /// Weights, biases with the input's zero point folded in, and multipliers.
    pub(crate) q: Quantised,
    /// Whether it learns: its output must then not overwrite its input.
    pub(crate) learns: bool,
}

impl Layer {
    pub(crate) fn channels(&self) -> usize {
        self.q.bias.len()
    }

    /// Number of weights per channel.
    pub(crate) fn taps(&self) -> usize {
        self.q.weights.len() / self.channels().max(1)
    }

    /// Number of output pixels.
    pub(crate) fn pixels(&self) -> usize {
        self.y.len() / self.channels().max(1)
    }

    pub(crate) fn macs(&self) -> u64 {
        (self.y.len() * self.taps()) as u64
    }

    /// Whether there is one output pixel, which reads the whole input.
    pub(crate) fn one_row(&self) -> bool {
        self.x.len() == self.taps() && self.y.len() == self.channels()
    }

    /// Whether it is a 1×1 convolution with stride 1 and without padding.
    pub(crate) fn pointwise(&self) -> bool {
        self.window.kernel == [1; 2] && self.window.stride == [1; 2] && self.window.pad == [0; 4]
    }

    pub(crate) fn clamp(&self) -> Option<(i8, i8)> {
        clamp_i8(self.activation, &self.y)
    }

    /// The layer with other weights, biases and multipliers; the number of channels may change.
    pub(crate) fn with(&self, q: Quantised) -> Self {
        let y = Tensor { shape: self.y.with_channels(q.bias.len()), ..self.y.clone() };
        Self { y, q, ..self.clone() }
    }
}
