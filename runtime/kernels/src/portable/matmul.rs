//! Fully connected layers, and matrix products of activations.
use super::fixed_point::multiply_by_quantized_multiplier;
use super::float::{canonical, within};
use crate::requant::{Requant, bounded};
use offshoot_format::record::{FullyConnected, MatMul, MatMulArith};

/// int8: `dst[r, o] = requantise(bias[o] + Σ (src[r, i] - in_zp) · weights[o, i])`.
pub fn fully_connected_i8(r: &FullyConnected, q: &Requant<'_>, weights: &[i8], src: &[i8], dst: &mut [i8]) {
    let (in_c, out_c) = (r.in_c.max(1) as usize, r.out_c.max(1) as usize);
    for (x, y) in src.chunks_exact(in_c).zip(dst.chunks_exact_mut(out_c)) {
        for ((o, out), w) in y.iter_mut().enumerate().zip(weights.chunks_exact(in_c)) {
            let acc = x.iter().zip(w).fold(q.bias[o], |s, (&x, &w)| {
                s.wrapping_add((i32::from(x) - q.in_zp).wrapping_mul(i32::from(w)))
            });
            let (multiplier, shift) = q.scale(o);
            let v = multiply_by_quantized_multiplier(acc, multiplier, shift).wrapping_add(q.out_zp);
            *out = bounded(v, q.min, q.max);
        }
    }
}

/// float32: starts at the bias and adds products in input order.
pub fn fully_connected_f32(
    r: &FullyConnected,
    clamp: (f32, f32),
    bias: &[f32],
    weights: &[f32],
    src: &[f32],
    dst: &mut [f32],
) {
    let (in_c, out_c) = (r.in_c.max(1) as usize, r.out_c.max(1) as usize);
    for (x, y) in src.chunks_exact(in_c).zip(dst.chunks_exact_mut(out_c)) {
        for ((out, w), b) in y.iter_mut().zip(weights.chunks_exact(in_c)).zip(bias) {
            let acc = x.iter().zip(w).fold(*b, |s, (x, w)| s + x * w);
            *out = within(acc, clamp);
        }
    }
}

/// int8 batched matrix product of activations.
pub fn matmul_i8(r: &MatMul, a: &[i8], b: &[i8], dst: &mut [i8]) {
    let MatMulArith::I8 { a_zp, b_zp, out_zp, multiplier, shift } = r.arith else {
        return;
    };
    let (a_zp, b_zp, out_zp) = (i32::from(a_zp), i32::from(b_zp), i32::from(out_zp));
    each(
        r,
        a,
        b,
        dst,
        0i32,
        |s, x, y| s.wrapping_add((i32::from(x) - a_zp).wrapping_mul(i32::from(y) - b_zp)),
        |s| {
            let v = multiply_by_quantized_multiplier(s, multiplier, shift).wrapping_add(out_zp);
            v.clamp(-128, 127) as i8
        },
    );
}

/// float32 batched matrix product of activations; sums in order of k.
pub fn matmul_f32(r: &MatMul, a: &[f32], b: &[f32], dst: &mut [f32]) {
    each(r, a, b, dst, 0.0f32, |s, x, y| s + x * y, canonical);
}

#[inline(always)]
fn each<T: Copy, A: Copy>(
    r: &MatMul,
    a: &[T],
    b: &[T],
    dst: &mut [T],
    zero: A,
    mac: impl Fn(A, T, T) -> A,
    end: impl Fn(A) -> T,
) {
    let (m, k, n) = (r.m.max(1) as usize, r.k.max(1) as usize, r.n.max(1) as usize);
    for ((a, b), dst) in a.chunks_exact(m * k).zip(b.chunks_exact(k * n)).zip(dst.chunks_exact_mut(m * n)) {
        for (row, out) in a.chunks_exact(k).zip(dst.chunks_exact_mut(n)) {
            for (j, o) in out.iter_mut().enumerate() {
                *o = end(if r.transposed {
                    row.iter().zip(&b[j * k..]).fold(zero, |s, (x, y)| mac(s, *x, *y))
                } else {
                    row.iter().zip(b[j..].iter().step_by(n)).fold(zero, |s, (x, y)| mac(s, *x, *y))
                });
            }
        }
    }
}

/// `sums[r] = Σ weights[r, i] · (x[i] - zero)` for contiguous rows of int8 weights; sums wrap.
pub fn products_i8(weights: &[i8], x: &[i8], zero: i8, sums: &mut [i32]) {
    for (sum, row) in sums.iter_mut().zip(weights.chunks_exact(x.len().max(1))) {
        *sum = x.iter().zip(row).fold(0i32, |s, (&x, &w)| {
            s.wrapping_add((i32::from(x) - i32::from(zero)).wrapping_mul(i32::from(w)))
        });
    }
}
