//! Records of operators that choose elements by indices which a run computes.

use super::elementwise::Operand;
use super::types::DType;
use serde::{Deserialize, Serialize};

/// Rows of a tensor that indices choose: ONNX's Gather, GatherElements, GatherND and their Scatter counterparts.
///
/// A row is `run` neighbouring elements. Rows are counted over `axes`, outermost first. The row at coordinates `i` has
/// `indices` indices, which begin at element `Σ i·index_stride` of the index tensor (int32). Its elements begin at
/// `Σ i·stride + Σ index·picks.stride` of the tensor. An index below 0 counts from the end of its extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Rows {
    pub index: Operand,
    /// Unused leading axes have extent 1.
    pub axes: [RowAxis; MOST_AXES],
    /// Indices of a row: 1 to 4.
    pub indices: u8,
    /// For each index, the axis of the tensor that it runs along. Those from `indices` on are not used.
    pub picks: [Pick; MOST_AXES],
    pub run: u32,
}

/// Axes and indices of [`Rows`]. A device that is built without these operators never holds one: there the type is small, since
/// the largest record decides how much stack each function needs that holds one.
pub(crate) const MOST_AXES: usize =
    if cfg!(all(target_os = "none", not(any(feature = "op-gather", feature = "op-scatter")))) {
        1
    } else {
        4
    };

/// One axis over which rows are counted: its extent, and its strides in elements of the tensor and of the indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RowAxis {
    pub extent: u32,
    pub stride: u32,
    pub index_stride: u32,
}

/// An axis that an index runs along: its extent, and its stride in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Pick {
    pub extent: u32,
    pub stride: u32,
}

/// Reads rows that indices choose: `dst[row] = src[row's place]`, elements of `size` bytes (1 or 4). An index outside
/// its extent is clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Gather {
    pub src: Operand,
    pub dst: u32,
    pub size: u8,
    pub rows: Rows,
}

/// Writes rows where indices say: `dst[row's place] = dst[row's place] op src[row]`, row after row. A row with an index
/// outside its extent is not written. The tensor at `dst` holds data before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Scatter {
    pub src: u32,
    pub dst: u32,
    /// int8 has only Set, Max and Min, in the scale of both tensors; int32 only Set.
    pub dtype: DType,
    pub kind: ScatterKind,
    pub rows: Rows,
}

/// How [`Scatter`] joins an element with the one that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum ScatterKind {
    Set,
    Add,
    Mul,
    Max,
    Min,
}

/// Indices (int32) of the `k` largest or smallest elements along the middle axis of `outer × extent × inner`, best
/// first; of equal elements the one with the lower index first. NaN is larger than every number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TopK {
    pub src: u32,
    pub dst: u32,
    pub outer: u32,
    pub extent: u32,
    pub inner: u32,
    pub k: u32,
    pub largest: bool,
    pub dtype: DType,
}

/// Converts between int32 and float32. To float32 it rounds to the nearest, ties to even; to int32 it drops the
/// fraction and saturates, and NaN becomes 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Cast {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    /// `I32` or `F32`; the source has the other.
    pub to: DType,
}

/// Samples an NHWC image (float32) at places that a run computes: ONNX GridSample.
///
/// `grid` holds x and y of each output pixel, from -1 to 1 over the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct GridSample {
    pub src: u32,
    pub grid: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_h: u16,
    pub out_w: u16,
    pub kind: GridKind,
    pub outside: GridOutside,
    /// -1 and 1 are the centres of the outermost pixels, instead of their outer edges.
    pub align_corners: bool,
}

/// How [`GridSample`] interpolates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum GridKind {
    /// The nearest pixel; ties to even.
    Nearest,
    Bilinear,
    /// Cubic convolution with a = -0.75.
    Bicubic,
}

/// What [`GridSample`] reads outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum GridOutside {
    Zeros,
    /// The nearest pixel inside.
    Border,
    /// The image reflected at its border.
    Reflection,
}
