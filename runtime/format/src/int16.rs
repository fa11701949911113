//! Records of operators on int16 activations with int8 weights ("16x8"), as TensorFlow Lite defines them.
//!
//! An int16 tensor is symmetric: its zero point is 0. Operators that only move elements are those of bytes
//! ([`struct@super::record::Copy`], with an axis of two bytes).

use super::elementwise::{BinaryKind, Operand};
use super::reduce::{PoolKind, ReduceKind};
use super::types::WindowRepr;
use serde::{Deserialize, Serialize};

/// Convolution, NHWC; also a fully connected layer, as one of 1×1 with a row for each pixel. Weights OHWI with I =
/// `c / groups`.
///
/// Blob: the biases, `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero padding to 4 bytes, `weights: [i8]`. N is the number of
/// output channels; Q is N if `per_channel`, else 1. Biases are `[i32; N]`, or with `wide` `[i64; N]`, low word first.
///
/// Sums are int32 and wrap, and an output is the sum requantised as in int8; with `wide` they are int64, and an output is
/// `(sum · multiplier + 2^(14 - shift)) >> (15 - shift)`, where the multiplier has 15 bits: TFLite's
/// `MultiplyByQuantizedMultiplier` for int64.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvInt16 {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_c: u16,
    pub groups: u16,
    pub window: WindowRepr,
    /// One multiplier and shift per output channel, instead of one for all.
    pub per_channel: bool,
    /// int64 biases and sums.
    pub wide: bool,
    /// Fused activation: bounds of the output.
    pub clamp: Option<(i16, i16)>,
    pub blob: u32,
}

/// `dst = a op b`, element by element; operands as in [`super::record::Binary`].
///
/// Add and Sub: both operands are shifted left by 15 bits, scaled, and added, and the sum is scaled. Mul: the product is scaled.
/// Min and Max need equal scales.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct BinaryInt16 {
    pub kind: BinaryKind,
    /// Swaps the operands: `dst = b op a`. Matters for Sub.
    pub swapped: bool,
    pub a: u32,
    pub b: Operand,
    pub dst: u32,
    /// As in [`super::record::Binary`].
    pub dims: [u16; 4],
    /// Bit i set: `b` has extent 1 along `dims[i]`.
    pub broadcast: u8,
    /// Fused activation: bounds of the output.
    pub clamp: Option<(i16, i16)>,
    /// Multipliers (a, b, output) and their shifts. 0 where the kind does not use them.
    pub scales: [(i32, i8); 3],
}

/// Average or maximum over a window, NHWC. Scales do not change. Averages round half away from zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PoolInt16 {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub window: WindowRepr,
    pub kind: PoolKind,
    /// Fused activation: bounds of the output.
    pub clamp: Option<(i16, i16)>,
}

/// Softmax over the last axis of `rows × depth`; the output's scale is 2^-15.
///
/// Blob: two tables of [`ENTRIES`] int16 as in [`LutInt16`], one after the other: e^x over -10 … 0, and 1 / (1 + x) over
/// 0 … 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SoftmaxInt16 {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub depth: u32,
    /// Scales the difference to the row's maximum, so that -65535 stands for -10.
    pub multiplier: i32,
    pub shift: i8,
    pub blob: u32,
}

/// Sigmoid or tanh, between the entries of a table of 256 numbers; the output's scale is 2^-15.
///
/// Blob: `[u16; 256]`: 65536 / (1 + e^(-i / 24)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SigmoidInt16 {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    /// Tanh instead of sigmoid.
    pub tanh: bool,
    /// Scales the input to steps of 1 / 12288: times `multiplier`, then a rounded shift right.
    pub multiplier: u16,
    pub shift: u8,
    pub blob: u32,
}

/// Number of entries of a table of [`LutInt16`].
pub const ENTRIES: usize = 513;

/// Function of one element: between two of the table's entries, which are 128 steps of the input apart.
///
/// Blob: `[i16; 513]`, two bytes of padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LutInt16 {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub blob: u32,
}

/// Between int16 and int8, or to int16 of another scale: `requantize(q - in_zp) + out_zp`, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RequantizeInt16 {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub change: Int16Change,
    /// Zero point of the int8 tensor; 0 if there is none.
    pub zp: i8,
    pub multiplier: i32,
    pub shift: i8,
    /// Bounds of the output.
    pub clamp: Option<(i16, i16)>,
}

/// The types that [`RequantizeInt16`] converts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Int16Change {
    /// int16 to int16.
    Scale,
    /// int8 to int16.
    FromI8,
    /// int16 to int8.
    ToI8,
}

/// float32 to int16: `clamp(round_half_away(x / scale))`. NaN becomes 0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct QuantizeInt16 {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub scale: f32,
}

/// int16 to float32: `q * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DequantizeInt16 {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub scale: f32,
}

/// Reduction of the middle axis of `outer × extent × inner`. Mean and Sum: the int32 sum, requantised; for Mean the
/// multiplier holds the division too. Max and Min need equal scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ReduceInt16 {
    pub src: u32,
    pub dst: u32,
    pub outer: u32,
    pub extent: u32,
    pub inner: u32,
    pub kind: ReduceKind,
    pub multiplier: i32,
    pub shift: i8,
}
