//! A layer as its forms see it.

use offshoot::format::record::Window;
use offshoot_ir::Activation;

use crate::forms::parameters::{Quantised, clamp_i8};
use crate::lowered::Tensor;

/// An int8 convolution of one group, or a depthwise one, as its forms see it.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// Input and output; buffers are not those of the lowered graph.
    pub(crate) x: Tensor,
    pub(crate) y: Tensor,
    /// Extents of the input, NHWC; of a fully connected layer (1, 1, rows, inputs).
    pub(crate) input: [u16; 4],
    pub(crate) window: Window,
    pub(crate) activation: Activation,
    /// The input's zero point is folded into the biases.
    pub(crate) q: Quantised,
    /// Steps of learning follow its weights, and its input stays whole while its output is computed.
    pub(crate) learns: bool,
}

impl Layer {
    pub(crate) fn channels(&self) -> usize {
        self.q.bias.len()
    }

    /// Weights of a channel.
    pub(crate) fn taps(&self) -> usize {
        self.q.weights.len() / self.channels().max(1)
    }

    /// Output pixels.
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

    /// Whether every output pixel reads one input pixel, one after the other.
    pub(crate) fn pointwise(&self) -> bool {
        self.window.kernel == [1; 2] && self.window.stride == [1; 2] && self.window.pad == [0; 4]
    }

    pub(crate) fn clamp(&self) -> Option<(i8, i8)> {
        clamp_i8(self.activation, &self.y)
    }

    /// Other numbers for some of the channels, or as many.
    pub(crate) fn with(&self, q: Quantised) -> Self {
        let y = Tensor { shape: self.y.with_channels(q.bias.len()), ..self.y.clone() };
        Self { y, q, ..self.clone() }
    }
}
