//! Kinds of device operators, as files number them.

/// Kind of a device operator. The numbers are part of the format and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Tag {
    Conv2d = 1,
    Depthwise = 2,
    ConvTranspose = 3,
    FullyConnected = 4,
    MatMul = 5,
    Pool = 6,
    Binary = 7,
    Unary = 8,
    Lut = 9,
    PRelu = 10,
    Softmax = 11,
    LayerNorm = 12,
    Copy = 13,
    Fill = 14,
    Pad = 15,
    Resize = 16,
    Reduce = 17,
    ArgMax = 18,
    Quantize = 19,
    Dequantize = 20,
    Requantize = 21,
    Constant = 22,
    ConvBlocked = 23,
    DepthwisePlanar = 24,
    ConvWinograd = 25,
    FullyConnectedCoded = 26,
    ConvPacked = 27,
    ConvLinear = 28,
    DepthwiseLinear = 29,
    Stage = 30,
}

impl Tag {
    /// All tags, in numeric order.
    pub const ALL: [Self; 30] = [
        Self::Conv2d,
        Self::Depthwise,
        Self::ConvTranspose,
        Self::FullyConnected,
        Self::MatMul,
        Self::Pool,
        Self::Binary,
        Self::Unary,
        Self::Lut,
        Self::PRelu,
        Self::Softmax,
        Self::LayerNorm,
        Self::Copy,
        Self::Fill,
        Self::Pad,
        Self::Resize,
        Self::Reduce,
        Self::ArgMax,
        Self::Quantize,
        Self::Dequantize,
        Self::Requantize,
        Self::Constant,
        Self::ConvBlocked,
        Self::DepthwisePlanar,
        Self::ConvWinograd,
        Self::FullyConnectedCoded,
        Self::ConvPacked,
        Self::ConvLinear,
        Self::DepthwiseLinear,
        Self::Stage,
    ];

    /// The tag with this number, if there is one.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == value)
    }

    /// Lower-case name for tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv2d => "conv2d",
            Self::Depthwise => "depthwise",
            Self::ConvTranspose => "conv_transpose",
            Self::FullyConnected => "fully_connected",
            Self::MatMul => "matmul",
            Self::Pool => "pool",
            Self::Binary => "binary",
            Self::Unary => "unary",
            Self::Lut => "lut",
            Self::PRelu => "prelu",
            Self::Softmax => "softmax",
            Self::LayerNorm => "layer_norm",
            Self::Copy => "copy",
            Self::Fill => "fill",
            Self::Pad => "pad",
            Self::Resize => "resize",
            Self::Reduce => "reduce",
            Self::ArgMax => "argmax",
            Self::Quantize => "quantize",
            Self::Dequantize => "dequantize",
            Self::Requantize => "requantize",
            Self::Constant => "constant",
            Self::ConvBlocked => "conv_blocked",
            Self::DepthwisePlanar => "depthwise_planar",
            Self::ConvWinograd => "conv_winograd",
            Self::FullyConnectedCoded => "fully_connected_coded",
            Self::ConvPacked => "conv_packed",
            Self::ConvLinear => "conv_linear",
            Self::DepthwiseLinear => "depthwise_linear",
            Self::Stage => "stage",
        }
    }
}
