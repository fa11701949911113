//! Records of operators that work element by element or along the last axis.

use serde::{Deserialize, Serialize};

/// Place of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// Byte offset in the arena.
    Arena(u32),
    /// Byte offset in the blob section: a constant.
    Blob(u32),
}

/// `dst = a op b`, element by element. `a` has the output's shape; `b` is broadcast to it.
///
/// The operator works in place if `dst` equals `a` or, without broadcast, the offset of `b`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Binary {
    pub kind: BinaryKind,
    /// Swaps the operands: `dst = b op a`. Matters for Sub and Div.
    pub swapped: bool,
    pub a: u32,
    pub b: Operand,
    pub dst: u32,
    /// Output shape, outermost axis first. Neighbouring axes that are broadcast alike are merged; unused leading axes
    /// are 1. The element count is the product.
    pub dims: [u16; 4],
    /// Bit i set: `b` has extent 1 along `dims[i]`.
    pub broadcast: u8,
    pub arith: BinaryArith,
}

/// The operation of [`Binary`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum BinaryKind {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
}

/// Number format of [`Binary`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum BinaryArith {
    /// TFLite's int8 Add, Sub and Mul. `blob` holds three multipliers (i32; a, b, output), then three shifts (i8).
    /// Add and Sub use all three, with a `left_shift` of 20. Mul uses only the output's. Min and Max use none (equal
    /// scales), and their blob offset is 0. Div has no int8 form.
    I8 {
        a_zp: i8,
        b_zp: i8,
        out_zp: i8,
        clamp: Option<(i8, i8)>,
        blob: u32,
    },
    F32 {
        clamp: Option<(f32, f32)>,
    },
}

/// A float32 function of one element. int8 tensors use [`Lut`] instead.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Unary {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub kind: UnaryKind,
}

/// The function of [`Unary`]; definitions are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum UnaryKind {
    Clip {
        min: f32,
        max: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    HardSwish,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    Sigmoid,
    Tanh,
    /// The exact form, with erf.
    Gelu,
    /// The tanh approximation.
    GeluTanh,
    Elu {
        alpha: f32,
    },
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Abs,
    Neg,
    Erf,
    Softplus,
    Pow {
        exponent: f32,
    },
}

/// int8 function of one element, as a table of 256 bytes: `dst[i] = table[src[i] + 128]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Lut {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub blob: u32,
}

/// Leaky ReLU with a slope per channel, over `rows × c`, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct PRelu {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub c: u32,
    pub arith: PReluArith,
    /// I8: `slope: [i8; c]`. F32: `slope: [f32; c]`.
    pub blob: u32,
}

/// Number format of [`PRelu`]. I8 follows TFLite: positive inputs are scaled by `pos` (multiplier, shift); the others
/// are multiplied by (slope - slope_zp) and scaled by `neg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PReluArith {
    I8 { in_zp: i8, slope_zp: i8, out_zp: i8, pos: (i32, i8), neg: (i32, i8) },
    F32,
}

/// Softmax over the last axis of `rows × depth`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Softmax {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub depth: u32,
    pub arith: SoftmaxArith,
}

/// Number format of [`Softmax`]. I8 follows TFLite Micro's reference kernel (gemmlowp fixed point; output scale 1/256,
/// zero point -128).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SoftmaxArith {
    I8 { multiplier: i32, shift: i8, diff_min: i32 },
    F32,
}

/// float32 layer normalisation over the last axis of `rows × depth`. Blob: `gamma: [f32; depth]`,
/// `beta: [f32; depth]`. int8 networks dequantise before it and quantise after it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LayerNorm {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub depth: u32,
    pub epsilon: f32,
    pub blob: u32,
}
