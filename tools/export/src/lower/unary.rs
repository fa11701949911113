//! Element-wise functions: computed in float32, looked up in tables of 256 entries in int8.

use offshoot::format::codec::Record;
use offshoot::format::record;
use offshoot::kernels::portable::fixed_point::multiply_by_quantized_multiplier;
use offshoot_ir::quant_math::activation_range;
use offshoot_ir::{Data, UnaryKind, UnaryRecord, ValueId, elementary};

use super::{Context, tables};
use crate::blobs;
use crate::forms::parameters::{Lowering, to_u32};
use crate::forms::requant;
use crate::lowered::Tensor;

/// Lowers one function.
///
/// In int8, clips become a Requantize with bounds, as in TFLite's ReLU. The tables of LeakyReLU and of the functions in
/// [`tables`] have TFLite's fixed-point results. Every other table has the real function between the two scales, rounded half away from zero.
pub(super) fn unary(c: &mut Context<'_>, x: &Tensor, y: &Tensor, kind: UnaryKind) -> Lowering {
    let len = to_u32(x.len(), "elements")?;
    if !x.is_i8() {
        let r = match kind.record() {
            UnaryRecord::Unary(kind) => Record::Unary(record::Unary { src: 0, dst: 0, len, kind }),
            UnaryRecord::Elementary(kind) => {
                Record::Elementary(record::Elementary { src: 0, dst: 0, len, kind })
            }
        };
        c.emit(r, [Some(x), None], y, &[x]);
        return Ok(());
    }
    if let UnaryKind::Clip { min, max } = kind {
        let clamp = activation_range((min, max), y.scale, i32::from(y.zp));
        return c.requantize(x, y, clamp);
    }
    let table = match kind {
        UnaryKind::LeakyRelu { alpha } => leaky_relu(x, y, alpha),
        _ => tables::table(kind, x, y).unwrap_or_else(|| rounded(x, y, kind)),
    };
    lookup(c, x, y, &table)
}

/// Lowers a function of one int8 element, as a table.
pub(super) fn lookup(c: &mut Context<'_>, x: &Tensor, y: &Tensor, table: &[i8]) -> Lowering {
    let len = to_u32(x.len(), "elements")?;
    let blob = c.blob(blobs::bytes(table), [0, 0])?;
    c.emit(Record::Lut(record::Lut { src: 0, dst: 0, len, blob }), [Some(x), None], y, &[x]);
    Ok(())
}

/// Per-channel leaky ReLU.
pub(super) fn prelu(c: &mut Context<'_>, x: &Tensor, y: &Tensor, slope: ValueId) -> Lowering {
    let channels = *x.shape.last().unwrap_or(&1);
    let value = c.graph.value(slope);
    if value.len() != channels {
        return Err(format!("{} slopes for {channels} channels", value.len()));
    }
    let (arith, blob) = if x.is_i8() {
        let Some(Data::I8(d)) = value.data.as_deref() else {
            return Err(format!("slope `{}` must be an int8 constant", value.name));
        };
        let quant = value.quant.as_ref().filter(|q| q.scale.len() == 1);
        let quant = quant.ok_or_else(|| format!("slope `{}` needs one scale", value.name))?;
        let slope_zp = i8::try_from(quant.zero_point[0]).map_err(|_| "the slope's zero point is not int8")?;
        let (sx, sy) = (f64::from(x.scale), f64::from(y.scale));
        let pos = requant::saturating(sx / sy, 255);
        let neg = requant::saturating(sx * f64::from(quant.scale[0]) / sy, 255 * 255);
        let arith = record::PReluArith::I8 { in_zp: x.zp, slope_zp, out_zp: y.zp, pos, neg };
        (arith, c.blob(blobs::bytes(d), [d.len(), 0])?)
    } else {
        let d = c.constant_f32(slope)?;
        (record::PReluArith::F32, c.blob(blobs::floats(&d), [4 * d.len(), 0])?)
    };
    let rows = to_u32(x.len() / channels.max(1), "the row count")?;
    let r = record::PRelu { src: 0, dst: 0, rows, c: to_u32(channels, "the channel count")?, arith, blob };
    c.emit(Record::PRelu(r), [Some(x), None], y, &[x]);
    Ok(())
}

