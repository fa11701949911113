//! One record per device operator, as it stands in the graph section of a `.off` file.
//!
//! The graph section is a sequence of `Tag` byte + [`OpHeader`] + the record of that tag, each encoded with
//! postcard (varints, no padding). Records are read one at a time, without allocation; nothing is kept
//! between operators. Addresses are byte offsets into the arena (`src`, `dst`, …) or into the blob section
//! (`blob`). All activations are channels-last (NHWC). A record is **untrusted** until
//! [`crate::graph::Model::open`] has checked it; `ops/<family>.rs` says what each one computes and what
//! `check` demands of it.

pub use super::blocked::{ConvBlocked, ConvWinograd, DepthwisePlanar, Walk};
pub use super::codec::Record;
pub use super::coded::FullyConnectedCoded;
pub use super::linear::{ConvLinear, DepthwiseLinear};
pub use super::nested::{ConvNested, DepthwiseNested};
pub use super::packed::ConvPacked;
pub use super::recurrent::{Recurrent, RecurrentArith, RecurrentKind, RecurrentSparse, Returns};
pub use super::sparse::{ConvSparse, FullyConnectedSparse};
pub use super::stage::Stage;
pub use super::tag::Tag;
use serde::{Deserialize, Serialize};

/// What stands before every record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpHeader {
    /// Index of the IR value (after the lossless passes) that this operator completes, so that a host that has
    /// the ONNX file can name the operator and compare it with float; `u16::MAX` if it completes none (one
    /// of several operators that make one value).
    pub origin: u16,
    /// Scale of the output if it is int8, else 0. Only the host uses it (to compare with float).
    pub scale: f32,
    /// Zero point of the output if it is int8, else 0. As `scale`.
    pub zero_point: i8,
}

/// Element type of a tensor in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DType {
    I8,
    F32,
    I32,
}

impl DType {
    /// Bytes an element takes; also its alignment.
    pub const fn size(self) -> usize {
        match self {
            Self::I8 => 1,
            Self::F32 | Self::I32 => 4,
        }
    }
}

/// Number format of a matrix-like operator and what happens to its accumulators.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Arith {
    /// int8 activations and weights, int32 accumulation, fixed-point requantisation as in TFLite Micro.
    ///
    /// Blob: `bias: [i32; N]`, `multiplier: [i32; Q]`, `shift: [i8; Q]`, zero padding to 4 bytes,
    /// `weights: [i8]`, with N output channels and Q = N if `per_channel` else 1.
    /// `shift` > 0 shifts left, < 0 right (TFLite's sign). The bias is TFLite's: zero points are **not**
    /// folded into it.
    I8 {
        /// Zero point of the input.
        in_zp: i8,
        /// Zero point of the output.
        out_zp: i8,
        /// One multiplier and shift for each output channel, or one for all.
        per_channel: bool,
        /// Fused activation: bounds of the output; `None` is (-128, 127).
        clamp: Option<(i8, i8)>,
    },
    /// float32. Blob: `bias: [f32; N]`, `weights: [f32]`.
    F32 {
        /// Fused activation: bounds of the output.
        clamp: Option<(f32, f32)>,
    },
}

impl Arith {
    /// Element type of input and output.
    pub const fn dtype(&self) -> DType {
        match self {
            Self::I8 { .. } => DType::I8,
            Self::F32 { .. } => DType::F32,
        }
    }
}

/// Sliding window of a convolution or a pool: kernel, stride, dilation, padding (top, left, bottom, right).
///
/// Output height is `(h + top + bottom - (dilation_h * (k_h - 1) + 1)) / stride_h + 1`, likewise width.
/// Two encodings, because nearly all windows fit in nibbles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum WindowRepr {
    /// `kernel` as is; the others as nibbles: `stride` = h << 4 | w, `dilation` likewise,
    /// `pad` = [top << 4 | left, bottom << 4 | right].
    Small {
        /// Height, width.
        kernel: [u8; 2],
        /// Height << 4 | width.
        stride: u8,
        /// Height << 4 | width.
        dilation: u8,
        /// top << 4 | left, bottom << 4 | right.
        pad: [u8; 2],
    },
    /// The general case.
    Wide(Window),
}

