//! Integer grids to which tensors are rounded: TensorFlow Lite's 8-bit quantisation specification, and weights with
//! fewer bits. Shared by post-training quantisation, fake quantisation in training, and the device form.

use crate::Quant;

/// Smallest width of a range: keeps scales, and the multipliers derived from them, well within their formats.
const MIN_WIDTH: f32 = 1e-6;

/// Scale and zero point of a range, derived as in TFLite: the range is extended to contain 0, which is then
/// represented exactly. An empty range (a tensor that is always 0) counts as [-1, 1].
pub fn quant_of_range(low: f32, high: f32) -> Quant {
    let (mut low, mut high) = (low.min(0.0), high.max(0.0));
    if low == 0.0 && high == 0.0 {
        (low, high) = (-1.0, 1.0);
    } else if high - low < MIN_WIDTH {
        let grow = MIN_WIDTH / (high - low);
        (low, high) = (low * grow, high * grow);
    }
    let scale = ((f64::from(high) - f64::from(low)) / 255.0) as f32;
    let zero = (-128.0 - f64::from(low) / f64::from(scale)).round().clamp(-128.0, 127.0);
    Quant::per_tensor(scale, zero as i32)
}

/// int8 code of a real value, rounding half away from zero.
pub fn code(value: f32, quant: &Quant) -> i8 {
    ((value / quant.scale[0]).round() + quant.zero_point[0] as f32).clamp(-128.0, 127.0) as i8
}

/// The real value to which `value` is rounded on the grid.
pub fn round_to_grid(value: f32, quant: &Quant) -> f32 {
    let zero = quant.zero_point[0] as f32;
    (((value / quant.scale[0]).round() + zero).clamp(-128.0, 127.0) - zero) * quant.scale[0]
}

/// Real values of the lowest and the highest code.
pub fn bounds(quant: &Quant) -> (f32, f32) {
    let (scale, zero) = (quant.scale[0], quant.zero_point[0] as f32);
    ((-128.0 - zero) * scale, (127.0 - zero) * scale)
}

/// Largest code of a weight with `bits` bits (2 to 8): weight grids are symmetric.
pub fn top(bits: u8) -> f32 {
    ((1u32 << (bits.clamp(2, 8) - 1)) - 1) as f32
}

/// Code of a weight, at most `top` in magnitude, rounding half away from zero.
pub fn weight_code(weight: f32, step: f32, top: f32) -> i8 {
    (weight / step).round().clamp(-top, top) as i8
}

/// Factor on the codes of weights with few bits; their scales are divided by it. Biases are in units of the scale,
/// which would be coarse with only a few levels, and the device's multipliers are below one half. A power of two, so
/// that it adds no rounding.
pub fn spread(bits: u8) -> i8 {
    match bits {
        8 => 1,
        4 => 8,
        _ => 64,
    }
}
