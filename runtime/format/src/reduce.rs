//! Records of operators that make one element of many.

use super::types::{DType, Window, WindowRepr};
use serde::{Deserialize, Serialize};

/// Average or maximum over a window, NHWC. Padding is never part of the average unless
/// `count_include_pad`.
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
    /// Whether it is an int8 average over each channel of the whole input, channels in fours.
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
    /// Average with the padding counted as zero (as the zero point for int8).
    AverageIncludePad,
    Max,
}

/// Number format of operators that keep scale and zero point from input to output.
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

/// Number format of [`Reduce`]. I8 Mean and Sum: TFLite's MEAN: the int32 sum of (x - in_zp), requantised by
/// (multiplier, shift), which holds the ratio of the scales and for Mean the division. I8 Max, Min: scales equal.
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
    /// Of equal elements, take the last.
    pub select_last: bool,
}
