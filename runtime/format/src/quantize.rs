//! Records of conversions between number formats.

use serde::{Deserialize, Serialize};

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
/// Also used for a ReLU or clip that is not fused.
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