/// Table of the real function, rounded half away from zero. NaN becomes the zero point.
fn rounded(x: &Tensor, y: &Tensor, kind: UnaryKind) -> Vec<i8> {
    use offshoot_ir::ElementaryKind::{Ceil, Floor, Round};
    // Whole numbers are those of ONNX, whose DequantizeLinear gives float32: 50 steps of 0.02 are 1.
    let steps = matches!(kind, UnaryKind::Elementary(Ceil | Floor | Round));
    let entry = |q: i32| {
        let code = q - i32::from(x.zp);
        let real = match steps {
            true => f64::from(code as f32 * x.scale),
            false => f64::from(code) * f64::from(x.scale),
        };
        let out = (function(kind, real) / f64::from(y.scale)).round() + f64::from(y.zp);
        if out.is_nan() { y.zp } else { out.clamp(-128.0, 127.0) as i8 }
    };
    (-128..128).map(entry).collect()
}

/// Table of TFLite Micro's int8 LeakyReLU.
fn leaky_relu(x: &Tensor, y: &Tensor, alpha: f32) -> Vec<i8> {
    let (identity, identity_shift) = requant::saturating(f64::from(x.scale) / f64::from(y.scale), 255);
    let scaled = f64::from(x.scale) * f64::from(alpha) / f64::from(y.scale);
    let (slope, slope_shift) = requant::saturating(scaled.abs(), 255);
    let entry = |q: i32| {
        let value = q - i32::from(x.zp);
        let out = if value >= 0 {
            multiply_by_quantized_multiplier(value, identity, identity_shift)
        } else {
            let out = multiply_by_quantized_multiplier(value, slope, slope_shift);
            if scaled < 0.0 { -out } else { out }
        };
        (out + i32::from(y.zp)).clamp(-128, 127) as i8
    };
    (-128..128).map(entry).collect()
}

/// The function in double precision, as ONNX defines it.
pub(super) fn function(kind: UnaryKind, x: f64) -> f64 {
    let erf = |x: f64| libm::erf(x);
    match kind {
        UnaryKind::Clip { min, max } => x.max(f64::from(min)).min(f64::from(max)),
        UnaryKind::LeakyRelu { alpha } if x < 0.0 => f64::from(alpha) * x,
        UnaryKind::LeakyRelu { .. } => x,
        UnaryKind::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        UnaryKind::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        UnaryKind::Sigmoid => 1.0 / (1.0 + libm::exp(-x)),
        UnaryKind::Tanh => libm::tanh(x),
        UnaryKind::Gelu => 0.5 * x * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        UnaryKind::GeluTanh => {
            0.5 * x * (1.0 + libm::tanh((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)))
        }
        UnaryKind::Elu { alpha } if x < 0.0 => f64::from(alpha) * libm::expm1(x),
        UnaryKind::Elu { .. } => x,
        UnaryKind::Exp => libm::exp(x),
        UnaryKind::Log => libm::log(x),
        UnaryKind::Sqrt => x.sqrt(),
        UnaryKind::Reciprocal => 1.0 / x,
        UnaryKind::Abs => x.abs(),
        UnaryKind::Neg => -x,
        UnaryKind::Erf => erf(x),
        UnaryKind::Softplus => x.max(0.0) + libm::log1p(libm::exp(-x.abs())),
        UnaryKind::Pow { exponent } => libm::pow(x, f64::from(exponent)),
        UnaryKind::Elementary(kind) => elementary::value(kind, x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(scale: f32, zp: i8) -> Tensor {
        Tensor { buffer: 0, shape: vec![1], dtype: record::DType::I8, scale, zp }
    }

    #[test]
    fn tables_hold_the_rounded_function() {
        let (x, y) = (tensor(0.1, -3), tensor(1.0 / 256.0, -128));
        let t = rounded(&x, &y, UnaryKind::Sigmoid);
        assert_eq!(t[(-3i32 + 128) as usize], 0);
        assert_eq!(t[255], 127);
        let log = rounded(&tensor(1.0, 0), &tensor(1.0, 5), UnaryKind::Log);
        assert_eq!((log[0], log[128], log[129]), (5, -128, 5));
        let floor = UnaryKind::Elementary(offshoot_ir::ElementaryKind::Floor);
        let floor = rounded(&tensor(0.02, 0), &tensor(0.05, 0), floor);
        assert_eq!((floor[128 + 49], floor[128 + 50], floor[128 - 50]), (0, 20, -20));
    }

    #[test]
    fn leaky_relu_is_the_identity_above_zero() {
        let t = leaky_relu(&tensor(0.5, 0), &tensor(0.5, 0), 0.25);
        assert_eq!((t[128 + 100], t[128 - 100]), (100, -25));
    }
}
