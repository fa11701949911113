//! The record of every operator, each from the file of its family.

pub use super::blocked::{ConvBlocked, ConvWinograd, DepthwisePlanar, Walk};
pub use super::coded::FullyConnectedCoded;
pub use super::elementwise::{
    Binary, BinaryArith, BinaryKind, LayerNorm, Lut, Operand, PRelu, PReluArith, Softmax, SoftmaxArith,
    Unary, UnaryKind,
};
pub use super::linear::{ConvLinear, DepthwiseLinear};
pub use super::movement::{Axes, Axis, Constant, Copy, Fill, Pad, PadMode, Resize};
pub use super::nested::{ConvNested, DepthwiseNested};
pub use super::packed::ConvPacked;
pub use super::quantize::{Dequantize, Quantize, Requantize};
pub use super::recurrent::{Recurrent, RecurrentArith, RecurrentKind, RecurrentSparse, Returns};
pub use super::reduce::{ArgMax, Pool, PoolArith, PoolKind, Reduce, ReduceArith, ReduceKind};
pub use super::sparse::{ConvSparse, FullyConnectedSparse};
pub use super::stage::Stage;
pub use super::tag::Tag;
pub use super::weighted::{Conv2d, ConvTranspose, Depthwise, FullyConnected, MatMul, MatMulArith};
