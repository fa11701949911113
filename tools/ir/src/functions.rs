//! Functions of one and of two elements. The device has a record for the usual ones and another for the rare ones; here
//! they are of one kind, so that passes need not tell them apart.

use offshoot::format::record::{self, BinaryMathKind, ElementaryKind};
use offshoot::kernels::portable as kernels;
use serde::{Deserialize, Serialize};

/// A function of one element, as ONNX defines it.
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
    /// One of the rare functions.
    Elementary(ElementaryKind),
}

/// The device's record of a [`UnaryKind`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum UnaryRecord {
    Unary(record::UnaryKind),
    Elementary(ElementaryKind),
}

impl UnaryKind {
    /// The record that computes it in float32.
    pub const fn record(self) -> UnaryRecord {
        use record::UnaryKind as Kind;
        UnaryRecord::Unary(match self {
            Self::Clip { min, max } => Kind::Clip { min, max },
            Self::LeakyRelu { alpha } => Kind::LeakyRelu { alpha },
            Self::HardSwish => Kind::HardSwish,
            Self::HardSigmoid { alpha, beta } => Kind::HardSigmoid { alpha, beta },
            Self::Sigmoid => Kind::Sigmoid,
            Self::Tanh => Kind::Tanh,
            Self::Gelu => Kind::Gelu,
            Self::GeluTanh => Kind::GeluTanh,
            Self::Elu { alpha } => Kind::Elu { alpha },
            Self::Exp => Kind::Exp,
            Self::Log => Kind::Log,
            Self::Sqrt => Kind::Sqrt,
            Self::Reciprocal => Kind::Reciprocal,
            Self::Abs => Kind::Abs,
            Self::Neg => Kind::Neg,
            Self::Erf => Kind::Erf,
            Self::Softplus => Kind::Softplus,
            Self::Pow { exponent } => Kind::Pow { exponent },
            Self::Elementary(kind) => return UnaryRecord::Elementary(kind),
        })
    }

    /// Applies the function as the device computes it.
    pub fn apply(self, x: f32) -> f32 {
        match self.record() {
            UnaryRecord::Unary(kind) => kernels::unary(kind, x),
            UnaryRecord::Elementary(kind) => kernels::elementary(kind, x),
        }
    }
}

/// A function of two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum BinaryKind {
    Add,
    Sub,
    Mul,
    Div,
    Min,
    Max,
    /// One of the rare functions.
    Math(BinaryMathKind),
}

/// The device's record of a [`BinaryKind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BinaryRecord {
    Binary(record::BinaryKind),
    Math(BinaryMathKind),
}

impl BinaryKind {
    /// The record that computes it.
    pub const fn record(self) -> BinaryRecord {
        use record::BinaryKind as Kind;
        BinaryRecord::Binary(match self {
            Self::Add => Kind::Add,
            Self::Sub => Kind::Sub,
            Self::Mul => Kind::Mul,
            Self::Div => Kind::Div,
            Self::Min => Kind::Min,
            Self::Max => Kind::Max,
            Self::Math(kind) => return BinaryRecord::Math(kind),
        })
    }

    /// Applies the function as the device computes it.
    pub fn apply(self, x: f32, y: f32) -> f32 {
        match self {
            Self::Add => x + y,
            Self::Sub => x - y,
            Self::Mul => x * y,
            Self::Div => x / y,
            Self::Min => x.min(y),
            Self::Max => x.max(y),
            Self::Math(kind) => kernels::binary_math(kind, x, y),
        }
    }

    /// Whether int8 has no kernel for it.
    pub const fn is_float_only(self) -> bool {
        matches!(self, Self::Div | Self::Math(_))
    }

    /// Lower-case name for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Sub => "sub",
            Self::Mul => "mul",
            Self::Div => "div",
            Self::Min => "min",
            Self::Max => "max",
            Self::Math(BinaryMathKind::Pow) => "pow",
            Self::Math(BinaryMathKind::Mod) => "mod",
            Self::Math(BinaryMathKind::Fmod) => "fmod",
            Self::Math(BinaryMathKind::Keep) => "keep",
            Self::Math(BinaryMathKind::Equal) => "equal",
        }
    }
}
