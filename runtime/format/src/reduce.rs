//! Records of operators that combine many elements into one.

use super::types::{DType, Window, WindowRepr};
use serde::{Deserialize, Serialize};

/// Average or maximum over a window, NHWC. The average excludes padding, except for
/// [`PoolKind::AverageIncludePad`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Pool {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub window: WindowRepr,
    pub kind: PoolKind,
    pub arith: PoolArith,
}

impl Pool {
    /// Whether this is an int8 average of each channel over the whole input, with a multiple of four channels.
    pub fn is_global(&self) -> bool {
        let window = Window::from(self.window);
        let pixels = u32::from(self.h) * u32::from(self.w);
        self.kind != PoolKind::Max
            && matches!(self.arith, PoolArith::I8 { .. })
            && window.kernel == [self.h, self.w]
            && window.pad == [0; 4]
            && window.dilation == [1, 1]
            && (1..256).contains(&pixels)
            && self.c > 0
            && self.c.is_multiple_of(4)
    }
}

/// What a pool computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PoolKind {
    Average,
    /// Average that counts padding as zero (as the zero point for int8).
    AverageIncludePad,
    Max,
}

/// Number format of operators whose output keeps the scale and zero point of the input.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PoolArith {
    I8 { zp: i8, clamp: Option<(i8, i8)> },
    F32 { clamp: Option<(f32, f32)> },
}

impl PoolArith {
    /// Element type of input and output.
    pub const fn dtype(&self) -> DType {
        match self {
            Self::I8 { .. } => DType::I8,
            Self::F32 { .. } => DType::F32,
        }
    }
}

/// Reduction of the middle axis of `outer × extent × inner`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Reduce {
    pub src: u32,
    pub dst: u32,
    pub outer: u32,
    pub extent: u32,
    pub inner: u32,
    pub kind: ReduceKind,
    pub arith: ReduceArith,
}

/// What [`Reduce`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ReduceKind {
    Mean,
    Sum,
    Max,
    Min,
}

/// Number format of [`Reduce`]. I8 Mean and Sum follow TFLite's MEAN: the int32 sum of (x - in_zp), requantised by
/// (multiplier, shift). These hold the ratio of the scales and, for Mean, the division. I8 Max and Min need equal
/// scales.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ReduceArith {
    I8 { in_zp: i8, out_zp: i8, multiplier: i32, shift: i8 },
    F32,
}

/// Index (int32) of the largest element along the middle axis of `outer × extent × inner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ArgMax {
    pub src: u32,
    pub dst: u32,
    pub outer: u32,
    pub extent: u32,
    pub inner: u32,
    pub dtype: DType,
    /// Of equal elements, takes the last instead of the first.
    pub select_last: bool,
}
