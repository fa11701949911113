//! What the host knows of each [`ElementaryKind`]: its value in double precision, its derivative, its ONNX operator.

use offshoot::format::record::ElementaryKind;
use offshoot::kernels::portable as kernels;

/// The function in double precision. int8 tables are rounded from it.
pub fn value(kind: ElementaryKind, x: f64) -> f64 {
    match kind {
        ElementaryKind::Sin => libm::sin(x),
        ElementaryKind::Cos => libm::cos(x),
        ElementaryKind::Tan => libm::tan(x),
        ElementaryKind::Asin => libm::asin(x),
        ElementaryKind::Acos => libm::acos(x),
        ElementaryKind::Atan => libm::atan(x),
        ElementaryKind::Sinh => libm::sinh(x),
        ElementaryKind::Cosh => libm::cosh(x),
        ElementaryKind::Asinh => libm::asinh(x),
        ElementaryKind::Acosh => libm::acosh(x),
        ElementaryKind::Atanh => libm::atanh(x),
        ElementaryKind::Floor => libm::floor(x),
        ElementaryKind::Ceil => libm::ceil(x),
        ElementaryKind::Round => libm::rint(x),
        // The numbers of an int8 tensor are finite.
        ElementaryKind::IsNan | ElementaryKind::IsInf { .. } => 0.0,
    }
}

/// The derivative at `x`, where the function has the value `y`.
pub fn derivative(kind: ElementaryKind, x: f32, y: f32) -> f32 {
    let value = |kind| kernels::elementary(kind, x);
    match kind {
        ElementaryKind::Sin => value(ElementaryKind::Cos),
        ElementaryKind::Cos => -value(ElementaryKind::Sin),
        ElementaryKind::Tan => 1.0 + y * y,
        ElementaryKind::Asin => 1.0 / (1.0 - x * x).sqrt(),
        ElementaryKind::Acos => -1.0 / (1.0 - x * x).sqrt(),
        ElementaryKind::Atan => 1.0 / (1.0 + x * x),
        ElementaryKind::Sinh => value(ElementaryKind::Cosh),
        ElementaryKind::Cosh => value(ElementaryKind::Sinh),
        ElementaryKind::Asinh => 1.0 / (1.0 + x * x).sqrt(),
        ElementaryKind::Acosh => 1.0 / (x * x - 1.0).sqrt(),
        ElementaryKind::Atanh => 1.0 / (1.0 - x * x),
        // Steps.
        ElementaryKind::Floor
        | ElementaryKind::Ceil
        | ElementaryKind::Round
        | ElementaryKind::IsNan
        | ElementaryKind::IsInf { .. } => 0.0,
    }
}

/// Whether every finite number has a finite value.
pub fn is_finite(kind: ElementaryKind) -> bool {
    match kind {
        ElementaryKind::Tan
        | ElementaryKind::Asin
        | ElementaryKind::Acos
        | ElementaryKind::Sinh
        | ElementaryKind::Cosh
        | ElementaryKind::Acosh
        | ElementaryKind::Atanh => false,
        ElementaryKind::Sin
        | ElementaryKind::Cos
        | ElementaryKind::Atan
        | ElementaryKind::Asinh
        | ElementaryKind::Floor
        | ElementaryKind::Ceil
        | ElementaryKind::Round
        | ElementaryKind::IsNan
        | ElementaryKind::IsInf { .. } => true,
    }
}

/// The ONNX operator that computes it.
pub fn onnx_name(kind: ElementaryKind) -> String {
    match kind {
        ElementaryKind::IsNan => "IsNaN".into(),
        ElementaryKind::IsInf { .. } => "IsInf".into(),
        // Their names are ONNX's.
        other => format!("{other:?}"),
    }
}

/// The function of an ONNX operator; attributes are the importer's.
pub fn of_onnx(name: &str) -> Option<ElementaryKind> {
    ElementaryKind::ALL.into_iter().find(|&kind| onnx_name(kind) == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_precisions_compute_the_same_function() {
        for kind in ElementaryKind::ALL {
            for x in [-2.6_f32, -0.7, 0.0, 0.3, 0.9, 1.8] {
                let (device, host) = (kernels::elementary(kind, x), value(kind, x.into()));
                let same = device.is_nan() && host.is_nan() || (f64::from(device) - host).abs() < 1e-5;
                assert!(same, "{kind:?}({x}) = {device}, {host}");
            }
        }
    }

    #[test]
    fn derivatives_are_slopes() {
        for kind in ElementaryKind::ALL {
            for x in [-2.6_f32, -0.7, 0.3, 0.9, 1.8] {
                let (x64, step) = (f64::from(x), 1e-5);
                let slope = (value(kind, x64 + step) - value(kind, x64 - step)) / (2.0 * step);
                let found = f64::from(derivative(kind, x, value(kind, x64) as f32));
                // Outside its domain a function has no slope, whatever its derivative.
                let same = slope.is_nan() || (slope - found).abs() <= 1e-3 * slope.abs().max(1.0);
                assert!(same, "{kind:?} at {x}: {slope}, {found}");
            }
        }
    }

    #[test]
    fn names_lead_back() {
        for kind in ElementaryKind::ALL {
            assert_eq!(of_onnx(&onnx_name(kind)), Some(kind));
        }
        assert_eq!(of_onnx("Conv"), None);
    }
}