/// Sliding window, unpacked. See [`WindowRepr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Window {
    /// Height, width.
    pub kernel: [u16; 2],
    /// Height, width; at least 1.
    pub stride: [u16; 2],
    /// Height, width; at least 1.
    pub dilation: [u16; 2],
    /// Top, left, bottom, right.
    pub pad: [u16; 4],
}

impl From<Window> for WindowRepr {
    fn from(w: Window) -> Self {
        let nibble = |v: u16| v < 16;
        let small = w.kernel.iter().all(|&k| k < 256)
            && w.stride.iter().chain(&w.dilation).chain(&w.pad).all(|&v| nibble(v));
        if !small {
            return Self::Wide(w);
        }
        let pack = |a: u16, b: u16| (a << 4 | b) as u8;
        Self::Small {
            kernel: [w.kernel[0] as u8, w.kernel[1] as u8],
            stride: pack(w.stride[0], w.stride[1]),
            dilation: pack(w.dilation[0], w.dilation[1]),
            pad: [pack(w.pad[0], w.pad[1]), pack(w.pad[2], w.pad[3])],
        }
    }
}

impl From<WindowRepr> for Window {
    fn from(r: WindowRepr) -> Self {
        match r {
            WindowRepr::Wide(w) => w,
            WindowRepr::Small { kernel, stride, dilation, pad } => {
                let (hi, lo) = (|v: u8| u16::from(v >> 4), |v: u8| u16::from(v & 15));
                Self {
                    kernel: [u16::from(kernel[0]), u16::from(kernel[1])],
                    stride: [hi(stride), lo(stride)],
                    dilation: [hi(dilation), lo(dilation)],
                    pad: [hi(pad[0]), lo(pad[0]), hi(pad[1]), lo(pad[1])],
                }
            }
        }
    }
}

/// Convolution, NHWC. Weights OHWI with I = `c / groups`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Conv2d {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_c: u16,
    pub groups: u16,
    pub window: WindowRepr,
    pub arith: Arith,
    pub blob: u32,
}

/// Depthwise convolution, NHWC: output channel `k` reads input channel `k / multiplier`.
/// Weights `[k_h, k_w, c * multiplier]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Depthwise {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub multiplier: u16,
    pub window: WindowRepr,
    pub arith: Arith,
    pub blob: u32,
}

/// Transposed convolution, NHWC. Weights OHWI with I = `c / groups`: the value at output `(y, x, o)` is the
/// sum over the input pixels `(iy, ix)` and kernel positions with
/// `y = iy * stride_h + ky * dilation_h - top`, likewise x. `out_h`, `out_w` are given because ONNX's
/// `output_padding` and `output_shape` make them free; `window.pad` bottom and right are not used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ConvTranspose {
    pub src: u32,
    pub dst: u32,
    pub n: u16,
    pub h: u16,
    pub w: u16,
    pub c: u16,
    pub out_h: u16,
    pub out_w: u16,
    pub out_c: u16,
    pub groups: u16,
    pub window: WindowRepr,
    pub arith: Arith,
    pub blob: u32,
}

/// `dst[r, o] = sum_i src[r, i] * weights[o, i] + bias[o]`. 1×1 convolutions with stride 1 are this too, one
/// row a pixel. Weights `[out, in]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FullyConnected {
    pub src: u32,
    pub dst: u32,
    pub rows: u32,
    pub in_c: u32,
    pub out_c: u32,
    pub arith: Arith,
    pub blob: u32,
}

/// Matrix product of two activations, batched: `dst[b] = a[b] · rhs[b]`, `a` is `[batch, m, k]`, `rhs` is
/// `[batch, n, k]` if `transposed` else `[batch, k, n]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MatMul {
    pub a: u32,
    pub b: u32,
    pub dst: u32,
    pub batch: u32,
    pub m: u32,
    pub k: u32,
    pub n: u32,
    pub transposed: bool,
    pub arith: MatMulArith,
}

/// Number format of [`MatMul`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum MatMulArith {
    I8 { a_zp: i8, b_zp: i8, out_zp: i8, multiplier: i32, shift: i8 },
    F32,
}

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
    pub(crate) fn is_global(&self) -> bool {
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

/// Where an operand lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// Byte offset in the arena.
    Arena(u32),
    /// Byte offset in the blob section: a constant.
    Blob(u32),
}

