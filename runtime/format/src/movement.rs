//! Records of operators that move elements.

use super::types::DType;
use serde::{Deserialize, Serialize};

/// Strided copy of elements of `size` bytes (1 or 4): transpose, slice, split, concat, broadcast.
///
/// For every index in `dims`: `dst[dst + Σ i·dst_stride] = src[src + Σ i·src_stride]`, strides in elements,
/// `src` and `dst` in bytes. Source and destination must not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Copy {
    pub src: u32,
    pub dst: u32,
    pub size: u8,
    /// Extent, source stride, destination stride, outermost first. Unused leading axes have extent 1.
    pub axes: Axes,
}

/// The input behind the end of what came before: `dst = state ++ src`, and the last `state` elements of `dst` become the
/// state of the next run. Before the first run, and after a restart, the state is `fill` repeated.
///
/// Streaming networks see a window of time that moves by one input a run (Rybakov et al. 2020, arXiv 2005.06720).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Input, arena offset in bytes.
    pub src: u32,
    /// Output, arena offset in bytes.
    pub dst: u32,
    /// Where the state is kept between runs, offset in words of 4 bytes. First a word that is not 0 if a state is stored,
    /// then the state, padded to whole words.
    pub kept: u32,
    /// Elements of the state.
    pub state: u32,
    /// Elements of the input.
    pub len: u32,
    /// Bytes of an element: 1 or 4.
    pub size: u8,
    /// Element before the first run: an int8 code, or the bits of a float32.
    pub fill: i32,
}

impl History {
    /// Words that are kept between runs.
    pub const fn kept_words(&self) -> u64 {
        1 + (self.state as u64 * self.size as u64).div_ceil(4)
    }
}

/// One to six axes of a strided copy, encoded without unused axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Axes {
    A1([Axis; 1]),
    A2([Axis; 2]),
    A3([Axis; 3]),
    A4([Axis; 4]),
    A5([Axis; 5]),
    A6([Axis; 6]),
}

impl Axes {
    /// The axes, outermost first.
    pub fn as_slice(&self) -> &[Axis] {
        match self {
            Self::A1(a) => a,
            Self::A2(a) => a,
            Self::A3(a) => a,
            Self::A4(a) => a,
            Self::A5(a) => a,
            Self::A6(a) => a,
        }
    }

    /// From 1 to 6 axes, else `None`.
    pub fn from_slice(axes: &[Axis]) -> Option<Self> {
        Some(match axes.len() {
            1 => Self::A1(axes.try_into().ok()?),
            2 => Self::A2(axes.try_into().ok()?),
            3 => Self::A3(axes.try_into().ok()?),
            4 => Self::A4(axes.try_into().ok()?),
            5 => Self::A5(axes.try_into().ok()?),
            6 => Self::A6(axes.try_into().ok()?),
            _ => return None,
        })
    }
}

/// One axis of a strided copy: extent and strides in elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Axis {
    pub extent: u32,
    pub src_stride: i32,
    pub dst_stride: i32,
}

/// Sets `len` elements of `size` bytes (1 or 4) to the bits of `value` (its low byte if `size` is 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Fill {
    pub dst: u32,
    pub len: u32,
    pub size: u8,
    pub value: i32,
}

/// Reflect or edge padding. (Constant padding is [`Fill`] and [`struct@Copy`].) `dims` and `pad` cover the last four
/// axes; `pad` is [before, after] for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Pad {
    pub src: u32,
    pub dst: u32,
    pub size: u8,
    pub dims: [u16; 4],
    pub pad: [[u16; 2]; 4],
    pub mode: PadMode,
}

/// How padding is filled; definitions are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PadMode {
    Reflect,
    Edge,
}

/// Resampling, NHWC, by tables that the exporter computes. So one kernel serves all of ONNX's coordinate rules.
///
/// Nearest. Blob: `row: [u16; out_h]`, `column: [u16; out_w]`: the source index of each output row and column.
/// Bilinear. Blob: for each output row, then each output column, `low: u16, high: u16, weight: i32`. The weight of
/// `high` is `weight`/2^10 (I8; rounding half away from zero) or the f32 with the bits of `weight` (F32).
/// The blob is aligned to 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Resize {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_h: u16,
    pub out_w: u16,
    pub bilinear: bool,
    pub dtype: DType,
    pub blob: u32,
}

/// Copies `len` bytes from the blob section into the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Constant {
    pub dst: u32,
    pub len: u32,
    pub blob: u32,
}
