//! Conversion between float32 and int8.

use offshoot_format::record::{Dequantize, Quantize};

/// float32 to int8.
pub fn quantize(r: &Quantize, src: &[f32], dst: &mut [i8]) {
    for (q, x) in dst.iter_mut().zip(src) {
        let v = libm::roundf(*x / r.scale);
        *q = if v.is_nan() {
            r.zp
        } else {
            (v.clamp(-512.0, 512.0) as i32 + i32::from(r.zp)).clamp(-128, 127) as i8
        };
    }
}

/// int8 to float32.
pub fn dequantize(r: &Dequantize, src: &[i8], dst: &mut [f32]) {
    for (x, q) in dst.iter_mut().zip(src) {
        *x = (i32::from(*q) - i32::from(r.zp)) as f32 * r.scale;
    }
}
