//! Binary elementwise operators.

use ndarray::{ArrayD, IxDyn, Zip};
use offshoot::kernels::portable::binary_math;
use offshoot_ir::BinaryKind;

pub(crate) fn binary(
    kind: BinaryKind,
    a: &ArrayD<f32>,
    b: &ArrayD<f32>,
    shape: &[usize],
) -> Result<ArrayD<f32>, String> {
    let spread = |x: &'_ ArrayD<f32>| x.broadcast(IxDyn(shape)).map(|v| v.into_owned());
    let (Some(mut out), Some(b)) = (spread(a), b.broadcast(IxDyn(shape))) else {
        return Err(format!("{:?} and {:?} do not broadcast to {shape:?}", a.shape(), b.shape()));
    };
    let f: fn(f32, f32) -> f32 = match kind {
        BinaryKind::Add => |x, y| x + y,
        BinaryKind::Sub => |x, y| x - y,
        BinaryKind::Mul => |x, y| x * y,
        BinaryKind::Div => |x, y| x / y,
        BinaryKind::Min => f32::min,
        BinaryKind::Max => f32::max,
        BinaryKind::Math(kind) => {
            Zip::from(&mut out).and(b).for_each(|x, y| *x = binary_math(kind, *x, *y));
            return Ok(out);
        }
    };
    Zip::from(&mut out).and(b).for_each(|x, y| *x = f(*x, *y));
    Ok(out)
}

/// x […, C], slope [C] → same shape.
pub(crate) fn prelu(x: &ArrayD<f32>, slope: &ArrayD<f32>) -> ArrayD<f32> {
    let mut out = x.clone();
    for mut row in out.rows_mut() {
        for (v, s) in row.iter_mut().zip(slope.iter()) {
            if *v < 0.0 {
                *v *= s;
            }
        }
    }
    out
}