/// `dst = a op b`, element by element. `a` has the output's shape; `b` is broadcast to it.
///
/// `dst` may equal `a`'s or, without broadcast, `b`'s offset: the operator then works in place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Binary {
    pub kind: BinaryKind,
    /// Operands are exchanged before the operation: `dst = b op a`. Matters for Sub and Div.
    pub swapped: bool,
    pub a: u32,
    pub b: Operand,
    pub dst: u32,
    /// Output shape, axes of equal treatment merged, outermost first, leading ones. The element count is
    /// their product.
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
    /// TFLite's int8 Add, Sub and Mul. `blob` holds three multipliers (i32; a, b, output) then three shifts (i8).
    /// Add and Sub: `left_shift` 20, all three used. Mul: only the output's. Min and Max: none used (equal
    /// scales), the blob offset is 0. Div has no int8 form.
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
    /// The exact form, by erf.
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

/// int8 function of one element by a 256-byte table: `dst[i] = table[src[i] + 128]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Lut {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub blob: u32,
}

/// Per-channel leaky ReLU. `rows × c`, channels last.
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

/// Number format of [`PRelu`]. I8 is TFLite's: positive inputs by `pos` (multiplier, shift), the others
/// times (slope - slope_zp) by `neg`.
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

/// Number format of [`Softmax`]. I8 is TFLite Micro's reference (gemmlowp fixed point; output scale 1/256,
/// zero point -128).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum SoftmaxArith {
    I8 { multiplier: i32, shift: i8, diff_min: i32 },
    F32,
}

/// float32 layer normalisation over the last axis of `rows × depth`. Blob: `gamma: [f32; depth]`,
/// `beta: [f32; depth]`. (int8 networks dequantise around it.)
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

/// Up to six axes of a strided copy, in the fewest bytes.
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

/// Sets `len` elements of `size` bytes (1 or 4) to the bits of `value` (its low byte for size 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Fill {
    pub dst: u32,
    pub len: u32,
    pub size: u8,
    pub value: i32,
}

/// Reflect or edge padding (constant padding is [`Fill`] + [`Copy`]). `dims` and `pad` cover the last four
/// axes; `pad` is [before, after] of each.
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

/// Where padding comes from; definitions are ONNX's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum PadMode {
    Reflect,
    Edge,
}

/// Resampling, NHWC, by tables that the exporter computed, so that every ONNX coordinate rule is the same code.
///
/// Nearest. Blob: `row: [u16; out_h]`, `column: [u16; out_w]`: the source index of each output row, column.
/// Bilinear. Blob: for each output row, then each output column, `low: u16, high: u16, weight: i32` where
/// `weight`/2^10 (I8; rounding half away from zero) or the bits of a f32 (F32) is the weight of `high`.
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

/// float32 to int8: `clamp(round_half_away(x / scale) + zp)`. NaN becomes zp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Quantize {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub scale: f32,
    pub zp: i8,
}

/// int8 to float32: `(q - zp) * scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Dequantize {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub scale: f32,
    pub zp: i8,
}

/// int8 to int8 of another scale: `clamp(requantize(q - in_zp, multiplier, shift) + out_zp, min, max)`.
/// A ReLU or clip on its own is this too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Requantize {
    pub src: u32,
    pub dst: u32,
    pub len: u32,
    pub in_zp: i8,
    pub out_zp: i8,
    pub multiplier: i32,
    pub shift: i8,
    pub clamp: Option<(i8, i8)>,
}

/// Copies `len` bytes from the blob section into the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Constant {
    pub dst: u32,
    pub len: u32,
    pub blob: u32,
}

/// A graph input or output: where it lies and how to read it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct IoRepr {
    /// Arena offset, bytes.
    pub offset: u32,
    /// Element type.
    pub dtype: DType,
    /// Scale (int8 only, else 0).
    pub scale: f32,
    /// Zero point (int8 only, else 0).
    pub zero_point: i8,
    /// Number of axes, at most 6.
    pub rank: u8,
    /// Shape as it lies in the arena; axes from `rank` on are 1.
    pub shape: [u16; 6],
    /// The ONNX tensor has its channels first: its axis order is rank-1 moved to axis 1. The arena holds it
    /// channels-last; hosts permute.
    pub channels_last_of_first: bool,
}
