//! Elementwise operators with two operands. `dst` holds `a` on entry and the result on return.
use super::fixed_point::multiply_by_quantized_multiplier as mbqm;
use super::float::{canonical, larger, smaller, within};
use crate::requant::bounded;
use offshoot_format::record::{Binary, BinaryArith, BinaryKind};

/// Calls `f(dst element, b element)` for each element, `b` broadcast.
#[inline(always)]
pub(super) fn each<T: Copy>(r: &Binary, b: &[T], dst: &mut [T], f: impl Fn(T, T) -> T) {
    each_of(r.dims, r.broadcast, b, dst, f);
}

/// [`each`] for a record with these extents of `dst` and this mask of axes that `b` is broadcast over.
#[inline(always)]
pub(super) fn each_of<T: Copy>(dims: [u16; 4], broadcast: u8, b: &[T], dst: &mut [T], f: impl Fn(T, T) -> T) {
    if broadcast == 0 {
        for (d, b) in dst.iter_mut().zip(b) {
            *d = f(*d, *b);
        }
        return;
    }
    let dims = dims.map(usize::from);
    let mut stride = [0usize; 4];
    let mut run = 1;
    for axis in (0..4).rev() {
        if broadcast & (1 << axis) == 0 {
            stride[axis] = run;
            run *= dims[axis];
        }
    }
    let mut out = dst.iter_mut();
    for i in 0..dims[0] {
        for j in 0..dims[1] {
            for k in 0..dims[2] {
                let base = i * stride[0] + j * stride[1] + k * stride[2];
                for l in 0..dims[3] {
                    let (Some(d), Some(b)) = (out.next(), b.get(base + l * stride[3])) else {
                        return;
                    };
                    *d = f(*d, *b);
                }
            }
        }
    }
}

/// int8: TFLite's Add, Sub (left shift 20) and Mul; Min and Max need equal scales.
pub fn binary_i8(r: &Binary, multiplier: [i32; 3], shift: [i8; 3], b: &[i8], dst: &mut [i8]) {
    let BinaryArith::I8 { a_zp, b_zp, out_zp, clamp, .. } = r.arith else {
        return;
    };
    let (a_zp, b_zp, out_zp) = (i32::from(a_zp), i32::from(b_zp), i32::from(out_zp));
    let (min, max) = clamp.map_or((-128, 127), |(l, h)| (i32::from(l), i32::from(h)));
    let finish = |v: i32| bounded(v.wrapping_add(out_zp), min, max);
    let sum = |sign: i32| {
        move |x: i8, y: i8| {
            let x = mbqm((i32::from(x) - a_zp) << 20, multiplier[0], shift[0]);
            let y = mbqm((i32::from(y) - b_zp) << 20, multiplier[1], shift[1]);
            let v = if r.swapped {
                y.wrapping_add(sign.wrapping_mul(x))
            } else {
                x.wrapping_add(sign.wrapping_mul(y))
            };
            finish(mbqm(v, multiplier[2], shift[2]))
        }
    };
    match r.kind {
        BinaryKind::Add => each(r, b, dst, sum(1)),
        BinaryKind::Sub => each(r, b, dst, sum(-1)),
        BinaryKind::Mul => each(r, b, dst, |x, y| {
            finish(mbqm((i32::from(x) - a_zp) * (i32::from(y) - b_zp), multiplier[2], shift[2]))
        }),
        BinaryKind::Min => each(r, b, dst, |x, y| bounded(x.min(y).into(), min, max)),
        BinaryKind::Max => each(r, b, dst, |x, y| bounded(x.max(y).into(), min, max)),
        BinaryKind::Div => {}
    }
}

/// float32.
pub fn binary_f32(r: &Binary, b: &[f32], dst: &mut [f32]) {
    let BinaryArith::F32 { clamp } = r.arith else {
        return;
    };
    let swapped = r.swapped;
    let order = move |x: f32, y: f32| if swapped { (y, x) } else { (x, y) };
    // Without bounds, 0 / 0 stays NaN.
    let end = move |v: f32| match clamp {
        Some(bounds) => within(v, bounds),
        None => canonical(v),
    };
    match r.kind {
        BinaryKind::Add => each(r, b, dst, |x, y| end(x + y)),
        BinaryKind::Sub => each(r, b, dst, |x, y| {
            let (x, y) = order(x, y);
            end(x - y)
        }),
        BinaryKind::Mul => each(r, b, dst, |x, y| end(x * y)),
        BinaryKind::Div => each(r, b, dst, |x, y| {
            let (x, y) = order(x, y);
            end(x / y)
        }),
        BinaryKind::Min => each(r, b, dst, |x, y| end(if y.is_nan() { x } else { smaller(x, y) })),
        BinaryKind::Max => each(r, b, dst, |x, y| end(if y.is_nan() { x } else { larger(x, y) })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::portable::float::NAN;
    use offshoot_format::record::Operand;

    #[test]
    fn what_is_not_a_number_stays_so_without_bounds() {
        let quotients = |clamp| {
            let r = Binary {
                kind: BinaryKind::Div,
                swapped: false,
                a: 0,
                b: Operand::Arena(0),
                dst: 0,
                dims: [1, 1, 1, 4],
                broadcast: 0,
                arith: BinaryArith::F32 { clamp },
            };
            let mut numbers = [0.0, 1.0, -1.0, 6.0];
            binary_f32(&r, &[0.0, 0.0, 0.0, 2.0], &mut numbers);
            numbers.map(f32::to_bits)
        };
        let wanted = [NAN, f32::INFINITY, f32::NEG_INFINITY, 3.0];
        assert_eq!(quotients(None), wanted.map(f32::to_bits));
        assert_eq!(quotients(Some((0.0, 2.0))), [0.0f32, 2.0, 0.0, 2.0].map(f32::to_bits));
    }
}
