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

/// [`f32::round`] (half away from zero), by operations that every processor also has for vectors.
#[inline]
pub fn round(value: f32) -> f32 {
    /// From here on every float32 is a whole number, and a sum with it is rounded to one (half to even).
    const WHOLE: f32 = 8_388_608.0;
    let size = value.abs();
    let even = (size + WHOLE) - WHOLE;
    let away = if size - even == 0.5 { even + 1.0 } else { even };
    (if size < WHOLE { away } else { size }).copysign(value)
}

/// int8 code of a real value, rounding half away from zero.
pub fn code(value: f32, quant: &Quant) -> i8 {
    (round(value / quant.scale[0]) + quant.zero_point[0] as f32).clamp(-128.0, 127.0) as i8
}

/// The real value to which `value` is rounded on the grid.
#[inline]
pub fn round_to_grid(value: f32, quant: &Quant) -> f32 {
    on_grid(value, quant.scale[0], quant.zero_point[0] as f32)
}

/// [`round_to_grid`] for a grid of this scale and zero point.
#[inline]
pub fn on_grid(value: f32, scale: f32, zero: f32) -> f32 {
    ((round(value / scale) + zero).clamp(-128.0, 127.0) - zero) * scale
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
#[inline]
pub fn weight_code(weight: f32, step: f32, top: f32) -> i8 {
    round(weight / step).clamp(-top, top) as i8
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_that_of_the_standard_library() {
        let same = |v: f32| {
            let (own, std) = (round(v), v.round());
            assert!(own.to_bits() == std.to_bits() || own.is_nan() && std.is_nan(), "{v:e}: {own} {std}");
        };
        (0..=u32::MAX).step_by(4099).for_each(|bits| same(f32::from_bits(bits)));
        for half in (0..600).map(|i| i as f32 + 0.5).chain([4_194_303.5, 4_194_304.5, 8_388_607.5]) {
            for v in [half, half.next_up(), half.next_down()] {
                same(v);
                same(-v);
            }
        }
    }
}
