//! Records of the plain convolutions and matrix products.

use super::types::{Arith, WindowRepr};
use serde::{Deserialize, Serialize};

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

/// Transposed convolution, NHWC. Weights OHWI with I = `c / groups`. The value at output `(y, x, o)` is the
/// sum over the input pixels `(iy, ix)` and kernel positions with
/// `y = iy * stride_h + ky * dilation_h - top`, likewise x. `out_h` and `out_w` are stored because ONNX's
/// `output_padding` and `output_shape` can choose them freely. The bottom and right of `window.pad` are unused.
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

/// `dst[r, o] = sum_i src[r, i] * weights[o, i] + bias[o]`. Weights `[out, in]`. Also used for 1×1 convolutions with
/// stride 1, with one row per pixel.
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

/// Batched matrix product of two activations: `dst[b] = a[b] · rhs[b]`. `a` is `[batch, m, k]`; `rhs` is
/// `[batch, n, k]` if `transposed`, else `[batch, k, n]`.
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
