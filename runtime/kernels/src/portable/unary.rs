//! Elementwise operators with one operand, in place.
use super::fixed_point::multiply_by_quantized_multiplier as mbqm;
use super::float::{canonical, within};
use crate::requant::bounded;
use offshoot_format::record::{PRelu, PReluArith, Requantize, UnaryKind};

/// Applies a float32 function to each element, by ONNX's definitions.
pub fn unary_f32(kind: UnaryKind, data: &mut [f32]) {
    data.iter_mut().for_each(|v| *v = canonical(unary(kind, *v)));
}

/// Applies the function to one element.
pub fn unary(kind: UnaryKind, x: f32) -> f32 {
    match kind {
        UnaryKind::Clip { min, max } => within(x, (min, max)),
        UnaryKind::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha * x
            } else {
                x
            }
        }
        UnaryKind::HardSwish => x * within(x + 3.0, (0.0, 6.0)) / 6.0,
        UnaryKind::HardSigmoid { alpha, beta } => within(alpha * x + beta, (0.0, 1.0)),
        UnaryKind::Sigmoid => 1.0 / (1.0 + libm::expf(-x)),
        UnaryKind::Tanh => libm::tanhf(x),
        UnaryKind::Gelu => 0.5 * x * (1.0 + libm::erff(x * core::f32::consts::FRAC_1_SQRT_2)),
        UnaryKind::GeluTanh => {
            let inner = 0.797_884_6 * (x + 0.044_715 * (x * x * x));
            0.5 * x * (1.0 + libm::tanhf(inner))
        }
        UnaryKind::Elu { alpha } => {
            if x < 0.0 {
                alpha * (libm::expf(x) - 1.0)
            } else {
                x
            }
        }
        UnaryKind::Exp => libm::expf(x),
        UnaryKind::Log => libm::logf(x),
        UnaryKind::Sqrt => libm::sqrtf(x),
        UnaryKind::Reciprocal => 1.0 / x,
        UnaryKind::Abs => libm::fabsf(x),
        UnaryKind::Neg => -x,
        UnaryKind::Erf => libm::erff(x),
        UnaryKind::Softplus => {
            if x > 0.0 {
                x + libm::log1pf(libm::expf(-x))
            } else {
                libm::log1pf(libm::expf(x))
            }
        }
        UnaryKind::Pow { exponent } => libm::powf(x, exponent),
    }
}

/// `data[i] = table[data[i] + 128]`.
pub fn lut_i8(table: &[i8], data: &mut [i8]) {
    for v in data {
        if let Some(t) = table.get((i32::from(*v) + 128) as usize) {
            *v = *t;
        }
    }
}

/// int8 PReLU, as in TFLite.
pub fn prelu_i8(r: &PRelu, slope: &[i8], data: &mut [i8]) {
    let PReluArith::I8 { in_zp, slope_zp, out_zp, pos, neg } = r.arith else {
        return;
    };
    for row in data.chunks_exact_mut(r.c.max(1) as usize) {
        for (v, s) in row.iter_mut().zip(slope) {
            let x = i32::from(*v) - i32::from(in_zp);
            let y = if x >= 0 {
                mbqm(x, pos.0, pos.1)
            } else {
                mbqm(x * (i32::from(*s) - i32::from(slope_zp)), neg.0, neg.1)
            };
            *v = y.wrapping_add(i32::from(out_zp)).clamp(-128, 127) as i8;
        }
    }
}

/// float32 PReLU.
pub fn prelu_f32(r: &PRelu, slope: &[f32], data: &mut [f32]) {
    for row in data.chunks_exact_mut(r.c.max(1) as usize) {
        for (v, s) in row.iter_mut().zip(slope) {
            *v = canonical(if *v < 0.0 { *v * *s } else { *v });
        }
    }
}

/// Requantises int8 to another scale and zero point.
pub fn requantize(r: &Requantize, data: &mut [i8]) {
    let (min, max) = r.clamp.map_or((-128, 127), |(l, h)| (i32::from(l), i32::from(h)));
    for v in data {
        let x = mbqm(i32::from(*v) - i32::from(r.in_zp), r.multiplier, r.shift);
        *v = bounded(x.wrapping_add(r.out_zp.into()), min, max);
    }
}
