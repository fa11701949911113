//! Unary and binary elementwise operators.

use core::f32::consts::{FRAC_1_SQRT_2, PI};

use ndarray::{ArrayD, Axis, IxDyn, Zip};
use offshoot::kernels::portable::binary_math;
use offshoot_ir::{BinaryKind, BinaryMathKind, UnaryKind, elementary};

/// Gradients of both operands, each summed over the axes along which it was broadcast.
pub(super) fn binary(
    kind: BinaryKind,
    a: &ArrayD<f32>,
    b: &ArrayD<f32>,
    dy: &ArrayD<f32>,
    wanted: [bool; 2],
) -> Vec<Option<ArrayD<f32>>> {
    if matches!(kind, BinaryKind::Add | BinaryKind::Sub) {
        let second = || if kind == BinaryKind::Sub { dy.mapv(|d| -d) } else { dy.clone() };
        return vec![
            wanted[0].then(|| sum_to(dy.clone(), a.shape())),
            wanted[1].then(|| sum_to(second(), b.shape())),
        ];
    }
    // Partial derivatives for one element; for equal elements, Min and Max give half to each.
    let slopes: fn(f32, f32) -> (f32, f32) = match kind {
        BinaryKind::Add | BinaryKind::Sub => |_, _| (1.0, 1.0),
        BinaryKind::Mul => |a, b| (b, a),
        BinaryKind::Div => |a, b| (1.0 / b, -a / (b * b)),
        BinaryKind::Min => |a, b| if a == b { (0.5, 0.5) } else { (f32::from(a < b), f32::from(a > b)) },
        BinaryKind::Max => |a, b| if a == b { (0.5, 0.5) } else { (f32::from(a > b), f32::from(a < b)) },
        BinaryKind::Math(BinaryMathKind::Pow) => |a, b| {
            let power = |exponent| binary_math(BinaryMathKind::Pow, a, exponent);
            (b * power(b - 1.0), if a > 0.0 { power(b) * a.ln() } else { 0.0 })
        },
        BinaryKind::Math(BinaryMathKind::Mod) => |a, b| (1.0, -(a / b).floor()),
        BinaryKind::Math(BinaryMathKind::Keep) => |_, b| (f32::from(b != 0.0), 0.0),
        BinaryKind::Math(BinaryMathKind::Equal) => |_, _| (0.0, 0.0),
        BinaryKind::Math(BinaryMathKind::Fmod) => |a, b| (1.0, -(a / b).trunc()),
    };
    let shape = dy.raw_dim();
    let (Some(wide_a), Some(wide_b)) = (a.broadcast(shape.clone()), b.broadcast(shape)) else {
        return vec![None, None];
    };
    let gradient = |second: bool| {
        let mut d = dy.clone();
        Zip::from(&mut d).and(&wide_a).and(&wide_b).for_each(|d, a, b| {
            let (da, db) = slopes(*a, *b);
            *d *= if second { db } else { da };
        });
        sum_to(d, if second { b.shape() } else { a.shape() })
    };
    vec![wanted[0].then(|| gradient(false)), wanted[1].then(|| gradient(true))]
}

/// Sums over the axes along which `shape` was broadcast to `d`'s.
pub(super) fn sum_to(mut d: ArrayD<f32>, shape: &[usize]) -> ArrayD<f32> {
    while d.ndim() > shape.len() {
        d = d.sum_axis(Axis(0));
    }
    for (axis, &extent) in shape.iter().enumerate() {
        if extent == 1 && d.shape()[axis] != 1 {
            d = d.sum_axis(Axis(axis)).insert_axis(Axis(axis));
        }
    }
    super::like(d, shape)
}

pub(super) fn unary(kind: UnaryKind, x: &ArrayD<f32>, y: &ArrayD<f32>, mut dy: ArrayD<f32>) -> ArrayD<f32> {
    if let UnaryKind::Clip { min, max } = kind {
        Zip::from(&mut dy).and(x).for_each(|d, x| *d = if min < *x && *x < max { *d } else { 0.0 });
        return dy;
    }
    Zip::from(&mut dy).and(x).and(y).for_each(|d, x, y| *d *= slope(kind, *x, *y));
    dy
}

/// Derivative at `x`, where the function has value `y`; at kinks 0 or the left derivative.
fn slope(kind: UnaryKind, x: f32, y: f32) -> f32 {
    match kind {
        UnaryKind::Clip { min, max } => f32::from(min < x && x < max),
        UnaryKind::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha
            } else {
                1.0
            }
        }
        UnaryKind::HardSwish => match x {
            x if x <= -3.0 => 0.0,
            x if x >= 3.0 => 1.0,
            x => (2.0 * x + 3.0) / 6.0,
        },
        UnaryKind::HardSigmoid { alpha, .. } => {
            if 0.0 < y && y < 1.0 {
                alpha
            } else {
                0.0
            }
        }
        UnaryKind::Sigmoid => y * (1.0 - y),
        UnaryKind::Tanh => 1.0 - y * y,
        UnaryKind::Gelu => {
            let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
            0.5 * (1.0 + UnaryKind::Erf.apply(x * FRAC_1_SQRT_2)) + x * density
        }
        UnaryKind::GeluTanh => {
            let tanh = UnaryKind::Tanh.apply(0.797_884_6 * (x + 0.044_715 * x * x * x));
            let inner = 0.797_884_6 * (1.0 + 3.0 * 0.044_715 * x * x);
            0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner
        }
        UnaryKind::Elu { alpha } => {
            if x < 0.0 {
                y + alpha
            } else {
                1.0
            }
        }
        UnaryKind::Exp => y,
        UnaryKind::Log => 1.0 / x,
        UnaryKind::Sqrt => 0.5 / y,
        UnaryKind::Reciprocal => -y * y,
        UnaryKind::Abs => {
            if x == 0.0 {
                0.0
            } else {
                x.signum()
            }
        }
        UnaryKind::Neg => -1.0,
        UnaryKind::Erf => 2.0 / PI.sqrt() * (-x * x).exp(),
        UnaryKind::Softplus => UnaryKind::Sigmoid.apply(x),
        UnaryKind::Pow { exponent } => exponent * UnaryKind::Pow { exponent: exponent - 1.0 }.apply(x),
        UnaryKind::Elementary(kind) => elementary::derivative(kind, x, y),
    }
}

/// x […, C], slope [C].
pub(super) fn prelu(x: &ArrayD<f32>, slope: &ArrayD<f32>, mut dy: ArrayD<f32>) -> Vec<Option<ArrayD<f32>>> {
    let mut ds = ArrayD::zeros(IxDyn(slope.shape()));
    for (mut d, x) in dy.rows_mut().into_iter().zip(x.rows()) {
        let slopes = slope.iter().zip(ds.iter_mut());
        for ((d, x), (s, ds)) in d.iter_mut().zip(x).zip(slopes) {
            if *x < 0.0 {
                *ds += *d * x;
                *d *= s;
            }
        }
    }
    vec![Some(dy), Some(ds)]
}
