//! Records of float32 functions that few networks use: apart from [`Unary`](super::elementwise::Unary) and
//! [`Binary`](super::elementwise::Binary), so that other firmware does not carry them.

use serde::{Deserialize, Serialize};

use super::elementwise::{Binary, BinaryArith, BinaryKind, Operand};

/// A float32 function of one element. int8 tensors use [`Lut`](super::elementwise::Lut) instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Elementary {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub kind: ElementaryKind,
}

/// The function of [`Elementary`]; definitions are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ElementaryKind {
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Floor,
    Ceil,
    /// Halves go to the even neighbour.
    Round,
    /// 1 for NaN, otherwise 0.
    IsNan,
    /// 1 for the named infinities, otherwise 0.
    IsInf {
        negative: bool,
        positive: bool,
    },
}

impl ElementaryKind {
    /// Every function.
    pub const ALL: [Self; 16] = [
        Self::Sin,
        Self::Cos,
        Self::Tan,
        Self::Asin,
        Self::Acos,
        Self::Atan,
        Self::Sinh,
        Self::Cosh,
        Self::Asinh,
        Self::Acosh,
        Self::Atanh,
        Self::Floor,
        Self::Ceil,
        Self::Round,
        Self::IsNan,
        Self::IsInf { negative: true, positive: true },
    ];
}

/// `dst = f(a, b)`, element by element, in float32. Operands, broadcast and places are those of
/// [`Binary`](super::elementwise::Binary).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct BinaryMath {
    pub kind: BinaryMathKind,
    /// Swaps the operands: `dst = f(b, a)`.
    pub swapped: bool,
    pub a: u32,
    pub b: Operand,
    pub dst: u32,
    pub dims: [u16; 4],
    pub broadcast: u8,
    pub clamp: Option<(f32, f32)>,
}

impl BinaryMath {
    /// A [`Binary`] with the same operands, places, and bounds.
    pub const fn places(&self) -> Binary {
        let Self { swapped, a, b, dst, dims, broadcast, clamp, .. } = *self;
        Binary {
            kind: BinaryKind::Div,
            swapped,
            a,
            b,
            dst,
            dims,
            broadcast,
            arith: BinaryArith::F32 { clamp },
        }
    }
}

/// The function of [`BinaryMath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BinaryMathKind {
    /// The first operand to the power of the second.
    Pow,
    /// Remainder of a division rounded down: it has the sign of the divisor.
    Mod,
    /// Remainder of a division rounded towards zero, as C's `fmod`: it has the sign of the dividend.
    Fmod,
    /// The first operand where the second is not 0, otherwise 0: also where the first is infinite or NaN.
    Keep,
    /// 1 where both are equal, infinities included, otherwise 0.
    Equal,
}
