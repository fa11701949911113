//! Options of quantisation.

use serde::{Deserialize, Serialize};

use super::form::WeightBits;

/// How the range of an activation is chosen from its calibration values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Clipping {
    /// Tries the other three on held-out calibration samples and takes the best for the whole network.
    #[default]
    Auto,
    /// The full observed range.
    MinMax,
    /// This percentage of the values lies inside, e.g. 99.99; the rest is cut in equal shares at both ends.
    Percentile(f32),
    /// The range with the least mean squared error, clipping and rounding together.
    Mse,
}

/// How the scale of a weight channel is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum WeightScale {
    /// For each channel, the one of the other two that disturbs the operator's output less.
    #[default]
    Auto,
    /// Largest magnitude / 127.
    MinMax,
    /// The scale with the least error of the output.
    Mse,
}

/// How weights are rounded to their grid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rounding {
    /// The better of the other two on held-out samples.
    #[default]
    Auto,
    /// To the nearest.
    Nearest,
    /// Feeds each weight's error into the weights not rounded yet, so that the output changes least (Frantar et al.
    /// 2022, "GPTQ").
    ErrorFeedback,
}

/// A feature that can be forced on, forced off, or decided on held-out samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Toggle {
    /// On if it improves the held-out samples.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Element type of the quantised network's inputs and outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IoType {
    /// int8 with the scale and zero point of the graph input or output.
    #[default]
    Int8,
    /// float32: the network begins with `Quantize` and ends with `Dequantize`.
    Float32,
}

/// Options of [`super::quantize`]. The default suits most networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QuantizeOptions {
    /// Range of activations.
    pub clipping: Clipping,
    /// Scale of weights.
    pub weight_scale: WeightScale,
    /// Bits of weights.
    pub weight_bits: WeightBits,
    /// Rounding of weights.
    pub rounding: Rounding,
    /// Correction of biases for the mean error of earlier layers (Nagel et al. 2019, section 4.2).
    pub bias_correction: Toggle,
    /// Element type of inputs and outputs.
    pub io: IoType,
    /// Operators that stay float32, by node name or by kind (`softmax`, `layer_norm`, … of
    /// [`offshoot_ir::Op::name`]).
    pub keep_float: Vec<String>,
    /// Samples on which weights and biases are fitted, evenly taken from the calibration set (ranges always use all
    /// of it). Bounds memory: all live activations of these samples are held at once.
    pub fit_samples: usize,
    /// Number of consecutive samples through which recurrent layers carry their state, before it is reset; `None` if every
    /// sample starts anew.
    pub sequence: Option<usize>,
    /// Part of its range by which the range of each input is widened at both ends. An input that is normalised on the device
    /// leaves the range of the calibration samples.
    pub input_room: f32,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            clipping: Clipping::Auto,
            weight_scale: WeightScale::Auto,
            weight_bits: WeightBits::default(),
            rounding: Rounding::Auto,
            bias_correction: Toggle::Auto,
            io: IoType::Int8,
            keep_float: Vec::new(),
            fit_samples: 64,
            sequence: None,
            input_room: 0.0,
        }
    }
}

/// Choices made before weights are fitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) weight_scale: WeightScale,
    pub(crate) feedback: bool,
    pub(crate) correct_bias: bool,
    /// As [`QuantizeOptions::sequence`].
    pub(crate) sequence: Option<usize>,
}
