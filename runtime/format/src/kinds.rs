//! The record of every operator, re-exported from the file of its family.

pub use super::branch::Branch;
pub use super::elementary::{BinaryMath, BinaryMathKind, Elementary, ElementaryKind};
pub use super::elementwise::{
    Binary, BinaryArith, BinaryKind, LayerNorm, Lut, Operand, PRelu, PReluArith, Softmax, SoftmaxArith,
    Unary, UnaryKind,
};
pub use super::fused_rows::FusedRows;
pub use super::huffman::FullyConnectedHuffman;
pub use super::indexed::{
    Cast, Gather, GridKind, GridOutside, GridSample, Pick, RowAxis, Rows, Scatter, ScatterKind, TopK,
};
pub use super::int16::{
    BinaryInt16, ConvInt16, DequantizeInt16, Int16Change, LutInt16, PoolInt16, QuantizeInt16, ReduceInt16,
    RequantizeInt16, SigmoidInt16, SoftmaxInt16,
};
pub use super::micro_frontend::MicroFrontend;
pub use super::movement::{Axes, Axis, Constant, Copy, Fill, History, Pad, PadMode, Resize};
pub use super::nested::{ConvWeightShared, DepthwiseWeightShared};
pub use super::packed::ConvPacked;
pub use super::quantize::{Dequantize, Quantize, Requantize};
pub use super::recurrent::{Recurrent, RecurrentArith, RecurrentKind, RecurrentSparse, Returns};
pub use super::reduce::{ArgMax, Pool, PoolArith, PoolKind, Reduce, ReduceArith, ReduceKind};
pub use super::row_major::ConvRowMajor;
pub use super::single_multiply::{ConvSingleMultiply, DepthwiseSingleMultiply};
pub use super::sparse::{ConvSparse, FullyConnectedSparse};
pub use super::spectral::{FullyConnectedBanded, Spectrum, SpectrumPart};
pub use super::tag::Tag;
pub use super::tiled::{ConvTiled, ConvWinograd, DepthwisePlanar, Traversal};
pub use super::weight_only::ConvWeightOnly;
pub use super::weighted::{Conv2d, ConvTranspose, Depthwise, FullyConnected, MatMul, MatMulArith};
